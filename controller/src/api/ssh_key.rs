//! SSH keys: parsed with the ssh-key crate, canonicalised, then registered.

use std::sync::Arc;

use ::ssh_key::public::KeyData;
use ::ssh_key::{HashAlg, PublicKey};
use nube_proto::v1::ssh_key_service_server::SshKeyService;
use nube_proto::v1::{
    DeleteSshKeyRequest, DeleteSshKeyResponse, GenerateSshKeyRequest, GenerateSshKeyResponse,
    GetSshKeyRequest, ImportSshKeyRequest, ListSshKeysRequest, ListSshKeysResponse, SshKey,
};
use nube_state::command::ImportSshKey;
use nube_state::{Command, Outcome, State, ssh_key};
use nube_types::limits::{SSH_KEY_COMMENT_BYTES_MAX, SSH_PUBLIC_KEY_BYTES_MAX, SSH_RSA_BITS_MIN};
use nube_types::{Name, SshKeyId};
use tonic::{Request, Response, Status};

use super::mutation::{self, Mutation};
use super::{convert, field, page, resolve, status};
use crate::authorise;
use crate::cell::Cell;
use crate::propose;
use crate::secret;

/// Handlers.
pub struct Service(pub Arc<Cell>);

const FIELD: &str = "public_key";

/// Reads one OpenSSH public key line; everything else is refused with the rule.
pub fn parse(text: &str) -> Result<PublicKey, Status> {
    let invalid = |rule: String| status::invalid(FIELD, rule);
    if text.len() > SSH_PUBLIC_KEY_BYTES_MAX {
        return Err(invalid(format!("at most {SSH_PUBLIC_KEY_BYTES_MAX} bytes")));
    }
    let line = text.trim_end_matches(['\n', '\r']);
    if line.chars().any(char::is_control) {
        return Err(invalid("one line without control characters".to_owned()));
    }
    if line.contains("PRIVATE KEY") {
        return Err(invalid(
            "this is a private key: keep it, and send the .pub file".to_owned(),
        ));
    }
    let first = line.split(' ').next().unwrap_or_default();
    let known = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];
    if !known.iter().any(|prefix| first.starts_with(prefix)) {
        let rule = "starts with the algorithm, as `ssh-ed25519 AAAA…`; options are not allowed";
        return Err(invalid(rule.to_owned()));
    }
    let key = PublicKey::from_openssh(line)
        .map_err(|error| invalid(format!("not an OpenSSH public key: {error}")))?;
    check_strength(&key)?;
    if key.comment().len() > SSH_KEY_COMMENT_BYTES_MAX {
        return Err(invalid(format!(
            "a comment of at most {SSH_KEY_COMMENT_BYTES_MAX} bytes"
        )));
    }
    Ok(key)
}

fn check_strength(key: &PublicKey) -> Result<(), Status> {
    match key.key_data() {
        KeyData::Ed25519(_)
        | KeyData::Ecdsa(_)
        | KeyData::SkEd25519(_)
        | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
        KeyData::Rsa(rsa) => {
            let modulus = rsa.n.as_positive_bytes().unwrap_or_default();
            let leading = modulus.first().map_or(0, |byte| byte.leading_zeros());
            let bits = u32::try_from(modulus.len() * 8).unwrap_or(u32::MAX) - leading;
            if bits < SSH_RSA_BITS_MIN {
                let rule = format!("RSA keys of at least {SSH_RSA_BITS_MIN} bits; this has {bits}");
                return Err(status::invalid(FIELD, rule));
            }
            Ok(())
        }
        _ => Err(status::invalid(
            FIELD,
            "ed25519, ecdsa, rsa (2048 bits or more), or their sk- forms",
        )),
    }
}

impl Service {
    async fn register(
        &self,
        mutation: &Mutation,
        id: SshKeyId,
        name: Name,
        key: &PublicKey,
    ) -> Result<SshKey, Status> {
        let public_key = key
            .to_openssh()
            .map_err(|e| status::fault("encoding a key", &e))?;
        let command = Command::ImportSshKey(ImportSshKey {
            project: mutation.request.project,
            id,
            name,
            public_key,
            fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
            algorithm: key.algorithm().to_string(),
        });
        let (_, outcome) = mutation.commit(&self.0, command).await?;
        self.show(&outcome)
    }

    fn show(&self, outcome: &Outcome) -> Result<SshKey, Status> {
        let state = self.0.views.now();
        match outcome {
            Outcome::SshKey(id) => find(&state, *id),
            other => Err(status::fault("registering a key", &format!("{other:?}"))),
        }
    }
}

fn find(state: &State, id: SshKeyId) -> Result<SshKey, Status> {
    let key = state.ssh_keys.get(&id).map(convert::ssh_key);
    key.ok_or_else(|| status::not_found("ssh key", &id.to_string()))
}

