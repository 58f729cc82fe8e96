//! Registered SSH public keys. The texts were parsed and canonicalised by the
//! API; here names, fingerprints and counts stay unique and bounded.

use minicbor::{Decode, Encode};
use nube_types::limits::SSH_KEYS_PER_PROJECT_MAX;
use nube_types::{Name, ProjectId, SshKeyId, TimestampMs};

use crate::command::ImportSshKey;
use crate::outcome::{Kind, Outcome, Refusal};
use crate::project;
use crate::state::State;
use crate::table::Record;

/// One registered key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SshKey {
    /// Its id.
    #[n(0)]
    pub id: SshKeyId,
    /// Its owner.
    #[n(1)]
    pub project: ProjectId,
    /// Unique in the project.
    #[n(2)]
    pub name: Name,
    /// OpenSSH form without options.
    #[n(3)]
    pub public_key: String,
    /// `SHA256:…`, unique in the project.
    #[n(4)]
    pub fingerprint: String,
    /// As `ssh-ed25519`.
    #[n(5)]
    pub algorithm: String,
    /// When it was registered.
    #[n(6)]
    pub created_at: TimestampMs,
    /// Log index of the last change.
    #[n(7)]
    pub revision: u64,
}

impl Record for SshKey {
    type Key = SshKeyId;
    const TABLE: u8 = 1;
    fn key(&self) -> SshKeyId {
        self.id
    }
}

/// A project's keys in id order.
pub fn of_project(state: &State, project: ProjectId) -> impl Iterator<Item = &SshKey> {
    state
        .ssh_keys
        .iter()
        .filter(move |key| key.project == project)
}

pub(crate) fn import(state: &mut State, command: &ImportSshKey) -> Result<Outcome, Refusal> {
    if state.ssh_keys.get(&command.id).is_some() {
        return Err(Refusal::IdTaken(command.id.to_string()));
    }
    let mut count = 0;
    for key in of_project(state, command.project) {
        if key.name == command.name {
            return Err(Refusal::NameTaken {
                kind: Kind::SshKey,
                name: key.name.clone(),
            });
        }
        if key.fingerprint == command.fingerprint {
            return Err(Refusal::DuplicateSshKey {
                name: key.name.clone(),
                fingerprint: key.fingerprint.clone(),
            });
        }
        count += 1;
    }
    if count >= SSH_KEYS_PER_PROJECT_MAX {
        let limit = SSH_KEYS_PER_PROJECT_MAX as u64;
        return Err(Refusal::LimitReached {
            what: "ssh keys per project".to_owned(),
            limit,
        });
    }
    let project = command.project;
    project::check_one_more(state, project, "ssh_keys", count as u64, |quota| {
        quota.ssh_keys
    })?;
    state.ssh_keys.put(SshKey {
        id: command.id,
        project: command.project,
        name: command.name.clone(),
        public_key: command.public_key.clone(),
        fingerprint: command.fingerprint.clone(),
        algorithm: command.algorithm.clone(),
        created_at: state.time,
        revision: state.index,
    });
    Ok(Outcome::SshKey(command.id))
}

pub(crate) fn delete(
    state: &mut State,
    project: ProjectId,
    id: SshKeyId,
) -> Result<Outcome, Refusal> {
    match state.ssh_keys.get(&id) {
        Some(key) if key.project == project => {
            state.ssh_keys.remove(&id);
            Ok(Outcome::Done)
        }
        _ => Err(Refusal::NotFound {
            kind: Kind::SshKey,
            reference: id.to_string(),
        }),
    }
}
