//! The search of one key's history (see the module above).
//!
//! Three things keep it narrow, all of them sound:
//! - what only looks takes effect at once where its answer fits: looking later
//!   constrains more and brings nothing;
//! - a configuration is dropped when another one with the same state has spent
//!   fewer of the operations without an answer: those need not happen at all, so
//!   having more of them left is never worse;
//! - of equal operations without an answer the one called first goes first.

use std::collections::{BTreeMap, VecDeque};

use super::Model;
use super::bits::Bits;
use crate::event::Event;

type Recorded<M> = Event<<M as Model>::Op, <M as Model>::Outcome>;

/// How a search ended badly.
pub struct Dead<M: Model> {
    /// When the answer came that no configuration survived.
    pub at: u64,
    /// Its place in the history.
    pub event: usize,
    /// States in which the answer was looked for in vain.
    pub states: Vec<M::State>,
}

/// One way the past can have been.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Configuration<S> {
    state: S,
    /// Pending operations that took effect, by their slot.
    done: Bits,
    /// Operations without an answer that took effect.
    spent: Bits,
}

/// An operation that has been called and has not been answered yet.
struct Pending {
    event: usize,
    slot: usize,
}

/// An operation that never gets an answer.
struct Open {
    event: usize,
    /// The one before it that asks the same.
    twin: Option<usize>,
}

struct Search<'a, M: Model> {
    model: &'a M,
    history: &'a [&'a Recorded<M>],
    pending: Vec<Pending>,
    free: Vec<usize>,
    open: Vec<Open>,
    configurations: Vec<Configuration<M::State>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Call,
    Return,
}

/// Judges one key's history, sorted by calls.
pub fn run<M: Model>(model: &M, key: &M::Key, history: &[&Recorded<M>]) -> Result<(), Dead<M>> {
    let kept = keep(model, history);
    // A call at the time of an answer comes first: then both are concurrent.
    let mut moments: Vec<(u64, Moment, usize)> = Vec::with_capacity(kept.len() * 2);
    for &at in &kept {
        let event = history[at];
        moments.push((event.called_at, Moment::Call, at));
        if let Some((returned_at, _)) = &event.returned {
            let returned_at = (*returned_at).max(event.called_at);
            moments.push((returned_at, Moment::Return, at));
        }
    }
    moments.sort_unstable();
    let mut search = Search {
        model,
        history,
        pending: Vec::new(),
        free: Vec::new(),
        open: Vec::new(),
        configurations: vec![Configuration {
            state: model.start(key),
            done: Bits::default(),
            spent: Bits::default(),
        }],
    };
    for (at, moment, event) in moments {
        match moment {
            Moment::Call => search.call(event),
            Moment::Return => search.answer(at, event)?,
        }
    }
    Ok(())
}

/// What is judged: without lost looks, and without lost changes nobody saw.
fn keep<M: Model>(model: &M, history: &[&Recorded<M>]) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..history.len())
        .filter(|&at| {
            let event = history[at];
            event.returned.is_some() || model.changes(&event.op, None)
        })
        .collect();
    loop {
        let seen: Vec<usize> = kept
            .iter()
            .copied()
            .filter(|&at| {
                history[at].returned.is_some()
                    || kept.iter().any(|&other| {
                        let witness = history[other];
                        other != at
                            && model.witnesses(&witness.op, witness.outcome(), &history[at].op)
                    })
            })
            .collect();
        if seen.len() == kept.len() {
            return kept;
        }
        kept = seen;
    }
}

