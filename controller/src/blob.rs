//! Image files, named by their SHA-256, in an object store: a local directory
//! by default. A file is visible only after its digest was checked.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, WriteMultipart};
use sha2::{Digest, Sha256};

/// Why a file could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It is not here.
    #[error("file {0} is not stored")]
    Absent(String),
    /// The bytes are not what was announced.
    #[error("{0}")]
    Mismatch(String),
    /// The store failed.
    #[error("object store failed")]
    Store(#[from] object_store::Error),
}

/// The files.
#[derive(Clone)]
pub struct Blobs(Arc<dyn ObjectStore>);

fn path(sha256: &[u8; 32]) -> Path {
    Path::from(format!("sha256/{}", hex::encode(sha256)))
}

impl Blobs {
    /// Files in a local directory.
    pub fn local(dir: &std::path::Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self(Arc::new(LocalFileSystem::new_with_prefix(dir)?)))
    }

    /// The size of a stored file in bytes.
    pub async fn size(&self, sha256: &[u8; 32]) -> Result<u64, BlobError> {
        match self.0.head(&path(sha256)).await {
            Ok(meta) => Ok(meta.size),
            Err(object_store::Error::NotFound { .. }) => {
                Err(BlobError::Absent(hex::encode(sha256)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Begins to store a file of this digest and size.
    pub async fn upload(&self, sha256: [u8; 32], size: u64) -> Result<Upload, BlobError> {
        // Under a name of its own until it is whole and checked.
        let partial = Path::from(format!("partial/{}", uuid::Uuid::new_v4()));
        let writer = WriteMultipart::new(self.0.put_multipart(&partial).await?);
        let store = Arc::clone(&self.0);
        Ok(Upload {
            store,
            partial,
            writer,
            hasher: Sha256::new(),
            sha256,
            size,
            seen: 0,
        })
    }

    /// The bytes of a file from an offset on.
    pub async fn read(
        &self,
        sha256: &[u8; 32],
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, object_store::Error>>, BlobError> {
        if offset >= self.size(sha256).await? {
            return Ok(futures::stream::empty().boxed());
        }
        let range = Some(GetRange::Offset(offset));
        let options = GetOptions {
            range,
            ..GetOptions::default()
        };
        Ok(self.0.get_opts(&path(sha256), options).await?.into_stream())
    }
}

/// A file on its way in; finish it or abort it.
pub struct Upload {
    store: Arc<dyn ObjectStore>,
    partial: Path,
    writer: WriteMultipart,
    hasher: Sha256,
    sha256: [u8; 32],
    size: u64,
    seen: u64,
}

impl Upload {
    /// Adds bytes; more than announced are refused before they are written.
    pub async fn write(&mut self, data: Bytes) -> Result<(), BlobError> {
        self.seen += data.len() as u64;
        if self.seen > self.size {
            let text = format!("more than the {} bytes announced", self.size);
            return Err(BlobError::Mismatch(text));
        }
        self.hasher.update(&data);
        // Bounds the memory of a fast sender.
        self.writer.wait_for_capacity(4).await?;
        self.writer.put(data);
        Ok(())
    }

    /// Checks size and digest, and only then makes the file visible.
    pub async fn finish(self) -> Result<(), BlobError> {
        let digest: [u8; 32] = self.hasher.finalize().into();
        let fault = if self.seen != self.size {
            Some(format!(
                "{} bytes instead of the {} announced",
                self.seen, self.size
            ))
        } else if digest != self.sha256 {
            Some(format!("the bytes have sha256 {}", hex::encode(digest)))
        } else {
            None
        };
        if let Some(text) = fault {
            self.writer.abort().await?;
            return Err(BlobError::Mismatch(text));
        }
        self.writer.finish().await?;
        Ok(self
            .store
            .rename(&self.partial, &path(&self.sha256))
            .await?)
    }

    /// Gives up; nothing stays.
    pub async fn abort(self) {
        if let Err(error) = self.writer.abort().await {
            tracing::warn!("an aborted upload may have left a partial file: {error}");
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    async fn store(blobs: &Blobs, claim: &[u8], bytes: &'static [u8]) -> Result<(), BlobError> {
        let digest: [u8; 32] = Sha256::digest(claim).into();
        let mut upload = blobs.upload(digest, claim.len() as u64).await?;
        match upload.write(Bytes::from_static(bytes)).await {
            Ok(()) => upload.finish().await,
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    #[tokio::test]
    async fn only_what_was_announced_becomes_visible() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let blobs = Blobs::local(dir.path()).expect("a store");
        let digest: [u8; 32] = Sha256::digest(b"hello").into();
        for wrong in [&b"hellO"[..], b"hell", b"hello!"] {
            assert!(store(&blobs, b"hello", wrong).await.is_err());
            assert!(matches!(
                blobs.size(&digest).await,
                Err(BlobError::Absent(_))
            ));
        }
        store(&blobs, b"hello", b"hello")
            .await
            .expect("the right bytes");
        assert_eq!(blobs.size(&digest).await.ok(), Some(5));
        let chunks: Vec<_> = blobs
            .read(&digest, 3)
            .await
            .expect("stored")
            .collect()
            .await;
        let bytes: Vec<u8> = chunks
            .into_iter()
            .flat_map(|c| c.expect("readable"))
            .collect();
        assert_eq!(bytes, b"lo");
    }
}
