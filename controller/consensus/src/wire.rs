//! raft's messages as bytes.
//!
//! Lives here: the only use of the protobuf codec. May not: logic. Used by `core` (both ways) and
//! `handle` (a look into a snapshot preamble).
//!
//! With raft's prost codec only `write_to_bytes` and `merge_from_bytes` work; the streaming calls
//! of the same trait panic.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType, Entry, EntryType, Message, MessageType};

use crate::entry::{MembershipChange, SnapshotMeta};

pub(crate) fn encode(message: &Message) -> Bytes {
    Bytes::from(
        message
            .write_to_bytes()
            .expect("prost encodes any value into a growing buffer"),
    )
}

/// `None` for bytes that are no message, and for kinds of messages and entries that raft
/// here does not know: it would panic when it looks at them.
pub(crate) fn decode(bytes: &[u8]) -> Option<Message> {
    let mut message = Message::default();
    message.merge_from_bytes(bytes).ok()?;
    let known_entry = |entry: &Entry| EntryType::from_i32(entry.entry_type).is_some();
    let known = MessageType::from_i32(message.msg_type).is_some()
        && message.entries.iter().all(known_entry);
    known.then_some(message)
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
    ConfChangeType::from_i32(change.change_type)?;
    Some(change)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_raft_does_not_know_is_no_message() {
        let message = Message {
            from: 1,
            ..Message::default()
        };
        assert_eq!(decode(&encode(&message)), Some(message.clone()));
        let unknown_kind = Message {
            msg_type: 99,
            ..message.clone()
        };
        assert_eq!(decode(&encode(&unknown_kind)), None);
        let entry = Entry {
            entry_type: 99,
            ..Entry::default()
        };
        let unknown_entry = Message {
            entries: vec![entry],
            ..message
        };
        assert_eq!(decode(&encode(&unknown_entry)), None);
        assert_eq!(snapshot_meta(&encode(&unknown_kind), 1, 0), None);
    }
}
