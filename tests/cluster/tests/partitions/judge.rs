//! What must be true of a round's history once everything is whole again: the
//! judges are those of `nube-history`; here is what they are given.

use std::collections::{BTreeMap, BTreeSet};

use nube_history::model::{Register, Set, register, set};
use nube_history::{Ack, Effect, Event, Reference, Stream, check};
use nube_proto::v1;

use super::history::History;

type Verdict<T = ()> = Result<T, String>;

/// Every call got an answer that a fault may give, and in time (A10).
pub fn answers(history: &History) -> Verdict {
    match history.failures.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "A10: {} calls failed, the first: {first}",
            history.failures.len()
        )),
    }
}

/// A1, A3: what was acknowledged is in the audit as it was told, and nothing is
/// there twice.
pub fn effects(history: &History, audit: &[v1::Event]) -> Verdict {
    // An entry may leave several records; its first tells what it made.
    let mut effects: BTreeMap<(&str, u64), Effect> = BTreeMap::new();
    for event in audit.iter().filter(|event| !event.request_id.is_empty()) {
        let entry = (event.request_id.as_str(), event.revision);
        effects.entry(entry).or_insert_with(|| Effect {
            request: event.request_id.clone(),
            at: event.revision,
            made: event.resource_id.clone(),
        });
    }
    let effects: Vec<Effect> = effects.into_values().collect();
    let known = |request: &String| effects.iter().find(|effect| effect.request == *request);
    let plain = history.acknowledged.iter().map(|request| Ack {
        request: request.clone(),
        at: known(request).map_or(0, |effect| effect.at),
        made: known(request).map_or(String::new(), |effect| effect.made.clone()),
    });
    let acks: Vec<Ack> = history.acks.iter().cloned().chain(plain).collect();
    check::effects(&effects, &acks).map_err(|error| format!("A1 or A3: {error}"))
}

/// A2 on registers, from what they showed before the round.
pub fn registers(history: &History, before: &BTreeMap<String, String>) -> Verdict {
    let first = before.iter().map(|(key, value)| {
        let op = register::Op::Write(key.clone(), Some(value.clone()));
        Event::done(0, op, 0, 0, register::Outcome::Done)
    });
    let events: Vec<_> = first.chain(history.registers.iter().cloned()).collect();
    check::linear(&Register::new(), &events).map_err(|found| format!("A2: {found}"))
}

/// A2 on keys: a list answers, for every name, whether it is there.
pub fn keys(history: &History, before: &BTreeSet<String>) -> Verdict {
    let first = before.iter().map(|name| {
        let op = set::Op::Add(name.clone());
        Event::done(0, op, 0, 0, set::Outcome::Changed(true))
    });
    let mut events: Vec<_> = first.chain(history.keys.iter().cloned()).collect();
    let names: BTreeSet<String> = events
        .iter()
        .filter_map(|event| match &event.op {
            set::Op::Add(name) => Some(name.clone()),
            _ => None,
        })
        .collect();
    for list in &history.lists {
        if let Some(stranger) = list.names.difference(&names).next() {
            return Err(format!("A1: {stranger} was made by nobody"));
        }
        events.extend(names.iter().map(|name| {
            let is = set::Outcome::Is(list.names.contains(name));
            let op = set::Op::Contains(name.clone());
            Event::done(list.client, op, list.called_at, list.returned_at, is)
        }));
    }
    check::linear(&Set::new(), &events).map_err(|found| format!("A2: {found}"))?;
    check::revisions(&history.sights).map_err(|found| format!("A2: {found}"))
}

/// A1 at rest: the keys that were made and not deleted. `None`: a mutation has no
/// answer, so nobody can say.
pub fn standing(history: &History, before: &BTreeSet<String>) -> Option<BTreeSet<String>> {
    let mut standing = before.clone();
    for event in &history.keys {
        event.returned.as_ref()?;
        match &event.op {
            set::Op::Add(name) => standing.insert(name.clone()),
            set::Op::Remove(name) => standing.remove(name),
            set::Op::Contains(_) => false,
        };
    }
    Some(standing)
}

/// A9: every stream of a watch shows every audit record and every key of its
/// range, once and in order.
pub fn watch(streams: &[Stream], audit: &[v1::Event]) -> Verdict {
    let mut reference = Reference::new();
    for event in audit {
        let row = reference.entry(event.revision).or_default();
        row.push(format!("event {}", event.id));
        match event.action.as_str() {
            "ssh_key.import" => row.push(format!("ssh_key {}", event.resource_id)),
            "ssh_key.delete" => row.push(format!("ssh_key {} removed", event.resource_id)),
            _ => {}
        }
    }
    for row in reference.values_mut() {
        row.sort_unstable();
    }
    check::watch(&reference, streams).map_err(|error| format!("A9: {error}"))
}

