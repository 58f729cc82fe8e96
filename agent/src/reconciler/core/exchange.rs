//! What goes into the core and what comes out of it.

use std::collections::BTreeSet;

use nube_types::InstanceId;

use crate::driver::GuestEnded;
use crate::instance::record::Record;
use crate::instance::{Done, Verb, Wish};
use crate::lease::Held;
use crate::report::Change;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The first input of a life, once.
    Started,
    /// The leader's list, complete.
    Desired {
        /// One for each instance of this node.
        wishes: Vec<Wish>,
        /// How often this node had been fenced when the list was read.
        fence_epoch: u64,
    },
    /// The obeyed leader granted a lease.
    Lease(Held),
    /// The leader has committed that these were found dead.
    Told(Vec<InstanceId>),
    /// A machine process is gone.
    GuestEnded(GuestEnded),
    /// A step that was begun has an answer.
    VerbFinished {
        /// Of this instance.
        instance: InstanceId,
        /// As in `Begin`.
        token: u64,
        /// What it says.
        done: Done,
    },
    /// The answer to `WriteRecord` and `Forget`.
    Recorded {
        /// Of this instance.
        instance: InstanceId,
        /// False: it failed, and what was durable before still is.
        durable: bool,
    },
    /// The time named by `WakeAt` has come. Harmless at any other time.
    Wake,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// These files must stay in the cache; all others may go.
    PinImages(BTreeSet<String>),
    /// Make it durable, then say so with `Recorded`.
    WriteRecord(Box<Record>),
    /// Forget the record durably (absent is fine), then say so with `Recorded`.
    Forget(InstanceId),
    /// Leased guests may run until then: tell their fencers. Comes before what
    /// it allows. A new life learns it with [`super::Core::with_deadline`].
    Prolong {
        /// On the clock that `now_ms` is of.
        deadline_ms: u64,
    },
    /// The fetch of this instance is of no use any more.
    AbortFetch(InstanceId),
    /// Do this on the host and answer with `VerbFinished`.
    Begin {
        /// Of this instance.
        instance: InstanceId,
        /// Goes back with the answer.
        token: u64,
        /// The step.
        verb: Verb,
        /// The wish it serves.
        wish: Box<Wish>,
    },
    /// The leader may be told.
    Show(Change),
    /// Say `Wake` at this time. Always the last output; without one there is
    /// nothing to wait for. A newer one replaces it.
    WakeAt(u64),
}
