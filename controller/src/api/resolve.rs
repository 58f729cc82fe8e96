//! Names and ids to records. An id of another project is as absent as one that
//! never was.

use std::net::Ipv4Addr;

use nube_state::{
    Address, Image, Instance, Kind, LoadBalancer, Network, Node, Principal, Project, SecurityGroup,
    SshKey, State, address, image, instance, load_balancer, network, security_group, ssh_key,
};
use nube_types::{
    AddressId, ImageId, InstanceId, LoadBalancerId, Name, NetworkId, NodeId, PrincipalId,
    ProjectId, SecurityGroupId, SshKeyId, SubnetId,
};
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

/// By name or id; nothing is the default network.
pub fn network<'a>(
    state: &'a State,
    project: ProjectId,
    reference: &str,
) -> Result<&'a Network, Status> {
    let found = match reference.parse::<NetworkId>() {
        Ok(id) => state
            .networks
            .get(&id)
            .filter(|found| found.project == project),
        Err(_) if reference.is_empty() => network::default_of(state, project),
        Err(_) => network::by_name(state, project, reference),
    };
    found.ok_or_else(|| not_found(Kind::Network, reference))
}

/// The same where a network has to be named.
pub fn named_network<'a>(
    state: &'a State,
    project: ProjectId,
    reference: &str,
) -> Result<&'a Network, Status> {
    required("network", reference)?;
    network(state, project, reference)
}

/// By id, or by name within a network; with the network that it is in.
pub fn subnet(
    state: &State,
    project: ProjectId,
    within: &str,
    reference: &str,
) -> Result<(NetworkId, network::SubnetView), Status> {
    required("subnet", reference)?;
    let absent = || not_found(Kind::Subnet, reference);
    let (place, id) = match reference.parse::<SubnetId>() {
        Ok(id) => {
            let place = match state.subnets.get(&id) {
                Some(found) => found.network,
                // A network's first subnet has its digits.
                None => NetworkId(id.0),
            };
            (place, Some(id))
        }
        Err(_) => (network(state, project, within)?.id, None),
    };
    let place = state
        .networks
        .get(&place)
        .filter(|found| found.project == project)
        .ok_or_else(absent)?;
    if id.is_some() && !within.is_empty() && network(state, project, within)?.id != place.id {
        return Err(absent());
    }
    let wanted = |one: &network::SubnetView| match id {
        Some(id) => one.id == id,
        None => one.name == reference,
    };
    let found = network::subnets(state, place.id).into_iter().find(wanted);
    Ok((place.id, found.ok_or_else(absent)?))
}

/// By name or id.
pub fn security_group(
    state: &State,
    project: ProjectId,
    field: &str,
    reference: &str,
) -> Result<SecurityGroup, Status> {
    required(field, reference)?;
    let found = match reference.parse::<SecurityGroupId>() {
        Ok(id) => security_group::find(state, project, id),
        Err(_) => security_group::of_project(state, project)
            .into_iter()
            .find(|group| group.name.as_str() == reference),
    };
    found.ok_or_else(|| not_found(Kind::SecurityGroup, reference))
}

/// By id, name, or the address itself.
pub fn address<'a>(
    state: &'a State,
    project: ProjectId,
    field: &str,
    reference: &str,
) -> Result<&'a Address, Status> {
    required(field, reference)?;
    let mut own = address::of_project(state, project);
    let found = if let Ok(id) = reference.parse::<AddressId>() {
        own.find(|held| held.id == id)
    } else if let Ok(address) = reference.parse::<Ipv4Addr>() {
        own.find(|held| held.address == address.to_bits())
    } else {
        own.find(|held| held.name.as_str() == reference)
    };
    found.ok_or_else(|| not_found(Kind::Address, reference))
}

/// By name or id.
pub fn load_balancer<'a>(
    state: &'a State,
    project: ProjectId,
    reference: &str,
) -> Result<&'a LoadBalancer, Status> {
    required("load_balancer", reference)?;
    let mut own = load_balancer::of_project(state, project);
    let found = match reference.parse::<LoadBalancerId>() {
        Ok(id) => own.find(|one| one.id == id),
        Err(_) => own.find(|one| one.name.as_str() == reference),
    };
    found.ok_or_else(|| not_found(Kind::LoadBalancer, reference))
}