#[cfg(test)]
mod test {
    use nube_history::{Item, Sight};

    use super::*;

    fn event(revision: u64, request: &str, action: &str) -> v1::Event {
        v1::Event {
            id: format!("{revision}.0"),
            revision,
            request_id: request.to_owned(),
            action: action.to_owned(),
            resource_id: "k-1".to_owned(),
            ..v1::Event::default()
        }
    }

    #[test]
    fn lost_and_doubled_effects_are_found() {
        let history = History {
            acknowledged: vec!["r1".to_owned()],
            ..History::default()
        };
        let one = [event(5, "r1", "x"), event(5, "r1", "y")];
        effects(&history, &one).expect("one entry is one effect");
        assert!(effects(&history, &[]).is_err());
        let twice = [event(5, "r1", "x"), event(9, "r1", "x")];
        assert!(effects(&history, &twice).is_err());
        let told = History {
            acks: vec![Ack {
                request: "r1".to_owned(),
                at: 4,
                made: "k-1".to_owned(),
            }],
            ..History::default()
        };
        assert!(effects(&told, &one).is_err(), "told another place");
    }

    fn key(op: set::Op<String>, span: (u64, u64)) -> super::super::history::KeyEvent {
        Event::done(1, op, span.0, span.1, set::Outcome::Changed(true))
    }

    #[test]
    fn stale_lists_are_found() {
        let name = || "k".to_owned();
        let verdict = |names: &[&str], called_at: u64, revision: u64| {
            let returned_at = called_at + 1;
            let history = History {
                keys: vec![
                    key(set::Op::Add(name()), (10, 20)),
                    key(set::Op::Remove(name()), (40, 50)),
                ],
                lists: vec![super::super::history::KeyList {
                    client: 2,
                    called_at,
                    returned_at,
                    names: names.iter().map(ToString::to_string).collect(),
                }],
                sights: [(1, 7), (called_at, revision)]
                    .map(|(at, revision)| Sight {
                        client: 2,
                        called_at: at,
                        returned_at: at + 1,
                        revision,
                        wrote: false,
                    })
                    .to_vec(),
                ..History::default()
            };
            assert_eq!(standing(&history, &BTreeSet::new()), Some(BTreeSet::new()));
            keys(&history, &BTreeSet::new())
        };
        verdict(&["k"], 30, 8).expect("it is there");
        verdict(&["k"], 45, 8).expect("it may be");
        verdict(&[], 45, 8).expect("or not");
        assert!(verdict(&[], 30, 8).is_err());
        assert!(verdict(&["k"], 60, 8).is_err());
        assert!(verdict(&["k"], 5, 8).is_err());
        assert!(verdict(&["k", "z"], 30, 8).is_err());
        assert!(verdict(&["k"], 30, 6).is_err(), "a revision went back");
    }

    #[test]
    fn a_register_that_shows_the_past_is_found() {
        let op = |value: &str| register::Op::Write("r".to_owned(), Some(value.to_owned()));
        let read = |value: &str, at| {
            let outcome = register::Outcome::Value(Some(value.to_owned()));
            Event::done(2, register::Op::Read("r".to_owned()), at, at + 1, outcome)
        };
        let verdict = |last| {
            let history = History {
                registers: vec![
                    Event::done(1, op("b"), 3, 4, register::Outcome::Done),
                    read("b", 6),
                    last,
                ],
                ..History::default()
            };
            let before = BTreeMap::from([("r".to_owned(), "a".to_owned())]);
            registers(&history, &before)
        };
        verdict(read("b", 9)).expect("what was written");
        verdict(read("a", 1)).expect("what was there before");
        assert!(verdict(read("a", 9)).is_err());
    }

    #[test]
    fn gaps_and_repetitions_of_a_watch_are_found() {
        let audit = [
            event(4, "r1", "ssh_key.import"),
            event(7, "r2", "ssh_key.delete"),
        ];
        let one = Item::Changes(4, vec!["event 4.0".into(), "ssh_key k-1".into()]);
        let two = Item::Changes(7, vec!["event 7.0".into(), "ssh_key k-1 removed".into()]);
        let verdict = |items: &[&Item]| {
            let items = items.iter().copied().cloned().collect();
            let stream = Stream {
                watcher: 1,
                after: 3,
                listed: false,
                items,
            };
            watch(&[stream], &audit)
        };
        verdict(&[&one, &two]).expect("all there");
        assert!(verdict(&[&two]).is_err());
        assert!(verdict(&[&one, &two, &two]).is_err());
        assert!(verdict(&[&Item::Changes(4, vec!["event 4.0".into()])]).is_err());
    }
}
