//! What clients did and were told, in the form that the judges of `nube-history`
//! take. Times are microseconds on this machine's one monotonic clock.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nube_history::model::{register, set};
use nube_history::{Ack, Event, Sight};

/// A call on a register (a label of a host).
pub type RegisterEvent = Event<register::Op<String, String>, register::Outcome<String>>;
/// A call that makes or deletes a key.
pub type KeyEvent = Event<set::Op<String>, set::Outcome>;

/// One list of all keys.
#[derive(Debug, Clone)]
pub struct KeyList {
    pub client: u64,
    pub called_at: u64,
    pub returned_at: u64,
    pub names: BTreeSet<String>,
}

/// Everything of one round.
#[derive(Debug, Default)]
pub struct History {
    pub registers: Vec<RegisterEvent>,
    pub keys: Vec<KeyEvent>,
    pub lists: Vec<KeyList>,
    pub sights: Vec<Sight>,
    /// Answers that told what was made, and where.
    pub acks: Vec<Ack>,
    /// Requests that were acknowledged, whatever the answer told.
    pub acknowledged: Vec<String>,
    /// Calls that ended with an answer that no fault excuses.
    pub failures: Vec<String>,
}

impl History {
    /// Calls that were answered.
    pub fn calls(&self) -> usize {
        self.registers.len() + self.keys.len() + self.lists.len()
    }
}

/// Where clients write; clones share it.
#[derive(Clone)]
pub struct Recorder {
    began: Instant,
    history: Arc<Mutex<History>>,
}

/// Where the answer of a call belongs.
#[derive(Debug, Clone, Copy)]
pub struct Ticket(usize);

impl Recorder {
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            history: Arc::default(),
        }
    }

    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn open(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before a register is read or written.
    pub fn touch(&self, client: u64, op: register::Op<String, String>) -> Ticket {
        let mut history = self.open();
        let now = self.now();
        history.registers.push(Event::unknown(client, op, now));
        Ticket(history.registers.len() - 1)
    }

    /// The register answered.
    pub fn touched(&self, ticket: Ticket, outcome: register::Outcome<String>) {
        let now = self.now();
        self.open().registers[ticket.0].returned = Some((now, outcome));
    }

    /// Before a key is made or deleted.
    pub fn change(&self, client: u64, op: set::Op<String>) -> Ticket {
        let mut history = self.open();
        let now = self.now();
        history.keys.push(Event::unknown(client, op, now));
        Ticket(history.keys.len() - 1)
    }

    /// It was: names are never used twice, so each call changes something.
    pub fn changed(&self, ticket: Ticket) {
        let now = self.now();
        self.open().keys[ticket.0].returned = Some((now, set::Outcome::Changed(true)));
    }

    /// A list, and the revision of the state it shows.
    pub fn listed(&self, list: KeyList, revision: u64) {
        let sight = Sight {
            client: list.client,
            called_at: list.called_at,
            returned_at: list.returned_at,
            revision,
            wrote: false,
        };
        let mut history = self.open();
        history.sights.push(sight);
        history.lists.push(list);
    }

    /// An answer that told the log index of what it made.
    pub fn made(&self, sight: Sight, request: uuid::Uuid, id: &str) {
        let mut history = self.open();
        history.acks.push(Ack {
            request: request.simple().to_string(),
            at: sight.revision,
            made: id.to_owned(),
        });
        history.sights.push(sight);
    }

    /// The same request, sent again and answered again.
    pub fn made_again(&self, request: uuid::Uuid, revision: u64, id: &str) {
        self.open().acks.push(Ack {
            request: request.simple().to_string(),
            at: revision,
            made: id.to_owned(),
        });
    }

    /// A mutation was acknowledged.
    pub fn acknowledged(&self, request: uuid::Uuid) {
        let request = request.simple().to_string();
        self.open().acknowledged.push(request);
    }

    pub fn failed(&self, what: &str, why: &dyn std::fmt::Display) {
        self.open().failures.push(format!("{what}: {why}"));
    }

    /// Everything so far; a new round begins.
    pub fn take(&self) -> History {
        std::mem::take(&mut *self.open())
    }
}
