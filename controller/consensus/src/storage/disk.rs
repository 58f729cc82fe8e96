//! The real storage of a member: opening, forming, recovering, and the writer behind the trait.
//!
//! Lives here: how log, superblock and snapshots fit together. May not: formats (each has its
//! file). Opened by `crate::start`, then owned by the log thread.
//!
//! Order of forming a new member, so that a crash anywhere starts over or is complete:
//! superblock (not formed) ─► snapshot of the empty state ─► log ─► superblock (formed).

use std::path::Path;
use std::sync::Arc;

use super::files::{self, Disk, DiskLock, Files};
use super::superblock::{Content, Superblock};
use super::wal::{LogState, Mark, Owner, Space, Wal};
use super::{LogStorage, PersistBatch, Recovered, SnapshotStore, hex};
use crate::config::Config;
use crate::entry::{HardState, Membership, SnapshotMeta};
use crate::error::Error;

/// Index and term of the snapshot every first member of a cluster forms by itself. It is not 0:
/// a member that joins with nothing then lacks the log's begin and gets the snapshot, and with it
/// the first membership, which no entry of the log contains.
pub(crate) const GENESIS: u64 = 1;

/// Where the history of a first member begins.
pub(crate) struct First {
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// The state at `index`, as the state machine restores it.
    pub(crate) body: Vec<u8>,
}

/// An open data directory.
pub struct DiskStorage {
    wal: Wal,
    superblock: Superblock,
    snapshots: SnapshotStore,
    hard_state: HardState,
    /// Held for its lock.
    _lock: Box<dyn DiskLock>,
}

impl DiskStorage {
    /// Opens the member's directory, forming it when it holds nothing. `empty_state` yields the
    /// canonical bytes of an empty state machine; only called when a new cluster is formed.
    pub fn open(
        config: &Config,
        empty_state: impl FnOnce() -> Vec<u8>,
    ) -> Result<(Self, Recovered, SnapshotStore), Error> {
        Self::open_with(Files::real(), config, Space::default(), empty_state)
    }

    /// The same on any disk, without a thread or a real clock: what a simulator calls. See
    /// [`super::SimulatedDisk`] for how to drive it.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        config: &Config,
        empty_state: impl FnOnce() -> Vec<u8>,
    ) -> Result<(Self, Recovered, SnapshotStore), Error> {
        Self::open_with(Files::new(disk), config, Space::default(), empty_state)
    }

    pub(crate) fn open_with(
        files: Files,
        config: &Config,
        space: Space,
        empty_state: impl FnOnce() -> Vec<u8>,
    ) -> Result<(Self, Recovered, SnapshotStore), Error> {
        config.validate()?;
        files.create_dir(&config.dir)?;
        let lock = files.lock_dir(&config.dir)?;
        let (wal_dir, snapshot_dir) = (config.dir.join("wal"), config.dir.join("snapshots"));
        let owner = Owner {
            cluster_id: config.cluster_id,
            id: config.id,
        };
        let superblock_path = config.dir.join("superblock");

        let mut superblock = match Superblock::open(&files, &superblock_path)? {
            Some(superblock) => superblock,
            None => {
                refuse_without_superblock(&files, &wal_dir, &snapshot_dir)?;
                let content = unformed(owner);
                Superblock::create(&files, &superblock_path, content)?
            }
        };
        check_owner(superblock.content(), owner)?;
        if !superblock.content().formed {
            let first = || First {
                index: GENESIS,
                term: GENESIS,
                body: empty_state(),
            };
            form(&files, config, &space, &mut superblock, first)?;
        }

        let mark = superblock.content().mark;
        let bytes = config.segment_bytes;
        let (wal, state) = Wal::open(&files, &wal_dir, owner, bytes, space, Some(mark))?;
        check_promises(superblock.content(), &state)?;
        let snapshots = SnapshotStore::open_with(&files, &snapshot_dir, config.cluster_id)?;
        check_snapshot(&files, &snapshots, &state.snapshot)?;

        let hard_state = state.hard_state;
        let mut storage = Self {
            wal,
            superblock,
            snapshots,
            hard_state,
            _lock: lock,
        };
        let incarnation = storage.begin_life()?;
        let recovered = Recovered {
            hard_state,
            snapshot: state.snapshot,
            entries: state.entries.into(),
            incarnation,
        };
        let snapshots = storage.snapshots.clone();
        Ok((storage, recovered, snapshots))
    }

    /// Forms a first member whose history begins with `first` instead of an empty state. The
    /// directory must not have held a member; [`DiskStorage::open`] then recovers from it.
    pub(crate) fn seed(config: &Config, first: First) -> Result<(), Error> {
        config.validate()?;
        if config.initial_voters.is_empty() || first.index < GENESIS || first.term < GENESIS {
            let text = "a seed needs initial_voters, and an index and a term above zero";
            return Err(Error::Config(text.to_owned()));
        }
        let files = Files::real();
        files.create_dir(&config.dir)?;
        let _lock = files.lock_dir(&config.dir)?;
        let path = config.dir.join("superblock");
        if Superblock::open(&files, &path)?.is_some() {
            let dir = config.dir.display();
            return Err(Error::Config(format!("`{dir}` holds a member already")));
        }
        let (wal_dir, snapshot_dir) = (config.dir.join("wal"), config.dir.join("snapshots"));
        refuse_without_superblock(&files, &wal_dir, &snapshot_dir)?;
        let owner = Owner {
            cluster_id: config.cluster_id,
            id: config.id,
        };
        let mut superblock = Superblock::create(&files, &path, unformed(owner))?;
        form(&files, config, &Space::default(), &mut superblock, || first)
    }

    /// Gives this start its own number, durably in both files, before any message leaves. The
    /// record also ends whatever torn bytes lie behind the end of the log.
    fn begin_life(&mut self) -> Result<u64, Error> {
        let incarnation = self.superblock.content().incarnation + 1;
        self.wal.begin_life(incarnation)?;
        // Recovery may have adjusted it (clamped commit); the log should say what we run with.
        self.wal.set_hard_state(self.hard_state)?;
        let mark = self.wal.sync()?;
        let HardState { term, vote, .. } = self.hard_state;
        self.superblock.update(|content| {
            content.incarnation = incarnation;
            content.mark = mark;
            content.term = term;
            content.vote = vote;
        })?;
        Ok(incarnation)
    }
}

