//! Principals: people and programs, and what each may do where. The one place
//! that turns roles into rights is the controller's `authorise`; here roles are
//! kept, bounded and unique.

use minicbor::{Decode, Encode};
use nube_types::limits::{PRINCIPALS_MAX, ROLES_PER_PRINCIPAL_MAX};
use nube_types::{Name, PrincipalId, ProjectId, TimestampMs};

use crate::command::{CreatePrincipal, SetRole};
use crate::outcome::{Kind, Outcome, Refusal};
use crate::state::State;
use crate::table::Record;
use crate::{access_key, project};

/// A person or a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum PrincipalKind {
    /// A person.
    #[n(0)]
    User,
    /// A program.
    #[n(1)]
    Service,
}

/// What one may do; a greater one includes the lesser ones of its scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum AccessRole {
    /// Reads a project.
    #[n(0)]
    Viewer,
    /// Also changes it.
    #[n(1)]
    Member,
    /// Runs the cell; reads all projects. Legal for the cell only.
    #[n(2)]
    Operator,
    /// Also its people and keys; for the cell: everything.
    #[n(3)]
    Admin,
}

impl AccessRole {
    /// As people read it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Member => "member",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// It has a meaning in a project, or in the cell.
    #[must_use]
    pub fn is_legal(self, project: Option<ProjectId>) -> bool {
        match self {
            Self::Viewer | Self::Member => project.is_some(),
            Self::Operator => project.is_none(),
            Self::Admin => true,
        }
    }
}

/// One role in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct RoleBinding {
    /// Absent: the cell.
    #[n(0)]
    pub project: Option<ProjectId>,
    /// The role.
    #[n(1)]
    pub role: AccessRole,
}

/// Someone who acts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Principal {
    /// Its id.
    #[n(0)]
    pub id: PrincipalId,
    /// Unique in the cell.
    #[n(1)]
    pub name: Name,
    /// Person or program.
    #[n(2)]
    pub kind: PrincipalKind,
    /// At most one per place.
    #[n(3)]
    pub roles: Vec<RoleBinding>,
    /// When it was made.
    #[n(4)]
    pub created_at: TimestampMs,
    /// Log index of the last change.
    #[n(5)]
    pub revision: u64,
}

impl Record for Principal {
    type Key = PrincipalId;
    const TABLE: u8 = 12;
    fn key(&self) -> PrincipalId {
        self.id
    }
}

impl Principal {
    /// The role bound to exactly this place.
    #[must_use]
    pub fn role_at(&self, project: Option<ProjectId>) -> Option<AccessRole> {
        let bound = self.roles.iter().find(|b| b.project == project);
        bound.map(|binding| binding.role)
    }

    /// What it may do there: an admin of the cell is admin everywhere.
    #[must_use]
    pub fn rights_at(&self, project: Option<ProjectId>) -> Option<AccessRole> {
        match self.role_at(None) {
            Some(AccessRole::Admin) => Some(AccessRole::Admin),
            _ => self.role_at(project),
        }
    }
}

fn absent(id: PrincipalId) -> Refusal {
    Refusal::NotFound {
        kind: Kind::Principal,
        reference: id.to_string(),
    }
}

/// By name.
#[must_use]
pub fn by_name<'a>(state: &'a State, name: &str) -> Option<&'a Principal> {
    state.principals.iter().find(|p| p.name.as_str() == name)
}

pub(crate) fn create(state: &mut State, command: &CreatePrincipal) -> Result<Outcome, Refusal> {
    if state.principals.len() >= PRINCIPALS_MAX {
        let (what, limit) = ("principals".to_owned(), PRINCIPALS_MAX as u64);
        return Err(Refusal::LimitReached { what, limit });
    }
    if by_name(state, command.name.as_str()).is_some() {
        let (kind, name) = (Kind::Principal, command.name.clone());
        return Err(Refusal::NameTaken { kind, name });
    }
    if state.principals.get(&command.id).is_some() {
        return Err(Refusal::IdTaken(command.id.to_string()));
    }
    state.principals.put(Principal {
        id: command.id,
        name: command.name.clone(),
        kind: command.kind,
        roles: Vec::new(),
        created_at: state.time,
        revision: state.index,
    });
    Ok(Outcome::Principal(command.id))
}

pub(crate) fn set_role(state: &mut State, command: &SetRole) -> Result<Outcome, Refusal> {
    let found = state.principals.get(&command.principal);
    let mut principal = found.ok_or_else(|| absent(command.principal))?.clone();
    if let Some(id) = command.project {
        project::find(state, id)?;
    }
    if command
        .role
        .is_some_and(|role| !role.is_legal(command.project))
    {
        return Err(Refusal::Invalid {
            field: "role".to_owned(),
            rule: "viewer, member or admin in a project; operator or admin in the cell".to_owned(),
        });
    }
    principal.roles.retain(|b| b.project != command.project);
    if let Some(role) = command.role {
        if principal.roles.len() >= ROLES_PER_PRINCIPAL_MAX {
            let limit = ROLES_PER_PRINCIPAL_MAX as u64;
            let what = "roles per principal".to_owned();
            return Err(Refusal::LimitReached { what, limit });
        }
        let project = command.project;
        principal.roles.push(RoleBinding { project, role });
        principal.roles.sort_by_key(|binding| binding.project);
    }
    principal.revision = state.index;
    state.principals.put(principal);
    Ok(Outcome::Principal(command.principal))
}

pub(crate) fn delete(state: &mut State, id: PrincipalId) -> Result<Outcome, Refusal> {
    if state.principals.get(&id).is_none() {
        return Err(absent(id));
    }
    access_key::forget_principal(state, id);
    state.principals.remove(&id);
    Ok(Outcome::Done)
}

/// A project is gone: so are the roles in it.
pub(crate) fn forget_project(state: &mut State, project: ProjectId) {
    let bound = |p: &&Principal| p.role_at(Some(project)).is_some();
    let ids: Vec<PrincipalId> = state
        .principals
        .iter()
        .filter(bound)
        .map(|p| p.id)
        .collect();
    let index = state.index;
    for id in ids {
        state.principals.update(&id, |principal| {
            principal.roles.retain(|b| b.project != Some(project));
            principal.revision = index;
        });
    }
}
