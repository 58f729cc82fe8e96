//! How one file comes into the cache: part file, resume, checks, then its name.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use super::{BlobSource, Cache, Error, Wanted, header};

/// A source that sends nothing for this long is given up. Longer keeps a launch
/// waiting for a stuck controller; shorter gives up on a busy one.
const SILENCE: Duration = Duration::from_secs(30);
/// Streams that may break before the caller is told; each continues the last.
const ATTEMPTS_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_millis(200);

impl<S: BlobSource> Cache<S> {
    /// Fetches a file. The caller holds the file's turn.
    pub(super) async fn fetch(&self, wanted: &Wanted<'_>) -> Result<(), Error> {
        let part = self.part(wanted.sha256);
        self.make_room(wanted.sha256, wanted.size_bytes)?;
        let mut last = String::new();
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                tokio::time::sleep(PAUSE * attempt).await;
            }
            match self.continue_part(wanted, &part).await {
                Ok(digest) => return self.admit(wanted, &part, &digest),
                Err(Broken::Source(cause)) => last = cause,
                Err(Broken::Host(error)) => return Err(error.into()),
                Err(Broken::TooLong) => {
                    fs::remove_file(&part)?;
                    return Err(corrupt(wanted, "more bytes came than it should have"));
                }
            }
            tracing::warn!(sha256 = wanted.sha256, cause = %last, "image fetch broke off");
        }
        Err(Error::Source {
            sha256: wanted.sha256.to_owned(),
            cause: last,
        })
    }

    /// Appends to the part file until it has its full size; answers the digest.
    async fn continue_part(&self, wanted: &Wanted<'_>, part: &Path) -> Result<String, Broken> {
        let (mut hasher, mut length) = {
            let part = part.to_owned();
            let hashed = tokio::task::spawn_blocking(move || hash_file(&part)).await;
            hashed.map_err(io::Error::other)??
        };
        if length > wanted.size_bytes {
            return Err(Broken::TooLong);
        }
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options
            .append(true)
            .create(true)
            .mode(0o600)
            .open(part)
            .await?;
        while length < wanted.size_bytes {
            let opened = self.source.open(wanted.sha256, length).await;
            let mut stream = opened.map_err(Broken::Source)?;
            let before = length;
            loop {
                let next = tokio::time::timeout(SILENCE, stream.next()).await;
                match next.map_err(|_| Broken::Source("the source fell silent".to_owned()))? {
                    None => break,
                    Some(chunk) => {
                        let chunk = chunk.map_err(Broken::Source)?;
                        length = length.saturating_add(chunk.len() as u64);
                        if length > wanted.size_bytes {
                            return Err(Broken::TooLong);
                        }
                        file.write_all(&chunk).await?;
                        hasher.update(&chunk);
                    }
                }
            }
            if length < wanted.size_bytes && length == before {
                return Err(Broken::Source("the source sent nothing".to_owned()));
            }
        }
        file.flush().await?;
        file.sync_all().await?;
        Ok(hex::encode(hasher.finalize()))
    }

    /// Checks a complete part file and gives it its name.
    fn admit(&self, wanted: &Wanted<'_>, part: &Path, digest: &str) -> Result<(), Error> {
        if digest != wanted.sha256 {
            // Start over next time: no telling which byte is wrong.
            fs::remove_file(part)?;
            return Err(corrupt(wanted, "the digest of what came differs"));
        }
        if let Some(format) = wanted.format {
            let mut head = Vec::with_capacity(header::BYTES_MAX);
            fs::File::open(part)?
                .take(header::BYTES_MAX as u64)
                .read_to_end(&mut head)?;
            if let Err(cause) = header::inspect(format, &head) {
                fs::remove_file(part)?;
                return Err(Error::Refused {
                    sha256: wanted.sha256.to_owned(),
                    cause,
                });
            }
        }
        fs::set_permissions(part, fs::Permissions::from_mode(0o444))?;
        fs::rename(part, self.path(wanted.sha256))?;
        fs::File::open(&self.dir)?.sync_all()?;
        Ok(())
    }
}

/// Why an attempt ended early.
enum Broken {
    Source(String),
    Host(io::Error),
    TooLong,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

fn corrupt(wanted: &Wanted<'_>, what: &'static str) -> Error {
    Error::Corrupt {
        sha256: wanted.sha256.to_owned(),
        what,
    }
}

/// Digest so far and length of a part file; empty when there is none.
fn hash_file(path: &Path) -> io::Result<(Sha256, u64)> {
    let mut hasher = Sha256::new();
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((hasher, 0)),
        Err(error) => return Err(error),
    };
    let length = io::copy(&mut file, &mut hasher)?;
    Ok((hasher, length))
}

#[cfg(test)]
mod test {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;

    use super::super::{BlobStream, Images};
    use super::*;
    use crate::driver::{DiskFormat, ImageSpec};

