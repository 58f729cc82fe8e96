//! Security groups: rules checked and named, instances that carry them.

use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::security_group_service_server::SecurityGroupService;
use nube_state::command::{AddSecurityRule, CreateSecurityGroup};
use nube_state::security_group::{Direction, Peer, Protocol};
use nube_state::{Command, Outcome, SecurityRule, State, security_group};
use nube_types::limits::SECURITY_GROUPS_PER_INSTANCE_MAX;
use nube_types::{ProjectId, SecurityGroupId, SecurityRuleId};
use tonic::{Request, Response, Status};

use super::mutation::{self, Mutation};
use super::{convert, field, page, resolve, status};
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

/// A protocol by the contract's word.
pub fn protocol(field: &str, word: &str) -> Result<Protocol, Status> {
    match word {
        "any" => Ok(Protocol::Any),
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "icmp" => Ok(Protocol::Icmp),
        _ => Err(status::invalid(field, "tcp, udp, icmp or any")),
    }
}

/// Groups by name or id, sorted, each once.
pub fn groups(
    state: &State,
    project: ProjectId,
    references: &[String],
) -> Result<Vec<SecurityGroupId>, Status> {
    const FIELD: &str = "security_groups";
    if references.len() > SECURITY_GROUPS_PER_INSTANCE_MAX {
        let rule = format!("at most {SECURITY_GROUPS_PER_INSTANCE_MAX}");
        return Err(status::invalid(FIELD, rule));
    }
    let found = references
        .iter()
        .map(|one| resolve::security_group(state, project, FIELD, one).map(|group| group.id));
    let mut ids: Vec<SecurityGroupId> = found.collect::<Result<_, _>>()?;
    ids.sort();
    ids.dedup();
    Ok(ids)
}

fn ports(protocol: Protocol, min: u32, max: u32) -> Result<(u16, u16), Status> {
    const MAX: &str = "rule.port_max";
    if (min, max) == (0, 0) {
        return Ok((0, 0));
    }
    if !matches!(protocol, Protocol::Tcp | Protocol::Udp) {
        let word = convert::protocol_word(protocol);
        let rule = format!("`{word}` has no ports; only tcp and udp have");
        return Err(status::invalid("rule.port_min", rule));
    }
    let range = (field::port("rule.port_min", min)?, field::port(MAX, max)?);
    if range.0 > range.1 {
        let rule = format!("{max} is below port_min {min}: the ports are reversed");
        return Err(status::invalid(MAX, rule));
    }
    Ok(range)
}

/// A checked rule; a group that it names is looked up.
fn rule(
    state: &State,
    project: ProjectId,
    message: &v1::SecurityRule,
) -> Result<SecurityRule, Status> {
    let direction = match message.direction() {
        v1::TrafficDirection::Ingress => Direction::Ingress,
        v1::TrafficDirection::Egress => Direction::Egress,
        v1::TrafficDirection::Unspecified => {
            return Err(status::invalid("rule.direction", "ingress or egress"));
        }
    };
    let protocol = protocol("rule.protocol", &message.protocol)?;
    let (port_min, port_max) = ports(protocol, message.port_min, message.port_max)?;
    let peer = match (message.cidr.as_str(), message.group.as_str()) {
        ("", "") => return Err(status::invalid("rule.cidr", "required: a range or a group")),
        (cidr, "") => Peer::Range(field::prefix("rule.cidr", cidr)?),
        ("", group) => {
            Peer::Group(resolve::security_group(state, project, "rule.group", group)?.id)
        }
        _ => {
            return Err(status::invalid(
                "rule.group",
                "a range or a group, not both",
            ));
        }
    };
    Ok(SecurityRule {
        id: SecurityRuleId(rand::random()),
        direction,
        protocol,
        port_min,
        port_max,
        peer,
    })
}

impl Service {
    fn made(
        &self,
        project: ProjectId,
        outcome: &Outcome,
    ) -> Result<Response<v1::SecurityGroup>, Status> {
        let Outcome::SecurityGroup(id) = outcome else {
            let seen = format!("{outcome:?}");
            return Err(status::fault("changing a security group", &seen));
        };
        let state = self.0.views.now();
        let group = security_group::find(&state, project, *id)
            .ok_or_else(|| status::not_found("security group", &id.to_string()))?;
        Ok(Response::new(convert::security_group(&state, &group)))
    }
}

