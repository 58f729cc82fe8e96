//! When leased guests end: 8 bytes that the agent writes and fencers read.
//! Milliseconds of `CLOCK_BOOTTIME`, in the host's own byte order, written in
//! place: what a crash of the host would lose means nothing on its next boot,
//! and the file's name says which boot it is of.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const PREFIX: &str = "deadline-";

/// The agent's end of the file.
#[derive(Debug)]
pub struct Deadline {
    path: PathBuf,
    file: File,
}

impl Deadline {
    /// Opens or makes the file of this boot, and sweeps those of others.
    pub fn open(data_dir: &Path, boot_id: &str) -> io::Result<Self> {
        let name = format!("{PREFIX}{boot_id}");
        for entry in std::fs::read_dir(data_dir)? {
            let entry = entry?;
            let found = entry.file_name();
            let found = found.to_string_lossy();
            if found.starts_with(PREFIX) && found != name {
                std::fs::remove_file(entry.path())?;
            }
        }
        let path = data_dir.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        Ok(Self { path, file })
    }

    /// For fencers.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As written last; none was: over since ever.
    #[must_use]
    pub fn read(&self) -> u64 {
        read(&self.file).unwrap_or(0)
    }

    /// Lets leased guests run until then.
    pub fn prolong(&self, deadline_ms: u64) -> io::Result<()> {
        self.file.write_all_at(&deadline_ms.to_ne_bytes(), 0)
    }
}

/// What the file says; an error also when it says nothing.
pub fn read(file: &File) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn it_is_kept_for_one_boot() {
        let dir = tempfile::tempdir().expect("dir");
        let deadline = Deadline::open(dir.path(), "one").expect("open");
        assert_eq!(deadline.read(), 0);
        deadline.prolong(u64::MAX - 1).expect("written");
        deadline.prolong(12_345).expect("written");
        let again = Deadline::open(dir.path(), "one").expect("open");
        assert_eq!(again.read(), 12_345);
        let next = Deadline::open(dir.path(), "two").expect("open");
        assert_eq!(next.read(), 0);
        let files = std::fs::read_dir(dir.path()).expect("list").count();
        assert_eq!(files, 1, "the other boot's is gone");
    }

    #[test]
    fn half_a_deadline_is_none() {
        let dir = tempfile::tempdir().expect("dir");
        let deadline = Deadline::open(dir.path(), "one").expect("open");
        std::fs::write(deadline.path(), [1; 7]).expect("write");
        assert_eq!(deadline.read(), 0);
    }
}
