//! What is derived from the cluster's secret, so that it need not be stored:
//! guests' host keys and generated key pairs. What must be stored (user-data)
//! is sealed. The secret itself is in one file on each controller, never in the
//! log, a snapshot or the store.

use std::path::Path;

use anyhow::Context;
use nube_types::{AccessKeyId, InstanceId, ProjectId, RequestId, SshKeyId};
use ring::rand::SecureRandom;
use ring::{aead, hkdf, rand};
use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};

const NONCE_BYTES: usize = 12;

/// The cluster's secret.
#[derive(Clone)]
pub struct Secret(std::sync::Arc<[u8; 32]>);

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Secret {
    /// From 32 bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(std::sync::Arc::new(bytes))
    }

    /// Reads the file that bootstrap wrote.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(text.trim()).with_context(|| path.display().to_string())
    }

    /// 64 digits, and 8 more that check them. Files of the first version have no check digits.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (digits, check) = text.split_at_checked(64).unwrap_or((text, ""));
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).context("64 hexadecimal digits are needed")?;
        let secret = Self::new(bytes);
        anyhow::ensure!(
            check.is_empty() || check == secret.check_digits(),
            "its check digits do not fit: the cluster's secret is damaged; copy it from another \
             controller"
        );
        Ok(secret)
    }

    /// As in its file; for a controller that joins.
    #[must_use]
    pub fn text(&self) -> String {
        hex::encode(self.0.as_ref()) + &self.check_digits()
    }

    fn check_digits(&self) -> String {
        let hash = blake3::derive_key("nube cluster.secret check digits v1", self.0.as_ref());
        hex::encode(&hash[..4])
    }

    /// The secret of a join token. Derived from the request, so that a repeated
    /// request gives the same token although only its hash is kept.
    #[must_use]
    pub fn join_token(&self, project: ProjectId, request: RequestId) -> [u8; 32] {
        let mut context = project.0.to_be_bytes().to_vec();
        context.extend_from_slice(&request.0);
        self.derive("join-token", &context)
    }

    /// RFC 5869, with the purpose as context: keys of different purposes do not
    /// tell anything of each other.
    fn derive(&self, purpose: &str, context: &[u8]) -> [u8; 32] {
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, b"nube/v1").extract(self.0.as_ref());
        let info = [purpose.as_bytes(), &[0], context];
        let mut out = [0; 32];
        key.expand(&info, Length(32))
            .and_then(|okm| okm.fill(&mut out))
            .expect("32 bytes are within what HKDF can give");
        out
    }

    /// The key pair by which a guest proves itself. The same at every call, so a
    /// guest keeps its host key over restarts; different for every instance.
    #[must_use]
    pub fn ssh_host_key(&self, instance: InstanceId) -> PrivateKey {
        let seed = self.derive("ssh-host-key", &instance.0.to_be_bytes());
        PrivateKey::from(Ed25519Keypair::from_seed(&seed))
    }

    /// A user's generated pair. Derived from the request, so that a repeated
    /// request gives the same pair although nothing was stored; and from the
    /// key's id, which nobody chooses: request ids are in the audit.
    #[must_use]
    pub fn generated_ssh_key(&self, id: SshKeyId, request: RequestId) -> PrivateKey {
        let mut context = id.0.to_be_bytes().to_vec();
        context.extend_from_slice(&request.0);
        PrivateKey::from(Ed25519Keypair::from_seed(&self.derive("ssh-key", &context)))
    }

    /// The secret half of an access key, from the request that made it: a
    /// repeated request shows the same one, and only its hash is stored. The id
    /// is part of it: request ids are in the audit for everyone to read.
    #[must_use]
    pub fn access_key_secret(&self, id: AccessKeyId, request: RequestId) -> String {
        use base64::Engine;
        let mut context = id.0.to_be_bytes().to_vec();
        context.extend_from_slice(&request.0);
        let bytes = self.derive("access-key", &context);
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    }

    fn sealing_key(&self) -> aead::LessSafeKey {
        let key = self.derive("user-data", b"");
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, &key)
            .expect("the key has the cipher's length");
        aead::LessSafeKey::new(key)
    }

    /// Seals bytes for the log. Empty stays empty. Random nonces: 96 bits last
    /// for far more launches than one cluster sees.
    #[must_use]
    pub fn seal(&self, project: ProjectId, clear: &[u8]) -> Vec<u8> {
        if clear.is_empty() {
            return Vec::new();
        }
        let mut nonce = [0; NONCE_BYTES];
        rand::SystemRandom::new()
            .fill(&mut nonce)
            .expect("the kernel gives random bytes");
        let mut body = clear.to_vec();
        let context = aead::Aad::from(project.0.to_be_bytes());
        self.sealing_key()
            .seal_in_place_append_tag(
                aead::Nonce::assume_unique_for_key(nonce),
                context,
                &mut body,
            )
            .expect("user-data is far below the cipher's limit");
        [nonce.as_slice(), &body].concat()
    }

    /// Opens what [`Secret::seal`] made; `None` when it was not made with this
    /// secret for this project.
    #[must_use]
    pub fn open(&self, project: ProjectId, sealed: &[u8]) -> Option<Vec<u8>> {
        if sealed.is_empty() {
            return Some(Vec::new());
        }
        let (nonce, body) = sealed.split_at_checked(NONCE_BYTES)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let context = aead::Aad::from(project.0.to_be_bytes());
        let clear = self
            .sealing_key()
            .open_in_place(nonce, context, &mut body)
            .ok()?;
        Some(clear.to_vec())
    }
}

/// OpenSSH's private key form.
#[must_use]
pub fn private_text(key: &PrivateKey) -> String {
    key.to_openssh(LineEnding::LF)
        .expect("an ed25519 key has a text form")
        .to_string()
}

/// OpenSSH's public key form.
#[must_use]
pub fn public_text(key: &PrivateKey) -> String {
    key.public_key()
        .to_openssh()
        .expect("an ed25519 key has a text form")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn host_keys_are_stable_and_differ_between_instances_and_clusters() {
        let (a, b) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let text = |s: &Secret, id| public_text(&s.ssh_host_key(InstanceId(id)));
        assert_eq!(text(&a, 7), text(&a, 7));
        assert_ne!(text(&a, 7), text(&a, 8));
        assert_ne!(text(&a, 7), text(&b, 7));
        let private = private_text(&a.ssh_host_key(InstanceId(7)));
        assert!(private.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
    }

    #[test]
    fn sealed_bytes_open_for_their_project_only() {
        let secret = Secret::new([1; 32]);
        let sealed = secret.seal(ProjectId(1), b"canary");
        assert!(!sealed.windows(6).any(|w| w == b"canary"));
        assert_eq!(
            secret.open(ProjectId(1), &sealed).as_deref(),
            Some(&b"canary"[..])
        );
        assert_eq!(secret.open(ProjectId(2), &sealed), None);
        assert_eq!(Secret::new([2; 32]).open(ProjectId(1), &sealed), None);
        assert_eq!(secret.open(ProjectId(1), &sealed[..5]), None);
        assert_eq!(secret.seal(ProjectId(1), b""), Vec::<u8>::new());
    }
}
