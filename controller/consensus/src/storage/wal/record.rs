//! One record of the log: its bytes, its checksum, its place in the chain.
//!
//! Lives here: encoding and checking of single records. May not: files, meaning of records (that
//! is `replay`). Used by the writer (`wal.rs`) and `replay`.
//!
//! ```text
//! payload length u32 | crc32 u32 | previous crc u32 | kind u8 | 0 u8 | 0 u16
//! | sync group u64 | term u64 | index u64 | payload | zeros up to a multiple of 8
//! ```
//! The crc covers the segment's number, everything but itself, and the payload. So
//! - a record of the segment file's former life never checks (other segment number);
//! - a misdirected or stale record never fits, because it names the crc of its predecessor, which
//!   names its own: the chain binds a record to the whole history before it;
//! - a record proves itself without its predecessor, which lets recovery look behind a bad one.

use crate::entry::{EntryKind, HardState, LogEntry, Membership, SnapshotMeta};

pub(super) const HEADER_BYTES: usize = 40;
const ALIGN: usize = 8;
/// Bound on a payload, against absurd lengths in damaged headers. Above any segment size.
const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Entry(LogEntry),
    HardState(HardState),
    /// Entries from this index on are void; they are written again, by another leader.
    Truncate(u64),
    /// A snapshot of the own state is verified on disk.
    SnapshotMark(SnapshotMeta),
    /// A received snapshot replaces the whole log before it.
    SnapshotInstalled(SnapshotMeta),
    /// A start of the member. Unique per chain position, so stale bytes behind a cut tail can
    /// never chain on by accident.
    Life(u64),
    /// All records before were synced together with this one.
    SyncPoint,
}

/// Position-dependent parts of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) previous_crc: u32,
    pub(super) group: u64,
}

/// A record that checked.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) body: Body,
    pub(super) previous_crc: u32,
    pub(super) crc: u32,
    pub(super) group: u64,
    pub(super) size_bytes: usize,
}

pub(super) fn size_bytes(payload: usize) -> usize {
    (HEADER_BYTES + payload).next_multiple_of(ALIGN)
}

impl Body {
    pub(super) fn size_bytes(&self) -> usize {
        size_bytes(match self {
            Self::Entry(entry) => entry.data.len(),
            Self::HardState(_) => 8,
            Self::Truncate(_) | Self::Life(_) | Self::SyncPoint => 0,
            Self::SnapshotMark(meta) | Self::SnapshotInstalled(meta) => {
                8 + 8 * (meta.membership.voters.len() + meta.membership.learners.len())
            }
        })
    }

    /// Appends the record to `out` and returns its crc, the link for the next one.
    pub(super) fn encode(&self, place: Place, out: &mut Vec<u8>) -> u32 {
        match self {
            Self::Entry(e) => {
                let kind = match e.kind {
                    EntryKind::Normal => 1,
                    EntryKind::Membership => 2,
                };
                put(out, place, kind, e.term, e.index, &e.data)
            }
            Self::HardState(h) => put(out, place, 3, h.term, h.commit, &h.vote.to_le_bytes()),
            Self::Truncate(index) => put(out, place, 4, 0, *index, &[]),
            Self::SnapshotMark(m) => put(out, place, 5, m.term, m.index, &members(&m.membership)),
            Self::SnapshotInstalled(m) => {
                put(out, place, 6, m.term, m.index, &members(&m.membership))
            }
            Self::Life(incarnation) => put(out, place, 7, 0, *incarnation, &[]),
            Self::SyncPoint => put(out, place, 8, 0, 0, &[]),
        }
    }
}

