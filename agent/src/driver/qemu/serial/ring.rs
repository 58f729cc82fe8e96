//! The serial log on disk: a ring of two files, 1 MiB together.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nube_types::limits::SERIAL_RING_BYTES;

/// A half is thrown away when the other is full.
const HALF_BYTES: u64 = SERIAL_RING_BYTES / 2;

/// The ring of one guest.
#[derive(Debug, Clone)]
pub struct SerialLog {
    newer: PathBuf,
    older: PathBuf,
}

impl SerialLog {
    /// In a guest's directory.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        Self {
            newer: directory.join("serial.log"),
            older: directory.join("serial.log.1"),
        }
    }

    /// Adds bytes, giving up the oldest half when the ring is full. At most half
    /// a ring at once.
    pub fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.newer)?;
        if file.metadata()?.len() + bytes.len() as u64 > HALF_BYTES {
            std::fs::rename(&self.newer, &self.older)?;
            file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&self.newer)?;
        }
        file.write_all(bytes)
    }

    /// Bytes that are kept now.
    pub fn length(&self) -> io::Result<u64> {
        Ok(length_of(&self.older)? + length_of(&self.newer)?)
    }

    /// At most `bytes_max` bytes, beginning `back` bytes before the end.
    /// Nothing printed yet is an empty answer.
    pub fn read(&self, back: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
        let newer = length_of(&self.newer)?;
        let from_older = back.saturating_sub(newer);
        let mut bytes = Vec::new();
        if from_older > 0 {
            bytes = tail_of(&self.older, from_older, bytes_max)?;
        }
        let left = bytes_max - bytes.len() as u64;
        bytes.extend(tail_of(&self.newer, back.min(newer), left)?);
        Ok(bytes)
    }
}

fn length_of(path: &Path) -> io::Result<u64> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn tail_of(path: &Path, back: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(back)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod test {
    use super::*;

    const LINE_BYTES: usize = 8 * 1024;

    #[test]
    fn the_ring_keeps_the_newest_and_stays_small() {
        let directory = tempfile::tempdir().expect("directory");
        let log = SerialLog::of(directory.path());
        assert_eq!(log.read(100, 100).expect("empty"), b"");
        for number in 0..300_u32 {
            let line = [(number % 251) as u8; LINE_BYTES];
            log.append(&line).expect("appended");
        }
        let all = log.read(u64::MAX, u64::MAX).expect("all");
        assert_eq!(all.len() as u64, log.length().expect("length"));
        assert!(all.len() as u64 <= SERIAL_RING_BYTES);
        assert!(all.len() as u64 >= HALF_BYTES);
        assert_eq!(all.last(), Some(&48));
        let tail = log.read(LINE_BYTES as u64 + 1, u64::MAX).expect("tail");
        assert_eq!((tail[0], tail[1]), (47, 48));
    }

    #[test]
    fn any_part_can_be_read_over_the_seam() {
        let directory = tempfile::tempdir().expect("directory");
        let log = SerialLog::of(directory.path());
        let printed: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
        for chunk in printed.chunks(5_000) {
            log.append(chunk).expect("appended");
        }
        let kept = usize::try_from(log.length().expect("length")).expect("small");
        assert!(kept > HALF_BYTES as usize, "two files");
        let end = &printed[printed.len() - kept..];
        for (back, max) in [(kept, 10), (kept, kept), (300_000, 250_000), (1, 1), (0, 9)] {
            let start = kept - back;
            let expected = &end[start..(start + max).min(kept)];
            let read = log.read(back as u64, max as u64).expect("read");
            assert!(read == expected, "{back} {max}");
        }
    }
}