#[tonic::async_trait]
impl SshKeyService for Service {
    async fn import_ssh_key(
        &self,
        request: Request<ImportSshKeyRequest>,
    ) -> Result<Response<SshKey>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let (name, key) = (
            field::name("name", &message.name)?,
            parse(&message.public_key)?,
        );
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        self.register(&mutation, SshKeyId(rand::random()), name, &key)
            .await
            .map(Response::new)
    }

    async fn generate_ssh_key(
        &self,
        request: Request<GenerateSshKeyRequest>,
    ) -> Result<Response<GenerateSshKeyResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let name = field::name("name", &message.name)?;
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let id = match mutation.recall(&state)? {
            Some(Outcome::SshKey(id)) => id,
            _ => SshKeyId(rand::random()),
        };
        let mut pair = self.0.secret.generated_ssh_key(id, mutation.request.id);
        pair.set_comment(name.as_str());
        let key = pair.public_key();
        let ssh_key = self.register(&mutation, id, name, key).await?;
        if ssh_key.id != id.to_string() {
            // Two attempts of one request met: the other one's pair is the one
            // that is registered.
            return Err(status::unavailable(&propose::Error::Unknown));
        }
        let private_key = secret::private_text(&pair);
        Ok(Response::new(GenerateSshKeyResponse {
            ssh_key: Some(ssh_key),
            private_key,
        }))
    }

    async fn get_ssh_key(
        &self,
        request: Request<GetSshKeyRequest>,
    ) -> Result<Response<SshKey>, Status> {
        let caller = authorise::caller(&request)?;
        let state = self.0.read().await?;
        let project = caller.project;
        let key = resolve::ssh_key(&state, project, &request.get_ref().ssh_key)?;
        Ok(Response::new(convert::ssh_key(key)))
    }

    async fn list_ssh_keys(
        &self,
        request: Request<ListSshKeysRequest>,
    ) -> Result<Response<ListSshKeysResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let keys = ssh_key::of_project(&state, caller.project);
        let (keys, next_page_token) =
            page::cut(keys, |key| key.id, message.page_size, &message.page_token)?;
        let ssh_keys = keys.into_iter().map(convert::ssh_key).collect();
        let revision = state.index;
        Ok(Response::new(ListSshKeysResponse {
            ssh_keys,
            next_page_token,
            revision,
        }))
    }

    async fn delete_ssh_key(
        &self,
        request: Request<DeleteSshKeyRequest>,
    ) -> Result<Response<DeleteSshKeyResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        if mutation.recall(&state)?.is_none() {
            let project = mutation.request.project;
            let id = resolve::ssh_key(&state, project, &message.ssh_key)?.id;
            mutation
                .commit(&self.0, Command::DeleteSshKey(project, id))
                .await?;
        }
        Ok(Response::new(DeleteSshKeyResponse {}))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ me@host";

    #[test]
    fn good_keys_are_taken_with_or_without_a_final_newline() {
        assert!(parse(ED25519).is_ok());
        assert!(parse(&format!("{ED25519}\n")).is_ok());
    }

    #[test]
    fn options_lines_private_keys_and_noise_are_refused() {
        let bad = [
            String::new(),
            format!("command=\"/bin/sh\" {ED25519}"),
            format!("no-pty,from=\"*\" {ED25519}"),
            format!("{ED25519}\n{ED25519}"),
            format!("{ED25519}\rssh-ed25519"),
            "ssh-ed25519 AAAA".to_owned(),
            "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
            "ssh-dss AAAAB3NzaC1kc3MAAACBAA==".to_owned(),
            "x".repeat(1024 * 1024),
        ];
        for text in bad {
            let shown: String = text.chars().take(50).collect();
            let error = parse(&text).expect_err(&shown);
            assert!(
                error.message().starts_with("public_key: "),
                "{shown}: {error}"
            );
        }
    }

    /// An OpenSSH line from its wire parts (RFC 4253, section 6.6).
    fn line(parts: &[&[u8]]) -> String {
        use base64::Engine;
        let mut blob = Vec::new();
        for part in parts {
            blob.extend_from_slice(&u32::try_from(part.len()).expect("short").to_be_bytes());
            blob.extend_from_slice(part);
        }
        let name = String::from_utf8_lossy(parts[0]);
        let text = base64::engine::general_purpose::STANDARD.encode(blob);
        format!("{name} {text} test")
    }

    #[test]
    fn security_keys_are_taken() {
        let key = line(&[b"sk-ssh-ed25519@openssh.com", &[7; 32], b"ssh:"]);
        let parsed = parse(&key).expect("a FIDO ed25519 key");
        assert_eq!(parsed.algorithm().to_string(), "sk-ssh-ed25519@openssh.com");
    }

    #[test]
    fn short_rsa_keys_are_refused_with_their_size() {
        // A 1024-bit modulus, as an attacker or an old device would send it.
        let modulus = [vec![0, 0x80], vec![1; 127]].concat();
        let error = parse(&line(&[b"ssh-rsa", &[1, 0, 1], &modulus])).expect_err("too short");
        assert!(error.message().contains("1024"), "{error}");
    }
}
