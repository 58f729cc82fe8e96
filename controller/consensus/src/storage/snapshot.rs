//! Snapshot files: written whole, made durable, read back, and only then believed.
//!
//! Lives here: their format, their names, and the steps of writing, receiving and pruning. May
//! not: the log (`wal` is told of a snapshot only after `write` or `promote` returned). Called by
//! `driver` (writing), `io` (promoting), `transport::incoming` (receiving), recovery and replay.
//!
//! ```text
//! file  = header | body                          one file per (index, term)
//! header= magic 8 | format u32 | header length u32 | cluster id 16 | index u64 | term u64
//!         | body length u64 | blake3 of body 32 | n voters u32 | n learners u32 | ids u64...
//!         | crc32 of all before
//! names = tmp-*.snap (being written, garbage after a crash)
//!         incoming-<index>-<term>.snap (whole and verified, but raft has not accepted it)
//!         snap-<index>-<term>.snap (believed)
//! ```
//! A received file keeps the name `incoming-` until raft accepts it: it may stand for a position
//! above the own log, and recovery must not mistake it for the own past.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::files::{self, DiskFile, Files};
use crate::entry::{Membership, SnapshotMeta};
use crate::error::Error;

const MAGIC: &[u8; 8] = b"NUBESNAP";
const FORMAT: u32 = 1;
const FIXED_BYTES: usize = 8 + 4 + 4 + 16 + 8 + 8 + 8 + 32 + 4 + 4;
/// Bound on members in a header, against absurd lengths in a damaged one.
const MEMBERS_MAX: usize = 4096;
/// Believed snapshots kept. One is enough for recovery; the second is for the case that the newest
/// turns out unreadable, and for a transfer that still reads it.
const KEPT: usize = 2;

/// A verified snapshot on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// The position it stands for.
    pub meta: SnapshotMeta,
    /// Where it is.
    pub path: PathBuf,
    /// Size of the whole file in bytes.
    pub len_bytes: u64,
}

/// The snapshot directory of one member.
#[derive(Clone, Debug)]
pub struct SnapshotStore {
    files: Files,
    dir: PathBuf,
    cluster_id: [u8; 16],
    temporaries: Arc<AtomicU64>,
}

pub(super) struct Header {
    pub(super) meta: SnapshotMeta,
    pub(super) cluster_id: [u8; 16],
    pub(super) header_bytes: usize,
    pub(super) body_bytes: u64,
    body_hash: [u8; 32],
}

impl SnapshotStore {
    /// Opens the directory, creating it when missing, and clears what a crash left half done.
    pub fn open(dir: &Path, cluster_id: [u8; 16]) -> Result<Self, Error> {
        Self::open_with(&Files::real(), dir, cluster_id)
    }

    pub(crate) fn open_with(
        files: &Files,
        dir: &Path,
        cluster_id: [u8; 16],
    ) -> Result<Self, Error> {
        files.create_dir(dir)?;
        for prefix in ["tmp-", "incoming-"] {
            for name in files.list(dir, prefix, ".snap")? {
                files.remove(&dir.join(name))?;
            }
        }
        Ok(Self {
            files: files.clone(),
            ..Self::reading(dir, cluster_id)
        })
    }

    /// The directory of a running member, for readers that change nothing.
    pub(crate) fn reading(dir: &Path, cluster_id: [u8; 16]) -> Self {
        Self {
            files: Files::real(),
            dir: dir.to_owned(),
            cluster_id,
            temporaries: Arc::default(),
        }
    }

