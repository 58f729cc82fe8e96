//! What owners change about groups. Rules are checked here once more, whoever
//! proposed them: hosts rely on it.

use std::collections::BTreeSet;

use nube_types::limits::{
    RULES_PER_SECURITY_GROUP_MAX, SECURITY_GROUPS_PER_INSTANCE_MAX, SECURITY_GROUPS_PER_PROJECT_MAX,
};
use nube_types::{InstanceId, ProjectId, SecurityGroupId, SecurityRuleId};

use super::{Peer, Protocol, SecurityGroup, SecurityRule, all_out, default_id, find};
use crate::command::{AddSecurityRule, CreateSecurityGroup};
use crate::instance::{self, DesiredState};
use crate::network;
use crate::outcome::{Kind, Outcome, Refusal};
use crate::project;
use crate::state::State;

fn invalid(field: &str, rule: impl Into<String>) -> Refusal {
    Refusal::Invalid {
        field: field.to_owned(),
        rule: rule.into(),
    }
}

fn find_or_refuse(
    state: &State,
    project: ProjectId,
    id: SecurityGroupId,
) -> Result<SecurityGroup, Refusal> {
    find(state, project, id).ok_or_else(|| Refusal::NotFound {
        kind: Kind::SecurityGroup,
        reference: id.to_string(),
    })
}

/// What a port shall carry, as its record says it: in order, each once, and
/// nothing for the default group alone.
pub(crate) fn chosen(
    state: &State,
    project: ProjectId,
    asked: &[SecurityGroupId],
) -> Result<Vec<SecurityGroupId>, Refusal> {
    if asked.len() > SECURITY_GROUPS_PER_INSTANCE_MAX {
        let rule = format!("at most {SECURITY_GROUPS_PER_INSTANCE_MAX}");
        return Err(invalid("security_groups", rule));
    }
    for id in asked {
        find_or_refuse(state, project, *id)?;
    }
    let groups: BTreeSet<_> = asked.iter().copied().collect();
    if groups.iter().eq([&default_id(project)]) {
        return Ok(Vec::new());
    }
    Ok(groups.into_iter().collect())
}

/// Writes a changed group; whoever carries it hears of it.
fn store(state: &mut State, mut group: SecurityGroup) {
    group.revision = state.index;
    if let Some(before) = state.security_groups.get(&group.id) {
        state.derived.network.forget_group(before);
    }
    state.derived.network.note_group(&group);
    network::touch_group(state, group.id);
    state.security_groups.put(group);
}

fn forget(state: &mut State, group: &SecurityGroup) {
    state.derived.network.forget_group(group);
    state.security_groups.remove(&group.id);
}

/// With its project.
pub(crate) fn forget_default(state: &mut State, project: ProjectId) {
    if let Some(group) = state.security_groups.get(&default_id(project)).cloned() {
        forget(state, &group);
    }
}

pub(crate) fn create(state: &mut State, command: &CreateSecurityGroup) -> Result<Outcome, Refusal> {
    project::find(state, command.project)?;
    let groups = super::of_project(state, command.project);
    if groups.iter().any(|group| group.name == command.name) {
        let (kind, name) = (Kind::SecurityGroup, command.name.clone());
        return Err(Refusal::NameTaken { kind, name });
    }
    // The digits of a project are its default group's.
    let taken = state.security_groups.get(&command.id).is_some()
        || state.projects.get(&ProjectId(command.id.0)).is_some();
    if taken || command.rules.0 == command.rules.1 {
        return Err(Refusal::IdTaken(command.id.to_string()));
    }
    // Beside the default one.
    if groups.len() > SECURITY_GROUPS_PER_PROJECT_MAX {
        let what = "security groups".to_owned();
        let limit = SECURITY_GROUPS_PER_PROJECT_MAX as u64;
        return Err(Refusal::LimitReached { what, limit });
    }
    let group = SecurityGroup {
        id: command.id,
        project: command.project,
        name: command.name.clone(),
        rules: all_out([command.rules.0, command.rules.1]).to_vec(),
        created_at: state.time,
        revision: state.index,
    };
    store(state, group);
    Ok(Outcome::SecurityGroup(command.id))
}

