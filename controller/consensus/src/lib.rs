//! A raft driver over any replicated state machine.
//!
//! Lives here: consensus, its durable log, snapshots, membership, and the traits for what is
//! replicated and how members talk. May not: any word of IaaS, tonic, or another crate of ours.
//! Used by the controller (propose, reconcile, peer) and by the simulator (the core alone).
//!
//! Reading order: [`StateMachine`] and [`Transport`] (what you bring), [`Config`], [`start`],
//! [`Handle`] (what you get); then `core` (what decides), `driver` (the thread that owns it),
//! `io` (the thread that writes), `storage` (what survives).
//!
//! ```text
//!  Handle ─► inbox ─► driver ── step/drain ──► core (raft, no I/O)
//!                       │ ▲                      ▲ same code in the simulator
//!             Transport │ │ Persisted
//!                       ▼ │
//!                      io ─► storage: wal, superblock, snapshots
//! ```
//!
//! **Promises** (numbers of the project's invariants): an answered proposal is on the disks of a
//! majority and is never lost (A1); `read_index` is linearizable on every member (A2); equal seeds
//! give equal runs of the core (A4); one leader per term, one vote per term (A6); one membership
//! change at a time, none that loses the quorum by itself (A7); damaged bytes are noticed, never
//! applied (B1); a failed write or sync ends the process (B2); a full disk refuses writes and
//! loses nothing (B3); a member that lost memory refuses to start (B4), as does a directory of
//! another member or cluster (B5).
#![forbid(unsafe_code)]

mod config;
mod core;
mod driver;
mod entry;
mod error;
mod fatal;
mod handle;
mod inbox;
mod io;
mod outbox;
#[doc(hidden)]
pub mod probe;
mod replay;
mod seed;
mod slog_bridge;
mod state_machine;
mod status;
mod storage;
mod transport;
mod wire;

pub use crate::core::{Committed, Core, Input, Outgoing, Output, Persist, RoleChange, Ticket};
pub use config::Config;
pub use driver::start;
pub use entry::{EntryKind, HardState, LogEntry, Membership, MembershipChange, SnapshotMeta};
pub use error::{Error, MembershipError, ProposeError, ReadError};
pub use handle::{Applied, Handle};
pub use replay::{Replay, replay};
pub use seed::seed;
pub use state_machine::StateMachine;
pub use status::{Member, Role, Status};
pub use storage::{
    Disk, DiskFile, DiskLock, DiskStorage, Fault, FaultKind, LogStorage, OsDisk, PersistBatch,
    Recovered, SECTOR_BYTES, SimulatedDisk, SnapshotFile, SnapshotStore,
};
pub use transport::{
    OutgoingSnapshot, PeerHello, PeerRefused, ReceiveError, SNAPSHOT_CHUNK_BYTES, Sent,
    SnapshotReceiver, Transport,
};
