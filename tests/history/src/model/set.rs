//! A set, judged element by element: names that are taken, rows of a list.

use std::fmt::Debug;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::linear::Model;

/// A set of `E`, empty at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Set<E>(PhantomData<E>);

impl<E> Set<E> {
    /// The model.
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op<E> {
    /// It is in from now on.
    Add(E),
    /// It is out from now on.
    Remove(E),
    /// Is it in?
    Contains(E),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// To an addition or removal: whether that changed anything (`name taken` and
    /// `not found` are `false`).
    Changed(bool),
    /// To a question.
    Is(bool),
}

/// What an answer says about the moment before it: was the element in?
fn was_in<E>(op: &Op<E>, answer: Option<&Outcome>) -> Option<bool> {
    match (op, answer?) {
        (Op::Add(_), Outcome::Changed(changed)) => Some(!changed),
        (Op::Remove(_), Outcome::Changed(changed)) => Some(*changed),
        (_, Outcome::Is(is)) => Some(*is),
        (Op::Contains(_), Outcome::Changed(_)) => None,
    }
}

impl<E: Ord + Clone + Debug> Model for Set<E> {
    type Key = E;
    type Op = Op<E>;
    type Outcome = Outcome;
    type State = bool;

    fn key(&self, op: &Op<E>) -> E {
        match op {
            Op::Add(element) | Op::Remove(element) | Op::Contains(element) => element.clone(),
        }
    }

    fn start(&self, _: &E) -> bool {
        false
    }

    fn step(&self, state: &bool, op: &Op<E>, outcome: Option<&Outcome>) -> Option<bool> {
        if outcome.is_some() && was_in(op, outcome) != Some(*state) {
            return None;
        }
        match op {
            Op::Add(_) => Some(true),
            Op::Remove(_) => Some(false),
            Op::Contains(_) => Some(*state),
        }
    }

    fn changes(&self, op: &Op<E>, outcome: Option<&Outcome>) -> bool {
        !matches!(
            (op, outcome),
            (Op::Contains(_), _) | (_, Some(Outcome::Changed(false)))
        )
    }

    fn witnesses(&self, witness: &Op<E>, answer: Option<&Outcome>, op: &Op<E>) -> bool {
        match op {
            Op::Add(_) => was_in(witness, answer) == Some(true),
            Op::Remove(_) => was_in(witness, answer) == Some(false),
            Op::Contains(_) => false,
        }
    }
}
