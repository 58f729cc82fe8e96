//! What the rest of the process holds: a cheap clone that talks to the driver.
//!
//! Lives here: the calls, each of them one message into the inbox. May not: raft, storage,
//! decisions. Used by the controller's propose, reconcile and peer code.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::entry::MembershipChange;
use crate::error::{Error, MembershipError, ProposeError, ReadError};
use crate::inbox::{Control, Full, Inbox, Proposal};
use crate::status::Status;
use crate::storage::{SnapshotStore, Space};
use crate::transport::{PeerHello, PeerRefused, ReceiveError, SnapshotReceiver};
use crate::wire;

/// An applied proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied<R> {
    /// Its position in the log: the revision of what it changed.
    pub index: u64,
    /// The term it was written in.
    pub term: u64,
    /// What the state machine answered.
    pub reply: R,
}

pub(crate) struct Shared<R> {
    pub(crate) inbox: Arc<Inbox<R>>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) id: u64,
    pub(crate) cluster_id: [u8; 16],
    pub(crate) incarnation: u64,
    pub(crate) dir: PathBuf,
    pub(crate) max_entry_bytes: usize,
    pub(crate) snapshots: SnapshotStore,
    pub(crate) space: Space,
    pub(crate) peers: Mutex<BTreeMap<u64, u64>>,
    pub(crate) driver: Mutex<Option<JoinHandle<()>>>,
}

/// A running member. Clones share it; the member runs until [`Handle::shutdown`].
pub struct Handle<R: Send + 'static> {
    pub(crate) shared: Arc<Shared<R>>,
}

