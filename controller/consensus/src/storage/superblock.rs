//! The second memory of a member: who it is, what it promised, how far its log reached.
//!
//! Lives here: two checksummed copies in one small file, written in turn. May not: the log.
//! Owned by `storage::disk`.
//!
//! Design notes. The log alone cannot tell a torn tail from a lost one. This file can, because it
//! is written separately: it names a position that was synced, and the chain value there. Writing
//! it costs an `fdatasync` of its own, so it is written
//! - always before a message leaves that rests on a new term or vote (elections: rare);
//! - otherwise at most every [`MARK_INTERVAL`], and when the log thread falls idle.
//!
//! Guarantee: loss of anything synced before the last mark is noticed at the next start, always.
//! Loss of a synced record after the mark is noticed when any record of a later sync group
//! survives (see `wal::replay`). Not noticed: a tail of at most one `MARK_INTERVAL` that vanishes
//! whole, from its first lost byte to its end. A mark is only written after the log's sync, so it
//! never claims too much, even when the system writes it out early.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::{self, DiskFile, Files};
use super::wal::{Mark, Owner};
use crate::error::Error;

const MAGIC: &[u8; 8] = b"NUBESUPR";
const FORMAT: u32 = 1;
const COPY_BYTES: usize = 120;
/// Each copy in its own page: a torn write spoils one at most.
const COPY_EVERY: u64 = 4096;

/// Longest time a synced record stays above the mark while the log is busy. Smaller: more syncs
/// beside the log's. Larger: a longer tail whose loss could go unnoticed.
pub(crate) const MARK_INTERVAL: Duration = Duration::from_secs(1);

/// What both copies hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) owner: Owner,
    /// False while the first files of a new member are being written: a crash then starts over.
    pub(crate) formed: bool,
    pub(crate) incarnation: u64,
    pub(crate) term: u64,
    pub(crate) vote: u64,
    pub(crate) mark: Mark,
}

pub(crate) struct Superblock {
    files: Files,
    file: Box<dyn DiskFile>,
    path: PathBuf,
    version: u64,
    content: Content,
    written_at: Duration,
    dirty: bool,
}

impl Superblock {
    /// Creates the file with `content` in both copies, durably, and only then gives it its name:
    /// a file of this name without an intact copy is damage, never the remains of a crash.
    pub(crate) fn create(files: &Files, path: &Path, content: Content) -> Result<Self, Error> {
        let temporary = path.with_extension("tmp");
        let file = files.create(&temporary)?;
        let mut block = Self {
            files: files.clone(),
            file,
            path: path.to_owned(),
            version: 0,
            content,
            written_at: files.now(),
            dirty: true,
        };
        block.write()?;
        block.write()?;
        // The size changed: only a full fsync makes the file readable after a crash.
        files::sync_all(&*block.file, path)?;
        files.rename(&temporary, path)?;
        files.sync_dir(path.parent().unwrap_or(path))?;
        Ok(block)
    }

    /// Opens the file and believes the newer intact copy. `None` when there is no file.
    pub(crate) fn open(files: &Files, path: &Path) -> Result<Option<Self>, Error> {
        let Some((version, content)) = Self::read(files, path)? else {
            return Ok(None);
        };
        let file = files.open_write(path)?;
        let path = path.to_owned();
        let written_at = files.now();
        Ok(Some(Self {
            files: files.clone(),
            file,
            path,
            version,
            content,
            written_at,
            dirty: false,
        }))
    }

    /// Reads without opening for writing.
    pub(crate) fn read(files: &Files, path: &Path) -> Result<Option<(u64, Content)>, Error> {
        if !files.exists(path) {
            return Ok(None);
        }
        let bytes = files.read(path)?;
        let copies =
            [0, COPY_EVERY as usize].map(|at| bytes.get(at..at + COPY_BYTES).and_then(decode));
        let newest = copies
            .into_iter()
            .flatten()
            .max_by_key(|(version, _)| *version);
        if let Some(found) = newest {
            return Ok(Some(found));
        }
        let format = bytes
            .get(8..12)
            .and_then(|b| b.try_into().ok())
            .map_or(0, u32::from_le_bytes);
        if bytes.starts_with(MAGIC) && format > FORMAT && format < 1000 {
            return Err(Error::UnknownFormat {
                path: path.to_owned(),
                found: format,
                known: FORMAT,
            });
        }
        Err(Error::Amnesia {
            reason: format!("no copy of the superblock `{}` is intact", path.display()),
        })
    }

    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Notes a synced position. Written at once when term or vote changed, else lazily.
    pub(crate) fn note(&mut self, mark: Mark, term: u64, vote: u64) -> Result<(), Error> {
        let promise_changed = (term, vote) != (self.content.term, self.content.vote);
        self.dirty |= promise_changed || mark != self.content.mark;
        self.content.mark = mark;
        self.content.term = term;
        self.content.vote = vote;
        if promise_changed
            || (self.dirty && self.files.now().saturating_sub(self.written_at) >= MARK_INTERVAL)
        {
            self.write()?;
        }
        Ok(())
    }