impl<M: Model> Search<'_, M> {
    fn call(&mut self, event: usize) {
        let op = &self.history[event].op;
        if self.history[event].returned.is_none() {
            let twin = self
                .open
                .iter()
                .rposition(|open| self.history[open.event].op == *op);
            self.open.push(Open { event, twin });
            return;
        }
        let slot = self.free.pop().unwrap_or(self.pending.len());
        self.pending.push(Pending { event, slot });
        if !self.model.changes(op, self.history[event].outcome()) {
            let configurations = std::mem::take(&mut self.configurations);
            self.configurations = configurations
                .into_iter()
                .map(|configuration| self.look(configuration))
                .collect();
            self.configurations.sort_unstable();
            self.configurations.dedup();
        }
    }

    /// Lets everything that only looks take effect where its answer fits.
    fn look(&self, mut configuration: Configuration<M::State>) -> Configuration<M::State> {
        for pending in &self.pending {
            let event = self.history[pending.event];
            if !configuration.done.has(pending.slot)
                && !self.model.changes(&event.op, event.outcome())
                && self
                    .model
                    .step(&configuration.state, &event.op, event.outcome())
                    .is_some()
            {
                configuration.done = configuration.done.with(pending.slot);
            }
        }
        configuration
    }

    /// Only configurations in which `event` took effect survive its answer.
    fn answer(&mut self, at: u64, event: usize) -> Result<(), Dead<M>> {
        let place = self
            .pending
            .iter()
            .position(|pending| pending.event == event)
            .expect("an answer follows its call");
        let slot = self.pending[place].slot;
        let mut survivors = Frontier::default();
        let mut seen = Frontier::default();
        let mut states = Vec::new();
        let mut queue: VecDeque<Configuration<M::State>> = VecDeque::new();
        for configuration in std::mem::take(&mut self.configurations) {
            seen.enter(&configuration);
            queue.push_back(configuration);
        }
        while let Some(configuration) = queue.pop_front() {
            if configuration.done.has(slot) {
                survivors.enter(&Configuration {
                    done: configuration.done.without(slot),
                    ..configuration
                });
                continue;
            }
            for next in self.steps(&configuration) {
                if seen.enter(&next) {
                    queue.push_back(next);
                }
            }
            states.push(configuration.state);
        }
        self.configurations = survivors.into_configurations();
        if self.configurations.is_empty() {
            states.sort_unstable();
            states.dedup();
            return Err(Dead { at, event, states });
        }
        self.pending.swap_remove(place);
        self.free.push(slot);
        Ok(())
    }

    /// Every next operation that can take effect here.
    fn steps(&self, from: &Configuration<M::State>) -> Vec<Configuration<M::State>> {
        let mut next = Vec::new();
        for pending in &self.pending {
            let event = self.history[pending.event];
            // What only looks and does not fit has been tried by `look`.
            if from.done.has(pending.slot) || !self.model.changes(&event.op, event.outcome()) {
                continue;
            }
            if let Some(state) = self.model.step(&from.state, &event.op, event.outcome()) {
                next.push(self.look(Configuration {
                    state,
                    done: from.done.with(pending.slot),
                    spent: from.spent.clone(),
                }));
            }
        }
        for (number, open) in self.open.iter().enumerate() {
            if from.spent.has(number) || open.twin.is_some_and(|twin| !from.spent.has(twin)) {
                continue;
            }
            let op = &self.history[open.event].op;
            if let Some(state) = self.model.step(&from.state, op, None)
                && state != from.state
            {
                next.push(self.look(Configuration {
                    state,
                    done: from.done.clone(),
                    spent: from.spent.with(number),
                }));
            }
        }
        next
    }
}

/// Configurations without those that another one makes superfluous.
struct Frontier<S> {
    least: BTreeMap<(S, Bits), Vec<Bits>>,
}

impl<S> Default for Frontier<S> {
    fn default() -> Self {
        Self {
            least: BTreeMap::new(),
        }
    }
}

impl<S: Clone + Ord> Frontier<S> {
    /// Whether it brings anything new.
    fn enter(&mut self, configuration: &Configuration<S>) -> bool {
        let spent = self
            .least
            .entry((configuration.state.clone(), configuration.done.clone()))
            .or_default();
        if spent.iter().any(|held| held.within(&configuration.spent)) {
            return false;
        }
        spent.retain(|held| !configuration.spent.within(held));
        spent.push(configuration.spent.clone());
        true
    }

    fn into_configurations(self) -> Vec<Configuration<S>> {
        self.least
            .into_iter()
            .flat_map(|((state, done), spent)| {
                spent.into_iter().map(move |spent| Configuration {
                    state: state.clone(),
                    done: done.clone(),
                    spent,
                })
            })
            .collect()
    }
}