fn check_ports(rule: &SecurityRule) -> Result<(), Refusal> {
    let (min, max) = (rule.port_min, rule.port_max);
    let all = (min, max) == (0, 0);
    match rule.protocol {
        Protocol::Any | Protocol::Icmp if all => Ok(()),
        Protocol::Any | Protocol::Icmp => Err(invalid("port_min", "only tcp and udp have ports")),
        Protocol::Tcp | Protocol::Udp if all => Ok(()),
        Protocol::Tcp | Protocol::Udp if min == 0 => Err(invalid(
            "port_min",
            "1 to 65535, or 0 together with port_max for all ports",
        )),
        Protocol::Tcp | Protocol::Udp if min > max => {
            let rule = format!("{max} is below port_min {min}: the range is reversed");
            Err(invalid("port_max", rule))
        }
        Protocol::Tcp | Protocol::Udp => Ok(()),
    }
}

pub(crate) fn add_rule(state: &mut State, command: &AddSecurityRule) -> Result<Outcome, Refusal> {
    let mut group = find_or_refuse(state, command.project, command.group)?;
    let rule = command.rule;
    check_ports(&rule)?;
    if let Peer::Group(named) = rule.peer {
        find_or_refuse(state, command.project, named)?;
    }
    let same = |known: &SecurityRule| {
        SecurityRule {
            id: rule.id,
            ..*known
        } == rule
    };
    if group.rules.iter().any(same) {
        return Ok(Outcome::SecurityGroup(group.id));
    }
    if group.rules.iter().any(|known| known.id == rule.id) {
        return Err(Refusal::IdTaken(rule.id.to_string()));
    }
    if group.rules.len() >= RULES_PER_SECURITY_GROUP_MAX {
        let what = "rules of a security group".to_owned();
        let limit = RULES_PER_SECURITY_GROUP_MAX as u64;
        return Err(Refusal::LimitReached { what, limit });
    }
    group.rules.push(rule);
    store(state, group);
    Ok(Outcome::SecurityGroup(command.group))
}

pub(crate) fn remove_rule(
    state: &mut State,
    project: ProjectId,
    id: SecurityGroupId,
    rule: SecurityRuleId,
) -> Result<Outcome, Refusal> {
    let mut group = find_or_refuse(state, project, id)?;
    let before = group.rules.len();
    group.rules.retain(|known| known.id != rule);
    if group.rules.len() == before {
        return Err(Refusal::NotFound {
            kind: Kind::SecurityRule,
            reference: rule.to_string(),
        });
    }
    store(state, group);
    Ok(Outcome::SecurityGroup(id))
}

pub(crate) fn set_of_instance(
    state: &mut State,
    project: ProjectId,
    id: InstanceId,
    asked: &[SecurityGroupId],
) -> Result<Outcome, Refusal> {
    let instance = state.instances.get(&id);
    let mut instance = instance
        .filter(|instance| instance.project == project)
        .filter(|instance| instance.desired != DesiredState::Deleted)
        .cloned()
        .ok_or_else(|| Refusal::NotFound {
            kind: Kind::Instance,
            reference: id.to_string(),
        })?;
    instance.security_groups = chosen(state, project, asked)?;
    instance::store(state, instance);
    Ok(Outcome::Instances(vec![id]))
}

pub(crate) fn delete(
    state: &mut State,
    project: ProjectId,
    id: SecurityGroupId,
) -> Result<Outcome, Refusal> {
    let group = find_or_refuse(state, project, id)?;
    if id == default_id(project) {
        let rule = "the default group stays as long as its project";
        return Err(invalid("security_group", rule));
    }
    let (kind, name) = (Kind::SecurityGroup, group.name.clone());
    let count = super::instance_count(state, id);
    if count > 0 {
        let what = "instances that carry it".to_owned();
        return Err(Refusal::NotEmpty {
            kind,
            name,
            what,
            count,
        });
    }
    let all = (id, SecurityGroupId(0))..=(id, SecurityGroupId(u64::MAX));
    let count = state.derived.network.group_names.range(all).count() as u64;
    if count > 0 {
        let what = "other groups whose rules name it".to_owned();
        return Err(Refusal::NotEmpty {
            kind,
            name,
            what,
            count,
        });
    }
    forget(state, &group);
    Ok(Outcome::Done)
}
