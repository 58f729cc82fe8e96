//! The image cache: files named by their SHA-256 under `data_dir/images`,
//! shared by all guests of the host and never changed.
//!
//! A file is fetched once however many instances wait for it, continues where
//! it broke off, and gets its name only after size, digest and header were
//! checked: what has a digest for a name is what the digest says. Room is made
//! by dropping the files that were unused for longest and are needed by nobody.

mod fetch;
pub mod header;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use futures::Stream;

use crate::driver::{DiskFormat, ImageFiles, ImageSpec};

/// The bytes of a file from an offset on.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;

/// Where files come from.
pub trait BlobSource: Send + Sync + 'static {
    /// Opens a file at an offset. May wait until a source is reachable.
    fn open(
        &self,
        sha256: &str,
        offset_bytes: u64,
    ) -> impl Future<Output = Result<BlobStream, String>> + Send;
}

/// Brings image files to the host. What the reconciler knows of the cache.
pub trait Images: Send + Sync + 'static {
    /// The checked files of an image; fetches what is missing.
    fn ensure(&self, image: &ImageSpec) -> impl Future<Output = Result<ImageFiles, Error>> + Send;

    /// These files are needed: they are never dropped to make room.
    fn pin(&self, digests: BTreeSet<String>);
}

/// Why an image is not here. Texts reach the instance's owner.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's disk refused.
    #[error("image cache: {0}")]
    Io(#[from] io::Error),
    /// No controller delivered it.
    #[error("image {sha256}: {cause}")]
    Source {
        /// Of the file.
        sha256: String,
        /// Why the last attempt failed.
        cause: String,
    },
    /// What came is not what was promised.
    #[error("image {sha256}: {what}")]
    Corrupt {
        /// Of the file.
        sha256: String,
        /// What differs.
        what: &'static str,
    },
    /// The disk image is not safe to use.
    #[error("image {sha256}: {cause}")]
    Refused {
        /// Of the file.
        sha256: String,
        /// What is wrong with it.
        cause: header::Refused,
    },
    /// No room, and all that is here is in use.
    #[error("image cache: {wanted_mib} MiB more do not fit into {limit_mib} MiB")]
    Full {
        /// Size of the file that was wanted.
        wanted_mib: u64,
        /// Size of the cache.
        limit_mib: u64,
    },
}

/// The cache of one host.
pub struct Cache<S> {
    dir: PathBuf,
    limit_bytes: u64,
    source: S,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    pinned: BTreeSet<String>,
    /// One lock per file that someone waits for. When the one who fetches is
    /// cancelled, the next in line continues its part file.
    fetching: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
}

/// One file of an image.
struct Wanted<'a> {
    sha256: &'a str,
    size_bytes: u64,
    /// Set for disks.
    format: Option<DiskFormat>,
}

impl<S: BlobSource> Cache<S> {
    /// Opens or makes the directory. Guests' users may pass through it to the
    /// files they were given, but cannot list what else is there.
    pub fn open(data_dir: &Path, limit_bytes: u64, source: S) -> io::Result<Self> {
        let dir = data_dir.join("images");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&dir)?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o711))?;
        Ok(Self {
            dir,
            limit_bytes,
            source,
            shared: Mutex::default(),
        })
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(sha256)
    }

    fn part(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.part"))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // The guarded maps are valid after any panic: no invariant spans them.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn file(&self, wanted: &Wanted<'_>) -> Result<PathBuf, Error> {
        let path = self.path(wanted.sha256);
        if self.is_here(wanted) {
            return Ok(path);
        }
        let lock = {
            let mut shared = self.shared();
            shared
                .fetching
                .retain(|_, lock| Arc::strong_count(lock) > 1);
            shared
                .fetching
                .entry(wanted.sha256.to_owned())
                .or_default()
                .clone()
        };
        let _turn = lock.lock().await;
        if !self.is_here(wanted) {
            self.fetch(wanted).await?;
        }
        Ok(path)
    }

    /// Whether a checked file is here; notes that it is in use. The size is
    /// looked at again: a truncated file must not become a truncated disk.
    fn is_here(&self, wanted: &Wanted<'_>) -> bool {
        let Ok(file) = fs::File::open(self.path(wanted.sha256)) else {
            return false;
        };
        // Best effort: the time only orders what is dropped first.
        let _ = file.set_modified(SystemTime::now());
        file.metadata()
            .is_ok_and(|meta| meta.len() == wanted.size_bytes)
    }

    /// Drops unused files, oldest first, until `wanted_bytes` more fit.
    fn make_room(&self, sha256: &str, wanted_bytes: u64) -> Result<(), Error> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push((meta.modified()?, meta.len(), name));
        }
        files.sort();
        let others = |name: &str| !name.starts_with(sha256);
        let mut used: u64 = files
            .iter()
            .filter(|(_, _, name)| others(name))
            .map(|(_, size, _)| size)
            .sum();
        let (pinned, busy): (BTreeSet<_>, BTreeSet<_>) = {
            let shared = self.shared();
            (
                shared.pinned.clone(),
                shared.fetching.keys().cloned().collect(),
            )
        };
        for (_, size, name) in &files {
            if used.saturating_add(wanted_bytes) <= self.limit_bytes {
                break;
            }
            let digest = name.trim_end_matches(".part");
            if others(name) && !pinned.contains(digest) && !busy.contains(digest) {
                fs::remove_file(self.dir.join(name))?;
                tracing::info!(file = %name, "dropped an unused image file to make room");
                used = used.saturating_sub(*size);
            }
        }
        if used.saturating_add(wanted_bytes) > self.limit_bytes {
            let (wanted_mib, limit_mib) = (wanted_bytes.div_ceil(1 << 20), self.limit_bytes >> 20);
            return Err(Error::Full {
                wanted_mib,
                limit_mib,
            });
        }
        Ok(())
    }
}

impl<S: BlobSource> Images for Cache<S> {
    async fn ensure(&self, image: &ImageSpec) -> Result<ImageFiles, Error> {
        let disk = Wanted {
            sha256: &image.disk_sha256,
            size_bytes: image.disk_size_bytes,
            format: Some(image.disk_format),
        };
        let disk = self.file(&disk).await?;
        let Some(boot) = &image.boot else {
            return Ok(ImageFiles { disk, boot: None });
        };
        let plain = |sha256, size_bytes| Wanted {
            sha256,
            size_bytes,
            format: None,
        };
        let kernel = self
            .file(&plain(&boot.kernel_sha256, boot.kernel_size_bytes))
            .await?;
        let initrd = self
            .file(&plain(&boot.initrd_sha256, boot.initrd_size_bytes))
            .await?;
        Ok(ImageFiles {
            disk,
            boot: Some((kernel, initrd)),
        })
    }

    fn pin(&self, digests: BTreeSet<String>) {
        self.shared().pinned = digests;
    }
}

/// The files that an image needs.
pub fn digests(image: &ImageSpec) -> impl Iterator<Item = &String> {
    let boot = image
        .boot
        .iter()
        .flat_map(|boot| [&boot.kernel_sha256, &boot.initrd_sha256]);
    std::iter::once(&image.disk_sha256).chain(boot)
}