#[tonic::async_trait]
impl SecurityGroupService for Service {
    async fn create_security_group(
        &self,
        request: Request<v1::CreateSecurityGroupRequest>,
    ) -> Result<Response<v1::SecurityGroup>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let name = field::name("name", &message.name)?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let project = mutation.request.project;
        let command = Command::CreateSecurityGroup(CreateSecurityGroup {
            project,
            id: SecurityGroupId(rand::random()),
            name,
            rules: (
                SecurityRuleId(rand::random()),
                SecurityRuleId(rand::random()),
            ),
        });
        let (_, outcome) = mutation.commit(&self.0, command).await?;
        self.made(project, &outcome)
    }

    async fn get_security_group(
        &self,
        request: Request<v1::GetSecurityGroupRequest>,
    ) -> Result<Response<v1::SecurityGroup>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let (field, reference) = ("security_group", &message.security_group);
        let group = resolve::security_group(&state, caller.project, field, reference)?;
        Ok(Response::new(convert::security_group(&state, &group)))
    }

    async fn list_security_groups(
        &self,
        request: Request<v1::ListSecurityGroupsRequest>,
    ) -> Result<Response<v1::ListSecurityGroupsResponse>, Status> {
        let (caller, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let mut groups = security_group::of_project(&state, caller.project);
        groups.sort_by_key(|group| group.id);
        let (page, next_page_token) = page::cut(
            groups.iter(),
            |group| group.id,
            message.page_size,
            &message.page_token,
        )?;
        let shown = page.into_iter();
        let shown = shown.map(|group| convert::security_group(&state, group));
        Ok(Response::new(v1::ListSecurityGroupsResponse {
            security_groups: shown.collect(),
            next_page_token,
            revision: state.index,
        }))
    }

    async fn add_security_rule(
        &self,
        request: Request<v1::AddSecurityRuleRequest>,
    ) -> Result<Response<v1::SecurityGroup>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let project = mutation.request.project;
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                let wanted = message.rule.as_ref();
                let wanted = wanted.ok_or_else(|| status::invalid("rule", "required"))?;
                let rule = rule(&state, project, wanted)?;
                let (field, reference) = ("security_group", &message.security_group);
                let group = resolve::security_group(&state, project, field, reference)?.id;
                let command = Command::AddSecurityRule(AddSecurityRule {
                    project,
                    group,
                    rule,
                });
                mutation.commit(&self.0, command).await?.1
            }
        };
        self.made(project, &outcome)
    }

    async fn remove_security_rule(
        &self,
        request: Request<v1::RemoveSecurityRuleRequest>,
    ) -> Result<Response<v1::SecurityGroup>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let rule: SecurityRuleId = message
            .rule_id
            .parse()
            .map_err(|_| status::invalid("rule_id", "an id as sgr-0123456789abcdef"))?;
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let project = mutation.request.project;
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                let (field, reference) = ("security_group", &message.security_group);
                let group = resolve::security_group(&state, project, field, reference)?.id;
                let command = Command::RemoveSecurityRule(project, group, rule);
                mutation.commit(&self.0, command).await?.1
            }
        };
        self.made(project, &outcome)
    }

    async fn set_instance_security_groups(
        &self,
        request: Request<v1::SetInstanceSecurityGroupsRequest>,
    ) -> Result<Response<v1::Instance>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let sees_hosts = caller.sees_hosts();
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let project = mutation.request.project;
        let id = match mutation.recall(&state)? {
            Some(Outcome::Instances(ids)) => ids.first().copied(),
            Some(other) => return Err(status::fault("setting groups", &format!("{other:?}"))),
            None => {
                let id = resolve::instance(&state, project, &message.instance)?.id;
                let groups = groups(&state, project, &message.security_groups)?;
                let command = Command::SetInstanceSecurityGroups(project, id, groups);
                mutation.commit(&self.0, command).await?;
                Some(id)
            }
        };
        let state = self.0.views.now();
        let instance = id.and_then(|id| state.instances.get(&id));
        let instance = instance.ok_or_else(|| status::not_found("instance", &message.instance))?;
        let shown = convert::instance(&state, instance, sees_hosts);
        Ok(Response::new(shown))
    }

    async fn delete_security_group(
        &self,
        request: Request<v1::DeleteSecurityGroupRequest>,
    ) -> Result<Response<v1::DeleteSecurityGroupResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        if mutation.recall(&state)?.is_none() {
            let project = mutation.request.project;
            let (field, reference) = ("security_group", &message.security_group);
            let group = resolve::security_group(&state, project, field, reference)?.id;
            let command = Command::DeleteSecurityGroup(project, group);
            mutation.commit(&self.0, command).await?;
        }
        Ok(Response::new(v1::DeleteSecurityGroupResponse {}))
    }
}

#[cfg(test)]
mod test;
