//! Access keys: how principals prove themselves without a certificate. The
//! secret is random and long, so its SHA-256 is all that is kept: nothing in the
//! log, a snapshot or a backup lets anybody in.

use minicbor::{Decode, Encode};
use nube_types::limits::ACCESS_KEYS_PER_PRINCIPAL_MAX;
use nube_types::{AccessKeyId, PrincipalId, ProjectId, TimestampMs};

use crate::command::CreateAccessKey;
use crate::outcome::{Kind, Outcome, Refusal};
use crate::principal::AccessRole;
use crate::project;
use crate::state::State;
use crate::table::Record;

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AccessKey {
    /// Its id; part of the token.
    #[n(0)]
    pub id: AccessKeyId,
    /// Whose.
    #[n(1)]
    pub principal: PrincipalId,
    /// Where; absent: the cell.
    #[n(2)]
    pub project: Option<ProjectId>,
    /// The most it may do there.
    #[n(3)]
    pub role: AccessRole,
    /// SHA-256 of the secret.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub secret_hash: [u8; 32],
    /// When it was made.
    #[n(5)]
    pub created_at: TimestampMs,
    /// Absent: never.
    #[n(6)]
    pub expires_at: Option<TimestampMs>,
    /// Log index of the last change.
    #[n(7)]
    pub revision: u64,
}

impl Record for AccessKey {
    type Key = AccessKeyId;
    const TABLE: u8 = 13;
    fn key(&self) -> AccessKeyId {
        self.id
    }
}

impl AccessKey {
    /// Its time is over.
    #[must_use]
    pub fn is_expired(&self, now: TimestampMs) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// What a key allows now: no more than its principal has there.
#[must_use]
pub fn rights(state: &State, key: &AccessKey) -> Option<AccessRole> {
    if key.is_expired(state.time) {
        return None;
    }
    let principal = state.principals.get(&key.principal)?;
    let role = principal.rights_at(key.project)?;
    Some(role.min(key.role))
}

pub(crate) fn create(state: &mut State, command: &CreateAccessKey) -> Result<Outcome, Refusal> {
    let principal = state.principals.get(&command.principal);
    let principal = principal.ok_or_else(|| Refusal::NotFound {
        kind: Kind::Principal,
        reference: command.principal.to_string(),
    })?;
    if let Some(id) = command.project {
        project::find(state, id)?;
    }
    let has = principal.rights_at(command.project);
    if !command.role.is_legal(command.project) || has.is_none_or(|has| has < command.role) {
        return Err(Refusal::RoleMissing {
            name: principal.name.clone(),
            role: command.role.word().to_owned(),
        });
    }
    let owned = |key: &&AccessKey| key.principal == command.principal;
    if state.access_keys.iter().filter(owned).count() >= ACCESS_KEYS_PER_PRINCIPAL_MAX {
        let limit = ACCESS_KEYS_PER_PRINCIPAL_MAX as u64;
        let what = "access keys per principal".to_owned();
        return Err(Refusal::LimitReached { what, limit });
    }
    if state.access_keys.get(&command.id).is_some() {
        return Err(Refusal::IdTaken(command.id.to_string()));
    }
    let now = state.time;
    state.access_keys.put(AccessKey {
        id: command.id,
        principal: command.principal,
        project: command.project,
        role: command.role,
        secret_hash: command.secret_hash,
        created_at: now,
        expires_at: command
            .ttl_ms
            .map(|ttl| TimestampMs(now.0.saturating_add(ttl))),
        revision: state.index,
    });
    Ok(Outcome::AccessKey(command.id))
}

pub(crate) fn delete(state: &mut State, id: AccessKeyId) -> Result<Outcome, Refusal> {
    if state.access_keys.get(&id).is_none() {
        return Err(Refusal::NotFound {
            kind: Kind::AccessKey,
            reference: id.to_string(),
        });
    }
    state.access_keys.remove(&id);
    Ok(Outcome::Done)
}

pub(crate) fn forget_principal(state: &mut State, principal: PrincipalId) {
    forget(state, |key| key.principal == principal);
}

pub(crate) fn forget_project(state: &mut State, project: ProjectId) {
    forget(state, |key| key.project == Some(project));
}

fn forget(state: &mut State, of: impl Fn(&AccessKey) -> bool) {
    let ids: Vec<AccessKeyId> = state
        .access_keys
        .iter()
        .filter(|key| of(key))
        .map(|key| key.id)
        .collect();
    for id in ids {
        state.access_keys.remove(&id);
    }
}
