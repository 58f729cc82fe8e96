//! The one place that says who may call what. Every call passes here before any
//! service sees it: who is it (certificate or access key, never the message),
//! which project, which role; then one row of a table decides. What has no row
//! is refused.

mod layer;
mod rules;

use nube_state::{AccessRole, Kind, PrincipalKind, Project, State, access_key, project};
use nube_types::{AccessKeyId, Name, PrincipalId, ProjectId};
use sha2::{Digest, Sha256};
use tonic::{Request, Status};

use crate::api::status;
use crate::cell::Cell;
use crate::identity::{Identity, Role};

pub use layer::Authorise;
pub use rules::{RULES, Rule};

/// Metadata that names the project of a call.
pub const PROJECT_METADATA: &str = "x-nube-project";
/// Before the id and the secret in a token.
pub const TOKEN_PREFIX: &str = "nube1.";

/// Who calls, and what about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// As in the audit: `user/alice`, `operator/admin`.
    pub actor: String,
    /// Address that the call came from.
    pub source: Option<String>,
    /// The key it came with; absent for certificates.
    pub access_key: Option<AccessKeyId>,
    /// Whose key.
    pub principal: Option<PrincipalId>,
    /// Role in the cell.
    pub cell_role: Option<AccessRole>,
    /// The project that the call is about.
    pub project: ProjectId,
    /// Role there.
    pub project_role: Option<AccessRole>,
}

impl Caller {
    /// Hosts have names and numbers for those who run them; tenants see that
    /// there are some.
    #[must_use]
    pub fn sees_hosts(&self) -> bool {
        self.cell_role.is_some()
    }

    /// An admin of the cell.
    #[must_use]
    pub fn is_cell_admin(&self) -> bool {
        self.cell_role == Some(AccessRole::Admin)
    }

    /// What was allowed when the call came in is allowed still: long streams ask
    /// again and again.
    #[must_use]
    pub fn still_holds(&self, state: &State) -> bool {
        let Some(id) = self.access_key else {
            return true;
        };
        let key = state.access_keys.get(&id);
        let rights = key.and_then(|key| access_key::rights(state, key));
        let needed = match key.map(|key| key.project) {
            Some(None) => self.cell_role,
            _ => self.project_role,
        };
        rights.is_some() && rights >= needed
    }
}

/// What a call brought to prove who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    None,
    /// A certificate of this cluster.
    Certificate(Identity),
    /// An access key, and the hash of the secret that came with it.
    Token(AccessKeyId, [u8; 32]),
    /// Something that no key looks like.
    Malformed,
}

impl Credentials {
    /// Reads `Bearer nube1.ak-….SECRET`.
    #[must_use]
    pub fn from_header(value: &str) -> Self {
        let token = value.strip_prefix("Bearer ").map(str::trim);
        let parts = token.and_then(|token| token.strip_prefix(TOKEN_PREFIX)?.split_once('.'));
        let parsed = parts.and_then(|(id, secret)| Some((id.parse().ok()?, secret)));
        match parsed {
            Some((id, secret)) => Self::Token(id, hash(secret)),
            None => Self::Malformed,
        }
    }
}

/// What is kept of a secret.
#[must_use]
pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nobody, or not who one says: one text for all cases.
    Unauthenticated(&'static str),
    /// Known, and not allowed: what would be needed.
    Forbidden(String),
    /// The named project is absent, or another's.
    NoProject(String),
    /// No such method here.
    NoMethod,
    /// The cluster has no first entry yet.
    NotReady,
}

impl Denied {
    fn status(&self) -> Status {
        match self {
            Self::Unauthenticated(text) => status::unauthenticated(text),
            Self::Forbidden(text) => status::forbidden(text),
            Self::NoProject(reference) => status::not_found(Kind::Project, reference),
            Self::NoMethod => Status::unimplemented("no such method"),
            Self::NotReady => Status::unavailable("the cluster is not initialised yet"),
        }
    }
}

const BAD_KEY: &str = "this access key is unknown, expired or deleted";

