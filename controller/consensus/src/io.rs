//! The log thread: one write and one sync for everything that is queued.
//!
//! Lives here: the order of write, sync, acknowledge, send. May not: raft, the state machine.
//! Fed by `driver`; ends the process on any failure of the disk (invariant B2).
//!
//! Strictly FIFO, also for batches that hold nothing: `Persisted(n)` acknowledges every batch up
//! to `n`, and the messages of a batch rest on all earlier ones.
//!
//! `Persisted` goes out before the messages: a vote request could else be answered before raft
//! knows that the log it campaigned with is durable, which raft asserts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nube_failpoint::reach;

use crate::core::{Outgoing, Persist};
use crate::entry::SnapshotMeta;
use crate::error::Error;
use crate::storage::LogStorage;

/// Batches that may wait for the disk. When it is full the driver waits, ticks included: a member
/// whose disk stands still should lose its leadership.
const QUEUE_MAX: usize = 4096;
/// Batches joined into one write. Larger: later acknowledgements for the first of them.
const JOINED_MAX: usize = 256;
/// Quiet time after which postponed bookkeeping is done.
const IDLE: Duration = Duration::from_millis(200);

pub(crate) enum Task {
    Persist(Persist),
    Compact {
        snapshot: SnapshotMeta,
        to: u64,
    },
    /// Acknowledged entries up to this index are gone: say so durably, and end the process.
    Forswear(u64),
    Stop,
}

/// What the log thread needs of the rest.
pub(crate) trait Outside: Send + 'static {
    fn persisted(&self, number: u64);
    fn send(&self, messages: Vec<Outgoing>);
}

pub(crate) struct Log {
    queue: SyncSender<Task>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    pub(crate) fn start(
        storage: impl LogStorage,
        outside: impl Outside,
        stopping: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let (queue, tasks) = sync_channel(QUEUE_MAX);
        let writer = Writer {
            storage,
            outside,
            stopping: Arc::clone(&stopping),
        };
        let thread = std::thread::Builder::new()
            .name("consensus-log".to_owned())
            .spawn(move || crate::fatal::abort_on_panic("log thread", || writer.run(&tasks)))
            .map_err(|source| Error::Io {
                step: "start thread",
                path: "log".into(),
                source,
            })?;
        Ok(Self {
            queue,
            stopping,
            thread: Some(thread),
        })
    }

    /// Queues a task; waits while the queue is full.
    pub(crate) fn push(&self, task: Task) {
        // While stopping it may have given up on a full disk, and nothing is acknowledged any more.
        if self.queue.send(task).is_err() && !self.stopping.load(Ordering::Relaxed) {
            crate::fatal::die("queue for the log", "the log thread is gone");
        }
    }

    /// Writes and syncs what is queued, then ends the thread.
    pub(crate) fn stop(mut self) {
        self.push(Task::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in it has aborted the process already.
            let _ = thread.join();
        }
    }
}

struct Writer<S, O> {
    storage: S,
    outside: O,
    stopping: Arc<AtomicBool>,
}

/// The member stops while the log waits for space: nothing of what waits was acknowledged, and the
/// leader still has it.
struct GivenUp;

