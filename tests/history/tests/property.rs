//! The judge of linearizability against one that tries every order, on small
//! random histories.

use std::cell::Cell;

use nube_history::model::{cas, counter, register, set};
use nube_history::{Event, Model, check};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// Whether any order explains everything: tries them all.
fn brute<M: Model>(model: &M, state: &M::State, left: &[&Event<M::Op, M::Outcome>]) -> bool {
    if left.iter().all(|event| event.returned.is_none()) {
        return true;
    }
    let first_end = left
        .iter()
        .filter_map(|event| event.returned.as_ref().map(|(at, _)| *at))
        .min()
        .unwrap_or(u64::MAX);
    (0..left.len()).any(|at| {
        // Nothing that had ended before it began may still be left.
        if left[at].called_at > first_end {
            return false;
        }
        let rest: Vec<_> = left
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != at)
            .map(|(_, event)| *event)
            .collect();
        model
            .step(state, &left[at].op, left[at].outcome())
            .is_some_and(|next| brute(model, &next, &rest))
    })
}

/// Both judges say the same about 1,500 histories, and both verdicts occur.
fn agree<M: Model>(
    model: &M,
    key: &M::Key,
    histories: impl Strategy<Value = Vec<Event<M::Op, M::Outcome>>>,
) {
    let config = ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let good = Cell::new(0);
    let bad = Cell::new(0);
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
        .run(&histories, |events| {
            let all: Vec<_> = events.iter().collect();
            let expected = brute(model, &model.start(key), &all);
            let found = check::linear(model, &events);
            prop_assert_eq!(found.is_ok(), expected, "{:?}", found);
            let verdict = if expected { &good } else { &bad };
            verdict.set(verdict.get() + 1);
            Ok(())
        })
        .expect("both judges agree");
    assert!(good.get() > 150 && bad.get() > 150, "{good:?} {bad:?}");
}

fn history<Op: Clone + std::fmt::Debug, Outcome: Clone + std::fmt::Debug>(
    asked: impl Strategy<Value = (Op, Outcome)> + Clone,
) -> impl Strategy<Value = Vec<Event<Op, Outcome>>> {
    let event = (asked, 0..12_u64, 0..6_u64, 0..4_u8).prop_map(
        |((op, outcome), called_at, length, answered)| Event {
            client: 0,
            op,
            called_at,
            returned: (answered > 0).then(|| (called_at + length, outcome)),
        },
    );
    prop::collection::vec(event, 1..8)
}

fn registers() -> impl Strategy<Value = (register::Op<u8, u8>, register::Outcome<u8>)> + Clone {
    prop_oneof![
        (0..3_u8).prop_map(|value| (
            register::Op::Read(0),
            register::Outcome::Value((value > 0).then_some(value))
        )),
        (0..3_u8).prop_map(|value| (
            register::Op::Write(0, (value > 0).then_some(value)),
            register::Outcome::Done
        )),
    ]
}

fn records() -> impl Strategy<Value = (cas::Op<u8, u8>, cas::Outcome<u8>)> + Clone {
    let value = || (0..3_u8).prop_map(|value| (value > 0).then_some(value));
    prop_oneof![
        (value(), 0..5_u64)
            .prop_map(|(value, at)| (cas::Op::Read(0), cas::Outcome::Value(value, at))),
        (value(), 1..5_u64)
            .prop_map(|(value, at)| (cas::Op::Write(0, value), cas::Outcome::Written(at))),
        (value(), 0..4_u64, 0..5_u64).prop_map(|(value, expected, at)| (
            cas::Op::WriteIf(0, expected, value),
            if at == 0 {
                cas::Outcome::Conflict
            } else {
                cas::Outcome::Written(at)
            }
        )),
    ]
}

fn sets() -> impl Strategy<Value = (set::Op<u8>, set::Outcome)> + Clone {
    (0..3_u8, any::<bool>()).prop_map(|(op, yes)| match op {
        0 => (set::Op::Add(0), set::Outcome::Changed(yes)),
        1 => (set::Op::Remove(0), set::Outcome::Changed(yes)),
        _ => (set::Op::Contains(0), set::Outcome::Is(yes)),
    })
}

fn quotas() -> impl Strategy<Value = (counter::Op<u8>, counter::Outcome)> + Clone {
    (0..4_u8, 1..4_u64).prop_map(|(op, amount)| match op {
        0 => (counter::Op::Take(0, amount), counter::Outcome::Done),
        1 => (counter::Op::Take(0, amount), counter::Outcome::Full),
        2 => (counter::Op::Give(0, amount), counter::Outcome::Done),
        _ => (counter::Op::Read(0), counter::Outcome::Used(amount)),
    })
}

#[test]
fn registers_are_judged_as_by_trying_all_orders() {
    agree(&register::Register::new(), &0, history(registers()));
}

#[test]
fn records_are_judged_as_by_trying_all_orders() {
    agree(&cas::Cas::new(), &0, history(records()));
}

#[test]
fn sets_are_judged_as_by_trying_all_orders() {
    agree(&set::Set::new(), &0, history(sets()));
}

#[test]
fn quotas_are_judged_as_by_trying_all_orders() {
    agree(&counter::Counter::new(4), &0, history(quotas()));
}
