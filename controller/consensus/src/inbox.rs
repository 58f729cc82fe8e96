//! The driver's bounded inbox: four lanes, one wake-up.
//!
//! Lives here: bounds and order of lanes. May not: decisions about what is in them. Written by
//! `handle`, `io` and helper threads; read by `driver` only.
//!
//! Lanes are read in this order, so that a flood of proposals cannot hold up an acknowledgement
//! of the disk (which frees memory) or a heartbeat (which keeps the leader):
//! control > peer messages > proposals > reads.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::entry::MembershipChange;
use crate::error::{Error, MembershipError, ProposeError, ReadError};
use crate::handle::Applied;
use crate::storage::SnapshotFile;

/// A proposal and who waits for it.
pub(crate) struct Proposal<R> {
    pub(crate) data: Bytes,
    /// Only as the leader of this term.
    pub(crate) term: Option<u64>,
    pub(crate) reply: oneshot::Sender<Result<Applied<R>, ProposeError>>,
}

/// A read and who waits for it.
pub(crate) type Read = oneshot::Sender<Result<u64, ReadError>>;

/// What must not be dropped.
pub(crate) enum Control {
    SnapshotWritten(Result<SnapshotFile, Error>),
    SnapshotArrived {
        file: SnapshotFile,
        from: u64,
        message: Bytes,
        seen: oneshot::Sender<()>,
    },
    SnapshotReport {
        to: u64,
        delivered: bool,
    },
    Unreachable(u64),
    Transfer {
        to: Option<u64>,
        reply: oneshot::Sender<Result<u64, MembershipError>>,
    },
    Membership {
        change: MembershipChange,
        reply: oneshot::Sender<Result<(), MembershipError>>,
    },
    SnapshotNow(oneshot::Sender<Result<u64, Error>>),
    Stop,
}

/// What the driver takes out in one go.
pub(crate) struct Taken<R> {
    pub(crate) persisted: Option<u64>,
    pub(crate) controls: Vec<Control>,
    pub(crate) messages: Vec<(u64, Bytes)>,
    pub(crate) proposals: Vec<Proposal<R>>,
    pub(crate) reads: Vec<Read>,
}

struct Lanes<R> {
    persisted: Option<u64>,
    controls: VecDeque<Control>,
    messages: VecDeque<(u64, Bytes)>,
    message_bytes: usize,
    proposals: VecDeque<Proposal<R>>,
    proposal_bytes: usize,
    reads: VecDeque<Read>,
    closed: bool,
}

/// Why something was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Overloaded,
    Stopped,
}

pub(crate) struct Limits {
    pub(crate) messages: usize,
    pub(crate) proposals: usize,
    pub(crate) reads: usize,
}

/// Bytes that may wait in the lane of messages, and in that of proposals. Larger: more memory in
/// an overload. Smaller: a burst of large ones is refused though the queue is short.
const LANE_BYTES_MAX: usize = 64 << 20;

/// Bound on requests of operators; beyond it somebody loops.
const CONTROLS_MAX: usize = 4096;

pub(crate) struct Inbox<R> {
    lanes: Mutex<Lanes<R>>,
    wake: Condvar,
    limits: Limits,
}