impl<S: LogStorage, O: Outside> Writer<S, O> {
    fn run(mut self, tasks: &Receiver<Task>) {
        loop {
            let done = match tasks.recv_timeout(IDLE) {
                Ok(first) => {
                    let more = tasks.try_iter().take(JOINED_MAX - 1);
                    self.write(std::iter::once(first).chain(more))
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.must("settle the log", LogStorage::idle).map(|()| true)
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match done {
                Ok(true) => {}
                Ok(false) => break,
                Err(GivenUp) => return,
            }
        }
        if self.must("sync the log", LogStorage::sync).is_ok() {
            // Given up or done: the thread ends either way.
            let _ = self.must("settle the log", LogStorage::idle);
        }
    }

    /// `Ok(false)` when it is time to stop.
    fn write(&mut self, tasks: impl Iterator<Item = Task>) -> Result<bool, GivenUp> {
        let mut newest = None;
        let mut must_sync = false;
        let mut messages = Vec::new();
        let mut go_on = true;
        for task in tasks {
            match task {
                Task::Persist(persist) => {
                    reach("log-append-before");
                    self.must("append to the log", |storage| {
                        storage.append(&persist.batch)
                    })?;
                    reach("log-append-after");
                    must_sync |= persist.batch.must_sync;
                    newest = Some(persist.batch.number);
                    messages.extend(persist.messages);
                }
                Task::Compact { snapshot, to } => {
                    self.must("compact the log", |storage| storage.compact(&snapshot, to))?;
                }
                Task::Forswear(index) => {
                    self.must("forswear", |storage| storage.forswear(index))?;
                    let reason = format!(
                        "the leader holds acknowledgements of this member up to index {index}, \
                         which its log does not have: it lost its memory and must not take part \
                         again; replace this member"
                    );
                    crate::fatal::die("log", &reason);
                }
                Task::Stop => go_on = false,
            }
        }
        if must_sync {
            reach("log-sync-before");
            self.must("sync the log", LogStorage::sync)?;
            reach("log-sync-after");
        } else {
            self.must("write the log", LogStorage::flush)?;
        }
        if let Some(number) = newest {
            self.outside.persisted(number);
        }
        if !messages.is_empty() {
            self.outside.send(messages);
        }
        Ok(go_on)
    }

    /// After a failed write or sync nobody knows what is on the disk, and asking again may get a
    /// false yes. Nothing that rests on it may leave this process.
    fn must(
        &mut self,
        what: &str,
        operation: impl FnOnce(&mut S) -> Result<(), Error>,
    ) -> Result<(), GivenUp> {
        match operation(&mut self.storage) {
            Ok(()) => Ok(()),
            Err(Error::NoSpace { path }) if self.stopping.load(Ordering::Relaxed) => {
                tracing::warn!(path = %path.display(), "stopping with a full disk");
                Err(GivenUp)
            }
            Err(error) => crate::fatal::die_of(what, &error),
        }
    }
}

#[cfg(test)]
mod test {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;
    use crate::config::Config;
    use crate::entry::HardState;
    use crate::storage::{DiskStorage, PersistBatch, SimulatedDisk};

    struct Loud;

    impl Outside for Loud {
        fn persisted(&self, _number: u64) {
            println!("ACKNOWLEDGED");
        }
        fn send(&self, _messages: Vec<Outgoing>) {
            println!("SENT");
        }
    }

    const CHILD: &str = "NUBE_TEST_FAILING_SYNC";

    #[test]
    fn b2_after_a_failed_sync_nothing_is_acknowledged_and_the_process_aborts() {
        if std::env::var_os(CHILD).is_some() {
            let disk = SimulatedDisk::new();
            let mut config = Config::new(1, [1; 16], "/member");
            config.initial_voters = vec![1];
            let opened = DiskStorage::open_on(Arc::new(disk.clone()), &config, Vec::new);
            let (storage, ..) = opened.expect("forms");
            disk.fail_next_sync();
            let log = Log::start(storage, Loud, Arc::default()).expect("starts");
            let to = Outgoing {
                to: 2,
                bytes: bytes::Bytes::new(),
                snapshot: None,
            };
            let batch = PersistBatch {
                number: 1,
                hard_state: Some(HardState::default()),
                must_sync: true,
                ..PersistBatch::default()
            };
            log.push(Task::Persist(Persist {
                batch,
                messages: vec![to],
            }));
            std::thread::sleep(Duration::from_secs(10));
            return;
        }
        let exe = std::env::current_exe().expect("own path");
        let test = "b2_after_a_failed_sync_nothing_is_acknowledged_and_the_process_aborts";
        let child = Command::new(exe)
            .args(["--exact", &format!("io::test::{test}"), "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("runs");
        let out = String::from_utf8_lossy(&child.stdout);
        assert!(
            !out.contains("ACKNOWLEDGED") && !out.contains("SENT"),
            "{out}"
        );
        assert_eq!(child.status.signal(), Some(6), "aborted");
        assert!(String::from_utf8_lossy(&child.stderr).contains("fdatasync"));
    }
}