impl LogStorage for DiskStorage {
    fn append(&mut self, batch: &PersistBatch) -> Result<(), Error> {
        if let Some(meta) = &batch.snapshot {
            // Believed on disk first; the log may only name a snapshot that is there.
            self.snapshots.promote(meta)?;
            self.wal.install_snapshot(meta)?;
        }
        // Before the entries: an entry that survives a torn write then has its commit index and
        // term with it. (A later membership entry proves that an earlier one was committed; a
        // restart must not forget that and campaign with the older membership.)
        if let Some(hard_state) = batch.hard_state {
            self.hard_state = hard_state;
            self.wal.set_hard_state(hard_state)?;
        }
        self.wal.append(&batch.entries)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.wal.flush()
    }

    fn sync(&mut self) -> Result<(), Error> {
        let mark = self.wal.sync()?;
        // The log first: the superblock never claims what the log does not hold. Messages that
        // rest on a new term or vote leave only after both.
        self.superblock
            .note(mark, self.hard_state.term, self.hard_state.vote)
    }

    fn compact(&mut self, snapshot: &SnapshotMeta, to: u64) -> Result<(), Error> {
        self.wal.mark_snapshot(snapshot)?;
        self.sync()?;
        // The mark must have left the segments that go now, or their absence looks like a loss.
        self.superblock.settle()?;
        self.wal.compact(to)
    }