    /// Writes a snapshot of the own state: temporary file, fsync, rename, directory fsync, read
    /// back and verify. After it returns the log may be cut up to `meta.index`.
    pub fn write(&self, meta: &SnapshotMeta, body: &[u8]) -> Result<SnapshotFile, Error> {
        let temporary = self.temporary_path();
        let written = self.write_temporary(&temporary, meta, body);
        if let Err(error) = written {
            // Best effort: on a full disk the remains are the first thing to give back.
            let _ = self.files.remove(&temporary);
            return Err(error);
        }
        let path = self.believed_path(meta);
        nube_failpoint::reach("snapshot-before");
        self.files.rename(&temporary, &path)?;
        self.files.sync_dir(&self.dir)?;
        nube_failpoint::reach("snapshot-after");
        let file = self.verify(&path)?;
        if file.meta != *meta {
            return Err(files::damaged(
                &path,
                "read back another position than written",
            ));
        }
        self.prune()?;
        Ok(file)
    }

    fn write_temporary(&self, path: &Path, meta: &SnapshotMeta, body: &[u8]) -> Result<(), Error> {
        let header = encode_header(&self.cluster_id, meta, body);
        let file = self.files.create(path)?;
        files::write_at(&*file, path, &header, 0)?;
        files::write_at(&*file, path, body, header.len() as u64)?;
        files::sync_all(&*file, path)
    }

    /// Believed snapshots, newest first. Only names are looked at.
    pub fn list(&self) -> Result<Vec<PathBuf>, Error> {
        let mut names = self.files.list(&self.dir, "snap-", ".snap")?;
        names.reverse();
        Ok(names.into_iter().map(|name| self.dir.join(name)).collect())
    }

    /// Path a believed snapshot of this position has.
    #[must_use]
    pub fn believed_path(&self, meta: &SnapshotMeta) -> PathBuf {
        self.dir
            .join(format!("snap-{:020}-{:020}.snap", meta.index, meta.term))
    }

    /// Path a received snapshot has until raft accepts it.
    #[must_use]
    pub fn incoming_path(&self, meta: &SnapshotMeta) -> PathBuf {
        self.dir.join(format!(
            "incoming-{:020}-{:020}.snap",
            meta.index, meta.term
        ))
    }

    pub(crate) fn temporary_path(&self) -> PathBuf {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("tmp-{number}.snap"))
    }

    /// Reads a whole file and checks every byte of it.
    pub fn verify(&self, path: &Path) -> Result<SnapshotFile, Error> {
        let (file, _) = self.load(path)?;
        Ok(file)
    }

    /// The verified snapshot and its body.
    pub fn load(&self, path: &Path) -> Result<(SnapshotFile, Vec<u8>), Error> {
        let mut bytes = self.files.read(path)?;
        let header = decode_header(path, &bytes)?;
        if header.cluster_id != self.cluster_id {
            return Err(Error::WrongCluster {
                expected: super::hex(&self.cluster_id),
                found: super::hex(&header.cluster_id),
            });
        }
        let len_bytes = bytes.len() as u64;
        if len_bytes != header.header_bytes as u64 + header.body_bytes {
            return Err(files::damaged(path, "length differs from the header"));
        }
        let body = bytes.split_off(header.header_bytes);
        if blake3::hash(&body).as_bytes() != &header.body_hash {
            return Err(files::damaged(path, "body does not match its hash"));
        }
        Ok((
            SnapshotFile {
                meta: header.meta,
                path: path.to_owned(),
                len_bytes,
            },
            body,
        ))
    }

    /// The bytes of a whole file as they travel to another member.
    pub fn bytes(&self, path: &Path) -> Result<Vec<u8>, Error> {
        self.files.read(path)
    }

    /// Takes a whole file from another member: durable and verified, under its waiting name.
    /// What a simulator calls in place of [`crate::SnapshotReceiver`].
    pub fn receive(&self, expected: &SnapshotMeta, bytes: &[u8]) -> Result<SnapshotFile, Error> {
        let path = self.temporary_path();
        let file = self.files.create(&path)?;
        let taken = files::write_at(&*file, &path, bytes, 0)
            .and_then(|()| files::sync_all(&*file, &path))
            .and_then(|()| self.verify(&path))
            .and_then(|found| match found.meta == *expected {
                true => self.accept(&path),
                false => Err(files::damaged(&path, "stands for another position")),
            });
        if taken.is_err() {
            // Best effort; the next start clears it as well.
            let _ = self.files.remove(&path);
        }
        taken
    }

    pub(crate) fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, Error> {
        self.files.create(path)
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<(), Error> {
        self.files.remove(path)
    }

    /// Keeps a received file that verified, under its waiting name.
    pub(crate) fn accept(&self, temporary: &Path) -> Result<SnapshotFile, Error> {
        let mut file = self.verify(temporary)?;
        let path = self.incoming_path(&file.meta);
        self.files.rename(temporary, &path)?;
        self.files.sync_dir(&self.dir)?;
        file.path = path;
        Ok(file)
    }

    /// raft accepted the received snapshot: believe it. Called before the log records it, so a
    /// crash in between leaves a believed file that no log mentions; recovery ignores it.
    pub fn promote(&self, meta: &SnapshotMeta) -> Result<(), Error> {
        let (from, to) = (self.incoming_path(meta), self.believed_path(meta));
        if self.files.exists(&from) {
            self.files.rename(&from, &to)?;
            self.files.sync_dir(&self.dir)?;
        }
        self.verify(&to).map(|_| ())
    }

    /// Removes all but the newest believed snapshots, and received ones that are not newer.
    pub fn prune(&self) -> Result<(), Error> {
        let believed = self.list()?;
        for path in believed.iter().skip(KEPT) {
            self.files.remove(path)?;
        }
        let newest = believed
            .first()
            .and_then(|p| p.file_name()?.to_str())
            .unwrap_or_default();
        for name in self.files.list(&self.dir, "incoming-", ".snap")? {
            // Fixed-width numbers: comparing the text compares the positions.
            if name.trim_start_matches("incoming-") <= newest.trim_start_matches("snap-") {
                self.files.remove(&self.dir.join(name))?;
            }
        }
        Ok(())
    }
}

