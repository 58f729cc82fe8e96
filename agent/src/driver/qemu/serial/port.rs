//! The meeting place of one guest's serial port: the ring with positions, those
//! who follow it, and the one client that may type. It stays over stops and
//! starts of the guest and goes with its removal.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::ring::SerialLog;
use crate::driver::{Console, ConsoleEnd};

/// What a reader gets at once.
const CHUNK_BYTES: u64 = 64 * 1024;
/// Keystrokes that may wait for a guest that does not read.
const INPUT_QUEUED: usize = 8;

/// Where a run's keystrokes go; `None` while the socket is not connected.
type Writer = Option<Arc<tokio::sync::Mutex<OwnedWriteHalf>>>;

/// One guest's port.
#[derive(Debug)]
pub struct Port {
    log: SerialLog,
    /// Position of the end of the log; counts on, while the ring forgets. Held
    /// locked while the ring is read or written.
    end: Mutex<u64>,
    printed: watch::Sender<u64>,
    writer: watch::Sender<Writer>,
    line: Mutex<Line>,
    removed: CancellationToken,
}

#[derive(Debug, Default)]
struct Line {
    /// Counts lives of the machine process.
    runs: u64,
    live: bool,
    session: Option<oneshot::Sender<ConsoleEnd>>,
}

/// State behind a lock is whole after any panic: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Port {
    /// Of the guest with this directory.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        let log = SerialLog::of(directory);
        // A ring that cannot be read now fails again, loudly, when it is used.
        let end = log.length().unwrap_or(0);
        Self {
            log,
            end: Mutex::new(end),
            printed: watch::channel(end).0,
            writer: watch::channel(None).0,
            line: Mutex::default(),
            removed: CancellationToken::new(),
        }
    }

    /// Adds what the guest printed.
    pub fn append(&self, bytes: &[u8]) -> io::Result<()> {
        // A few KiB into the page cache: not worth another thread.
        let mut end = lock(&self.end);
        self.log.append(bytes)?;
        *end += bytes.len() as u64;
        self.printed.send_replace(*end);
        Ok(())
    }

    /// The newest bytes.
    pub fn tail(&self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let _end = lock(&self.end);
        self.log.read(bytes_max, bytes_max)
    }

    /// Bytes from a position on, and the position after them. A reader that the
    /// ring has overtaken gets a note and the oldest bytes that are left.
    fn read(&self, at: u64) -> io::Result<(Bytes, u64)> {
        let end = lock(&self.end);
        let (behind, kept) = (end.saturating_sub(at), self.log.length()?);
        let mut bytes = Vec::new();
        let back = behind.min(kept);
        if behind > kept {
            let note = format!("\r\n[{} bytes were skipped here]\r\n", behind - kept);
            bytes.extend(note.into_bytes());
        }
        let read = self.log.read(back, CHUNK_BYTES)?;
        let next = *end - back + read.len() as u64;
        bytes.extend(read);
        Ok((bytes.into(), next))
    }

    /// The newest bytes and then what comes, until the guest is removed or its
    /// log fails.
    pub fn follow(self: &Arc<Self>, bytes_max: u64) -> BoxStream<'static, Bytes> {
        let end = *lock(&self.end);
        let kept = self.log.length().unwrap_or(0);
        let at = end - bytes_max.min(kept).min(end);
        self.from(at)
    }

    fn from(self: &Arc<Self>, at: u64) -> BoxStream<'static, Bytes> {
        let port = Arc::clone(self);
        let printed = port.printed.subscribe();
        let next = |(port, mut printed, at): (Arc<Self>, watch::Receiver<u64>, u64)| async move {
            loop {
                if port.removed.is_cancelled() {
                    return None;
                }
                if *printed.borrow_and_update() > at {
                    let (bytes, next) = port.read(at).ok()?;
                    return Some((bytes, (port, printed, next)));
                }
                tokio::select! {
                    biased;
                    changed = printed.changed() => changed.ok()?,
                    () = port.removed.cancelled() => return None,
                }
            }
        };
        Box::pin(futures::stream::unfold((port, printed, at), next))
    }

    /// Takes the console over from whoever has it. `None` when nothing runs.
    pub fn console(self: &Arc<Self>) -> Option<Console> {
        let (over, ended) = oneshot::channel();
        {
            let mut line = lock(&self.line);
            if !line.live {
                return None;
            }
            if let Some(before) = line.session.replace(over) {
                // It may have left already.
                let _ = before.send(ConsoleEnd::TakenOver);
            }
        }
        let (input, keystrokes) = mpsc::channel(INPUT_QUEUED);
        let stop = CancellationToken::new();
        tokio::spawn(type_in(self.writer.subscribe(), keystrokes, stop.clone()));
        let stop_typing = stop.drop_guard();
        Some(Console {
            output: self.from(*lock(&self.end)),
            input,
            ended: Box::pin(async move {
                let _stop_typing = stop_typing;
                ended.await.unwrap_or(ConsoleEnd::Stopped)
            }),
        })
    }

    /// A run begins; its number names it at its end.
    pub fn begin(&self) -> u64 {
        let mut line = lock(&self.line);
        line.runs += 1;
        line.live = true;
        line.runs
    }

    /// A run has ended, unless the next one has begun meanwhile.
    pub fn end(&self, run: u64) {
        let mut line = lock(&self.line);
        if line.runs == run {
            line.live = false;
            self.writer.send_replace(None);
            if let Some(session) = line.session.take() {
                let _ = session.send(ConsoleEnd::Stopped);
            }
        }
    }

    /// Where keystrokes go from now on.
    pub fn connect(&self, run: u64, writer: Option<OwnedWriteHalf>) {
        if lock(&self.line).runs == run {
            let writer = writer.map(|writer| Arc::new(tokio::sync::Mutex::new(writer)));
            self.writer.send_replace(writer);
        }
    }

    /// The guest is gone for good.
    pub fn remove(&self) {
        let session = lock(&self.line).session.take();
        if let Some(session) = session {
            let _ = session.send(ConsoleEnd::Removed);
        }
        self.removed.cancel();
    }
}

/// Types until the client has no more to say or the session is over: a guest
/// that does not read must not keep the next client waiting.
async fn type_in(
    mut writer: watch::Receiver<Writer>,
    mut keystrokes: mpsc::Receiver<Bytes>,
    stop: CancellationToken,
) {
    let typing = async {
        while let Some(bytes) = keystrokes.recv().await {
            let Ok(current) = writer.wait_for(Option::is_some).await.map(|w| w.clone()) else {
                return;
            };
            if let Some(current) = current {
                // A socket that broke is noticed by the pump, which opens the
                // next one; what was typed meanwhile is lost like on any line.
                let _ = current.lock().await.write_all(&bytes).await;
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = typing => {}
    }
}

#[cfg(test)]
#[path = "port/test.rs"]
mod test;