    /// Writes what [`Superblock::note`] postponed.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        if self.dirty { self.write() } else { Ok(()) }
    }

    /// Changes identity facts, durably.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Content)) -> Result<(), Error> {
        change(&mut self.content);
        self.write()
    }

    fn write(&mut self) -> Result<(), Error> {
        self.version += 1;
        let bytes = encode(self.version, &self.content);
        // The copies take turns, so the older one stays whole while the newer is written.
        let at = (self.version % 2) * COPY_EVERY;
        nube_failpoint::reach("superblock-before");
        files::write_at(&*self.file, &self.path, &bytes, at)?;
        files::sync_data(&*self.file, &self.path)?;
        nube_failpoint::reach("superblock-after");
        self.written_at = self.files.now();
        self.dirty = false;
        Ok(())
    }
}

fn encode(version: u64, content: &Content) -> Vec<u8> {
    let mut out = Vec::with_capacity(COPY_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&u32::from(content.formed).to_le_bytes());
    out.extend_from_slice(&content.owner.cluster_id);
    for number in [
        version,
        content.owner.id,
        content.incarnation,
        content.term,
        content.vote,
        content.mark.segment,
        content.mark.offset,
        content.mark.index,
        u64::from(content.mark.chain),
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.resize(COPY_BYTES, 0);
    out
}

fn decode(bytes: &[u8]) -> Option<(u64, Content)> {
    const COVERED: usize = 104;
    let (covered, rest) = bytes.split_at_checked(COVERED)?;
    let u32_at = |at: usize| {
        Some(u32::from_le_bytes(
            covered.get(at..at + 4)?.try_into().ok()?,
        ))
    };
    let u64_at = |at: usize| {
        Some(u64::from_le_bytes(
            covered.get(at..at + 8)?.try_into().ok()?,
        ))
    };
    let intact = crc32fast::hash(covered).to_le_bytes() == *rest.get(..4)?;
    if !intact || &covered[..8] != MAGIC || u32_at(8)? != FORMAT {
        return None;
    }
    let mark = Mark {
        segment: u64_at(72)?,
        offset: u64_at(80)?,
        index: u64_at(88)?,
        chain: u32::try_from(u64_at(96)?).ok()?,
    };
    let content = Content {
        owner: Owner {
            cluster_id: covered.get(16..32)?.try_into().ok()?,
            id: u64_at(40)?,
        },
        formed: u32_at(12)? == 1,
        incarnation: u64_at(48)?,
        term: u64_at(56)?,
        vote: u64_at(64)?,
        mark,
    };
    Some((u64_at(32)?, content))
}

/// For `crate::probe`: one copy with and without a checksum that fits.
pub(crate) fn probe(bytes: &[u8]) {
    const COVERED: usize = 104;
    let mut fitting = bytes.to_vec();
    if let Some(covered) = bytes.get(..COVERED)
        && let Some(place) = fitting.get_mut(COVERED..COVERED + 4)
    {
        place.copy_from_slice(&crc32fast::hash(covered).to_le_bytes());
    }
    for bytes in [bytes, &fitting] {
        if let Some(read) = decode(bytes) {
            assert_eq!(decode(&encode(read.0, &read.1)), Some(read));
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn content(term: u64) -> Content {
        Content {
            owner: Owner {
                cluster_id: [3; 16],
                id: 9,
            },
            formed: true,
            incarnation: 4,
            term,
            vote: 2,
            mark: Mark {
                segment: 5,
                offset: 6,
                chain: 7,
                index: 8,
            },
        }
    }

    #[test]
    fn b4_a_spoiled_copy_leaves_the_other_and_two_spoiled_copies_are_amnesia() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("superblock");
        let mut block = Superblock::create(&Files::real(), &path, content(1)).expect("create");
        block.update(|c| c.term = 2).expect("update");
        assert_eq!(
            Superblock::open(&Files::real(), &path)
                .expect("open")
                .expect("exists")
                .content(),
            &content(2)
        );
        let good = std::fs::read(&path).expect("read");
        for at in (0..COPY_BYTES - 12).chain(COPY_EVERY as usize..COPY_EVERY as usize + 108) {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            std::fs::write(&path, &bad).expect("write");
            let term = Superblock::read(&Files::real(), &path)
                .expect("one copy left")
                .expect("exists")
                .1
                .term;
            assert!(term == 1 || term == 2, "byte {at}");
        }
        let mut bad = good;
        bad[40] ^= 1;
        bad[COPY_EVERY as usize + 40] ^= 1;
        std::fs::write(&path, &bad).expect("write");
        assert!(matches!(
            Superblock::read(&Files::real(), &path),
            Err(Error::Amnesia { .. })
        ));
    }
}
