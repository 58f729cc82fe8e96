//! Access keys: made once, shown once, ended at will.

use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::access_key_service_server::AccessKeyService;
use nube_state::command::CreateAccessKey;
use nube_state::{AccessKey, AccessRole, Command, Kind, Outcome, State};
use nube_types::limits::{ACCESS_KEY_TTL_SECONDS_MAX, ACCESS_KEY_TTL_SECONDS_MIN};
use nube_types::{AccessKeyId, ProjectId};
use tonic::{Request, Response, Status};

use super::mutation::{self, Mutation};
use super::{convert, page, principal, resolve, status};
use crate::authorise::{self, Caller, TOKEN_PREFIX};
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

/// Admins of the cell see all, admins of a project its own, others theirs.
fn visible(caller: &Caller, key: &AccessKey) -> bool {
    let admin = caller.project_role == Some(AccessRole::Admin);
    caller.is_cell_admin()
        || caller.principal == Some(key.principal)
        || admin && key.project == Some(caller.project)
}

/// Who may make a key with this role there, and for whom.
fn may_create(
    caller: &Caller,
    own: bool,
    project: Option<ProjectId>,
    role: AccessRole,
) -> Result<(), Status> {
    let here = project.is_some_and(|project| project == caller.project);
    let has = match project {
        None => caller.cell_role,
        Some(_) if here => caller.project_role,
        Some(_) => None,
    };
    let is_admin = caller.is_cell_admin() || here && has == Some(AccessRole::Admin);
    if is_admin || own && has.is_some_and(|has| has >= role) {
        return Ok(());
    }
    let text = "admins make keys for others; for yourself, no more than your own role there";
    Err(status::forbidden(text))
}

fn ttl_ms(seconds: u64) -> Result<Option<u64>, Status> {
    match seconds {
        0 => Ok(None),
        ACCESS_KEY_TTL_SECONDS_MIN..=ACCESS_KEY_TTL_SECONDS_MAX => Ok(Some(seconds * 1000)),
        _ => {
            let (min, max) = (ACCESS_KEY_TTL_SECONDS_MIN, ACCESS_KEY_TTL_SECONDS_MAX);
            let rule = format!("{min} to {max}, or 0 for no end");
            Err(status::invalid("ttl_seconds", rule))
        }
    }
}

impl Service {
    fn command(
        &self,
        state: &State,
        mutation: &Mutation,
        message: &v1::CreateAccessKeyRequest,
    ) -> Result<CreateAccessKey, Status> {
        let caller = &mutation.caller;
        let role = principal::role("role", message.role)?;
        let role = role.ok_or_else(|| status::invalid("role", "required"))?;
        let ttl_ms = ttl_ms(message.ttl_seconds)?;
        let whose = match message.principal.as_str() {
            "" => caller.principal.ok_or_else(|| {
                status::invalid("principal", "required: a certificate is nobody's principal")
            })?,
            text => resolve::principal(state, text)?.id,
        };
        let project = match message.project.as_str() {
            "" => None,
            text => Some(resolve::project_of(state, caller, text)?.id),
        };
        may_create(caller, caller.principal == Some(whose), project, role)?;
        let id = AccessKeyId(rand::random());
        let secret = self.0.secret.access_key_secret(id, mutation.request.id);
        Ok(CreateAccessKey {
            id,
            principal: whose,
            project,
            role,
            secret_hash: authorise::hash(&secret),
            ttl_ms,
        })
    }
}

#[tonic::async_trait]
impl AccessKeyService for Service {
    async fn create_access_key(
        &self,
        request: Request<v1::CreateAccessKeyRequest>,
    ) -> Result<Response<v1::CreateAccessKeyResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let state = self.0.read().await?;
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                let command = self.command(&state, &mutation, &message)?;
                let command = Command::CreateAccessKey(command);
                mutation.commit(&self.0, command).await?.1
            }
        };
        let Outcome::AccessKey(id) = outcome else {
            return Err(status::fault("making a key", &format!("{outcome:?}")));
        };
        let state = self.0.views.now();
        let key = state.access_keys.get(&id);
        let key = key.ok_or_else(|| status::not_found(Kind::AccessKey, &id.to_string()))?;
        let secret = self.0.secret.access_key_secret(id, mutation.request.id);
        Ok(Response::new(v1::CreateAccessKeyResponse {
            access_key: Some(convert::access_key(&state, key)),
            token: format!("{TOKEN_PREFIX}{id}.{secret}"),
        }))
    }

    async fn list_access_keys(
        &self,
        request: Request<v1::ListAccessKeysRequest>,
    ) -> Result<Response<v1::ListAccessKeysResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let keys = state.access_keys.iter().filter(|key| visible(&caller, key));
        let (page, next_page_token) =
            page::cut(keys, |key| key.id, message.page_size, &message.page_token)?;
        let access_keys = page.into_iter().map(|key| convert::access_key(&state, key));
        Ok(Response::new(v1::ListAccessKeysResponse {
            access_keys: access_keys.collect(),
            next_page_token,
            revision: state.index,
        }))
    }

    async fn delete_access_key(
        &self,
        request: Request<v1::DeleteAccessKeyRequest>,
    ) -> Result<Response<v1::DeleteAccessKeyResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let state = self.0.read().await?;
        if mutation.recall(&state)?.is_none() {
            if message.access_key.is_empty() {
                return Err(status::invalid("access_key", "required: an id"));
            }
            let absent = || status::not_found(Kind::AccessKey, &message.access_key);
            let id = message.access_key.parse::<AccessKeyId>();
            let key = id.ok().and_then(|id| state.access_keys.get(&id));
            let key = key.filter(|key| visible(&mutation.caller, key));
            let command = Command::DeleteAccessKey(key.ok_or_else(absent)?.id);
            mutation.commit(&self.0, command).await?;
        }
        Ok(Response::new(v1::DeleteAccessKeyResponse {}))
    }

    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let (caller, _) = mutation::take(request)?;
        let state = self.0.read().await?;
        let project = state.projects.get(&caller.project);
        let number = |role: Option<AccessRole>| role.map_or(0, |role| convert::role(role).into());
        Ok(Response::new(v1::WhoAmIResponse {
            project_role: number(caller.project_role),
            cell_role: number(caller.cell_role),
            actor: caller.actor,
            access_key_id: caller
                .access_key
                .map(|id| id.to_string())
                .unwrap_or_default(),
            project_id: caller.project.to_string(),
            project_name: project.map(|p| p.name.to_string()).unwrap_or_default(),
        }))
    }
}
