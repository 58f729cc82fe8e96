//! Files that must be whole after a crash: written beside, synced, renamed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Mode of what anybody may read.
pub const PUBLIC: u32 = 0o644;
/// Mode of keys.
pub const SECRET: u32 = 0o600;

/// Replaces `path` as one step: after a crash it holds the old or the new bytes.
/// When this returns, the new ones survive a power cut.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = beside(path, "unfinished");
    // A leftover of a crash may have another mode: it is never written into.
    remove(&unfinished)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rename(&unfinished, path)
}

/// Renames within a directory, for good.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    match to.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// A name next to a file, as `tls.key.next`.
#[must_use]
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_stays_secret_over_a_leftover_of_a_crash() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("tls.key");
        std::fs::write(beside(&path, "unfinished"), "half").expect("written");
        replace(&path, b"old", SECRET).expect("replaced");
        replace(&path, b"new", SECRET).expect("replaced");
        assert_eq!(std::fs::read(&path).expect("read"), b"new");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, SECRET);
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 1);
    }
}
