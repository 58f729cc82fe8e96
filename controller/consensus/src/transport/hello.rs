//! The handshake of two members: who speaks, to whom, in which cluster, in which life.
//!
//! Lives here: its bytes and its check. May not: certificates (the transport binds `from` to the
//! peer's certificate before it asks here). Sent once per stream by the transport's client side.

use bytes::{BufMut, Bytes, BytesMut};

const FORMAT: u32 = 1;
const ENCODED_BYTES: usize = 4 + 16 + 8 + 8 + 8;

/// First words of a stream between members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHello {
    /// Cluster both must belong to.
    pub cluster_id: [u8; 16],
    /// The speaker.
    pub from: u64,
    /// The member it means to speak to.
    pub to: u64,
    /// The speaker's incarnation: how often it started over its directory.
    pub incarnation: u64,
}

/// Why a stream is refused (invariant B5, and old incarnations of the raft port threat row).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefused {
    /// Not a greeting of a known format.
    #[error("malformed greeting")]
    Malformed,
    /// The speaker belongs to another cluster.
    #[error("the peer belongs to another cluster")]
    WrongCluster,
    /// The speaker means another member.
    #[error("the peer means member {meant}, this is {own}")]
    WrongMember {
        /// Member the speaker means.
        meant: u64,
        /// Own id.
        own: u64,
    },
    /// The speaker is older than one heard before: a restored backup or a forgotten process.
    #[error("incarnation {found} of member {from} is older than {known}")]
    OldIncarnation {
        /// The speaker.
        from: u64,
        /// Its incarnation.
        found: u64,
        /// Newest incarnation heard.
        known: u64,
    },
}

impl PeerHello {
    /// Fixed-width bytes, for the first frame or a header of the stream.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(ENCODED_BYTES);
        out.put_u32_le(FORMAT);
        out.put_slice(&self.cluster_id);
        out.put_u64_le(self.from);
        out.put_u64_le(self.to);
        out.put_u64_le(self.incarnation);
        out.freeze()
    }

    /// Reads what [`PeerHello::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, PeerRefused> {
        let u64_at = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
        };
        let read = || -> Option<Self> {
            if bytes.len() != ENCODED_BYTES || bytes.get(..4)? != FORMAT.to_le_bytes() {
                return None;
            }
            Some(Self {
                cluster_id: bytes.get(4..20)?.try_into().ok()?,
                from: u64_at(20)?,
                to: u64_at(28)?,
                incarnation: u64_at(36)?,
            })
        };
        read().ok_or(PeerRefused::Malformed)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_greeting_survives_its_bytes_and_any_cut_is_refused() {
        let hello = PeerHello {
            cluster_id: [7; 16],
            from: 1,
            to: 2,
            incarnation: 3,
        };
        let bytes = hello.encode();
        assert_eq!(PeerHello::decode(&bytes), Ok(hello));
        for cut in 0..bytes.len() {
            assert_eq!(
                PeerHello::decode(&bytes[..cut]),
                Err(PeerRefused::Malformed)
            );
        }
    }
}
