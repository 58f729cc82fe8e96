//! Reading a log back: which records count, and whether something is missing.
//!
//! Lives here: the walk over segments, the verdict on a bad record, and the state the records
//! add up to. May not: writing. Used by the writer at open, and by `crate::replay` on a live log.
//!
//! Verdict on the first bad record:
//! - not in the last segment, or below the high-water mark: damage or loss, never cut;
//! - a whole record of a *later sync group* lies behind it: the bad one was synced before that
//!   one was written, so it is damage, never cut;
//! - else it is the torn tail of the last, never acknowledged, write: cut.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::super::files::{self, Files};
use super::record::{self, Body};
use super::segment::{self, Header, Owner, RECORDS_AT};
use crate::entry::{HardState, LogEntry, SnapshotMeta};
use crate::error::Error;

/// A position in the log file, and what the chain was there. Nothing before it may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// Offset just behind a record.
    pub(crate) offset: u64,
    /// Crc of that record.
    pub(crate) chain: u32,
    /// Last log index at that point; for people, the check is the chain.
    pub(crate) index: u64,
}

/// What the records add up to.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogState {
    pub(crate) hard_state: HardState,
    /// Newest snapshot the log knows; the log before it may be gone.
    pub(crate) snapshot: SnapshotMeta,
    /// Entries still there, without a gap; may begin below the snapshot.
    pub(crate) entries: VecDeque<LogEntry>,
    pub(crate) last_index: u64,
    pub(crate) incarnation: u64,
    /// The commit index at the last sync point: it must lie inside the log.
    synced_commit: u64,
}

/// One segment as found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Highest entry index ever written to it: it can go when all those are compacted.
    pub(super) max_index: u64,
}

/// A log read back.
pub(super) struct Replayed {
    pub(super) state: LogState,
    pub(super) segments: Vec<Found>,
    /// End of the last intact record: where the writer goes on.
    pub(super) end: Mark,
    /// Group the writer goes on with.
    pub(super) next_group: u64,
}

/// Reads the whole log of `dir`. `mark` is checked when given.
pub(super) fn read(
    files: &Files,
    dir: &Path,
    owner: Owner,
    mark: Option<Mark>,
) -> Result<Replayed, Error> {
    let numbers = segment::list(files, dir)?;
    let Some(&first) = numbers.first() else {
        return Err(Error::Amnesia {
            reason: format!("no log segments in `{}`", dir.display()),
        });
    };
    if numbers
        .iter()
        .zip(first..)
        .any(|(found, expected)| *found != expected)
    {
        return Err(files::damaged(dir, "a log segment is missing"));
    }
    let mut walk = Walk::new(mark);
    let mut next = Some(load(files, dir, owner, first)?);
    for number in numbers.iter().copied() {
        let Some((header, bytes, path)) = next.take() else {
            break;
        };
        if numbers.last() != Some(&number) {
            next = Some(load(files, dir, owner, number + 1)?);
        }
        let end = next.as_ref().map(|(header, ..)| header.previous_end);
        walk.segment(&header, &path, &bytes, end)?;
    }
    walk.finish(dir)
}

type Loaded = (Header, Vec<u8>, PathBuf);

fn load(files: &Files, dir: &Path, owner: Owner, number: u64) -> Result<Loaded, Error> {
    let path = segment::path_of(dir, number);
    let bytes = files.read(&path)?;
    let header = Header::decode(&path, &bytes)?;
    if header.owner.cluster_id != owner.cluster_id {
        return Err(Error::WrongCluster {
            expected: super::super::hex(&owner.cluster_id),
            found: super::super::hex(&header.owner.cluster_id),
        });
    }
    if header.owner.id != owner.id {
        return Err(Error::WrongMember {
            expected: owner.id,
            found: header.owner.id,
        });
    }
    if header.number != number {
        return Err(files::damaged(
            &path,
            "segment has another number than its name",
        ));
    }
    Ok((header, bytes, path))
}

struct Walk {
    state: LogState,
    segments: Vec<Found>,
    mark: Option<Mark>,
    mark_seen: bool,
    end: Mark,
    /// Lowest group the next record can be of. After a sync point that is a new one.
    next_group: u64,
}

impl Walk {
    fn new(mark: Option<Mark>) -> Self {
        Self {
            state: LogState::default(),
            segments: Vec::new(),
            mark_seen: mark.is_none(),
            mark,
            end: Mark::default(),
            next_group: 0,
        }
    }

    /// Walks one segment; `end` is where it must end, known from the header of the next one.
    fn segment(
        &mut self,
        header: &Header,
        path: &Path,
        bytes: &[u8],
        end: Option<u64>,
    ) -> Result<(), Error> {
        if self.segments.is_empty() {
            self.state.last_index = header.last_index;
        } else if header.chain != self.end.chain || header.last_index != self.state.last_index {
            return Err(files::damaged(
                path,
                "segment does not continue the one before",
            ));
        }
        self.end = Mark {
            segment: header.number,
            offset: RECORDS_AT,
            chain: header.chain,
            index: self.state.last_index,
        };
        if self.segments.is_empty() {
            self.next_group = header.group;
        }
        self.segments.push(Found {
            path: path.to_owned(),
            max_index: 0,
        });
        self.look_for_mark();
        while Some(self.end.offset) != end {
            let at = self.end.offset as usize;
            let read = bytes
                .get(at..)
                .and_then(|rest| record::decode(header.number, rest));
            match read {
                Some(read) if read.previous_crc == self.end.chain => self.take(read, path)?,
                _ if end.is_some() => {
                    return Err(files::damaged(path, format!("bad record at offset {at}")));
                }
                _ => return self.judge_tail(header.number, path, bytes),
            }
        }
        Ok(())
    }

