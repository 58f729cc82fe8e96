//! Own snapshots: when, and on which thread.
//!
//! Lives here: the trigger, the writer thread, its waiters. May not: the file format (that is
//! `storage::snapshot`) or the cut of the log (that is the core, once told). Part of `driver`.

use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot::Sender;

use super::Driver;
use crate::config::Config;
use crate::core::Input;
use crate::error::Error;
use crate::inbox::Control;
use crate::state_machine::StateMachine;
use crate::storage::SnapshotFile;

type Reply = Sender<Result<u64, Error>>;

/// Applied entries before a failed snapshot (full disk) is tried again.
const RETRY_AFTER_ENTRIES: u64 = 1_000;

pub(super) struct SnapshotJob {
    every_entries: u64,
    every_bytes: u64,
    /// Index of the newest snapshot.
    newest: u64,
    /// Bytes applied since the newest snapshot began.
    bytes: u64,
    /// No automatic attempt below this index.
    not_before: u64,
    running: Option<JoinHandle<()>>,
    /// Callers, and the index their snapshot must reach.
    waiting: Vec<(u64, Reply)>,
}

impl SnapshotJob {
    pub(super) fn new(config: &Config, newest: u64) -> Self {
        Self {
            every_entries: config.snapshot_every_entries,
            every_bytes: config.snapshot_every_bytes,
            newest,
            bytes: 0,
            not_before: 0,
            running: None,
            waiting: Vec::new(),
        }
    }

    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    pub(super) fn restored(&mut self, index: u64) {
        self.newest = self.newest.max(index);
        self.bytes = 0;
    }

    fn due(&self, applied: u64) -> bool {
        self.running.is_none()
            && applied >= self.not_before
            && (applied - self.newest.min(applied) >= self.every_entries
                || (self.bytes >= self.every_bytes && applied > self.newest))
    }

    /// Waits for a snapshot that is being written, for an orderly stop.
    pub(super) fn wait(&mut self) {
        if let Some(thread) = self.running.take() {
            // A panic in it has aborted the process already.
            let _ = thread.join();
        }
    }
}

impl<S: StateMachine> Driver<S> {
    pub(super) fn snapshot_when_due(&mut self, wanted: bool) {
        let wanted = wanted && self.job.running.is_none() && self.applied > self.job.newest;
        // While a restart catches up, the membership raft knows is older than the state.
        if self.handed_out >= self.applied && (wanted || self.job.due(self.applied)) {
            self.begin_snapshot();
        }
    }

    pub(super) fn snapshot_now(&mut self, reply: Reply) {
        if self.applied == self.job.newest && self.job.newest > 0 && self.job.running.is_none() {
            // The caller may be gone, here and below.
            let _ = reply.send(Ok(self.job.newest));
            return;
        }
        self.job.waiting.push((self.applied, reply));
        if self.job.running.is_none() && self.handed_out >= self.applied {
            self.begin_snapshot();
        }
    }

    fn begin_snapshot(&mut self) {
        let Some(meta) = self.core.snapshot_meta_at(self.applied) else {
            return;
        };
        self.job.bytes = 0;
        let view = self.state_machine.snapshot();
        let store = self.snapshots.clone();
        let inbox = Arc::clone(&self.inbox);
        let write = move || {
            let written = store.write(&meta, &view());
            // After a stop the file is still good; the log just does not know of it.
            let _ = inbox.control(Control::SnapshotWritten(written));
        };
        let spawned = std::thread::Builder::new()
            .name("consensus-snapshot".to_owned())
            .spawn(move || crate::fatal::abort_on_panic("snapshot thread", write));
        match spawned {
            Ok(thread) => self.job.running = Some(thread),
            Err(error) => {
                tracing::warn!(%error, "no thread for a snapshot");
                self.job.not_before = self.applied + RETRY_AFTER_ENTRIES;
                self.job.waiting.clear();
            }
        }
    }

    pub(super) fn snapshot_written(&mut self, written: Result<SnapshotFile, Error>) {
        self.job.wait();
        match written {
            Ok(file) => {
                let index = file.meta.index;
                tracing::info!(
                    index,
                    bytes = file.len_bytes,
                    "snapshot written and verified"
                );
                self.job.newest = self.job.newest.max(index);
                self.core.step(Input::SnapshotReady(file.meta));
                let waiting = std::mem::take(&mut self.job.waiting);
                for (at_least, reply) in waiting {
                    if index >= at_least {
                        let _ = reply.send(Ok(index));
                    } else {
                        self.job.waiting.push((at_least, reply));
                    }
                }
                // They came while an older view was being written.
                if !self.job.waiting.is_empty() {
                    self.begin_snapshot();
                }
            }
            // The log only grows longer meanwhile (invariant B3).
            Err(Error::NoSpace { path }) => {
                tracing::warn!(path = %path.display(), "no space for a snapshot");
                self.job.not_before = self.applied + RETRY_AFTER_ENTRIES;
                for (_, reply) in self.job.waiting.drain(..) {
                    let _ = reply.send(Err(Error::NoSpace { path: path.clone() }));
                }
            }
            // A failed sync, or bytes that read back differently: this disk is not to be trusted.
            Err(error) => crate::fatal::die_of("write a snapshot", &error),
        }
    }
}
