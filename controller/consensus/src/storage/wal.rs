//! The write-ahead log: zero-filled, recycled segments, one `fdatasync` per drained queue.
//!
//! Lives here: the writer. May not: decide what is durable enough (that is `io`, which aborts on
//! any error of [`Wal::sync`]). Owned by `storage::disk`, used from the log thread.
//!
//! ```text
//! append* ─► buffer ─► flush (pwrite) ─► sync: SyncPoint record, pwrite, fdatasync ─► Mark
//!                        │ segment full: fdatasync it, take a spare, header, fsync, rename, dir fsync
//! ```

mod record;
mod replay;
mod segment;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::files::{self, DiskFile, Files};
use crate::entry::{HardState, LogEntry, SnapshotMeta};
use crate::error::Error;
use record::{Body, Place};
pub(crate) use record::{probe as probe_record, samples as record_samples};
pub(crate) use replay::{LogState, Mark};
pub(crate) use segment::Owner;
pub(crate) use segment::probe as probe_segment;
use segment::{Header, RECORDS_AT, Spares};

/// Buffered bytes that are written early. Larger: more memory in a burst. Smaller: more pwrites.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// Pause between attempts to get a new segment on a full disk.
const SPACE_RETRY: Duration = Duration::from_millis(200);

/// Shared with the rest of the member: whether the log waits for space, and whether to give up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    pub(crate) full: Arc<AtomicBool>,
    pub(crate) stopping: Arc<AtomicBool>,
    /// Makes new segments fail as on a full disk.
    #[cfg(test)]
    pub(crate) pretend_full: Arc<AtomicBool>,
}

/// A new segment, open.
type Begun = (Box<dyn DiskFile>, replay::Found);

/// An open log.
pub(crate) struct Wal {
    files: Files,
    dir: PathBuf,
    owner: Owner,
    segment_bytes: u64,
    file: Box<dyn DiskFile>,
    /// Oldest first; the last one is written to.
    segments: VecDeque<replay::Found>,
    spares: Spares,
    space: Space,
    /// Encoded, not yet written. Belongs at `end.offset - buffer.len()`.
    buffer: Vec<u8>,
    end: Mark,
    group: u64,
    unsynced: bool,
    hard_state: HardState,
    snapshot: SnapshotMeta,
}

impl Wal {
    /// Creates the log of a new member in an empty directory. Not durable before [`Wal::sync`].
    pub(crate) fn create(
        files: &Files,
        dir: &Path,
        owner: Owner,
        segment_bytes: u64,
        space: Space,
        snapshot: &SnapshotMeta,
        hard_state: HardState,
    ) -> Result<Self, Error> {
        files.create_dir(dir)?;
        let mut spares = Spares::open(files, dir, segment_bytes)?;
        let header = Header {
            owner,
            number: 1,
            chain: 0,
            previous_end: RECORDS_AT,
            last_index: 0,
            group: 1,
        };
        let (file, found) = begin_segment(files, dir, &mut spares, &header)?;
        let mut wal = Self {
            files: files.clone(),
            dir: dir.to_owned(),
            owner,
            segment_bytes,
            file,
            segments: VecDeque::from([found]),
            spares,
            space,
            buffer: Vec::new(),
            end: Mark {
                segment: 1,
                offset: RECORDS_AT,
                chain: 0,
                index: 0,
            },
            group: 1,
            unsynced: false,
            hard_state: HardState::default(),
            snapshot: SnapshotMeta::default(),
        };
        wal.install_snapshot(snapshot)?;
        wal.set_hard_state(hard_state)?;
        Ok(wal)
    }

    /// Reads the log back and opens it for appending behind its last intact record.
    pub(crate) fn open(
        files: &Files,
        dir: &Path,
        owner: Owner,
        segment_bytes: u64,
        space: Space,
        mark: Option<Mark>,
    ) -> Result<(Self, LogState), Error> {
        let replayed = replay::read(files, dir, owner, mark)?;
        let spares = Spares::open(files, dir, segment_bytes)?;
        let path = segment::path_of(dir, replayed.end.segment);
        let file = files.open_write(&path)?;
        write_again(files, &*file, &path, mark, replayed.end)?;
        let state = replayed.state;
        let wal = Self {
            files: files.clone(),
            dir: dir.to_owned(),
            owner,
            segment_bytes,
            file,
            segments: replayed.segments.into(),
            spares,
            space,
            buffer: Vec::new(),
            end: replayed.end,
            // Where the last group was torn it is continued, so its stale records behind the cut
            // never look like a later group.
            group: replayed.next_group,
            unsynced: true,
            hard_state: state.hard_state,
            snapshot: state.snapshot.clone(),
        };
        Ok((wal, state))
    }