/// Decides about one call on one view.
pub fn judge(
    state: &State,
    rule: Rule,
    credentials: &Credentials,
    wanted: Option<&str>,
    source: Option<String>,
) -> Result<Caller, Denied> {
    let default = state.cluster.ok_or(Denied::NotReady)?.default_project;
    let mut caller = Caller {
        actor: String::new(),
        source,
        access_key: None,
        principal: None,
        cell_role: None,
        project: default,
        project_role: None,
    };
    let bound = match credentials {
        Credentials::None => {
            return Err(Denied::Unauthenticated(
                "neither a certificate of this cluster nor an access key",
            ));
        }
        Credentials::Malformed => return Err(Denied::Unauthenticated(BAD_KEY)),
        Credentials::Certificate(identity) => {
            if identity.role != Role::Operator {
                let text = format!("role {} may not call this", identity.role.word());
                return Err(Denied::Forbidden(text));
            }
            caller.actor = identity.actor();
            caller.cell_role = Some(AccessRole::Admin);
            None
        }
        Credentials::Token(id, secret_hash) => key_holder(state, *id, secret_hash, &mut caller)
            .ok_or(Denied::Unauthenticated(BAD_KEY))?,
    };
    caller.project = choose_project(state, &caller, bound, wanted)?.id;
    caller.project_role = match caller.cell_role {
        Some(AccessRole::Admin) => Some(AccessRole::Admin),
        Some(_) => Some(AccessRole::Viewer),
        None => caller.project_role,
    };
    rule.allows(&caller)?;
    Ok(caller)
}

/// Fills in who holds the key; the answer is the project it is bound to.
#[expect(clippy::option_option, reason = "no such key, or a key of the cell")]
fn key_holder(
    state: &State,
    id: AccessKeyId,
    secret_hash: &[u8; 32],
    caller: &mut Caller,
) -> Option<Option<ProjectId>> {
    let key = state.access_keys.get(&id)?;
    let differs = key
        .secret_hash
        .iter()
        .zip(secret_hash)
        .fold(0, |differs, (a, b)| differs | (a ^ b));
    if differs != 0 {
        return None;
    }
    let rights = access_key::rights(state, key)?;
    let principal = state.principals.get(&key.principal)?;
    let kind = match principal.kind {
        PrincipalKind::User => "user",
        PrincipalKind::Service => "service",
    };
    caller.actor = format!("{kind}/{}", principal.name);
    (caller.access_key, caller.principal) = (Some(id), Some(principal.id));
    match key.project {
        Some(_) => caller.project_role = Some(rights),
        None => caller.cell_role = Some(rights),
    }
    Some(key.project)
}

fn choose_project<'a>(
    state: &'a State,
    caller: &Caller,
    bound: Option<ProjectId>,
    wanted: Option<&str>,
) -> Result<&'a Project, Denied> {
    let absent = || Denied::NoProject(wanted.unwrap_or_default().to_owned());
    let named = match wanted.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => Some(find_project(state, text).ok_or_else(absent)?),
    };
    match (bound, named) {
        (Some(bound), Some(named)) if named.id != bound => Err(absent()),
        (Some(bound), _) => state.projects.get(&bound).ok_or_else(absent),
        (None, Some(named)) => Ok(named),
        (None, None) => state.projects.get(&caller.project).ok_or_else(absent),
    }
}

/// By name or id, for those who may see it.
#[must_use]
pub fn find_project<'a>(state: &'a State, reference: &str) -> Option<&'a Project> {
    match reference.parse::<ProjectId>() {
        Ok(id) => state.projects.get(&id),
        Err(_) => Name::new(reference)
            .ok()
            .and_then(|name| project::by_name(state, &name)),
    }
}

/// The caller of a request that passed the layer.
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| status::unauthenticated("no caller"))
}

/// Ends a stream within two seconds after its caller lost the right to it.
pub fn guarded<T: Send + 'static>(
    cell: std::sync::Arc<Cell>,
    caller: Caller,
    mut stream: futures::stream::BoxStream<'static, Result<T, Status>>,
) -> futures::stream::BoxStream<'static, Result<T, Status>> {
    use futures::StreamExt;
    const EVERY: std::time::Duration = std::time::Duration::from_secs(2);
    if caller.access_key.is_none() {
        return stream;
    }
    Box::pin(async_stream::try_stream! {
        let mut look = tokio::time::interval(EVERY);
        loop {
            let item = tokio::select! {
                item = stream.next() => Some(item),
                _ = look.tick() => None,
            };
            match item {
                Some(Some(item)) => yield item?,
                Some(None) => break,
                None if caller.still_holds(&cell.views.now()) => {}
                None => Err(status::unauthenticated(BAD_KEY))?,
            }
        }
    })
}

#[cfg(test)]
mod test;
