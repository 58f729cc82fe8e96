//! The sending end of a snapshot transfer.
//!
//! Lives here: reading a verified snapshot file in chunks, and the promise that raft hears how it
//! ended. May not: the network. Made by `driver`, used up by the transport.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;

use crate::entry::SnapshotMeta;
use crate::error::Error;
use crate::storage::SnapshotFile;

/// Largest chunk, in bytes. Larger: nearer to the 4 MiB message limit of tonic, and heartbeats
/// that share the connection wait longer. Smaller: more calls.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;

/// Tells the driver how the transfer ended.
pub(crate) type Reporter = Arc<dyn Fn(bool) + Send + Sync>;

/// A snapshot on its way to one member. Read it to the end, then call [`OutgoingSnapshot::finish`].
pub struct OutgoingSnapshot {
    file: SnapshotFile,
    preamble: Bytes,
    reader: Option<File>,
    report: Option<Reporter>,
}

impl OutgoingSnapshot {
    pub(crate) fn new(file: SnapshotFile, preamble: Bytes, report: Reporter) -> Self {
        Self {
            file,
            preamble,
            reader: None,
            report: Some(report),
        }
    }

    /// The position it stands for.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.file.meta
    }

    /// Bytes of all chunks together.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.file.len_bytes
    }

    /// What the receiver needs first: hand it to [`crate::Handle::receive_snapshot`].
    #[must_use]
    pub fn preamble(&self) -> Bytes {
        self.preamble.clone()
    }

    /// The next chunk, or `None` at the end. Blocks on the disk: call it where that is allowed.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let io = |step, source| Error::Io {
            step,
            path: self.file.path.clone(),
            source,
        };
        if self.reader.is_none() {
            self.reader = Some(File::open(&self.file.path).map_err(|e| io("open", e))?);
        }
        let Some(reader) = self.reader.as_mut() else {
            return Ok(None);
        };
        let mut chunk = Vec::with_capacity(SNAPSHOT_CHUNK_BYTES);
        reader
            .take(SNAPSHOT_CHUNK_BYTES as u64)
            .read_to_end(&mut chunk)
            .map_err(|e| io("read", e))?;
        Ok((!chunk.is_empty()).then(|| Bytes::from(chunk)))
    }

    /// Ends the transfer: true when the receiver answered that it holds the verified file.
    pub fn finish(mut self, delivered: bool) {
        if let Some(report) = self.report.take() {
            report(delivered);
        }
    }
}

impl Drop for OutgoingSnapshot {
    /// A transfer that nobody reports would park the follower until the timeout.
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            report(false);
        }
    }
}
