//! Projects: made, shown, bounded and ended.

use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::project_service_server::ProjectService;
use nube_state::command::CreateProject;
use nube_state::{Command, Outcome, Quota, State};
use nube_types::{NetworkId, ProjectId};
use tonic::{Request, Response, Status};

use super::mutation::{self, Mutation};
use super::{convert, field, page, resolve, status};
use crate::authorise::Caller;
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

fn quota(quota: &v1::Quota) -> Quota {
    Quota {
        instances: quota.instances,
        vcpus: quota.vcpus,
        memory_mib: quota.memory_mib,
        disk_mib: quota.disk_mib,
        ssh_keys: quota.ssh_keys,
        images: quota.images,
        addresses: (quota.addresses != 0).then_some(quota.addresses),
    }
}

fn show(state: &State, id: ProjectId) -> Result<v1::Project, Status> {
    let project = state.projects.get(&id);
    let project = project.ok_or_else(|| status::not_found("project", &id.to_string()))?;
    Ok(convert::project(state, project))
}

/// Tenants see their own; whoever has a role in the cell sees all.
fn visible(caller: &Caller, project: ProjectId) -> bool {
    caller.sees_hosts() || caller.project == project
}

impl Service {
    fn made(&self, outcome: &Outcome) -> Result<Response<v1::Project>, Status> {
        match outcome {
            Outcome::Project(id) => show(&self.0.views.now(), *id).map(Response::new),
            other => Err(status::fault("changing a project", &format!("{other:?}"))),
        }
    }
}

#[tonic::async_trait]
impl ProjectService for Service {
    async fn create_project(
        &self,
        request: Request<v1::CreateProjectRequest>,
    ) -> Result<Response<v1::Project>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let name = field::name("name", &message.name)?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let command = Command::CreateProject(CreateProject {
            id: ProjectId(rand::random()),
            name,
            network: NetworkId(rand::random()),
            quota: message.quota.as_ref().map(quota),
        });
        let (_, outcome) = mutation.commit(&self.0, command).await?;
        self.made(&outcome)
    }

    async fn get_project(
        &self,
        request: Request<v1::GetProjectRequest>,
    ) -> Result<Response<v1::Project>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        if message.project.is_empty() {
            return show(&state, caller.project).map(Response::new);
        }
        let project = resolve::project(&state, &message.project)?;
        if !visible(&caller, project.id) {
            return Err(status::not_found("project", &message.project));
        }
        Ok(Response::new(convert::project(&state, project)))
    }

    async fn list_projects(
        &self,
        request: Request<v1::ListProjectsRequest>,
    ) -> Result<Response<v1::ListProjectsResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let projects = state.projects.iter();
        let projects = projects.filter(|project| visible(&caller, project.id));
        let (page, next_page_token) =
            page::cut(projects, |p| p.id, message.page_size, &message.page_token)?;
        let projects = page.into_iter().map(|p| convert::project(&state, p));
        Ok(Response::new(v1::ListProjectsResponse {
            projects: projects.collect(),
            next_page_token,
            revision: state.index,
        }))
    }

    async fn set_project_quota(
        &self,
        request: Request<v1::SetProjectQuotaRequest>,
    ) -> Result<Response<v1::Project>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let wanted = message.quota.as_ref().map(quota);
        let wanted = wanted.ok_or_else(|| status::invalid("quota", "required"))?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let state = self.0.read().await?;
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                let id = resolve::project(&state, &message.project)?.id;
                let command = Command::SetProjectQuota(id, wanted);
                mutation.commit(&self.0, command).await?.1
            }
        };
        self.made(&outcome)
    }

    async fn delete_project(
        &self,
        request: Request<v1::DeleteProjectRequest>,
    ) -> Result<Response<v1::DeleteProjectResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let state = self.0.read().await?;
        if mutation.recall(&state)?.is_none() {
            let id = resolve::project(&state, &message.project)?.id;
            let command = Command::DeleteProject(id);
            mutation.commit(&self.0, command).await?;
        }
        Ok(Response::new(v1::DeleteProjectResponse {}))
    }
}
