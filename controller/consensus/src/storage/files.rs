//! The few file operations durability rests on, each with its error in words.
//!
//! Lives here: open, positioned write, sync, rename, directory sync, the directory lock. May not:
//! formats. Used by `wal`, `superblock` and `snapshot` only.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::Error;

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

pub(crate) fn open_write(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|e| failed("open for writing", path, e))
}

pub(crate) fn create(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .map_err(|e| failed("create", path, e))
}

pub(crate) fn create_dir(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|e| failed("create directory", path, e))
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|e| failed("read", path, e))
}

pub(crate) fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<(), Error> {
    file.write_all_at(bytes, offset)
        .map_err(|e| failed("write", path, e))
}

/// `fdatasync`: data, and of the metadata what is needed to read it back.
pub(crate) fn sync_data(file: &File, path: &Path) -> Result<(), Error> {
    file.sync_data().map_err(|e| failed("fdatasync", path, e))
}

/// `fsync`: needed where the size of the file changed and must survive by itself.
pub(crate) fn sync_all(file: &File, path: &Path) -> Result<(), Error> {
    file.sync_all().map_err(|e| failed("fsync", path, e))
}

/// Makes creations, renames and removals in `dir` durable. Without it a crash may bring back the
/// old name of a file whose new name was already relied upon.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    let handle = File::open(dir).map_err(|e| failed("open directory", dir, e))?;
    handle
        .sync_all()
        .map_err(|e| failed("fsync directory", dir, e))
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(|e| failed("rename", from, e))
}

/// Removes a file; one that is already gone is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("remove", path, e)),
    }
}

/// Names in `dir` with this prefix and suffix, sorted.
pub(crate) fn list(dir: &Path, prefix: &str, suffix: &str) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for item in std::fs::read_dir(dir).map_err(|e| failed("list", dir, e))? {
        let item = item.map_err(|e| failed("list", dir, e))?;
        // A name that is not UTF-8 is not ours.
        if let Ok(name) = item.file_name().into_string()
            && name.starts_with(prefix)
            && name.ends_with(suffix)
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Takes the exclusive lock of a data directory; held as long as the returned file is open.
pub(crate) fn lock_dir(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let file = create(&path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked {
            path: dir.to_owned(),
        }),
        Err(errno) => Err(failed("lock", &path, errno.into())),
    }
}
