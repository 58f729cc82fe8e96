//! The disk as the log sees it: the few file operations durability rests on.
//!
//! Lives here: the traits [`Disk`] and [`DiskFile`] with what each operation promises, the real
//! body [`OsDisk`], and [`Files`], which puts errors into words. May not: formats. The other body
//! is [`super::SimulatedDisk`], so that simulations run this very log, byte for byte.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;

/// A file open for writing. Nothing is durable before a sync returned, and the name of the file
/// not before [`Disk::sync_dir`].
pub trait DiskFile: Send + Sync + Debug {
    /// Writes all of `bytes` at `offset`, to the page cache.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// `fdatasync`: data, and of the metadata what is needed to read it back.
    fn sync_data(&self) -> io::Result<()>;

    /// `fsync`: needed where the size of the file changed and must survive by itself.
    fn sync_all(&self) -> io::Result<()>;
}

/// Held as long as it lives; the exclusive lock of a data directory.
pub trait DiskLock: Send + Sync + Debug {}

/// Files and directories, and the time by which bookkeeping is postponed.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Opens a file for writing: an existing one as it is, or (`create`) an empty one.
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>>;

    /// Makes one directory; its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Size of a file in bytes.
    fn len_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Whether there is a file or directory of this name.
    fn exists(&self, path: &Path) -> bool;

    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Gives a file another name, in place of a file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Names in a directory, in any order.
    fn names(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Takes the exclusive lock `path`; `WouldBlock` when another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;

    /// Time since any fixed moment.
    fn now(&self) -> Duration;

    /// True where the log may sleep until a full disk has space, and may use threads of its own.
    /// Without it [`Error::NoSpace`] goes to the caller, who repeats the same call later.
    fn is_real(&self) -> bool;
}

/// The operating system's files.
#[derive(Clone, Copy, Debug)]
pub struct OsDisk {
    opened: Instant,
}

impl OsDisk {
    /// The real disk.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a default would hide that it reads the clock"
    )]
    pub fn new() -> Self {
        let opened = Instant::now();
        Self { opened }
    }
}

impl DiskFile for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        File::sync_all(self)
    }
}

impl DiskLock for File {}

impl Disk for OsDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        options.create(create).truncate(create);
        Ok(Box::new(options.open(path)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn len_bytes(&self, path: &Path) -> io::Result<u64> {
        std::fs::metadata(path).map(|found| found.len())
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in std::fs::read_dir(dir)? {
            // A name that is not UTF-8 is not ours.
            if let Ok(name) = item?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }

    fn now(&self) -> Duration {
        self.opened.elapsed()
    }

    fn is_real(&self) -> bool {
        true
    }
}

/// Turns a system error into ours; a full disk (or quota) keeps its own variant.
pub(crate) fn failed(step: &'static str, path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace {
            path: path.to_owned(),
        },
        _ => Error::Io {
            step,
            path: path.to_owned(),
            source,
        },
    }
}

pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Error {
    Error::Damaged {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

pub(crate) fn write_at(
    file: &dyn DiskFile,
    path: &Path,
    bytes: &[u8],
    offset: u64,
) -> Result<(), Error> {
    file.write_all_at(bytes, offset)
        .map_err(|e| failed("write", path, e))
}

pub(crate) fn sync_data(file: &dyn DiskFile, path: &Path) -> Result<(), Error> {
    file.sync_data().map_err(|e| failed("fdatasync", path, e))
}

pub(crate) fn sync_all(file: &dyn DiskFile, path: &Path) -> Result<(), Error> {
    file.sync_all().map_err(|e| failed("fsync", path, e))
}

/// A disk whose errors say what was tried.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }

    pub(crate) fn real() -> Self {
        Self::new(Arc::new(OsDisk::new()))
    }

    pub(crate) fn open_write(&self, path: &Path) -> Result<Box<dyn DiskFile>, Error> {
        let opened = self.disk.open(path, false);
        opened.map_err(|e| failed("open for writing", path, e))
    }

    pub(crate) fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, Error> {
        let created = self.disk.open(path, true);
        created.map_err(|e| failed("create", path, e))
    }

    /// Makes a directory and its parents, with durable names: all that is ever synced inside is
    /// gone after a crash when the name of the directory is.
    pub(crate) fn create_dir(&self, path: &Path) -> Result<(), Error> {
        if self.exists(path) {
            return Ok(());
        }
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        self.create_dir(parent)?;
        match self.disk.create_dir(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed("create directory", path, e))
            }
            _ => self.sync_dir(parent),
        }
    }

    pub(crate) fn remove_dir_all(&self, path: &Path) -> Result<(), Error> {
        let removed = self.disk.remove_dir_all(path);
        removed.map_err(|e| failed("remove", path, e))
    }

    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        self.disk.read(path).map_err(|e| failed("read", path, e))
    }

    /// Size of a file; 0 for one that cannot be looked at.
    pub(crate) fn len_bytes(&self, path: &Path) -> u64 {
        self.disk.len_bytes(path).unwrap_or(0)
    }

    pub(crate) fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }

    /// Makes creations, renames and removals in `dir` durable. Without it a crash may bring back
    /// the old name of a file whose new name was already relied upon.
    pub(crate) fn sync_dir(&self, dir: &Path) -> Result<(), Error> {
        let synced = self.disk.sync_dir(dir);
        synced.map_err(|e| failed("fsync directory", dir, e))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let renamed = self.disk.rename(from, to);
        renamed.map_err(|e| failed("rename", from, e))
    }

    /// Removes a file; one that is already gone is fine.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), Error> {
        match self.disk.remove(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, e)),
            _ => Ok(()),
        }
    }

    /// Names in `dir` with this prefix and suffix, sorted.
    pub(crate) fn list(
        &self,
        dir: &Path,
        prefix: &str,
        suffix: &str,
    ) -> Result<Vec<String>, Error> {
        let mut names = self.disk.names(dir).map_err(|e| failed("list", dir, e))?;
        names.retain(|name| name.starts_with(prefix) && name.ends_with(suffix));
        names.sort_unstable();
        Ok(names)
    }

    /// Takes the exclusive lock of a data directory; held as long as what is returned.
    pub(crate) fn lock_dir(&self, dir: &Path) -> Result<Box<dyn DiskLock>, Error> {
        let path = dir.join("lock");
        self.disk.lock(&path).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => Error::Locked {
                path: dir.to_owned(),
            },
            _ => failed("lock", &path, e),
        })
    }

    pub(crate) fn now(&self) -> Duration {
        self.disk.now()
    }

    pub(crate) fn is_real(&self) -> bool {
        self.disk.is_real()
    }
}
