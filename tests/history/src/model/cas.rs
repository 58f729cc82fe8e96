//! A record with a revision that grows with each change, as the cloud's records
//! have: writes may ask for the revision they expect. Revisions are indices of a
//! log that others share, so they grow by any amount.

use std::fmt::Debug;
use std::marker::PhantomData;

use serde::{Deserialize, Serialize};

use crate::linear::Model;

/// Records `V` under keys `K`; nothing is there at first, at revision 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cas<K, V>(PhantomData<(K, V)>);

impl<K, V> Cas<K, V> {
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
    /// This is there from now on, whatever was (`None` deletes).
    Write(K, Option<V>),
    /// This is there from now on if the revision is still this one.
    WriteIf(K, u64, Option<V>),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<V> {
    /// To a read: the record and the revision of its last change.
    Value(Option<V>, u64),
    /// To a write: the revision of this change.
    Written(u64),
    /// To a conditional write: the revision was another one.
    Conflict,
}

/// A revision as far as answers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revision {
    /// Somebody was told.
    Is(u64),
    /// A change without an answer came after this one.
    After(u64),
}

impl Revision {
    fn may_be(self, revision: u64) -> bool {
        match self {
            Self::Is(known) => known == revision,
            Self::After(last) => revision > last,
        }
    }

    fn may_differ(self, revision: u64) -> bool {
        self != Self::Is(revision)
    }

    /// The least it can be.
    fn last(self) -> u64 {
        match self {
            Self::Is(last) | Self::After(last) => last,
        }
    }

    fn next(self, revision: u64) -> Option<Self> {
        (revision > self.last()).then_some(Self::Is(revision))
    }
}

impl<K, V> Model for Cas<K, V>
where
    K: Ord + Clone + Debug,
    V: Ord + Clone + Debug,
{
    type Key = K;
    type Op = Op<K, V>;
    type Outcome = Outcome<V>;
    type State = (Option<V>, Revision);

    fn key(&self, op: &Self::Op) -> K {
        match op {
            Op::Read(key) | Op::Write(key, _) | Op::WriteIf(key, ..) => key.clone(),
        }
    }

    fn start(&self, _: &K) -> Self::State {
        (None, Revision::Is(0))
    }

    fn step(
        &self,
        (value, revision): &Self::State,
        op: &Self::Op,
        outcome: Option<&Self::Outcome>,
    ) -> Option<Self::State> {
        match (op, outcome) {
            (Op::Read(_), None) => Some((value.clone(), *revision)),
            (Op::Read(_), Some(Outcome::Value(read, at))) => {
                (read == value && revision.may_be(*at)).then(|| (value.clone(), Revision::Is(*at)))
            }
            (Op::Write(_, new), None) => Some((new.clone(), Revision::After(revision.last()))),
            (Op::Write(_, new), Some(Outcome::Written(at))) => {
                Some((new.clone(), revision.next(*at)?))
            }
            (Op::WriteIf(_, expected, new), None) => revision
                .may_be(*expected)
                .then(|| (new.clone(), Revision::After(*expected))),
            (Op::WriteIf(_, expected, new), Some(Outcome::Written(at))) => {
                if !revision.may_be(*expected) {
                    return None;
                }
                Some((new.clone(), Revision::Is(*expected).next(*at)?))
            }
            (Op::WriteIf(_, expected, _), Some(Outcome::Conflict)) => revision
                .may_differ(*expected)
                .then(|| (value.clone(), *revision)),
            _ => None,
        }
    }

    fn changes(&self, op: &Self::Op, outcome: Option<&Self::Outcome>) -> bool {
        // A read tells a revision that was open until then: that is a change of
        // what is known, and it must not be thought away.
        match outcome {
            Some(Outcome::Conflict) => false,
            Some(_) => true,
            None => !matches!(op, Op::Read(_)),
        }
    }

    fn witnesses(&self, witness: &Self::Op, answer: Option<&Self::Outcome>, op: &Self::Op) -> bool {
        let (Op::Write(_, written) | Op::WriteIf(_, _, written)) = op else {
            return false;
        };
        match answer {
            // Without an answer it may depend on a revision that `op` made.
            None => matches!(witness, Op::WriteIf(..)),
            Some(Outcome::Value(read, _)) => read == written,
            Some(Outcome::Conflict) => true,
            Some(Outcome::Written(_)) => matches!(witness, Op::WriteIf(..)),
        }
    }
}
