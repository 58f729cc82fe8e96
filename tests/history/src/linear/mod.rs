//! Linearizability: is there one order of all operations, each at a moment
//! between its call and its answer, that explains every answer?
//!
//! Wing and Gong's question in Lowe's form: histories are split by key, then read
//! in order of time. A configuration is (which of the pending operations have
//! taken effect, state); at each answer only configurations survive in which that
//! operation has taken effect. Only pending operations are ever in a
//! configuration, so the width of the search is the concurrency, not the length;
//! and the first answer that no configuration survives ends the shortest bad
//! prefix. `search.rs` does it, `shrink.rs` takes out of a bad prefix whatever is
//! not needed to see that it is bad.

mod bits;
mod search;
mod shrink;

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use crate::event::Event;

/// What one object does, alone and without concurrency.
pub trait Model {
    /// Which object: histories of different keys are judged apart.
    type Key: Ord + Clone + Debug;
    /// What is asked.
    type Op: Clone + PartialEq + Debug;
    /// What is answered.
    type Outcome: Clone + PartialEq + Debug;
    /// What one object is.
    type State: Clone + Ord + Debug;

    /// The object that `op` is about.
    fn key(&self, op: &Self::Op) -> Self::Key;

    /// The object before the first operation.
    fn start(&self, key: &Self::Key) -> Self::State;

    /// The state after `op` gave `outcome` in `state`; `None`: it cannot give
    /// that answer there. An `outcome` of `None` is an answer nobody saw: then the
    /// state after the effect it has here.
    fn step(
        &self,
        state: &Self::State,
        op: &Self::Op,
        outcome: Option<&Self::Outcome>,
    ) -> Option<Self::State>;

    /// Whether it may change any state at all; `false` for what only looks.
    fn changes(&self, op: &Self::Op, outcome: Option<&Self::Outcome>) -> bool;

    /// Whether `witness` with that answer (`None`: no answer) may owe it to `op`
    /// having happened. A change without an answer that has no witness is left
    /// out, which keeps histories with many lost answers cheap. `true` is always
    /// sound; `false` promises: if an order explains all answers and none of them
    /// is by a witness of `op`, the order without `op` explains them as well.
    fn witnesses(&self, witness: &Self::Op, answer: Option<&Self::Outcome>, op: &Self::Op) -> bool;
}

/// The events of one history.
pub type Events<M> = [Event<<M as Model>::Op, <M as Model>::Outcome>];

/// One key's part of it, in order of calls.
type History<'a, M> = Vec<&'a Event<<M as Model>::Op, <M as Model>::Outcome>>;

/// No order explains these answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The object.
    pub key: String,
    /// When the answer came that no order explains.
    pub at: u64,
    /// How many operations on this key had been called by then.
    pub prefix_len: usize,
    /// A part of that prefix that is already bad, one operation a line, in order
    /// of calls; the last line has the answer that cannot be.
    pub operations: Vec<String>,
    /// Where the object can have been before that answer, by the other lines.
    pub states: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "not linearizable: key {}: no order of its first {} operations explains the answer at {}; these are enough to see it:",
            self.key, self.prefix_len, self.at
        )?;
        for line in &self.operations {
            writeln!(f, "  {line}")?;
        }
        write!(
            f,
            "  possible before the last answer: {}",
            self.states.join(" or ")
        )
    }
}

impl std::error::Error for Violation {}

/// Judges a history. Of several bad keys it names the one whose bad answer came
/// first.
///
/// # Errors
/// The shortest bad prefix of a key, shrunk.
pub fn check<M: Model>(model: &M, events: &Events<M>) -> Result<(), Violation> {
    let mut keys: BTreeMap<M::Key, History<'_, M>> = BTreeMap::new();
    for event in events {
        keys.entry(model.key(&event.op)).or_default().push(event);
    }
    let mut worst: Option<(search::Dead<M>, M::Key, History<'_, M>)> = None;
    for (key, mut history) in keys {
        history.sort_by_key(|event| event.called_at);
        if let Err(dead) = search::run(model, &key, &history)
            && worst.as_ref().is_none_or(|(first, ..)| dead.at < first.at)
        {
            worst = Some((dead, key, history));
        }
    }
    match worst {
        None => Ok(()),
        Some((dead, key, history)) => Err(shrink::violation(model, &key, &history, dead)),
    }
}
