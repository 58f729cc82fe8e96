//! A counter with a limit: a project's quota.

use std::fmt::Debug;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::linear::Model;

/// A counter under each key `K`, zero at first, never above `limit`.
#[derive(Clone, Copy, Debug)]
pub struct Counter<K> {
    limit: u64,
    keys: PhantomData<K>,
}

impl<K> Counter<K> {
    /// The model of counters that end at `limit`.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            keys: PhantomData,
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op<K> {
    /// So many more.
    Take(K, u64),
    /// So many fewer.
    Give(K, u64),
    /// How many?
    Read(K),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Taken or given.
    Done,
    /// Taking would have passed the limit.
    Full,
    /// To a read.
    Used(u64),
}

impl<K: Ord + Clone + Debug> Model for Counter<K> {
    type Key = K;
    type Op = Op<K>;
    type Outcome = Outcome;
    type State = u64;

    fn key(&self, op: &Op<K>) -> K {
        match op {
            Op::Take(key, _) | Op::Give(key, _) | Op::Read(key) => key.clone(),
        }
    }

    fn start(&self, _: &K) -> u64 {
        0
    }

    fn step(&self, used: &u64, op: &Op<K>, outcome: Option<&Outcome>) -> Option<u64> {
        let taken = |amount: &u64| used.checked_add(*amount).filter(|sum| *sum <= self.limit);
        match (op, outcome) {
            (Op::Take(_, amount), Some(Outcome::Done)) => taken(amount),
            (Op::Take(_, amount), Some(Outcome::Full)) => taken(amount).is_none().then_some(*used),
            (Op::Take(_, amount), None) => Some(taken(amount).unwrap_or(*used)),
            (Op::Give(_, amount), Some(Outcome::Done) | None) => used.checked_sub(*amount),
            (Op::Read(_), Some(Outcome::Used(seen))) => (seen == used).then_some(*used),
            (Op::Read(_), None) => Some(*used),
            _ => None,
        }
    }

    fn changes(&self, op: &Op<K>, outcome: Option<&Outcome>) -> bool {
        !matches!((op, outcome), (Op::Read(_), _) | (_, Some(Outcome::Full)))
    }

    // Every later answer rests on every amount before it.
    fn witnesses(&self, _: &Op<K>, answer: Option<&Outcome>, _: &Op<K>) -> bool {
        answer.is_some()
    }
}
