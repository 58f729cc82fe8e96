//! The wire between members, as this crate sees it.
//!
//! Lives here: the trait a transport implements, the handshake both ends check, and the two ends
//! of a snapshot transfer. May not: sockets, tonic. The controller implements [`Transport`] with
//! one client stream per peer (frames of `repeated bytes`) and one client-streaming call per
//! snapshot; its receiving side calls [`crate::Handle::check_peer`], [`crate::Handle::step_peer`]
//! and [`crate::Handle::receive_snapshot`].

mod hello;
mod incoming;
mod outgoing;

use bytes::Bytes;

pub use hello::{PeerHello, PeerRefused};
pub use incoming::{ReceiveError, SnapshotReceiver};
pub use outgoing::{OutgoingSnapshot, SNAPSHOT_CHUNK_BYTES};

/// What became of messages handed to [`Transport::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// They are in the peer's queue. They may still be lost; raft sends again.
    Queued,
    /// The queue was full or the peer is known to be away: they are dropped, and the caller tells
    /// raft so that it stops filling the window of this peer.
    Dropped,
}

/// Carries messages to the other members. Called from the driver and from the log thread.
///
/// When a connection breaks after `send` said `Queued`, call
/// [`crate::Handle::report_unreachable`]; otherwise raft waits for acknowledgements that cannot
/// come until the next heartbeat.
pub trait Transport: Send + Sync + 'static {
    /// Queues encoded raft messages for member `to`. Never blocks. One message stays below
    /// `max(1 MiB, Config::max_entry_bytes)` plus a few hundred bytes, but `messages` together may
    /// exceed the wire's limit: split frames by size. Order within one call and
    /// between calls should be kept (raft bears loss and reordering, but pays for them).
    fn send(&self, to: u64, messages: Vec<Bytes>) -> Sent;

    /// Starts sending a snapshot on its own lane. Never blocks: the transport's task reads chunks
    /// and calls [`OutgoingSnapshot::finish`]; dropping the value reports a failure.
    fn send_snapshot(&self, to: u64, snapshot: OutgoingSnapshot);
}
