//! Doors for fuzzing: every place where this crate reads bytes that it did not just
//! write. Each takes any bytes and panics only where the code behind it is wrong.
//!
//! Lives here: the doors. May not: anything that production calls. Used by `tests/fuzz`.

use raft::eraftpb::{Entry, Message, MessageType};

use crate::storage::{snapshot, superblock, wal};
use crate::{MembershipChange, PeerHello, wire};

/// One record of the log, and a segment's header.
pub fn log_record(bytes: &[u8]) {
    wal::probe_record(bytes);
    wal::probe_segment(bytes);
}

/// The header of a snapshot file or transfer, and a superblock's copy.
pub fn headers(bytes: &[u8]) {
    snapshot::probe(bytes);
    superblock::probe(bytes);
}

/// A greeting, and what raft's messages are made of.
pub fn peer_bytes(bytes: &[u8]) {
    if let Ok(hello) = PeerHello::decode(bytes) {
        assert_eq!(hello.encode(), bytes);
    }
    if let Some(message) = wire::decode(bytes) {
        let again = wire::decode(&wire::encode(&message));
        assert_eq!(again, Some(message));
    }
    let _ = wire::snapshot_meta(bytes, 1, 2);
    let _ = wire::decode_change(bytes);
}

/// What a fuzzer begins with: records, a snapshot's file, and what peers say.
#[must_use]
pub fn samples() -> (Vec<Vec<u8>>, Vec<u8>, Vec<Vec<u8>>) {
    let hello = PeerHello {
        cluster_id: [7; 16],
        from: 1,
        to: 2,
        incarnation: 3,
    };
    let message = |kind: MessageType| {
        let mut message = Message {
            from: 1,
            to: 2,
            term: 4,
            index: 9,
            commit: 8,
            context: vec![1; 8],
            ..Message::default()
        };
        message.set_msg_type(kind);
        message.set_entries(vec![Entry {
            term: 4,
            index: 10,
            data: b"an entry".to_vec(),
            ..Entry::default()
        }]);
        message.mut_snapshot().mut_metadata().index = 9;
        wire::encode(&message).to_vec()
    };
    let said = vec![
        hello.encode().to_vec(),
        message(MessageType::MsgAppend),
        message(MessageType::MsgSnapshot),
        message(MessageType::MsgRequestPreVote),
        wire::encode_change(MembershipChange::Promote(4)),
    ];
    let snapshot = snapshot::sample(b"a body");
    (wal::record_samples(), snapshot, said)
}