    fn forswear(&mut self, index: u64) -> Result<(), Error> {
        // A position no log ever reaches; in both copies, so that one alone tells it too.
        for _copy in 0..2 {
            self.superblock.update(|content| {
                content.mark = Mark {
                    segment: u64::MAX,
                    index,
                    ..Mark::default()
                };
            })?;
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<(), Error> {
        self.superblock.settle()
    }
}

fn unformed(owner: Owner) -> Content {
    let mark = Mark::default();
    Content {
        owner,
        formed: false,
        incarnation: 0,
        term: 0,
        vote: 0,
        mark,
    }
}

/// No superblock is fine for a directory that never held a member, and amnesia for any other.
fn refuse_without_superblock(
    files: &Files,
    wal_dir: &Path,
    snapshot_dir: &Path,
) -> Result<(), Error> {
    let has_snapshots =
        files.exists(snapshot_dir) && !files.list(snapshot_dir, "snap-", ".snap")?.is_empty();
    if Wal::exists(files, wal_dir)? || has_snapshots {
        return Err(Error::Amnesia {
            reason: "the superblock is missing beside a log".to_owned(),
        });
    }
    Ok(())
}

fn check_owner(content: &Content, owner: Owner) -> Result<(), Error> {
    if content.owner.cluster_id != owner.cluster_id {
        return Err(Error::WrongCluster {
            expected: hex(&owner.cluster_id),
            found: hex(&content.owner.cluster_id),
        });
    }
    if content.owner.id != owner.id {
        return Err(Error::WrongMember {
            expected: owner.id,
            found: content.owner.id,
        });
    }
    Ok(())
}

/// Forms the first files of a member, over the remains of an attempt that crashed.
fn form(
    files: &Files,
    config: &Config,
    space: &Space,
    superblock: &mut Superblock,
    first: impl FnOnce() -> First,
) -> Result<(), Error> {
    let (wal_dir, snapshot_dir) = (config.dir.join("wal"), config.dir.join("snapshots"));
    for dir in [&wal_dir, &snapshot_dir] {
        if files.exists(dir) {
            files.remove_dir_all(dir)?;
        }
    }
    let mut snapshot = SnapshotMeta::default();
    let mut hard_state = HardState::default();
    if !config.initial_voters.is_empty() {
        let First { index, term, body } = first();
        snapshot = SnapshotMeta {
            index,
            term,
            membership: Membership::of_voters(config.initial_voters.iter().copied()),
        };
        hard_state = HardState {
            term,
            vote: 0,
            commit: index,
        };
        SnapshotStore::open_with(files, &snapshot_dir, config.cluster_id)?
            .write(&snapshot, &body)?;
    }
    let owner = superblock.content().owner;
    let bytes = config.segment_bytes;
    let space = space.clone();
    let mut wal = Wal::create(files, &wal_dir, owner, bytes, space, &snapshot, hard_state)?;
    let mark = wal.sync()?;
    // The names of the two directories.
    files.sync_dir(&config.dir)?;
    superblock.update(|content| {
        content.formed = true;
        content.mark = mark;
        content.term = hard_state.term;
    })
}

/// Compares the two memories of term and vote. The log is synced first, so it may be ahead by a
/// crash in between; behind means that it lost a promise.
fn check_promises(content: &Content, state: &LogState) -> Result<(), Error> {
    let log = state.hard_state;
    let forgot_vote = log.term == content.term && content.vote != 0 && log.vote != content.vote;
    if log.term < content.term || forgot_vote {
        return Err(Error::Amnesia {
            reason: format!(
                "log knows term {} vote {}, but term {} vote {} was promised",
                log.term, log.vote, content.term, content.vote
            ),
        });
    }
    if state.incarnation > content.incarnation + 1 {
        return Err(Error::Amnesia {
            reason: format!(
                "log is of start {}, the superblock of start {}: they do not belong together",
                state.incarnation, content.incarnation
            ),
        });
    }
    Ok(())
}

/// The log's snapshot must be there and intact. Files above it were written but not yet named by
/// the log when the member stopped; they go, or pruning would count them as the newest.
fn check_snapshot(
    files: &Files,
    snapshots: &SnapshotStore,
    marked: &SnapshotMeta,
) -> Result<(), Error> {
    let path = snapshots.believed_path(marked);
    for newer in snapshots
        .list()?
        .into_iter()
        .take_while(|found| *found > path)
    {
        files.remove(&newer)?;
    }
    if marked.index == 0 {
        return Ok(());
    }
    if !files.exists(&path) {
        return Err(files::damaged(
            &path,
            "the snapshot the log builds on is missing",
        ));
    }
    let found = snapshots.verify(&path)?;
    if found.meta != *marked {
        return Err(files::damaged(
            &path,
            "snapshot is of another position than the log says",
        ));
    }
    Ok(())
}

/// Cluster id and log of a directory that a running member may be writing.
pub(crate) fn read_live(dir: &Path) -> Result<([u8; 16], LogState), Error> {
    let files = Files::real();
    let Some((_, content)) = Superblock::read(&files, &dir.join("superblock"))? else {
        return Err(Error::Amnesia {
            reason: format!("no superblock in `{}`", dir.display()),
        });
    };
    let state = Wal::read(&files, &dir.join("wal"), content.owner)?;
    Ok((content.owner.cluster_id, state))
}

#[cfg(test)]
#[path = "disk/test.rs"]
mod test;
