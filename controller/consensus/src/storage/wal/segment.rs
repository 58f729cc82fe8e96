//! Segment files: their header, their birth, and their second life.
//!
//! Lives here: the header format, and the spare files new segments are made of. May not: records.
//! Used by the writer (`wal.rs`) and `replay`.
//!
//! A segment is born under a temporary name (zero-filled, or an old segment that is no longer
//! needed), gets its header, is synced, and only then renamed to `<number>.wal`. So a file with a
//! segment's name always has a whole header, and all its blocks are allocated: appends inside it
//! change no metadata (one `fdatasync` is one flush) and cannot meet a full disk.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use super::super::files::{self, Files};
use crate::error::Error;

const MAGIC: &[u8; 8] = b"NUBEWAL\0";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 84;
/// Where records begin: the header keeps a page for itself, so no append rewrites it.
pub(super) const RECORDS_AT: u64 = 4096;
/// Retired segments kept for reuse. More only holds disk space.
const SPARES_MAX: usize = 2;

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) cluster_id: [u8; 16],
    pub(crate) id: u64,
}

/// First page of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) owner: Owner,
    pub(super) number: u64,
    /// Crc of the last record before this segment: the chain goes on across files.
    pub(super) chain: u32,
    /// Offset at which the segment before ends; what lies behind is a cut tail.
    pub(super) previous_end: u64,
    /// Last log index before this segment.
    pub(super) last_index: u64,
    /// Sync group of the first record.
    pub(super) group: u64,
}

/// For `crate::probe`, as with records.
pub(crate) fn probe(bytes: &[u8]) {
    let mut fitting = bytes.to_vec();
    if let Some(covered) = bytes.get(..HEADER_BYTES - 4) {
        let crc = crc32fast::hash(covered);
        if let Some(place) = fitting.get_mut(HEADER_BYTES - 4..HEADER_BYTES) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
    }
    for bytes in [bytes, &fitting] {
        if let Ok(header) = Header::decode(Path::new("probe"), bytes) {
            let again = Header::decode(Path::new("probe"), &header.encode());
            assert_eq!(again.expect("own bytes").number, header.number);
        }
    }
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&self.chain.to_le_bytes());
        out.extend_from_slice(&self.owner.cluster_id);
        for number in [
            self.owner.id,
            self.number,
            self.previous_end,
            self.last_index,
            self.group,
            RECORDS_AT,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let bad = |reason: &str| files::damaged(path, reason);
        let bytes = bytes
            .get(..HEADER_BYTES)
            .ok_or_else(|| bad("segment header is cut"))?;
        let (covered, crc) = bytes.split_at(HEADER_BYTES - 4);
        if &covered[..8] != MAGIC {
            return Err(bad("not a log segment"));
        }
        let u32_at = |at: usize| u32::from_le_bytes(covered[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from_le_bytes(covered[at..at + 8].try_into().expect("eight"));
        if crc32fast::hash(covered).to_le_bytes() != crc {
            return Err(bad("segment header does not match its checksum"));
        }
        if u32_at(8) != FORMAT {
            let path = path.to_owned();
            return Err(Error::UnknownFormat {
                path,
                found: u32_at(8),
                known: FORMAT,
            });
        }
        Ok(Self {
            owner: Owner {
                cluster_id: covered[16..32].try_into().expect("sixteen"),
                id: u64_at(32),
            },
            number: u64_at(40),
            chain: u32_at(12),
            previous_end: u64_at(48),
            last_index: u64_at(56),
            group: u64_at(64),
        })
    }
}

pub(super) fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.wal"))
}

/// Numbers of the segments in `dir`, ascending.
pub(super) fn list(files: &Files, dir: &Path) -> Result<Vec<u64>, Error> {
    let names = files.list(dir, "", ".wal")?;
    names
        .iter()
        .map(|name| {
            name.trim_end_matches(".wal")
                .parse()
                .map_err(|_| files::damaged(&dir.join(name), "not a segment's name"))
        })
        .collect()
}

