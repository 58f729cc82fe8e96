//! The receiving end of a snapshot transfer.
//!
//! Lives here: collecting chunks into a temporary file and verifying it before raft hears of it.
//! May not: the network, raft. Made by [`crate::Handle::receive_snapshot`], fed by the transport.

use std::path::PathBuf;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::entry::SnapshotMeta;
use crate::error::Error;
use crate::storage::{DiskFile, SnapshotFile, SnapshotStore, files};

/// Hands the verified snapshot to the driver; the channel answers once raft has seen it.
pub(crate) type Deliver =
    Box<dyn FnOnce(SnapshotFile, Bytes) -> Option<oneshot::Receiver<()>> + Send>;

/// Why a snapshot was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The preamble is not a snapshot message of that peer to this member.
    #[error("malformed snapshot preamble")]
    Malformed,
    /// More bytes came than the file may have, or it stands for another position.
    #[error("snapshot does not fit its preamble")]
    Mismatch,
    /// The file did not verify, or could not be written.
    #[error("received snapshot is unusable")]
    Unusable(#[source] Error),
    /// The member is stopped.
    #[error("consensus member is stopped")]
    Stopped,
}

/// Collects one snapshot. Dropping it unfinished removes what was received.
pub struct SnapshotReceiver {
    store: SnapshotStore,
    path: PathBuf,
    file: Option<Box<dyn DiskFile>>,
    received_bytes: u64,
    expected: SnapshotMeta,
    message: Bytes,
    deliver: Option<Deliver>,
}

impl SnapshotReceiver {
    pub(crate) fn new(
        store: SnapshotStore,
        expected: SnapshotMeta,
        message: Bytes,
        deliver: Deliver,
    ) -> Result<Self, ReceiveError> {
        let path = store.temporary_path();
        let file = store.create(&path).map_err(ReceiveError::Unusable)?;
        Ok(Self {
            store,
            path,
            file: Some(file),
            received_bytes: 0,
            expected,
            message,
            deliver: Some(deliver),
        })
    }

    /// Appends one chunk, in order. Writes to the page cache; fast enough for an async task when
    /// chunks stay near 1 MiB.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), ReceiveError> {
        let Some(file) = &self.file else {
            return Err(ReceiveError::Mismatch);
        };
        files::write_at(&**file, &self.path, bytes, self.received_bytes)
            .map_err(ReceiveError::Unusable)?;
        self.received_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file durable, verifies it and hands it to raft. The answer to the sender must
    /// wait for this: it means "I hold the bytes", not yet "they are installed".
    pub async fn finish(mut self) -> Result<(), ReceiveError> {
        let verified = tokio::task::spawn_blocking(move || {
            let file = self.verify();
            (file, self)
        });
        let (file, mut receiver) = verified.await.map_err(|_| ReceiveError::Stopped)?;
        let file = file?;
        let deliver = receiver.deliver.take().ok_or(ReceiveError::Stopped)?;
        let seen = deliver(file, receiver.message.clone()).ok_or(ReceiveError::Stopped)?;
        seen.await.map_err(|_| ReceiveError::Stopped)
    }

    fn verify(&mut self) -> Result<SnapshotFile, ReceiveError> {
        let Some(file) = self.file.take() else {
            return Err(ReceiveError::Mismatch);
        };
        files::sync_all(&*file, &self.path).map_err(ReceiveError::Unusable)?;
        drop(file);
        let snapshot = self
            .store
            .verify(&self.path)
            .map_err(ReceiveError::Unusable)?;
        if snapshot.meta != self.expected {
            return Err(ReceiveError::Mismatch);
        }
        self.store
            .accept(&self.path)
            .map_err(ReceiveError::Unusable)
    }
}

impl Drop for SnapshotReceiver {
    fn drop(&mut self) {
        // Already renamed when it was accepted; then there is nothing of this name.
        let _ = self.store.remove(&self.path);
    }
}