impl<R> Inbox<R> {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            lanes: Mutex::new(Lanes {
                persisted: None,
                controls: VecDeque::new(),
                messages: VecDeque::new(),
                message_bytes: 0,
                proposals: VecDeque::new(),
                proposal_bytes: 0,
                reads: VecDeque::new(),
                closed: false,
            }),
            wake: Condvar::new(),
            limits,
        })
    }

    /// No code runs under the lock that could panic, so a poisoned lock holds sound lanes.
    fn lock(&self) -> MutexGuard<'_, Lanes<R>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log thread made everything up to Ready `number` durable. Only the newest matters.
    pub(crate) fn persisted(&self, number: u64) {
        let mut lanes = self.lock();
        lanes.persisted = lanes.persisted.max(Some(number));
        drop(lanes);
        self.wake.notify_one();
    }

    pub(crate) fn control(&self, control: Control) -> Result<(), Full> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(Full::Stopped);
        }
        // What ends a running operation is never refused, only new requests are.
        let request = matches!(
            control,
            Control::Transfer { .. } | Control::Membership { .. } | Control::SnapshotNow(_)
        );
        if request && lanes.controls.len() >= CONTROLS_MAX {
            return Err(Full::Overloaded);
        }
        lanes.controls.push_back(control);
        drop(lanes);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes peer messages in; those beyond the bound are dropped, as a network would.
    pub(crate) fn messages(&self, from: u64, messages: impl IntoIterator<Item = Bytes>) -> usize {
        let mut lanes = self.lock();
        let mut dropped = 0;
        for message in messages {
            let full = lanes.messages.len() >= self.limits.messages
                || lanes.message_bytes >= LANE_BYTES_MAX;
            if lanes.closed || full {
                dropped += 1;
            } else {
                lanes.message_bytes += message.len();
                lanes.messages.push_back((from, message));
            }
        }
        drop(lanes);
        self.wake.notify_one();
        dropped
    }

    pub(crate) fn proposal(&self, proposal: Proposal<R>) -> Result<(), Full> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(Full::Stopped);
        }
        if lanes.proposals.len() >= self.limits.proposals || lanes.proposal_bytes >= LANE_BYTES_MAX
        {
            return Err(Full::Overloaded);
        }
        lanes.proposal_bytes += proposal.data.len();
        lanes.proposals.push_back(proposal);
        drop(lanes);
        self.wake.notify_one();
        Ok(())
    }

    pub(crate) fn read(&self, read: Read) -> Result<(), Full> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(Full::Stopped);
        }
        if lanes.reads.len() >= self.limits.reads {
            return Err(Full::Overloaded);
        }
        lanes.reads.push_back(read);
        drop(lanes);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits until something is there or `deadline` has passed, then takes up to `max` of each
    /// lane. One batch becomes one proposal message and one read round, which is where the
    /// throughput comes from; `max` bounds how long a tick can be late.
    pub(crate) fn take(&self, max: usize, deadline: Instant) -> Taken<R> {
        let mut lanes = self.lock();
        loop {
            let now = Instant::now();
            if !lanes.is_empty() || now >= deadline {
                break;
            }
            let waited = self.wake.wait_timeout(lanes, deadline - now);
            lanes = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        lanes.take(max)
    }

    /// Refuses everything from now on and returns what was still waiting.
    pub(crate) fn close(&self) -> Taken<R> {
        let mut lanes = self.lock();
        lanes.closed = true;
        lanes.take(usize::MAX)
    }
}

impl<R> Lanes<R> {
    fn is_empty(&self) -> bool {
        self.persisted.is_none()
            && self.controls.is_empty()
            && self.messages.is_empty()
            && self.proposals.is_empty()
            && self.reads.is_empty()
    }

    fn take(&mut self, max: usize) -> Taken<R> {
        let messages = drain_up_to(&mut self.messages, max);
        let proposals = drain_up_to(&mut self.proposals, max);
        self.message_bytes -= messages.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        self.proposal_bytes -= proposals.iter().map(|p| p.data.len()).sum::<usize>();
        Taken {
            persisted: self.persisted.take(),
            controls: drain_up_to(&mut self.controls, max),
            messages,
            proposals,
            reads: drain_up_to(&mut self.reads, max),
        }
    }
}

fn drain_up_to<T>(lane: &mut VecDeque<T>, max: usize) -> Vec<T> {
    let count = lane.len().min(max);
    lane.drain(..count).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    fn proposal(bytes: usize) -> Proposal<()> {
        Proposal {
            data: Bytes::from(vec![0; bytes]),
            term: None,
            reply: oneshot::channel().0,
        }
    }

    #[test]
    fn f5_full_lanes_refuse_and_drop_while_acknowledgements_still_pass() {
        let inbox = Inbox::new(Limits {
            messages: 2,
            proposals: 2,
            reads: 1,
        });
        assert_eq!(inbox.proposal(proposal(1)), Ok(()));
        assert_eq!(inbox.proposal(proposal(1)), Ok(()));
        assert_eq!(inbox.proposal(proposal(1)), Err(Full::Overloaded));
        assert_eq!(inbox.messages(7, vec![Bytes::from_static(b"m"); 5]), 3);
        inbox.persisted(4);
        inbox.persisted(3);
        let taken = inbox.take(10, Instant::now());
        assert_eq!(taken.persisted, Some(4));
        assert_eq!((taken.proposals.len(), taken.messages.len()), (2, 2));
        assert_eq!(inbox.proposal(proposal(1)), Ok(()), "there is room again");
        inbox.close();
        assert_eq!(inbox.proposal(proposal(1)), Err(Full::Stopped));
    }

    #[test]
    fn f5_few_large_proposals_fill_a_lane_too() {
        let inbox = Inbox::new(Limits {
            messages: 9,
            proposals: 9,
            reads: 9,
        });
        assert_eq!(inbox.proposal(proposal(LANE_BYTES_MAX)), Ok(()));
        assert_eq!(inbox.proposal(proposal(1)), Err(Full::Overloaded));
    }
}