/// Allocated files that wait to become segments.
pub(super) struct Spares {
    files: Files,
    dir: PathBuf,
    segment_bytes: u64,
    ready: Vec<PathBuf>,
    filling: Option<JoinHandle<Result<PathBuf, Error>>>,
    named: u64,
}

impl Spares {
    /// Takes over spare files of a former run that have the right size; removes the others.
    pub(super) fn open(files: &Files, dir: &Path, segment_bytes: u64) -> Result<Self, Error> {
        let mut ready = Vec::new();
        for name in files.list(dir, "spare-", ".tmp")? {
            let path = dir.join(name);
            if files.len_bytes(&path) == segment_bytes && ready.len() < SPARES_MAX {
                ready.push(path);
            } else {
                files.remove(&path)?;
            }
        }
        Ok(Self {
            files: files.clone(),
            dir: dir.to_owned(),
            segment_bytes,
            ready,
            filling: None,
            named: 0,
        })
    }

    fn name(&mut self) -> PathBuf {
        loop {
            self.named += 1;
            let path = self.dir.join(format!("spare-{}.tmp", self.named));
            if !self.files.exists(&path) {
                return path;
            }
        }
    }

    /// A file of full size. Waits for one that is being filled, else fills one here and now.
    pub(super) fn take(&mut self) -> Result<PathBuf, Error> {
        if let Some(path) = self.ready.pop() {
            return Ok(path);
        }
        if let Some(filling) = self.filling.take()
            && let Ok(Ok(path)) = filling.join()
        {
            return Ok(path);
        }
        // Also where the background attempt failed: its error will show here, to a caller.
        let path = self.name();
        fill(&self.files, &path, self.segment_bytes)
    }

    /// Starts filling the next spare in the background, if there is none. Without it every
    /// `segment_bytes` of log one append would wait for the zero-filling of a whole segment.
    pub(super) fn refill(&mut self) {
        if !self.ready.is_empty() || self.filling.is_some() || !self.files.is_real() {
            return;
        }
        let (files, path, bytes) = (self.files.clone(), self.name(), self.segment_bytes);
        // If no thread can be had, `take` fills in the foreground.
        self.filling = std::thread::Builder::new()
            .name("log-spare".to_owned())
            .spawn(move || fill(&files, &path, bytes))
            .ok();
    }

    /// Retires a segment: it becomes a spare, or is removed when there are enough.
    pub(super) fn give(&mut self, segment: &Path) -> Result<(), Error> {
        let size = self.files.len_bytes(segment);
        if self.ready.len() >= SPARES_MAX || size != self.segment_bytes {
            return self.files.remove(segment);
        }
        let path = self.name();
        self.files.rename(segment, &path)?;
        self.ready.push(path);
        Ok(())
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        if let Some(filling) = self.filling.take() {
            // Its file is found (or removed) by the next `open`.
            let _ = filling.join();
        }
    }
}

fn fill(files: &Files, path: &Path, bytes: u64) -> Result<PathBuf, Error> {
    let filled = write_zeros(files, path, bytes);
    if let Err(error) = filled {
        // Give the space back: on a full disk it is what the rest of the node waits for.
        let _ = files.remove(path);
        return Err(error);
    }
    Ok(path.to_owned())
}

fn write_zeros(files: &Files, path: &Path, bytes: u64) -> Result<(), Error> {
    let zeros = vec![0_u8; 1 << 20];
    let file = files.create(path)?;
    let mut at = 0;
    while at < bytes {
        let part = zeros.len().min((bytes - at) as usize);
        files::write_at(&*file, path, &zeros[..part], at)?;
        at += part as u64;
    }
    // Real zeros, not a hole or an unwritten extent: converting those would cost a journal commit
    // in each fdatasync (measured: a quarter of the sync rate).
    files::sync_all(&*file, path)
}
