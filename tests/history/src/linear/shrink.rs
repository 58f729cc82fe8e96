//! From a bad prefix to a few lines a person can follow. Only what cannot turn a
//! good history into a bad one is taken out: what only looks, and changes that
//! none of the rest can tell happened. The last answer stays.

use super::search::{self, Dead};
use super::{Model, Violation};
use crate::event::Event;

/// Searches while shrinking: more would make a red test slow, fewer leave lines
/// that a reader has to skip.
const SEARCHES_MAX: usize = 400;

type Recorded<M> = Event<<M as Model>::Op, <M as Model>::Outcome>;

/// Names the violation that `dead` found in `history` (sorted by calls).
pub fn violation<M: Model>(
    model: &M,
    key: &M::Key,
    history: &[&Recorded<M>],
    dead: Dead<M>,
) -> Violation {
    let bad = history[dead.event];
    let mut kept = prefix::<M>(history, &dead);
    let prefix_len = kept.len();
    let at = dead.at;
    let mut last = dead;
    let mut searches = 0;
    let mut size = kept.len().div_ceil(2);
    while size > 0 && searches < SEARCHES_MAX {
        let mut from = 0;
        while from < kept.len() && searches < SEARCHES_MAX {
            let rest = without(model, &kept, from, size, bad);
            if rest.len() < kept.len() {
                searches += 1;
                let refs: Vec<&Recorded<M>> = rest.iter().collect();
                if let Err(found) = search::run(model, key, &refs)
                    && rest[found.event] == *bad
                {
                    kept = rest;
                    last = found;
                    continue;
                }
            }
            from += size;
        }
        size /= 2;
    }
    Violation {
        key: format!("{key:?}"),
        at,
        prefix_len,
        operations: lines::<M>(&kept, bad),
        states: last
            .states
            .iter()
            .take(8)
            .map(|state| format!("{state:?}"))
            .collect(),
    }
}

/// What had been called when the bad answer came.
fn prefix<M: Model>(history: &[&Recorded<M>], dead: &Dead<M>) -> Vec<Recorded<M>> {
    history
        .iter()
        .filter(|event| event.called_at <= dead.at)
        .map(|event| (*event).clone())
        .collect()
}

/// `kept` without what may go of `size` operations from `from` on.
fn without<M: Model>(
    model: &M,
    kept: &[Recorded<M>],
    from: usize,
    size: usize,
    bad: &Recorded<M>,
) -> Vec<Recorded<M>> {
    let mut rest = kept.to_vec();
    for at in (from..(from + size).min(kept.len())).rev() {
        let event = &rest[at];
        if event == bad {
            continue;
        }
        let superfluous = !model.changes(&event.op, event.outcome())
            || !rest.iter().enumerate().any(|(other, witness)| {
                other != at && model.witnesses(&witness.op, witness.outcome(), &event.op)
            });
        if superfluous {
            rest.remove(at);
        }
    }
    rest
}

fn lines<M: Model>(kept: &[Recorded<M>], bad: &Recorded<M>) -> Vec<String> {
    let line = |event: &Recorded<M>| match &event.returned {
        Some((returned_at, outcome)) => format!(
            "client {} [{}, {returned_at}] {:?} -> {outcome:?}",
            event.client, event.called_at, event.op
        ),
        None => format!(
            "client {} [{}, ...] {:?} -> no answer",
            event.client, event.called_at, event.op
        ),
    };
    kept.iter()
        .filter(|event| *event != bad)
        .chain([bad])
        .map(line)
        .collect()
}