    /// Serves one file; the first streams break off after some bytes.
    #[derive(Clone)]
    struct Fake {
        content: Vec<u8>,
        breaks: Arc<Mutex<Vec<usize>>>,
        offsets: Arc<Mutex<Vec<u64>>>,
    }

    impl BlobSource for Fake {
        async fn open(&self, _: &str, offset_bytes: u64) -> Result<BlobStream, String> {
            self.offsets.lock().expect("lock").push(offset_bytes);
            let rest = &self.content[offset_bytes as usize..];
            let mut chunks: Vec<_> = rest
                .chunks(3)
                .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
                .collect();
            if let Some(n) = self.breaks.lock().expect("lock").pop() {
                chunks.truncate(n);
                chunks.push(Err("connection lost".to_owned()));
            }
            tokio::task::yield_now().await;
            Ok(Box::pin(futures::stream::iter(chunks)))
        }
    }

    fn fake(content: &[u8], breaks: &[usize]) -> Fake {
        Fake {
            content: content.to_vec(),
            breaks: Arc::new(Mutex::new(breaks.to_vec())),
            offsets: Arc::default(),
        }
    }

    fn raw(content: &[u8]) -> ImageSpec {
        ImageSpec {
            disk_sha256: hex::encode(Sha256::digest(content)),
            disk_size_bytes: content.len() as u64,
            disk_format: DiskFormat::Raw,
            boot: None,
        }
    }

    fn cache(source: &Fake, limit_bytes: u64) -> (tempfile::TempDir, Cache<Fake>) {
        let dir = tempfile::tempdir().expect("dir");
        let cache = Cache::open(dir.path(), limit_bytes, source.clone()).expect("cache");
        (dir, cache)
    }

    #[tokio::test(start_paused = true)]
    async fn many_waiters_one_fetch() {
        let source = fake(b"hello world", &[]);
        let (_dir, cache) = cache(&source, 1000);
        let image = raw(b"hello world");
        let all = futures::future::join_all((0..20).map(|_| cache.ensure(&image))).await;
        for files in all {
            let files = files.expect("files");
            assert_eq!(fs::read(&files.disk).expect("read"), b"hello world");
            let mode = fs::metadata(&files.disk)
                .expect("file")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o444);
        }
        assert_eq!(*source.offsets.lock().expect("lock"), [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_fetch_continues_where_it_was() {
        let source = fake(b"hello world", &[1, 2]);
        let (_dir, cache) = cache(&source, 1000);
        cache.ensure(&raw(b"hello world")).await.expect("files");
        assert_eq!(*source.offsets.lock().expect("lock"), [0, 6, 9]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_an_earlier_life_is_continued() {
        let source = fake(b"hello world", &[]);
        let (_dir, cache) = cache(&source, 1000);
        let image = raw(b"hello world");
        fs::write(cache.part(&image.disk_sha256), b"hello").expect("part");
        cache.ensure(&image).await.expect("files");
        assert_eq!(*source.offsets.lock().expect("lock"), [5]);
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_bytes_never_get_the_name() {
        let source = fake(b"hello world", &[]);
        let (_dir, cache) = cache(&source, 1000);
        let image = raw(b"hello World");
        assert!(matches!(
            cache.ensure(&image).await,
            Err(Error::Corrupt { .. })
        ));
        let longer = ImageSpec {
            disk_size_bytes: 5,
            ..raw(b"hello")
        };
        assert!(matches!(
            cache.ensure(&longer).await,
            Err(Error::Corrupt { .. })
        ));
        assert_eq!(
            fs::read_dir(&cache.dir).expect("dir").count(),
            0,
            "nothing is left"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_dangerous_header_is_refused() {
        let mut content = vec![0; 512];
        content[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        content[8..16].copy_from_slice(&200_u64.to_be_bytes());
        let (_dir, cache) = cache(&fake(&content, &[]), 1000);
        let image = ImageSpec {
            disk_format: DiskFormat::Qcow2,
            ..raw(&content)
        };
        let refused = cache.ensure(&image).await;
        assert!(matches!(
            refused,
            Err(Error::Refused {
                cause: header::Refused::BackingFile,
                ..
            })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn room_is_made_of_what_nobody_needs() {
        let source = fake(b"hello world", &[]);
        let (_dir, cache) = cache(&source, 30);
        let (pinned, unused) = ("1".repeat(64), "2".repeat(64));
        fs::write(cache.path(&pinned), [0; 15]).expect("file");
        fs::write(cache.path(&unused), [0; 15]).expect("file");
        cache.pin(BTreeSet::from([pinned.clone()]));
        cache.ensure(&raw(b"hello world")).await.expect("files");
        assert!(cache.path(&pinned).exists() && !cache.path(&unused).exists());
        cache.pin(BTreeSet::from([pinned, raw(b"hello world").disk_sha256]));
        let more = raw(b"twelve bytes");
        assert!(matches!(cache.ensure(&more).await, Err(Error::Full { .. })));
    }
}
