//! One recorded operation.

use serde::{Deserialize, Serialize};

/// What a client asked, when, and what came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<Op, Outcome> {
    /// Who asked; only shown to people.
    pub client: u64,
    /// What was asked.
    pub op: Op,
    /// When the first attempt left the client.
    pub called_at: u64,
    /// When the answer was there, and what it said. `None`: no answer, or one
    /// that leaves open whether it happened. Such an operation may take effect at
    /// any later time, or never. One that is known to have had no effect (refused
    /// before it was proposed) is best not recorded at all.
    pub returned: Option<(u64, Outcome)>,
}

impl<Op, Outcome> Event<Op, Outcome> {
    /// An operation with an answer.
    pub fn done(client: u64, op: Op, called_at: u64, returned_at: u64, outcome: Outcome) -> Self {
        Self {
            client,
            op,
            called_at,
            returned: Some((returned_at, outcome)),
        }
    }

    /// An operation of which nobody knows whether it happened.
    pub fn unknown(client: u64, op: Op, called_at: u64) -> Self {
        Self {
            client,
            op,
            called_at,
            returned: None,
        }
    }

    /// The answer, if there was one.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.returned.as_ref().map(|(_, outcome)| outcome)
    }
}
