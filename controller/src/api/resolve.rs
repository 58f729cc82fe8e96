//! Names and ids to records. An id of another project is as absent as one that
//! never was.

use nube_state::{
    Image, Instance, Kind, Node, Principal, Project, SshKey, State, image, instance, ssh_key,
};
use nube_types::{ImageId, InstanceId, Name, NodeId, PrincipalId, ProjectId, SshKeyId};
use tonic::Status;

use super::status::{invalid, not_found};
use crate::authorise::{self, Caller};

fn required(field: &str, reference: &str) -> Result<(), Status> {
    if reference.is_empty() {
        return Err(invalid(field, "required: a name or an id"));
    }
    Ok(())
}

/// By name (living ones) or id (deleted ones too).
pub fn instance<'a>(
    state: &'a State,
    project: ProjectId,
    reference: &str,
) -> Result<&'a Instance, Status> {
    required("instance", reference)?;
    let found = match reference.parse::<InstanceId>() {
        Ok(id) => state
            .instances
            .get(&id)
            .filter(|found| found.project == project),
        Err(_) => Name::new(reference)
            .ok()
            .and_then(|n| instance::by_name(state, project, &n)),
    };
    found.ok_or_else(|| not_found(Kind::Instance, reference))
}

/// By name or id.
pub fn image<'a>(
    state: &'a State,
    project: ProjectId,
    reference: &str,
) -> Result<&'a Image, Status> {
    required("image", reference)?;
    let found = match reference.parse::<ImageId>() {
        Ok(id) => state
            .images
            .get(&id)
            .filter(|found| found.spec.project == project),
        Err(_) => image::of_project(state, project).find(|i| i.name().as_str() == reference),
    };
    found.ok_or_else(|| not_found(Kind::Image, reference))
}

/// By name or id.
pub fn ssh_key<'a>(
    state: &'a State,
    project: ProjectId,
    reference: &str,
) -> Result<&'a SshKey, Status> {
    required("ssh_key", reference)?;
    let found = match reference.parse::<SshKeyId>() {
        Ok(id) => state
            .ssh_keys
            .get(&id)
            .filter(|found| found.project == project),
        Err(_) => ssh_key::of_project(state, project).find(|k| k.name.as_str() == reference),
    };
    found.ok_or_else(|| not_found(Kind::SshKey, reference))
}

/// By name or id.
pub fn node<'a>(state: &'a State, reference: &str) -> Result<&'a Node, Status> {
    required("node", reference)?;
    let found = match reference.parse::<NodeId>() {
        Ok(id) => state.nodes.get(&id),
        Err(_) => state
            .nodes
            .iter()
            .find(|node| node.facts.name.as_str() == reference),
    };
    found.ok_or_else(|| not_found(Kind::Node, reference))
}

/// By name or id.
pub fn project<'a>(state: &'a State, reference: &str) -> Result<&'a Project, Status> {
    required("project", reference)?;
    authorise::find_project(state, reference).ok_or_else(|| not_found(Kind::Project, reference))
}

/// By name or id, among those that the caller may see.
pub fn project_of<'a>(
    state: &'a State,
    caller: &Caller,
    reference: &str,
) -> Result<&'a Project, Status> {
    let found = project(state, reference)?;
    if !caller.sees_hosts() && found.id != caller.project {
        return Err(not_found(Kind::Project, reference));
    }
    Ok(found)
}

/// By name or id.
pub fn principal<'a>(state: &'a State, reference: &str) -> Result<&'a Principal, Status> {
    required("principal", reference)?;
    let found = match reference.parse::<PrincipalId>() {
        Ok(id) => state.principals.get(&id),
        Err(_) => nube_state::principal::by_name(state, reference),
    };
    found.ok_or_else(|| not_found(Kind::Principal, reference))
}
