//! A disk in memory that loses, tears and damages what real disks do.
//!
//! Lives here: [`SimulatedDisk`], its power cuts and its faults. May not: a clock, randomness or
//! a thread of its own. The bytes of one file are in `simulated/bytes.rs`, names in
//! `simulated/names.rs`. Used by simulations; it runs the same log as the real disk.
//!
//! The model, made to be harsher than a journaling file system:
//! - written bytes sit in the page cache; a sync puts the file's changed sectors (512 bytes) on the
//!   platter. A power cut keeps any subset of the changed sectors, and either size of the file;
//! - creations, renames and removals sit in the directory; a sync of the directory keeps them. A
//!   power cut keeps any first part of them, for each directory apart. A synced file whose name
//!   was lost is lost;
//! - faults change the platter behind a sync's back. What a read gives back of them shows once the
//!   page cache is gone: after a power cut or [`SimulatedDisk::drop_cache`].
//!
//! How a simulator drives a member on it, all calls synchronous:
//! 1. [`super::DiskStorage::open_on`] with the disk forms or recovers the member: it gives the
//!    storage, what is [`super::Recovered`] (for `Core::new`), and the `SnapshotStore`.
//! 2. For each `Output::Persist`: `append`, then `sync` (or `flush` unless `must_sync`), then step
//!    `Input::Persisted` and send the messages. [`Error::NoSpace`](crate::Error::NoSpace) of
//!    `append`, `sync` or `compact` changed nothing that counts: make the same call again later,
//!    with nothing after it before. Any other error ends the member's life at once: drop the
//!    storage, and open again. `Output::lost` ends it for good, after `forswear`.
//! 3. A snapshot is `SnapshotStore::write`, then `Input::SnapshotReady`; the core answers with
//!    `Output::Compact`: `compact`. To another member: `bytes` there, `receive` here.
//! 4. A process that dies: drop the storage. A host that dies: drop it and
//!    [`SimulatedDisk::power_cut`]. Then 1 again. A member whose open says
//!    `Error::identity_is_lost`, or `Damaged`, stays out.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::files::{Disk, DiskFile, DiskLock};

mod bytes;
mod names;
#[cfg(test)]
mod test;

use bytes::Bytes;
use names::Names;

/// The unit a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// What a disk did to somebody's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A bit of synced data flipped.
    Rot,
    /// A sync acknowledged a sector it never wrote.
    LostWrite,
    /// A sync wrote a sector to another place.
    MisdirectedWrite,
    /// A sync failed and dropped what it should have written.
    FailedSync,
}

