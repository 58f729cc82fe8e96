//! Principals and their roles. Admins of the cell see and change everyone;
//! admins of a project those in it, and what they are there.

use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::principal_service_server::PrincipalService;
use nube_state::command::{CreatePrincipal, SetRole};
use nube_state::{AccessRole, Command, Kind, Outcome, Principal, PrincipalKind, State};
use nube_types::PrincipalId;
use tonic::{Request, Response, Status};

use super::mutation::{self, Mutation};
use super::{convert, field, page, resolve, status};
use crate::authorise::Caller;
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

/// A role as the contract numbers it; `None`: unspecified.
pub fn role(field: &str, number: i32) -> Result<Option<AccessRole>, Status> {
    match v1::AccessRole::try_from(number) {
        Ok(v1::AccessRole::Unspecified) => Ok(None),
        Ok(v1::AccessRole::Viewer) => Ok(Some(AccessRole::Viewer)),
        Ok(v1::AccessRole::Member) => Ok(Some(AccessRole::Member)),
        Ok(v1::AccessRole::Operator) => Ok(Some(AccessRole::Operator)),
        Ok(v1::AccessRole::Admin) => Ok(Some(AccessRole::Admin)),
        Err(_) => Err(status::invalid(field, "viewer, member, operator or admin")),
    }
}

/// Everyone sees oneself, project admins those in their project.
fn visible(caller: &Caller, principal: &Principal) -> bool {
    let admin = caller.project_role == Some(AccessRole::Admin);
    caller.sees_hosts()
        || caller.principal == Some(principal.id)
        || admin && principal.role_at(Some(caller.project)).is_some()
}

fn show(
    state: &State,
    caller: &Caller,
    principal: &Principal,
) -> Result<Response<v1::Principal>, Status> {
    let only = (!caller.sees_hosts()).then_some(caller.project);
    Ok(Response::new(convert::principal(state, principal, only)))
}

impl Service {
    fn made(&self, caller: &Caller, outcome: &Outcome) -> Result<Response<v1::Principal>, Status> {
        let state = self.0.views.now();
        let id = match outcome {
            Outcome::Principal(id) => *id,
            other => return Err(status::fault("changing a principal", &format!("{other:?}"))),
        };
        let principal = state.principals.get(&id);
        let absent = || status::not_found(Kind::Principal, &id.to_string());
        show(&state, caller, principal.ok_or_else(absent)?)
    }
}

#[tonic::async_trait]
impl PrincipalService for Service {
    async fn create_principal(
        &self,
        request: Request<v1::CreatePrincipalRequest>,
    ) -> Result<Response<v1::Principal>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let name = field::name("name", &message.name)?;
        let kind = match v1::PrincipalKind::try_from(message.kind) {
            Ok(v1::PrincipalKind::Unspecified | v1::PrincipalKind::User) => PrincipalKind::User,
            Ok(v1::PrincipalKind::Service) => PrincipalKind::Service,
            Err(_) => return Err(status::invalid("kind", "user or service")),
        };
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let id = PrincipalId(rand::random());
        let command = Command::CreatePrincipal(CreatePrincipal { id, name, kind });
        let (_, outcome) = mutation.commit(&self.0, command).await?;
        self.made(&mutation.caller, &outcome)
    }

    async fn get_principal(
        &self,
        request: Request<v1::GetPrincipalRequest>,
    ) -> Result<Response<v1::Principal>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let found = resolve::principal(&state, &message.principal)?;
        if !visible(&caller, found) {
            return Err(status::not_found(Kind::Principal, &message.principal));
        }
        show(&state, &caller, found)
    }

    async fn list_principals(
        &self,
        request: Request<v1::ListPrincipalsRequest>,
    ) -> Result<Response<v1::ListPrincipalsResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let only = (!caller.sees_hosts()).then_some(caller.project);
        let principals = state.principals.iter().filter(|p| visible(&caller, p));
        let (page, next_page_token) =
            page::cut(principals, |p| p.id, message.page_size, &message.page_token)?;
        let principals = page
            .into_iter()
            .map(|p| convert::principal(&state, p, only));
        Ok(Response::new(v1::ListPrincipalsResponse {
            principals: principals.collect(),
            next_page_token,
            revision: state.index,
        }))
    }

    async fn set_role(
        &self,
        request: Request<v1::SetRoleRequest>,
    ) -> Result<Response<v1::Principal>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let role = role("role", message.role)?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let state = self.0.read().await?;
        let caller = &mutation.caller;
        let project = match message.project.as_str() {
            "" => None,
            text => Some(resolve::project_of(&state, caller, text)?.id),
        };
        if !caller.is_cell_admin() && project.is_none() {
            let text = "only admins of the cell give roles in the cell; name your project";
            return Err(status::forbidden(text));
        }
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                // A project admin must be able to name whom to let in: names of
                // principals are no secret to admins.
                let principal = resolve::principal(&state, &message.principal)?.id;
                let command = SetRole {
                    principal,
                    project,
                    role,
                };
                mutation.commit(&self.0, Command::SetRole(command)).await?.1
            }
        };
        self.made(&mutation.caller, &outcome)
    }

    async fn delete_principal(
        &self,
        request: Request<v1::DeletePrincipalRequest>,
    ) -> Result<Response<v1::DeletePrincipalResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let state = self.0.read().await?;
        if mutation.recall(&state)?.is_none() {
            let id = resolve::principal(&state, &message.principal)?.id;
            let command = Command::DeletePrincipal(id);
            mutation.commit(&self.0, command).await?;
        }
        Ok(Response::new(v1::DeletePrincipalResponse {}))
    }
}