fn put(out: &mut Vec<u8>, place: Place, kind: u8, term: u64, index: u64, payload: &[u8]) -> u32 {
    let mut header = [0_u8; HEADER_BYTES];
    header[0..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[8..12].copy_from_slice(&place.previous_crc.to_le_bytes());
    header[12] = kind;
    header[16..24].copy_from_slice(&place.group.to_le_bytes());
    header[24..32].copy_from_slice(&term.to_le_bytes());
    header[32..40].copy_from_slice(&index.to_le_bytes());
    let crc = checksum(place.segment, &header, payload);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    let start = out.len();
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    out.resize(start + size_bytes(payload.len()), 0);
    crc
}

fn checksum(segment: u64, header: &[u8; HEADER_BYTES], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&header[0..4]);
    hasher.update(&header[8..]);
    hasher.update(payload);
    hasher.finalize()
}

/// Reads the record at the start of `bytes`; `None` for anything that is not a whole, intact
/// record of this segment. The chain is for the caller to compare.
pub(super) fn decode(segment: u64, bytes: &[u8]) -> Option<Read> {
    let header: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().ok()?;
    let payload_bytes = u32_at(header, 0) as usize;
    // Kind 0 is unwritten space; checked first because it is the common end of a scan.
    if header[12] == 0 || payload_bytes > PAYLOAD_BYTES_MAX {
        return None;
    }
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES + payload_bytes)?;
    let padding = bytes.get(HEADER_BYTES + payload_bytes..size_bytes(payload_bytes))?;
    let crc = u32_at(header, 4);
    if checksum(segment, header, payload) != crc || padding.iter().any(|b| *b != 0) {
        return None;
    }
    let (term, index) = (u64_at(header, 24), u64_at(header, 32));
    let body = match header[12] {
        1 => Body::Entry(entry(index, term, EntryKind::Normal, payload)),
        2 => Body::Entry(entry(index, term, EntryKind::Membership, payload)),
        3 => {
            let vote = u64::from_le_bytes(payload.try_into().ok()?);
            Body::HardState(HardState {
                term,
                vote,
                commit: index,
            })
        }
        4 => Body::Truncate(index),
        5 => Body::SnapshotMark(SnapshotMeta {
            index,
            term,
            membership: read_members(payload)?,
        }),
        6 => Body::SnapshotInstalled(SnapshotMeta {
            index,
            term,
            membership: read_members(payload)?,
        }),
        7 => Body::Life(index),
        8 => Body::SyncPoint,
        _ => return None,
    };
    Some(Read {
        body,
        previous_crc: u32_at(header, 8),
        crc,
        group: u64_at(header, 16),
        size_bytes: size_bytes(payload_bytes),
    })
}

/// For `crate::probe`: hostile bytes with and without a checksum that fits. What is
/// read is written and read again; a difference is a panic.
pub(crate) fn probe(bytes: &[u8]) {
    const SEGMENT: u64 = 3;
    let mut fitting = bytes.to_vec();
    if let Some(header) = bytes.first_chunk::<HEADER_BYTES>() {
        let end = HEADER_BYTES + u32_at(header, 0) as usize;
        if let Some(payload) = bytes.get(HEADER_BYTES..end) {
            let crc = checksum(SEGMENT, header, payload);
            fitting[4..8].copy_from_slice(&crc.to_le_bytes());
        }
    }
    for bytes in [bytes, &fitting] {
        let Some(read) = decode(SEGMENT, bytes) else {
            continue;
        };
        let (segment, previous_crc, group) = (SEGMENT, read.previous_crc, read.group);
        let place = Place {
            segment,
            previous_crc,
            group,
        };
        let mut written = Vec::new();
        read.body.encode(place, &mut written);
        let again = decode(SEGMENT, &written).expect("own bytes");
        assert_eq!((again.body, again.group), (read.body, read.group));
        assert_eq!(written.len(), again.size_bytes);
    }
}

