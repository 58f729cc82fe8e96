//! The text of a join token: what an operator carries to the newcomer. It pins
//! the cluster's CA, so that the newcomer knows whom it gives its secret to.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const PREFIX: &str = "nubejoin1";
/// Longer texts are not looked into.
const BYTES_MAX: usize = 200;

/// `nubejoin1.<CA fingerprint>.<secret>`.
#[must_use]
pub fn text(fingerprint: &str, secret: &[u8; 32]) -> String {
    format!("{PREFIX}.{fingerprint}.{}", URL_SAFE_NO_PAD.encode(secret))
}

/// The hash that the cloud keeps of a secret.
#[must_use]
pub fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

/// The hash of the secret in a text of this cluster; what is anything else has no
/// hash that was ever kept.
#[must_use]
pub fn hash_of(text: &str, fingerprint: &str) -> Option<[u8; 32]> {
    let parts = || text.split('.');
    if text.len() > BYTES_MAX || parts().count() != 3 {
        return None;
    }
    let mut parts = parts();
    let fits = parts.next() == Some(PREFIX) && parts.next() == Some(fingerprint);
    let secret = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
    (fits && secret.len() == 32).then(|| hash(&secret))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_whole_texts_of_this_cluster_have_a_hash() {
        let ca = "ab".repeat(32);
        let good = text(&ca, &[7; 32]);
        assert_eq!(hash_of(&good, &ca), Some(hash(&[7; 32])));
        assert_eq!(hash_of(&good, &"cd".repeat(32)), None);
        let cases = [
            String::new(),
            good.replace("nubejoin1", "nubejoin2"),
            good[..good.len() - 1].to_owned(),
            format!("{good}."),
            format!("{good}A"),
            "x".repeat(1 << 20),
        ];
        for bad in cases {
            assert_eq!(hash_of(&bad, &ca), None);
        }
    }
}
