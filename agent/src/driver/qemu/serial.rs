//! A guest's serial port: read by the agent from QEMU's socket into a ring of
//! two files, 1 MiB together.
//!
//! The bound holds without anyone's help: QEMU itself writes no file, and with
//! no agent connected it drops what the guest prints. A guest that floods is
//! slowed by its own port, not by the host's disk. The price: output of the
//! moments between two agents is lost, and a line in the log says so.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nube_types::limits::SERIAL_RING_BYTES;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// A half is thrown away when the other is full.
const HALF_BYTES: u64 = SERIAL_RING_BYTES / 2;
/// One read. Larger ones let a flooding guest keep a worker busy for longer.
const CHUNK_BYTES: usize = 8 * 1024;
/// After each full chunk: 8 KiB per 20 ms is 400 KiB/s, far above any console.
const PAUSE: Duration = Duration::from_millis(20);

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

    /// Copies from the socket until it ends.
    pub async fn follow(&self, mut stream: UnixStream) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = stream.read(&mut chunk).await?;
            if count == 0 {
                return Ok(());
            }
            // A few KiB into the page cache: not worth another thread.
            self.append(&chunk[..count])?;
            if count == CHUNK_BYTES {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Adds bytes, giving up the oldest half when the ring is full.
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

    /// The newest bytes. Nothing printed yet is an empty answer.
    pub fn tail(&self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let newer = tail_of(&self.newer, bytes_max)?;
        let mut bytes = tail_of(&self.older, bytes_max - newer.len() as u64)?;
        bytes.extend(newer);
        Ok(bytes)
    }
}

fn tail_of(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_and_stays_small() {
        let directory = tempfile::tempdir().expect("directory");
        let log = SerialLog::of(directory.path());
        assert_eq!(log.tail(100).expect("empty"), b"");
        for number in 0..300_u32 {
            let line = [(number % 251) as u8; CHUNK_BYTES];
            log.append(&line).expect("appended");
        }
        let all = log.tail(u64::MAX).expect("all");
        assert!(all.len() as u64 <= SERIAL_RING_BYTES);
        assert!(all.len() as u64 >= HALF_BYTES);
        assert_eq!(all.last(), Some(&48));
        let tail = log.tail(CHUNK_BYTES as u64 + 1).expect("tail");
        assert_eq!((tail[0], tail[1]), (47, 48));
    }
}