/// One entry of the fault atlas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was done.
    pub kind: FaultKind,
    /// The file that holds other bytes now than its writer was told.
    pub path: PathBuf,
    /// Where in it.
    pub range: Range<u64>,
}

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    files: Vec<Bytes>,
    names: Names,
    locks: BTreeSet<PathBuf>,
    now: Duration,
    budget_bytes: Option<u64>,
    /// Grows with each power cut: handles from before it are dead.
    life: u64,
    fail_syncs: u32,
    /// Faults of the next sync that writes anything.
    lose: Option<u64>,
    misdirect: Option<u64>,
    atlas: Vec<Fault>,
    /// Damaged ranges that reads gave out.
    read: Vec<(PathBuf, Range<u64>)>,
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file there as if it had always been: durable, its directories too.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut inner = self.inner();
        let id = inner.files.len();
        inner.files.push(Bytes::durable(bytes));
        inner.names.put_durable(path, id);
    }

    /// The same files as they are on the platter, on a disk of its own.
    #[must_use]
    pub fn copy(&self) -> Self {
        let (copy, inner) = (Self::new(), self.inner());
        for (path, id) in inner.names.files() {
            copy.put(&path, inner.files[id].platter());
        }
        drop(inner);
        copy
    }

    /// Sets the time that postponed bookkeeping goes by. The disk has no clock.
    pub fn set_now(&self, now: Duration) {
        self.inner().now = now;
    }

    /// The power fails: every unsynced change survives or not, as `random` says. Open handles and
    /// locks are dead from here on.
    pub fn power_cut(&self, random: &mut dyn FnMut() -> u64) {
        let mut inner = self.inner();
        inner.life += 1;
        inner.locks.clear();
        inner.names.power_cut(random);
        for file in &mut inner.files {
            file.power_cut(random);
        }
        inner.forget_removed();
    }

    /// Forgets clean pages: from here on reads come from the platter.
    pub fn drop_cache(&self) {
        for file in &mut self.inner().files {
            file.drop_cache();
        }
    }

    /// Flips one bit of synced data. `None` when there is none.
    pub fn rot(&self, random: &mut dyn FnMut() -> u64) -> Option<Fault> {
        let mut inner = self.inner();
        let files = inner.names.files();
        let lengths: Vec<u64> = files.iter().map(|(_, id)| inner.files[*id].len()).collect();
        let mut at = random().checked_rem(lengths.iter().sum())?;
        let ((path, id), _) = files.iter().zip(&lengths).find(|(_, len)| {
            let here = at < **len;
            at -= if here { 0 } else { **len };
            here
        })?;
        drop(lengths);
        inner.flip(path, *id, at * 8 + random() % 8)
    }

    /// Flips bit `bit` of the file `path`, on the platter and in its clean pages.
    pub fn flip(&self, path: &Path, bit: u64) -> Option<Fault> {
        let mut inner = self.inner();
        let id = inner.names.get(path)?;
        inner.flip(path, id, bit)
    }

    /// The next sync that writes loses one sector and says nothing.
    pub fn lose_write(&self, random: u64) {
        self.inner().lose = Some(random);
    }

    /// The next sync that writes puts one sector elsewhere and says nothing.
    pub fn misdirect_write(&self, random: u64) {
        self.inner().misdirect = Some(random);
    }

    /// The next sync of a file fails with EIO and drops what it should have written, as Linux
    /// does: the pages are clean afterwards, and another sync would succeed.
    pub fn fail_next_sync(&self) {
        self.inner().fail_syncs += 1;
    }

    /// Bytes that all files may have together; `None` for no bound. Files that are there stay,
    /// and are rewritten in place.
    pub fn set_budget_bytes(&self, budget_bytes: Option<u64>) {
        self.inner().budget_bytes = budget_bytes;
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.inner().used_bytes()
    }

    /// Everything that was ever done to this disk.
    #[must_use]
    pub fn atlas(&self) -> Vec<Fault> {
        self.inner().atlas.clone()
    }

    /// Where the platter holds other bytes now than syncs promised.
    #[must_use]
    pub fn damage(&self) -> Vec<(PathBuf, Range<u64>)> {
        let inner = self.inner();
        let mut damage = Vec::new();
        for (path, id) in inner.names.files() {
            let ranges = inner.files[id].damage();
            damage.extend(ranges.into_iter().map(|range| (path.clone(), range)));
        }
        damage
    }

    /// Damaged ranges that reads have given out since the last call. Whoever read them must have
    /// noticed: refused, or used another copy.
    #[must_use]
    pub fn take_damage_read(&self) -> Vec<(PathBuf, Range<u64>)> {
        std::mem::take(&mut self.inner().read)
    }

    /// Names of all files, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let files = self.inner().names.files();
        files.into_iter().map(|(path, _)| path).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere ends the simulation anyway; the first one is the one to see.
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn used_bytes(&self) -> u64 {
        let files = self.names.files();
        files.iter().map(|(_, id)| self.files[*id].len()).sum()
    }

    /// Frees the bytes of files that no power cut can bring back.
    fn forget_removed(&mut self) {
        let named = self.names.reachable();
        for (id, file) in self.files.iter_mut().enumerate() {
            if !named.contains(&id) {
                file.truncate();
            }
        }
    }

    fn flip(&mut self, path: &Path, id: usize, bit: u64) -> Option<Fault> {
        if !self.files[id].flip(bit) {
            return None;
        }
        let fault = Fault {
            kind: FaultKind::Rot,
            path: path.to_owned(),
            range: bit / 8..bit / 8 + 1,
        };
        self.atlas.push(fault.clone());
        Some(fault)
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names
            .get(path)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn note(&mut self, kind: FaultKind, id: usize, sector: u64) {
        let path = self.names.path_of(id).unwrap_or_default();
        let range = sector * SECTOR_BYTES as u64..(sector + 1) * SECTOR_BYTES as u64;
        self.atlas.push(Fault { kind, path, range });
    }

    fn sync(&mut self, id: usize) -> io::Result<()> {
        let changed = self.files[id].changed();
        if self.fail_syncs > 0 {
            self.fail_syncs -= 1;
            self.files[id].drop_changes();
            for sector in changed {
                self.note(FaultKind::FailedSync, id, sector);
            }
            return Err(io::Error::from_raw_os_error(5));
        }
        let mut spared = BTreeSet::new();
        if let Some(random) = self.lose.take_if(|_| !changed.is_empty()) {
            let sector = changed[random as usize % changed.len()];
            spared.insert(sector);
            self.note(FaultKind::LostWrite, id, sector);
        }
        let mut astray = None;
        if let Some(random) = self.misdirect.take_if(|_| !changed.is_empty()) {
            let from = changed[random as usize % changed.len()];
            let files = self.names.files();
            let target = files[(random >> 16) as usize % files.len()].1;
            let sectors = self.files[target].len().div_ceil(SECTOR_BYTES as u64);
            let to = (random >> 32) % sectors.max(1);
            if (target, to) != (id, from) {
                spared.insert(from);
                self.note(FaultKind::MisdirectedWrite, id, from);
                self.note(FaultKind::MisdirectedWrite, target, to);
                astray = Some((target, to, self.files[id].cached_sector(from)));
            }
        }
        self.files[id].sync(&spared);
        if let Some((target, to, sector)) = astray {
            self.files[target].overwrite(to, &sector);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Handle {
    disk: SimulatedDisk,
    id: usize,
    life: u64,
}

impl Handle {
    fn alive(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.inner();
        if inner.life == self.life {
            Ok(inner)
        } else {
            Err(io::Error::other("the power was cut since this was opened"))
        }
    }
}

impl DiskFile for Handle {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.alive()?;
        let more = (offset + bytes.len() as u64).saturating_sub(inner.files[self.id].len());
        if let Some(budget_bytes) = inner.budget_bytes
            && more > 0
            && inner.used_bytes() + more > budget_bytes
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.files[self.id].write(bytes, offset);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.alive()?.sync(self.id)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[derive(Debug)]
struct Held {
    disk: SimulatedDisk,
    path: PathBuf,
    life: u64,
}

impl DiskLock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.disk.inner();
        if inner.life == self.life {
            inner.locks.remove(&self.path);
        }
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.inner();
        let id = match inner.names.get(path) {
            Some(id) => id,
            None if create => {
                let id = inner.files.len();
                inner.names.create(path, id)?;
                inner.files.push(Bytes::default());
                id
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        if create {
            inner.files[id].truncate();
        }
        Ok(Box::new(Handle {
            disk: self.clone(),
            id,
            life: inner.life,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner().names.create_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner().names.remove_dir_all(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut inner = self.inner();
        let id = inner.find(path)?;
        let bytes = inner.files[id].read();
        let damage = inner.files[id].damage_in_cache();
        let damage = damage.into_iter().map(|range| (path.to_owned(), range));
        inner.read.extend(damage);
        Ok(bytes)
    }

    fn len_bytes(&self, path: &Path) -> io::Result<u64> {
        let inner = self.inner();
        let id = inner.find(path)?;
        Ok(inner.files[id].len())
    }

    fn exists(&self, path: &Path) -> bool {
        self.inner().names.exists(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.names.sync(dir)?;
        inner.forget_removed();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner().names.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner().names.remove(path)
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner().names.list(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        drop(self.open(path, true)?);
        let mut inner = self.inner();
        if !inner.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Held {
            disk: self.clone(),
            path: path.to_owned(),
            life: inner.life,
        }))
    }

    fn now(&self) -> Duration {
        self.inner().now
    }

    fn is_real(&self) -> bool {
        false
    }
}