fn encode_header(cluster_id: &[u8; 16], meta: &SnapshotMeta, body: &[u8]) -> Vec<u8> {
    let members = meta.membership.voters.len() + meta.membership.learners.len();
    let header_bytes = FIXED_BYTES + 8 * members + 4;
    let mut out = Vec::with_capacity(header_bytes);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&(header_bytes as u32).to_le_bytes());
    out.extend_from_slice(cluster_id);
    out.extend_from_slice(&meta.index.to_le_bytes());
    out.extend_from_slice(&meta.term.to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(blake3::hash(body).as_bytes());
    out.extend_from_slice(&(meta.membership.voters.len() as u32).to_le_bytes());
    out.extend_from_slice(&(meta.membership.learners.len() as u32).to_le_bytes());
    for id in meta
        .membership
        .voters
        .iter()
        .chain(&meta.membership.learners)
    {
        out.extend_from_slice(&id.to_le_bytes());
    }
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Reads a header from the first bytes of a file (or of a transfer).
pub(super) fn decode_header(path: &Path, bytes: &[u8]) -> Result<Header, Error> {
    let short = || files::damaged(path, "header is cut");
    let fixed = bytes.get(..FIXED_BYTES).ok_or_else(short)?;
    if &fixed[..8] != MAGIC {
        return Err(files::damaged(path, "not a snapshot"));
    }
    let u32_at = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().expect("eight bytes"));
    if u32_at(8) != FORMAT {
        return Err(Error::UnknownFormat {
            path: path.to_owned(),
            found: u32_at(8),
            known: FORMAT,
        });
    }
    let (voters, learners) = (u32_at(88) as usize, u32_at(92) as usize);
    let header_bytes = u32_at(12) as usize;
    if voters > MEMBERS_MAX
        || learners > MEMBERS_MAX
        || header_bytes != FIXED_BYTES + 8 * (voters + learners) + 4
    {
        return Err(files::damaged(path, "header lengths do not fit"));
    }
    let header = bytes.get(..header_bytes).ok_or_else(short)?;
    let (covered, crc) = header.split_at(header_bytes - 4);
    if crc32fast::hash(covered).to_le_bytes() != crc {
        return Err(files::damaged(path, "header does not match its checksum"));
    }
    let mut ids = covered[FIXED_BYTES..]
        .chunks_exact(8)
        .map(|id| u64::from_le_bytes(id.try_into().expect("eight bytes")));
    let membership = Membership {
        voters: ids.by_ref().take(voters).collect(),
        learners: ids.collect(),
    };
    Ok(Header {
        meta: SnapshotMeta {
            index: u64_at(32),
            term: u64_at(40),
            membership,
        },
        cluster_id: fixed[16..32].try_into().expect("sixteen bytes"),
        header_bytes,
        body_bytes: u64_at(48),
        body_hash: fixed[56..88].try_into().expect("thirty-two bytes"),
    })
}

