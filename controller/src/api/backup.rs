//! `BackupCluster`: a linearizable view as a header and chunks.

use bytes::Bytes;
use futures::StreamExt;
use nube_proto::v1::{BackupChunk, BackupHeader, backup_chunk};
use nube_types::limits::CHUNK_BYTES;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Status;

use super::status;
use crate::backup;
use crate::cell::Cell;

/// Each holds the whole state's bytes until its client has read them.
static UNDER_WAY: Semaphore = Semaphore::const_new(2);

/// The chunks of one backup.
pub type Chunks = futures::stream::BoxStream<'static, Result<BackupChunk, Status>>;

/// Takes a view that holds everything acknowledged before the call.
pub async fn stream(cell: &Cell) -> Result<Chunks, Status> {
    let permit = UNDER_WAY
        .try_acquire()
        .map_err(|_| Status::unavailable("other backups are being taken here"))?;
    let state = cell.read().await?;
    let (cluster_id, term) = (cell.config.cluster_id.clone(), cell.raft.status().term);
    let taken = tokio::task::spawn_blocking(move || backup::take(&state, &cluster_id, term)).await;
    let (header, data) = taken.map_err(|error| status::fault("taking a backup", &error))?;
    Ok(chunks(header, data.into(), permit))
}

fn chunks(header: BackupHeader, data: Bytes, permit: SemaphorePermit<'static>) -> Chunks {
    let message = |message| BackupChunk {
        message: Some(message),
    };
    let first = message(backup_chunk::Message::Header(header));
    let rest = futures::stream::unfold((data, permit), move |(mut data, permit)| async move {
        if data.is_empty() {
            return None;
        }
        let chunk = data.split_to(data.len().min(CHUNK_BYTES));
        let chunk = message(backup_chunk::Message::Data(chunk));
        Some((chunk, (data, permit)))
    });
    futures::stream::once(async move { first })
        .chain(rest)
        .map(Ok)
        .boxed()
}

#[cfg(test)]
mod test {
    use super::*;

    #[tokio::test]
    async fn chunks_are_bounded_and_hold_every_byte_and_the_permit_comes_back() {
        static ONE: Semaphore = Semaphore::const_new(1);
        let data: Vec<u8> = (0..CHUNK_BYTES * 2 + 5).map(|n| (n % 251) as u8).collect();
        let permit = ONE.try_acquire().expect("free");
        let stream = chunks(BackupHeader::default(), data.clone().into(), permit);
        let messages: Vec<_> = stream.collect().await;
        let mut read = Vec::new();
        for (at, message) in messages.into_iter().enumerate() {
            match message.expect("a chunk").message {
                Some(backup_chunk::Message::Header(_)) => assert_eq!(at, 0),
                Some(backup_chunk::Message::Data(chunk)) => {
                    assert!(at > 0 && chunk.len() <= CHUNK_BYTES);
                    read.extend_from_slice(&chunk);
                }
                None => panic!("an empty message"),
            }
        }
        assert_eq!(read, data);
        assert_eq!(ONE.available_permits(), 1);
    }
}
