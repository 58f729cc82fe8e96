//! Everything durable of one member.
//!
//! Lives here: the trait the log thread writes through, and the data that passes. Its real body
//! is [`DiskStorage`] (log, superblock, snapshots), over the system's files or, in simulations,
//! over a [`SimulatedDisk`].
//! May not: raft, threads. Used by `io` (writing), `driver` (recovery), `replay`.
//!
//! ```text
//! <dir>/lock                 held while the member runs
//! <dir>/superblock           identity, term and vote, high-water mark      (superblock.rs)
//! <dir>/wal/<number>.wal     log segments; spare-*.tmp are files for reuse (wal.rs)
//! <dir>/snapshots/snap-*     verified snapshots                            (snapshot.rs)
//! ```

mod disk;
pub(crate) mod files;
mod simulated;
pub(crate) mod snapshot;
pub(crate) mod superblock;
pub(crate) mod wal;

pub use disk::DiskStorage;
pub(crate) use disk::{First, read_live};
pub(crate) use files::Files;
pub use files::{Disk, DiskFile, DiskLock, OsDisk};
pub use simulated::{Fault, FaultKind, SECTOR_BYTES, SimulatedDisk};
pub use snapshot::{SnapshotFile, SnapshotStore};
pub(crate) use wal::Space;

use crate::entry::{HardState, LogEntry, SnapshotMeta};
use crate::error::Error;

/// What one Ready of raft wants durable. Batches are written strictly in order of `number`, also
/// those that hold nothing: `Persisted(n)` acknowledges every batch up to `n`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersistBatch {
    /// raft's number of the Ready.
    pub number: u64,
    /// A received snapshot that replaces the log; its body is already verified on disk.
    pub snapshot: Option<SnapshotMeta>,
    /// Changed term, vote or commit index.
    pub hard_state: Option<HardState>,
    /// Entries to append; a first index within the log cuts the log there.
    pub entries: Vec<LogEntry>,
    /// False when only the commit index moved: then no sync is needed for it.
    pub must_sync: bool,
}

/// What a member remembers when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Term, vote and commit index; the commit index lies between snapshot and last entry.
    pub hard_state: HardState,
    /// The snapshot the log builds on; index 0 for a member that waits to be joined.
    pub snapshot: SnapshotMeta,
    /// Entries without a gap, beginning at or below `snapshot.index + 1`.
    pub entries: Vec<LogEntry>,
    /// Number of this start, from 1.
    pub incarnation: u64,
}

impl Recovered {
    /// Last index of the log.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.entries
            .last()
            .map_or(self.snapshot.index, |entry| entry.index)
    }
}

/// The durable log of one member, as the log thread sees it. Any error of `append` or `sync` ends
/// the process (invariant B2); the implementation never retries a failed write or sync.
pub trait LogStorage: Send + 'static {
    /// Takes one batch, in order. Not durable before [`LogStorage::sync`]. On a simulated disk
    /// [`Error::NoSpace`] here, in `sync` and in `compact` asks for the same call again, later;
    /// on a real one the call waits.
    fn append(&mut self, batch: &PersistBatch) -> Result<(), Error>;

    /// Hands what was appended to the system without waiting for the disk.
    fn flush(&mut self) -> Result<(), Error>;

    /// Makes everything appended so far durable; a changed term or vote twice over.
    fn sync(&mut self) -> Result<(), Error>;

    /// Notes that the own snapshot `snapshot` is verified on disk, then gives up entries up to
    /// `to` (at or below the snapshot).
    fn compact(&mut self, snapshot: &SnapshotMeta, to: u64) -> Result<(), Error>;

    /// Notes durably that this member had acknowledged entries up to `index` which it lost: every
    /// later start refuses (invariant B4).
    fn forswear(&mut self, index: u64) -> Result<(), Error>;

    /// Called when nothing is queued: time for postponed bookkeeping.
    fn idle(&mut self) -> Result<(), Error>;
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