    fn take(&mut self, read: record::Read, path: &Path) -> Result<(), Error> {
        let index = match &read.body {
            Body::Entry(entry) => entry.index,
            _ => 0,
        };
        self.next_group = read.group + u64::from(read.body == Body::SyncPoint);
        self.state
            .apply(read.body)
            .map_err(|reason| files::damaged(path, format!("at {}: {reason}", self.end.offset)))?;
        if let Some(found) = self.segments.last_mut() {
            found.max_index = found.max_index.max(index);
        }
        self.end.offset += read.size_bytes as u64;
        self.end.chain = read.crc;
        self.end.index = self.state.last_index;
        self.look_for_mark();
        Ok(())
    }

    fn look_for_mark(&mut self) {
        if let Some(mark) = self.mark {
            let here = (self.end.segment, self.end.offset) == (mark.segment, mark.offset);
            self.mark_seen |= here && self.end.chain == mark.chain;
        }
    }

    /// The last segment ends in something that is no record: unwritten space, the former life of
    /// a recycled file, a torn write, or damage.
    fn judge_tail(&self, number: u64, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let mut at = self.end.offset as usize + 8;
        while let Some(rest) = bytes
            .get(at..)
            .filter(|rest| rest.len() >= record::HEADER_BYTES)
        {
            // The bad record is of `next_group`, for it follows the last good one. A record of a
            // later group was written after the bad one had been synced.
            if let Some(read) = record::decode(number, rest)
                && read.group > self.next_group
            {
                return Err(files::damaged(
                    path,
                    format!(
                        "bad record at offset {} before an intact one",
                        self.end.offset
                    ),
                ));
            }
            at += 8;
        }
        Ok(())
    }

    fn finish(self, dir: &Path) -> Result<Replayed, Error> {
        if !self.mark_seen {
            let mark = self.mark.unwrap_or_default();
            return Err(Error::Amnesia {
                reason: format!(
                    "log ends at index {} (segment {} offset {}), but index {} (segment {} offset \
                     {}) was durable once",
                    self.end.index,
                    self.end.segment,
                    self.end.offset,
                    mark.index,
                    mark.segment,
                    mark.offset
                ),
            });
        }
        let mut state = self.state;
        state
            .check()
            .map_err(|reason| files::damaged(dir, reason))?;
        Ok(Replayed {
            state,
            segments: self.segments,
            end: self.end,
            next_group: self.next_group,
        })
    }
}

impl LogState {
    fn apply(&mut self, body: Body) -> Result<(), String> {
        match body {
            Body::Entry(entry) => {
                if entry.index != self.last_index + 1 {
                    return Err(format!("entry {} follows {}", entry.index, self.last_index));
                }
                self.last_index = entry.index;
                self.entries.push_back(entry);
            }
            Body::HardState(hard_state) => self.hard_state = hard_state,
            Body::Truncate(from) => {
                if from == 0 || from > self.last_index {
                    return Err(format!("truncation at {from} above {}", self.last_index));
                }
                while self.entries.back().is_some_and(|entry| entry.index >= from) {
                    self.entries.pop_back();
                }
                self.last_index = from - 1;
            }
            Body::SnapshotMark(meta) => self.snapshot = meta,
            Body::SnapshotInstalled(meta) => {
                self.entries.clear();
                self.last_index = meta.index;
                self.snapshot = meta;
            }
            Body::Life(incarnation) => self.incarnation = incarnation,
            Body::SyncPoint => self.synced_commit = self.hard_state.commit,
        }
        Ok(())
    }

    /// What must hold for the whole, and the clean-up of a torn last batch.
    fn check(&mut self) -> Result<(), String> {
        let first = self
            .entries
            .front()
            .map_or(self.last_index + 1, |entry| entry.index);
        if first > self.snapshot.index + 1 {
            return Err(format!(
                "gap between snapshot {} and entry {first}",
                self.snapshot.index
            ));
        }
        if self.last_index < self.snapshot.index.max(self.synced_commit) {
            return Err(format!(
                "log ends at {}, below snapshot {} or commit {}",
                self.last_index, self.snapshot.index, self.synced_commit
            ));
        }
        // The hard state is written before the entries of its batch, so a torn batch may have a
        // commit index above its entries. They were never acknowledged; the leader sends again.
        self.hard_state.commit = self
            .hard_state
            .commit
            .clamp(self.snapshot.index, self.last_index);
        // Entries carry the term of a leader we followed; our own term is never below it.
        let last_term = self
            .entries
            .back()
            .map_or(self.snapshot.term, |entry| entry.term);
        if self.hard_state.term < last_term {
            self.hard_state = HardState {
                term: last_term,
                vote: 0,
                ..self.hard_state
            };
        }
        Ok(())
    }
}
