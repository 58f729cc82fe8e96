//! raft's messages as bytes.
//!
//! Lives here: the only use of the protobuf codec. May not: logic. Used by `core` (both ways) and
//! `handle` (a look into a snapshot preamble).
//!
//! With raft's prost codec only `write_to_bytes` and `merge_from_bytes` work; the streaming calls
//! of the same trait panic.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType, Message, MessageType};

use crate::entry::{MembershipChange, SnapshotMeta};

pub(crate) fn encode(message: &Message) -> Bytes {
    Bytes::from(
        message
            .write_to_bytes()
            .expect("prost encodes any value into a growing buffer"),
    )
}

/// `None` for bytes that are no message.
pub(crate) fn decode(bytes: &[u8]) -> Option<Message> {
    let mut message = Message::default();
    message.merge_from_bytes(bytes).ok()?;
    Some(message)
}

/// Position of the snapshot that a preamble of `from` to `to` announces.
pub(crate) fn snapshot_meta(preamble: &[u8], from: u64, to: u64) -> Option<SnapshotMeta> {
    let message = decode(preamble)?;
    let fits = message.get_msg_type() == MessageType::MsgSnapshot
        && message.from == from
        && message.to == to
        && message.get_snapshot().get_metadata().index > 0;
    fits.then(|| SnapshotMeta::from_raft(message.get_snapshot().get_metadata()))
}

pub(crate) fn encode_change(change: MembershipChange) -> Vec<u8> {
    let mut raw = ConfChange {
        node_id: change.subject(),
        ..ConfChange::default()
    };
    raw.set_change_type(match change {
        MembershipChange::AddLearner(_) => ConfChangeType::AddLearnerNode,
        MembershipChange::Promote(_) => ConfChangeType::AddNode,
        MembershipChange::Remove(_) => ConfChangeType::RemoveNode,
    });
    raw.write_to_bytes()
        .expect("prost encodes any value into a growing buffer")
}

pub(crate) fn decode_change(bytes: &[u8]) -> Option<ConfChange> {
    let mut change = ConfChange::default();
    change.merge_from_bytes(bytes).ok()?;
    Some(change)
}
