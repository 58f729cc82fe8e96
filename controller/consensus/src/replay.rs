//! Reading a member's history from its directory, also while the member runs.
//!
//! Lives here: newest snapshot plus committed entries, read-only. May not: locks or changes. Used
//! by `bill verify` and by tests: replay onto an empty state machine must give the same hash.

use std::path::Path;
use std::time::Duration;

use crate::entry::{EntryKind, LogEntry, SnapshotMeta};
use crate::error::Error;
use crate::storage::{SnapshotStore, read_live};

/// Attempts while the running member cuts its log or writes its tail under the reader's eyes.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// A member's newest snapshot and the committed entries after it.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Position of the snapshot; index 0 for a member that never had one.
    pub meta: SnapshotMeta,
    /// The snapshot's body: what `StateMachine::restore` takes.
    pub body: Vec<u8>,
    /// Highest committed index the directory knows. The running member may know more: its commit
    /// index reaches the disk with the next write of the log.
    pub commit: u64,
    /// Term and index of the log's end: by these raft itself compares who knows more.
    pub last: (u64, u64),
    entries: Vec<(u64, u64, Vec<u8>)>,
}

impl Replay {
    /// `(index, term, data)` of every committed proposal after the snapshot, in order, as
    /// `StateMachine::apply` sees them.
    pub fn entries(&self) -> impl Iterator<Item = (u64, u64, &[u8])> {
        self.all().take_while(|(index, ..)| *index <= self.commit)
    }

    /// The same for the whole log: also what this directory does not know to be committed. A
    /// majority may have acknowledged it, so whoever has lost that majority for ever wants it.
    pub fn all(&self) -> impl Iterator<Item = (u64, u64, &[u8])> {
        self.entries
            .iter()
            .map(|(index, term, data)| (*index, *term, data.as_slice()))
    }
}

/// Reads newest snapshot and log of a member's directory without changing anything. Blocks; with
/// a running member it may read twice, because files change under it.
pub fn replay(dir: &Path) -> Result<Replay, Error> {
    let mut attempt = 1;
    loop {
        match read_once(dir) {
            Err(_) if attempt < ATTEMPTS => {
                attempt += 1;
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

fn read_once(dir: &Path) -> Result<Replay, Error> {
    let (cluster_id, state) = read_live(dir)?;
    let meta = state.snapshot;
    let body = if meta.index == 0 {
        Vec::new()
    } else {
        let store = SnapshotStore::reading(&dir.join("snapshots"), cluster_id);
        store.load(&store.believed_path(&meta))?.1
    };
    let commit = state.hard_state.commit;
    let end = |entry: &LogEntry| (entry.term, entry.index);
    let last = state.entries.back().map_or((meta.term, meta.index), end);
    let wanted = state.entries.into_iter().filter(|entry| {
        entry.index > meta.index && entry.kind == EntryKind::Normal && !entry.data.is_empty()
    });
    let entries = wanted
        .map(|entry| (entry.index, entry.term, entry.data))
        .collect();
    Ok(Replay {
        meta,
        body,
        commit,
        last,
        entries,
    })
}