    /// Reads a log that another process or thread may be writing. Changes nothing.
    pub(crate) fn read(files: &Files, dir: &Path, owner: Owner) -> Result<LogState, Error> {
        replay::read(files, dir, owner, None).map(|replayed| replayed.state)
    }

    /// True when there are segments in `dir`.
    pub(crate) fn exists(files: &Files, dir: &Path) -> Result<bool, Error> {
        Ok(files.exists(dir) && !segment::list(files, dir)?.is_empty())
    }

    /// Notes a start of the member.
    pub(crate) fn begin_life(&mut self, incarnation: u64) -> Result<(), Error> {
        self.put(&Body::Life(incarnation))
    }

    /// Appends entries; those that repeat an index replace the log from there on.
    pub(crate) fn append(&mut self, entries: &[LogEntry]) -> Result<(), Error> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        if first.index <= self.end.index {
            self.put(&Body::Truncate(first.index))?;
            self.end.index = first.index - 1;
        }
        for entry in entries {
            assert_eq!(
                entry.index,
                self.end.index + 1,
                "raft hands out entries without gaps"
            );
            self.put_entry(entry)?;
        }
        Ok(())
    }

    pub(crate) fn set_hard_state(&mut self, hard_state: HardState) -> Result<(), Error> {
        self.hard_state = hard_state;
        self.put(&Body::HardState(hard_state))
    }

    /// A received snapshot replaces all entries.
    pub(crate) fn install_snapshot(&mut self, meta: &SnapshotMeta) -> Result<(), Error> {
        self.put(&Body::SnapshotInstalled(meta.clone()))?;
        self.snapshot = meta.clone();
        self.end.index = meta.index;
        Ok(())
    }

    /// The own snapshot at `meta` is verified on disk.
    pub(crate) fn mark_snapshot(&mut self, meta: &SnapshotMeta) -> Result<(), Error> {
        self.snapshot = meta.clone();
        self.put(&Body::SnapshotMark(meta.clone()))
    }

    /// Writes what is buffered to the page cache.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let at = self.end.offset - self.buffer.len() as u64;
        let path = segment::path_of(&self.dir, self.end.segment);
        files::write_at(&*self.file, &path, &self.buffer, at)?;
        self.buffer.clear();
        self.unsynced = true;
        Ok(())
    }

    /// Makes everything appended so far durable and returns the position that now is.
    pub(crate) fn sync(&mut self) -> Result<Mark, Error> {
        if self.buffer.is_empty() && !self.unsynced {
            return Ok(self.end);
        }
        self.put(&Body::SyncPoint)?;
        self.flush()?;
        files::sync_data(&*self.file, &segment::path_of(&self.dir, self.end.segment))?;
        self.unsynced = false;
        self.group += 1;
        self.spares.refill();
        Ok(self.end)
    }

    /// Gives up segments that hold nothing above `index`. Only legal once a snapshot at or above
    /// `index` is marked and synced, and the high-water mark has passed those segments.
    pub(crate) fn compact(&mut self, index: u64) -> Result<(), Error> {
        assert!(index <= self.snapshot.index, "never cut above the snapshot");
        let mut retired = false;
        while self.segments.len() > 1
            && self
                .segments
                .front()
                .is_some_and(|oldest| oldest.max_index <= index)
        {
            if let Some(oldest) = self.segments.pop_front() {
                self.spares.give(&oldest.path)?;
                retired = true;
            }
        }
        // Oldest first and in order: a crash in between leaves a log that begins later.
        if retired {
            self.files.sync_dir(&self.dir)
        } else {
            Ok(())
        }
    }

    fn put(&mut self, body: &Body) -> Result<(), Error> {
        if self.end.offset + body.size_bytes() as u64 > self.segment_bytes {
            self.roll()?;
        }
        let chain = body.encode(self.place(), &mut self.buffer);
        self.placed(body.size_bytes(), chain)
    }

    fn put_entry(&mut self, entry: &LogEntry) -> Result<(), Error> {
        // One copy per entry into the record; the log thread has the time.
        self.put(&Body::Entry(entry.clone()))?;
        self.end.index = entry.index;
        if let Some(segment) = self.segments.back_mut() {
            segment.max_index = segment.max_index.max(entry.index);
        }
        Ok(())
    }

    fn place(&self) -> Place {
        Place {
            segment: self.end.segment,
            previous_crc: self.end.chain,
            group: self.group,
        }
    }

    fn placed(&mut self, bytes: usize, chain: u32) -> Result<(), Error> {
        self.end.chain = chain;
        self.end.offset += bytes as u64;
        if self.buffer.len() >= BUFFER_BYTES_MAX {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Goes on in a new segment. The old one is synced first: recovery takes every record before
    /// a later segment's header for durable.
    fn roll(&mut self) -> Result<(), Error> {
        self.flush()?;
        if self.unsynced {
            files::sync_data(&*self.file, &segment::path_of(&self.dir, self.end.segment))?;
        }
        let header = Header {
            owner: self.owner,
            number: self.end.segment + 1,
            chain: self.end.chain,
            previous_end: self.end.offset,
            last_index: self.end.index,
            group: self.group,
        };
        let (file, found) = self.begin_segment_when_there_is_space(&header)?;
        self.file = file;
        // Only now: a caller that was refused for want of space syncs again, with a sync point.
        self.unsynced = false;
        self.segments.push_back(found);
        self.end.segment = header.number;
        self.end.offset = RECORDS_AT;
        // Repeated so that all earlier segments can go once their entries are compacted.
        let (snapshot, hard_state) = (self.snapshot.clone(), self.hard_state);
        self.put(&Body::SnapshotMark(snapshot))?;
        self.put(&Body::HardState(hard_state))
    }

    fn try_begin_segment(&mut self, header: &Header) -> Result<Begun, Error> {
        #[cfg(test)]
        if self.space.pretend_full.load(Ordering::Relaxed) {
            return Err(Error::NoSpace {
                path: self.dir.clone(),
            });
        }
        begin_segment(&self.files, &self.dir, &mut self.spares, header)
    }

    /// On a full disk the log waits here (invariant B3). Nothing of the batch that needed the
    /// space is acknowledged, the driver refuses proposals while the flag is up, and reads go on.
    fn begin_segment_when_there_is_space(&mut self, header: &Header) -> Result<Begun, Error> {
        loop {
            match self.try_begin_segment(header) {
                Err(Error::NoSpace { path }) => {
                    if self.space.stopping.load(Ordering::Relaxed) || !self.files.is_real() {
                        return Err(Error::NoSpace { path });
                    }
                    if !self.space.full.swap(true, Ordering::Relaxed) {
                        tracing::error!(path = %path.display(), "disk full: the log waits");
                    }
                    std::thread::sleep(SPACE_RETRY);
                }
                done => {
                    if self.space.full.swap(false, Ordering::Relaxed) {
                        tracing::info!("the log has space again");
                    }
                    return done;
                }
            }
        }
    }
}

/// Writes again what was read but may never have reached the disk. After a failed sync the system
/// counts the pages as clean: they read well, and no later sync would write them. Everything up to
/// the mark, and every segment but the last, is known to be there.
fn write_again(
    files: &Files,
    file: &dyn DiskFile,
    path: &Path,
    mark: Option<Mark>,
    end: Mark,
) -> Result<(), Error> {
    let from = mark
        .filter(|mark| mark.segment == end.segment)
        .map_or(RECORDS_AT, |mark| mark.offset);
    let bytes = files.read(path)?;
    match bytes.get(from as usize..end.offset as usize) {
        Some(tail) if !tail.is_empty() => files::write_at(file, path, tail, from),
        _ => Ok(()),
    }
}

/// Makes a spare file the segment `header` describes; see `segment` for why in this order.
fn begin_segment(
    files: &Files,
    dir: &Path,
    spares: &mut Spares,
    header: &Header,
) -> Result<Begun, Error> {
    let spare = spares.take()?;
    let file = files.open_write(&spare)?;
    files::write_at(&*file, &spare, &header.encode(), 0)?;
    files::sync_data(&*file, &spare)?;
    let path = segment::path_of(dir, header.number);
    files.rename(&spare, &path)?;
    files.sync_dir(dir)?;
    Ok((file, replay::Found { path, max_index: 0 }))
}

#[cfg(test)]
#[path = "wal/test.rs"]
mod test;
