//! Files that this program reads and writes for its user: bounded reads, and
//! private files that are never world-readable, not even for a moment.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// No text argument of any call is larger; the controllers' own limits are far
/// below and give the better message.
const TEXT_BYTES_MAX: u64 = 3 * 1024 * 1024;

/// Reads a small file, or standard input for `-`.
pub fn read_argument(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let name = format!("`{}`", path.display());
    if path == Path::new("-") {
        let stdin = std::io::stdin().lock();
        stdin
            .take(TEXT_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .context("standard input")?;
    } else {
        let file = File::open(path).context(&name)?;
        file.take(TEXT_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .context(&name)?;
    }
    if bytes.len() as u64 > TEXT_BYTES_MAX {
        return Err(Error::failed(format!(
            "{name}: larger than {TEXT_BYTES_MAX} bytes"
        )));
    }
    Ok(bytes)
}

/// Makes a directory that only its owner can enter; harmless when it exists.
pub fn private_dir(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .context(format!("`{}`", path.display()))
}

/// Makes a new file that only its owner can read. An existing file, also a
/// dangling link, is refused: nobody's key is overwritten.
pub fn create_private(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .context(format!("`{}`", path.display()))
}

/// Writes a whole new private file, on disk when this returns.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = create_private(path)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .context(format!("`{}`", path.display()))
}

/// A new private file, taken before the secret is made that it is for; it
/// vanishes again when none comes.
#[derive(Debug)]
pub struct Reserved {
    path: PathBuf,
    file: Option<File>,
}

impl Reserved {
    /// Makes the file, empty.
    pub fn take(path: PathBuf) -> Result<Self> {
        let file = Some(create_private(&path)?);
        Ok(Self { path, file })
    }

    /// Writes all of it, on disk when this returns.
    pub fn fill(mut self, content: &[u8]) -> Result<PathBuf> {
        if let Some(mut file) = self.file.take() {
            let written = file.write_all(content).and_then(|()| file.sync_all());
            written.context(format!("`{}`", self.path.display()))?;
        }
        Ok(self.path.clone())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.file.is_some() {
            // The file is ours and still empty; the error that ended us counts.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn private_files_are_private_and_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys/key");
        private_dir(path.parent().expect("a parent")).expect("made");
        write_private(&path, b"secret").expect("written");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = write_private(&path, b"other").expect_err("exists");
        assert!(error.render().contains("exists"), "{}", error.render());
        assert_eq!(std::fs::read(&path).expect("readable"), b"secret");
    }

    #[test]
    fn a_reserved_file_vanishes_when_nothing_comes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        drop(Reserved::take(path.clone()).expect("made"));
        assert!(!path.exists());
        let place = Reserved::take(path.clone()).expect("made");
        assert_eq!(place.fill(b"secret").expect("filled"), path);
        assert_eq!(std::fs::read(&path).expect("kept"), b"secret");
        assert!(Reserved::take(path).is_err(), "never overwritten");
    }
}