impl<R: Send + 'static> Clone for Handle<R> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<R: Send + 'static> Handle<R> {
    /// Own member id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.shared.id
    }

    /// Number of this start of the member.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.shared.incarnation
    }

    /// The member's directory, for [`crate::replay`].
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        &self.shared.dir
    }

    /// Proposes `data` and waits until it is applied **here**. Legal on any member; only the
    /// leader accepts. Dropping the future does not take the proposal back.
    ///
    /// There is no timeout: without a quorum it waits until leadership is lost (about one election
    /// timeout). Callers with a deadline put their own around it and treat it as unknown outcome.
    pub async fn propose(&self, data: Bytes) -> Result<Applied<R>, ProposeError> {
        self.propose_when(None, data).await
    }

    /// The same, only while this member leads in `term`: for what was decided by what a leader of
    /// that term knows. Lost and regained leadership in between refuses it.
    pub async fn propose_in(&self, term: u64, data: Bytes) -> Result<Applied<R>, ProposeError> {
        self.propose_when(Some(term), data).await
    }

    async fn propose_when(
        &self,
        term: Option<u64>,
        data: Bytes,
    ) -> Result<Applied<R>, ProposeError> {
        let limit = self.shared.max_entry_bytes;
        if data.is_empty() || data.len() > limit {
            return Err(ProposeError::BadSize {
                bytes: data.len(),
                limit,
            });
        }
        if self.shared.space.full.load(Ordering::Relaxed) {
            return Err(ProposeError::StorageFull);
        }
        let (reply, answer) = oneshot::channel();
        self.shared
            .inbox
            .proposal(Proposal { data, term, reply })
            .map_err(|full| match full {
                Full::Overloaded => ProposeError::Overloaded,
                Full::Stopped => ProposeError::Stopped,
            })?;
        // The driver answers whatever it did not propose; silence means it stopped in between.
        answer.await.unwrap_or(Err(ProposeError::UnknownOutcome))
    }

    /// Confirms with a quorum that nothing newer was committed elsewhere when this call began, and
    /// waits until that is applied here: state read afterwards is linearizable (invariant A2).
    /// Works on followers and learners too. Returns the confirmed index.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.shared.inbox.read(reply).map_err(|full| match full {
            Full::Overloaded => ReadError::Overloaded,
            Full::Stopped => ReadError::Stopped,
        })?;
        answer.await.unwrap_or(Err(ReadError::Stopped))
    }

    /// The newest published status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// The status as a channel, to react to leadership and membership.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<Status> {
        self.shared.status.clone()
    }

    /// Hands leadership to `to`, or to the most advanced voter. Resolves with the new leader's id
    /// once that member leads. Proposals are refused meanwhile. Do it before a planned stop: it
    /// costs a round trip where a crash costs an election timeout.
    pub async fn transfer_leader(&self, to: Option<u64>) -> Result<u64, MembershipError> {
        let (reply, answer) = oneshot::channel();
        self.request(Control::Transfer { to, reply })?;
        answer.await.unwrap_or(Err(MembershipError::Stopped))
    }

    /// Adds a member that receives the log without a vote. Leader only.
    pub async fn add_learner(&self, id: u64) -> Result<(), MembershipError> {
        self.change(MembershipChange::AddLearner(id)).await
    }

    /// Makes a caught-up learner a voter. Leader only.
    pub async fn promote(&self, id: u64) -> Result<(), MembershipError> {
        self.change(MembershipChange::Promote(id)).await
    }

    /// Removes a member. Leader only, and not the leader itself: transfer first. The removed
    /// member is not told by raft; refuse its streams (see [`Status::is_member`]).
    pub async fn remove(&self, id: u64) -> Result<(), MembershipError> {
        self.change(MembershipChange::Remove(id)).await
    }

    async fn change(&self, change: MembershipChange) -> Result<(), MembershipError> {
        let (reply, answer) = oneshot::channel();
        self.request(Control::Membership { change, reply })?;
        answer.await.unwrap_or(Err(MembershipError::UnknownOutcome))
    }

    fn request(&self, control: Control) -> Result<(), MembershipError> {
        self.shared
            .inbox
            .control(control)
            .map_err(|full| match full {
                Full::Overloaded => MembershipError::Busy,
                Full::Stopped => MembershipError::Stopped,
            })
    }

    /// Takes a snapshot of the applied state now and returns its index once it is verified on
    /// disk: at or above what was applied when the call came in.
    pub async fn snapshot_now(&self) -> Result<u64, Error> {
        let (reply, answer) = oneshot::channel();
        self.shared
            .inbox
            .control(Control::SnapshotNow(reply))
            .map_err(|_| Error::Stopped)?;
        answer.await.unwrap_or(Err(Error::Stopped))
    }

    /// Stops the member: what is queued for the log is written and synced, then its threads end.
    /// Everything that still waits fails with `Stopped` or `UnknownOutcome`. Idempotent.
    pub async fn shutdown(&self) {
        // Directly, for the driver may be waiting behind a log that waits for disk space.
        self.shared.space.stopping.store(true, Ordering::Relaxed);
        // An error means that it already stopped.
        let _ = self.shared.inbox.control(Control::Stop);
        let driver = self
            .shared
            .driver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(driver) = driver {
            let joined = tokio::task::spawn_blocking(move || driver.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("consensus driver did not end in order");
            }
        }
        // Another clone may be joining: wait for the last status in that case.
        let _ = self
            .shared
            .status
            .clone()
            .wait_for(|status| status.stopped)
            .await;
    }

    /// The greeting for a stream to member `to`.
    #[must_use]
    pub fn hello(&self, to: u64) -> PeerHello {
        PeerHello {
            cluster_id: self.shared.cluster_id,
            from: self.shared.id,
            to,
            incarnation: self.shared.incarnation,
        }
    }

    /// Checks the greeting of an incoming stream: cluster, addressee, and an incarnation not older
    /// than the newest heard. Call it before [`Handle::step_peer`], and again with the stream's
    /// greeting when a newer stream of the same peer may have come.
    pub fn check_peer(&self, hello: &PeerHello) -> Result<(), PeerRefused> {
        if hello.cluster_id != self.shared.cluster_id {
            return Err(PeerRefused::WrongCluster);
        }
        if hello.to != self.shared.id || hello.from == self.shared.id || hello.from == 0 {
            return Err(PeerRefused::WrongMember {
                meant: hello.to,
                own: self.shared.id,
            });
        }
        let mut peers = self
            .shared
            .peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = peers.entry(hello.from).or_insert(hello.incarnation);
        if hello.incarnation < *known {
            return Err(PeerRefused::OldIncarnation {
                from: hello.from,
                found: hello.incarnation,
                known: *known,
            });
        }
        *known = hello.incarnation;
        Ok(())
    }

    /// Takes messages received from `from`, the peer the transport authenticated. A message that
    /// names another sender or addressee is dropped. Returns how many the full inbox refused.
    pub fn step_peer(&self, from: u64, messages: impl IntoIterator<Item = Bytes>) -> usize {
        self.shared.inbox.messages(from, messages)
    }

    /// Tells raft that messages to `peer` were lost (connection broken, queue full).
    pub fn report_unreachable(&self, peer: u64) {
        // After a stop there is nobody to tell.
        let _ = self.shared.inbox.control(Control::Unreachable(peer));
    }

    /// Starts to receive a snapshot from `from`; `preamble` is the sender's
    /// [`crate::OutgoingSnapshot::preamble`]. Feed the chunks in order, then
    /// [`SnapshotReceiver::finish`].
    pub fn receive_snapshot(
        &self,
        from: u64,
        preamble: Bytes,
    ) -> Result<SnapshotReceiver, ReceiveError> {
        let expected =
            wire::snapshot_meta(&preamble, from, self.shared.id).ok_or(ReceiveError::Malformed)?;
        let inbox = Arc::clone(&self.shared.inbox);
        let deliver = Box::new(move |file, message| {
            let (seen, waits) = oneshot::channel();
            let control = Control::SnapshotArrived {
                file,
                from,
                message,
                seen,
            };
            inbox.control(control).ok().map(|()| waits)
        });
        SnapshotReceiver::new(self.shared.snapshots.clone(), expected, preamble, deliver)
    }
}
