//! What goes into the core and what comes out: closed lists, plain data.
//!
//! Lives here: the boundary of [`super::Core`]. May not: behaviour. Spoken by `driver` and by
//! simulators.

use bytes::Bytes;

use crate::entry::{Membership, MembershipChange, SnapshotMeta};
use crate::error::{MembershipError, ProposeError, ReadError};
use crate::status::Role;
use crate::storage::PersistBatch;

/// Names a waiting caller. The caller of the core chooses numbers and must not use one twice
/// while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One thing that happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// `tick_ms` have passed.
    Tick,
    /// A message came from the peer the transport authenticated as `from`.
    Message {
        /// The authenticated sender.
        from: u64,
        /// raft's encoding.
        bytes: Bytes,
    },
    /// A snapshot message whose body is verified on this member's disk. Never legal before that.
    SnapshotArrived {
        /// The authenticated sender.
        from: u64,
        /// raft's encoding.
        bytes: Bytes,
    },
    /// Proposals; all of one drain travel together. Each ends in `Output::committed`, or in
    /// `Output::failed_proposals`.
    Propose(Vec<(Ticket, Bytes)>),
    /// Reads to confirm. Each ends in `Output::reads` or `Output::failed_reads`.
    Read(Vec<Ticket>),
    /// Every batch up to this number is durable.
    Persisted(u64),
    /// The state machine stands at this index.
    Applied(u64),
    /// An own snapshot is verified on disk; the log may be cut.
    SnapshotReady(SnapshotMeta),
    /// Messages to this peer were lost.
    Unreachable(u64),
    /// A snapshot transfer to this peer ended.
    SnapshotReport {
        /// The receiver.
        to: u64,
        /// True when it holds the verified file.
        delivered: bool,
    },
    /// Hand leadership to this voter. Ignored unless leader.
    TransferLeader(u64),
    /// Change the membership. Ends in `Output::changes`.
    Change {
        /// Who waits.
        ticket: Ticket,
        /// What to do.
        change: MembershipChange,
    },
}

/// A message to another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The addressee.
    pub to: u64,
    /// raft's encoding.
    pub bytes: Bytes,
    /// For a snapshot message: what must travel with it, on its own lane. Every such message is
    /// answered by one `Input::SnapshotReport`.
    pub snapshot: Option<SnapshotMeta>,
}

/// A batch for the log, and what may leave only once it **and all before it** are durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// What to make durable.
    pub batch: PersistBatch,
    /// Votes and acknowledgements that rest on it.
    pub messages: Vec<Outgoing>,
}

/// A committed proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its position.
    pub index: u64,
    /// Term it was written in.
    pub term: u64,
    /// The proposer's bytes, never empty.
    pub data: Vec<u8>,
    /// Set when it was proposed through this core.
    pub ticket: Option<Ticket>,
}

/// Role, term or leader changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleChange {
    /// Own role.
    pub role: Role,
    /// Own term.
    pub term: u64,
    /// Leader of the term, when known.
    pub leader: Option<u64>,
}

/// What the outside must do now, in the order of the fields.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// To send at once: a leader's appends go out while its own disk still writes.
    pub messages: Vec<Outgoing>,
    /// For the log, strictly in this order.
    pub persist: Vec<Persist>,
    /// The state machine must take this (verified, durable) snapshot, before `committed`.
    pub restore: Option<SnapshotMeta>,
    /// To apply, in this order.
    pub committed: Vec<Committed>,
    /// When set: after `restore` and `committed` the state stands at this index; answer with
    /// `Input::Applied`.
    pub applied_to: Option<u64>,
    /// Confirmed reads: serve once applied at or above the index.
    pub reads: Vec<(Ticket, u64)>,
    /// Proposals that came to nothing.
    pub failed_proposals: Vec<(Ticket, ProposeError)>,
    /// Reads nobody confirmed.
    pub failed_reads: Vec<(Ticket, ReadError)>,
    /// Ends of membership changes.
    pub changes: Vec<(Ticket, Result<(), MembershipError>)>,
    /// The membership after a change was applied.
    pub membership: Option<Membership>,
    /// A member needs a snapshot newer than the newest one: take one soon.
    pub snapshot_wanted: bool,
    /// Note this own snapshot in the log and give up entries up to the index.
    pub compact: Option<(SnapshotMeta, u64)>,
    /// Role, term or leader changed.
    pub role: Option<RoleChange>,
    /// The leader holds acknowledgements of this member up to this index, and its log ends below:
    /// it lost memory in a way its disk could not tell. Nothing else of this output may be done:
    /// hand the index to `LogStorage::forswear`, and end this member for good (B4).
    pub lost: Option<u64>,
    /// More is ready: call `drain` again after the ticks and messages that are due.
    pub more: bool,
}
