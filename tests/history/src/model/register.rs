//! A register: the last writer wins. Keys and values are the caller's.

use std::fmt::Debug;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::linear::Model;

/// Reads and writes of `V` under keys `K`; nothing is there at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Register<K, V>(PhantomData<(K, V)>);

impl<K, V> Register<K, V> {
    /// The model.
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op<K, V> {
    /// What is there?
    Read(K),
    /// This is there from now on; `None` deletes.
    Write(K, Option<V>),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<V> {
    /// To a read.
    Value(Option<V>),
    /// To a write.
    Done,
}

impl<K, V> Model for Register<K, V>
where
    K: Ord + Clone + Debug,
    V: Ord + Clone + Debug,
{
    type Key = K;
    type Op = Op<K, V>;
    type Outcome = Outcome<V>;
    type State = Option<V>;

    fn key(&self, op: &Self::Op) -> K {
        match op {
            Op::Read(key) | Op::Write(key, _) => key.clone(),
        }
    }

    fn start(&self, _: &K) -> Option<V> {
        None
    }

    fn step(
        &self,
        state: &Option<V>,
        op: &Self::Op,
        outcome: Option<&Self::Outcome>,
    ) -> Option<Option<V>> {
        match (op, outcome) {
            (Op::Read(_), None) => Some(state.clone()),
            (Op::Read(_), Some(Outcome::Value(value))) => (value == state).then(|| state.clone()),
            (Op::Write(_, value), None | Some(Outcome::Done)) => Some(value.clone()),
            (Op::Read(_), Some(Outcome::Done)) | (Op::Write(..), Some(Outcome::Value(_))) => None,
        }
    }

    fn changes(&self, op: &Self::Op, _: Option<&Self::Outcome>) -> bool {
        matches!(op, Op::Write(..))
    }

    fn witnesses(&self, _: &Self::Op, answer: Option<&Self::Outcome>, op: &Self::Op) -> bool {
        matches!((answer, op), (Some(Outcome::Value(read)), Op::Write(_, written)) if read == written)
    }
}
