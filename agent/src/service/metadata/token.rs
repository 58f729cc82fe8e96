//! Session tokens (IMDSv2): who could `PUT` once may read for a while. A token is
//! a signature over the guest, its placement and the moment it ends; nothing is
//! kept. The key is this agent's own and lives as long as the agent: afterwards
//! guests ask for a new one, as they do when a token ends.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nube_types::{InstanceId, PlacementEpoch};
use ring::hmac;

/// Six hours, as in EC2.
pub const TTL_SECONDS_MAX: u32 = 21_600;
const EXPIRY_BYTES: usize = 8;
const SIGNATURE_BYTES: usize = 32;
/// Longer texts are not even decoded.
const TEXT_BYTES_MAX: usize = 64;

/// Makes and checks tokens.
#[derive(Debug)]
pub struct Tokens {
    key: hmac::Key,
}

impl Tokens {
    /// Tokens of one agent, signed with a secret.
    #[must_use]
    pub fn new(secret: &[u8; SIGNATURE_BYTES]) -> Self {
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// For one guest, until then.
    #[must_use]
    pub fn issue(
        &self,
        instance: InstanceId,
        epoch: PlacementEpoch,
        now_ms: u64,
        ttl_seconds: u32,
    ) -> String {
        let ends_ms = now_ms.saturating_add(u64::from(ttl_seconds) * 1_000);
        let signature = hmac::sign(&self.key, &signed(instance, epoch, ends_ms));
        let mut bytes = ends_ms.to_be_bytes().to_vec();
        bytes.extend_from_slice(signature.as_ref());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Whether it is this guest's and still in force.
    #[must_use]
    pub fn is_valid(
        &self,
        text: &[u8],
        instance: InstanceId,
        epoch: PlacementEpoch,
        now_ms: u64,
    ) -> bool {
        if text.len() > TEXT_BYTES_MAX {
            return false;
        }
        let Ok(bytes) = URL_SAFE_NO_PAD.decode(text) else {
            return false;
        };
        let Some((expiry, signature)) = bytes.split_first_chunk::<EXPIRY_BYTES>() else {
            return false;
        };
        let ends_ms = u64::from_be_bytes(*expiry);
        let signed = signed(instance, epoch, ends_ms);
        hmac::verify(&self.key, &signed, signature).is_ok() && now_ms < ends_ms
    }
}

fn signed(instance: InstanceId, epoch: PlacementEpoch, ends_ms: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&instance.0.to_be_bytes());
    bytes[8..16].copy_from_slice(&u64::from(epoch.0).to_be_bytes());
    bytes[16..].copy_from_slice(&ends_ms.to_be_bytes());
    bytes
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_token_is_one_guests_for_its_time() {
        let tokens = Tokens::new(&[7; 32]);
        let (instance, epoch) = (InstanceId(5), PlacementEpoch(2));
        let token = tokens.issue(instance, epoch, 1_000, 10);
        let valid =
            |instance, epoch, now_ms| tokens.is_valid(token.as_bytes(), instance, epoch, now_ms);
        assert!(valid(instance, epoch, 1_000) && valid(instance, epoch, 10_999));
        assert!(!valid(instance, epoch, 11_000));
        assert!(!valid(InstanceId(6), epoch, 1_000));
        assert!(!valid(instance, PlacementEpoch(3), 1_000));
        let other = Tokens::new(&[8; 32]);
        assert!(!other.is_valid(token.as_bytes(), instance, epoch, 1_000));
    }

    #[test]
    fn no_changed_byte_passes() {
        let tokens = Tokens::new(&[7; 32]);
        let (instance, epoch) = (InstanceId(5), PlacementEpoch(2));
        let token = tokens.issue(instance, epoch, 1_000, 10);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(!tokens.is_valid(&bytes, instance, epoch, 1_000), "{at}");
        }
        for cut in 0..token.len() {
            assert!(!tokens.is_valid(&token.as_bytes()[..cut], instance, epoch, 1_000));
        }
    }
}
