//! From messages of the core to calls of the transport.
//!
//! Lives here: grouping by peer, finding the file of a snapshot message, and telling raft what was
//! dropped. May not: encode or decide. Used by `driver` and by the log thread.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::Outgoing;
use crate::entry::SnapshotMeta;
use crate::inbox::{Control, Inbox};
use crate::io::Outside;
use crate::storage::{SnapshotFile, SnapshotStore};
use crate::transport::{OutgoingSnapshot, Sent, Transport};

pub(crate) struct Outbox<R> {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) inbox: Arc<Inbox<R>>,
    pub(crate) snapshots: SnapshotStore,
}

impl<R> Clone for Outbox<R> {
    fn clone(&self) -> Self {
        Self {
            transport: Arc::clone(&self.transport),
            inbox: Arc::clone(&self.inbox),
            snapshots: self.snapshots.clone(),
        }
    }
}

impl<R: Send + 'static> Outside for Outbox<R> {
    fn persisted(&self, number: u64) {
        self.inbox.persisted(number);
    }

    fn send(&self, messages: Vec<Outgoing>) {
        let mut by_peer: Vec<(u64, Vec<Bytes>)> = Vec::new();
        for Outgoing {
            to,
            bytes,
            snapshot,
        } in messages
        {
            if let Some(meta) = snapshot {
                self.send_snapshot(to, meta, bytes);
                continue;
            }
            // A handful of peers: a search is cheaper than a map.
            match by_peer.iter_mut().find(|(peer, _)| *peer == to) {
                Some((_, queue)) => queue.push(bytes),
                None => by_peer.push((to, vec![bytes])),
            }
        }
        for (to, queue) in by_peer {
            if self.transport.send(to, queue) == Sent::Dropped {
                self.tell(Control::Unreachable(to));
            }
        }
    }
}

impl<R: Send + 'static> Outbox<R> {
    fn send_snapshot(&self, to: u64, meta: SnapshotMeta, preamble: Bytes) {
        let path = self.snapshots.believed_path(&meta);
        let Ok(found) = std::fs::metadata(&path) else {
            tracing::warn!(to, index = meta.index, "the snapshot to send is gone");
            return self.tell(Control::SnapshotReport {
                to,
                delivered: false,
            });
        };
        let file = SnapshotFile {
            meta,
            path,
            len_bytes: found.len(),
        };
        let inbox = Arc::clone(&self.inbox);
        let report = Arc::new(move |delivered| {
            // After a stop there is nobody to tell.
            let _ = inbox.control(Control::SnapshotReport { to, delivered });
        });
        self.transport
            .send_snapshot(to, OutgoingSnapshot::new(file, preamble, report));
    }

    fn tell(&self, control: Control) {
        // After a stop there is nobody to tell.
        let _ = self.inbox.control(control);
    }
}