/// For `crate::probe`: one record of each kind.
pub(crate) fn samples() -> Vec<Vec<u8>> {
    let meta = SnapshotMeta {
        index: 9,
        term: 2,
        membership: Membership {
            voters: vec![1, 2, 3],
            learners: vec![4],
        },
    };
    let hard_state = HardState {
        term: 2,
        vote: 3,
        commit: 8,
    };
    let bodies = [
        Body::Entry(entry(7, 2, EntryKind::Normal, b"an entry")),
        Body::Entry(entry(8, 2, EntryKind::Membership, b"a change")),
        Body::HardState(hard_state),
        Body::Truncate(6),
        Body::SnapshotMark(meta.clone()),
        Body::SnapshotInstalled(meta),
        Body::Life(5),
        Body::SyncPoint,
    ];
    let encoded = |body: &Body| {
        let (segment, previous_crc, group) = (3, 0x1234_5678, 11);
        let place = Place {
            segment,
            previous_crc,
            group,
        };
        let mut bytes = Vec::new();
        body.encode(place, &mut bytes);
        bytes
    };
    bodies.iter().map(encoded).collect()
}

fn entry(index: u64, term: u64, kind: EntryKind, data: &[u8]) -> LogEntry {
    LogEntry {
        index,
        term,
        kind,
        data: data.to_vec(),
    }
}

fn members(membership: &Membership) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&(membership.voters.len() as u32).to_le_bytes());
    out.extend_from_slice(&(membership.learners.len() as u32).to_le_bytes());
    for id in membership.voters.iter().chain(&membership.learners) {
        out.extend_from_slice(&id.to_le_bytes());
    }
    out
}

fn read_members(payload: &[u8]) -> Option<Membership> {
    let (counts, ids) = payload.split_at_checked(8)?;
    let voters = u32::from_le_bytes(counts[0..4].try_into().ok()?) as usize;
    let learners = u32::from_le_bytes(counts[4..8].try_into().ok()?) as usize;
    if ids.len() != 8 * voters.checked_add(learners)? {
        return None;
    }
    let mut ids = ids.chunks_exact(8).map(|id| u64_at(id, 0));
    Some(Membership {
        voters: ids.by_ref().take(voters).collect(),
        learners: ids.collect(),
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a range of four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(
        bytes[at..at + 8]
            .try_into()
            .expect("a range of eight bytes"),
    )
}

#[cfg(test)]
mod test {
    use super::*;

    fn all_kinds() -> Vec<Body> {
        let meta = SnapshotMeta {
            index: 9,
            term: 2,
            membership: Membership {
                voters: vec![1, 2, 3],
                learners: vec![4],
            },
        };
        vec![
            Body::Entry(entry(5, 2, EntryKind::Normal, b"hello")),
            Body::Entry(entry(6, 2, EntryKind::Membership, b"")),
            Body::HardState(HardState {
                term: 2,
                vote: 3,
                commit: 4,
            }),
            Body::Truncate(5),
            Body::SnapshotMark(meta.clone()),
            Body::SnapshotInstalled(meta),
            Body::Life(3),
            Body::SyncPoint,
        ]
    }

    #[test]
    fn every_kind_of_record_survives_its_bytes() {
        let place = Place {
            segment: 7,
            previous_crc: 11,
            group: 13,
        };
        for body in all_kinds() {
            let mut bytes = Vec::new();
            let crc = body.encode(place, &mut bytes);
            assert_eq!(bytes.len(), body.size_bytes());
            let read = decode(7, &bytes).expect("intact");
            assert_eq!((read.crc, read.previous_crc, read.group), (crc, 11, 13));
            assert_eq!((read.size_bytes, read.body), (bytes.len(), body));
        }
    }

    #[test]
    fn b1_a_record_of_another_life_or_with_any_flipped_bit_is_no_record() {
        let place = Place {
            segment: 7,
            previous_crc: 11,
            group: 13,
        };
        for body in all_kinds() {
            let mut bytes = Vec::new();
            body.encode(place, &mut bytes);
            assert!(decode(8, &bytes).is_none(), "recycled segment");
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(7, &bytes).is_none(), "{body:?}: bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}