/// For `crate::probe`: a file.
pub(crate) fn sample(body: &[u8]) -> Vec<u8> {
    let meta = SnapshotMeta {
        index: 9,
        term: 2,
        membership: Membership {
            voters: vec![1, 2, 3],
            learners: vec![4],
        },
    };
    let mut bytes = encode_header(&[7; 16], &meta, body);
    bytes.extend_from_slice(body);
    bytes
}

/// For `crate::probe`: a header with and without a checksum that fits.
pub(crate) fn probe(bytes: &[u8]) {
    let mut fitting = bytes.to_vec();
    let claimed = bytes.get(12..16).and_then(|length| length.try_into().ok());
    let end = claimed.map_or(0, u32::from_le_bytes) as usize;
    if let Some((covered, _)) = fitting.get(..end).and_then(<[u8]>::split_last_chunk::<4>) {
        let crc = crc32fast::hash(covered);
        fitting[end - 4..end].copy_from_slice(&crc.to_le_bytes());
    }
    for bytes in [bytes, &fitting] {
        if let Ok(header) = decode_header(Path::new("probe"), bytes) {
            let body = bytes.get(header.header_bytes..).unwrap_or_default();
            let written = encode_header(&header.cluster_id, &header.meta, body);
            let again = decode_header(Path::new("probe"), &written).expect("own bytes");
            assert_eq!(again.meta, header.meta);
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn meta(index: u64) -> SnapshotMeta {
        SnapshotMeta {
            index,
            term: 3,
            membership: Membership {
                voters: vec![1, 2, 3],
                learners: vec![9],
            },
        }
    }

    #[test]
    fn a_written_snapshot_reads_back_and_only_the_newest_two_stay() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = SnapshotStore::open(dir.path(), [1; 16]).expect("open");
        for index in [5, 10, 15] {
            store
                .write(&meta(index), &[index as u8; 1000])
                .expect("write");
        }
        let kept = store.list().expect("list");
        assert_eq!(kept.len(), 2);
        let (file, body) = store.load(&kept[0]).expect("load");
        assert_eq!((file.meta, body), (meta(15), vec![15; 1000]));
    }

    #[test]
    fn b1_every_flipped_bit_and_every_cut_of_a_snapshot_is_noticed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = SnapshotStore::open(dir.path(), [1; 16]).expect("open");
        let file = store
            .write(&meta(5), b"some canonical bytes")
            .expect("write");
        let good = std::fs::read(&file.path).expect("read");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&file.path, &bad).expect("write");
            assert!(store.load(&file.path).is_err(), "bit {bit} went unnoticed");
        }
        for cut in 0..good.len() {
            std::fs::write(&file.path, &good[..cut]).expect("write");
            assert!(
                store.load(&file.path).is_err(),
                "cut at {cut} went unnoticed"
            );
        }
    }

    #[test]
    fn b6_a_snapshot_of_another_cluster_is_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let ours = SnapshotStore::open(dir.path(), [1; 16]).expect("open");
        let file = ours.write(&meta(5), b"x").expect("write");
        let theirs = SnapshotStore::open(dir.path(), [2; 16]).expect("open");
        assert!(matches!(
            theirs.load(&file.path),
            Err(Error::WrongCluster { .. })
        ));
    }
}
