//! Security groups: what ports of instances may send and receive.
//!
//! A project's default group has the digits of its project's id. It has no record
//! until somebody changes it: until then its rules are the built-in ones, so that
//! a project costs nothing and old logs lead to their old states.

mod change;

use minicbor::{Decode, Encode};
use nube_types::net::IpPrefix;
use nube_types::{Name, NetworkId, ProjectId, SecurityGroupId, SecurityRuleId, TimestampMs};

use crate::instance::Instance;
use crate::network;
use crate::state::State;
use crate::table::Record;

pub(crate) use change::{
    add_rule, chosen, create, delete, forget_default, remove_rule, set_of_instance,
};

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Direction {
    /// To the instance.
    #[n(0)]
    Ingress,
    /// From the instance.
    #[n(1)]
    Egress,
}

/// Which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Protocol {
    /// All of them.
    #[n(0)]
    Any,
    /// TCP.
    #[n(1)]
    Tcp,
    /// UDP.
    #[n(2)]
    Udp,
    /// ICMP and ICMPv6.
    #[n(3)]
    Icmp,
}

/// The other side of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Peer {
    /// Addresses of one family.
    #[n(0)]
    Range(#[n(0)] IpPrefix),
    /// Ports of the same network that carry this group.
    #[n(1)]
    Group(#[n(0)] SecurityGroupId),
}

/// One thing that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SecurityRule {
    /// Drawn by the proposer; unique in its group.
    #[n(0)]
    pub id: SecurityRuleId,
    /// Which way.
    #[n(1)]
    pub direction: Direction,
    /// Which packets.
    #[n(2)]
    pub protocol: Protocol,
    /// First port of the receiver; 0 together with `port_max` means all. Of no
    /// meaning, and 0, unless the protocol has ports.
    #[n(3)]
    pub port_min: u16,
    /// Last port.
    #[n(4)]
    pub port_max: u16,
    /// With whom.
    #[n(5)]
    pub peer: Peer,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SecurityGroup {
    /// Its id.
    #[n(0)]
    pub id: SecurityGroupId,
    /// Its owner.
    #[n(1)]
    pub project: ProjectId,
    /// Unique in the project.
    #[n(2)]
    pub name: Name,
    /// In the order they were added.
    #[n(3)]
    pub rules: Vec<SecurityRule>,
    /// When it was made.
    #[n(4)]
    pub created_at: TimestampMs,
    /// Log index of the last change.
    #[n(5)]
    pub revision: u64,
}

impl Record for SecurityGroup {
    type Key = SecurityGroupId;
    const TABLE: u8 = 20;
    fn key(&self) -> SecurityGroupId {
        self.id
    }
}

/// The id of a project's default group.
#[must_use]
pub fn default_id(project: ProjectId) -> SecurityGroupId {
    SecurityGroupId(project.0)
}

/// Groups that an instance's port carries.
pub(crate) fn ids_of(instance: &Instance) -> impl Iterator<Item = SecurityGroupId> + '_ {
    let none = instance.security_groups.is_empty();
    let default = none.then(|| default_id(instance.project));
    default
        .into_iter()
        .chain(instance.security_groups.iter().copied())
}

fn any_range(text: &str) -> Peer {
    Peer::Range(text.parse().expect("a range of all addresses"))
}

/// All out, for both families.
fn all_out(ids: [SecurityRuleId; 2]) -> [SecurityRule; 2] {
    let out = |id, peer| SecurityRule {
        id,
        direction: Direction::Egress,
        protocol: Protocol::Any,
        port_min: 0,
        port_max: 0,
        peer,
    };
    let [v4, v6] = ids;
    [out(v4, any_range("0.0.0.0/0")), out(v6, any_range("::/0"))]
}

/// A default group that nobody has changed: all out, in from itself.
fn built_in(project: ProjectId, created_at: TimestampMs) -> SecurityGroup {
    let rule = |number: u64| SecurityRuleId(project.0.wrapping_add(number));
    let id = default_id(project);
    let mut rules = all_out([rule(1), rule(2)]).to_vec();
    rules.push(SecurityRule {
        id: rule(3),
        direction: Direction::Ingress,
        protocol: Protocol::Any,
        port_min: 0,
        port_max: 0,
        peer: Peer::Group(id),
    });
    SecurityGroup {
        id,
        project,
        name: Name::new(network::DEFAULT).expect("a host name"),
        rules,
        created_at,
        revision: 0,
    }
}

/// A project's group with this id; another project's is absent.
#[must_use]
pub fn find(state: &State, project: ProjectId, id: SecurityGroupId) -> Option<SecurityGroup> {
    if let Some(group) = state.security_groups.get(&id) {
        return (group.project == project).then(|| group.clone());
    }
    let owner = state.projects.get(&project)?;
    (id == default_id(project)).then(|| built_in(project, owner.created_at))
}

/// A project's groups: the default one, then the others in order of ids.
#[must_use]
pub fn of_project(state: &State, project: ProjectId) -> Vec<SecurityGroup> {
    let default = default_id(project);
    let all = (project, SecurityGroupId(0))..=(project, SecurityGroupId(u64::MAX));
    let ids = state.derived.network.groups.range(all);
    let others = ids.map(|(_, id)| *id).filter(|id| *id != default);
    let others = others.filter_map(|id| state.security_groups.get(&id).cloned());
    find(state, project, default)
        .into_iter()
        .chain(others)
        .collect()
}

/// The groups of an instance's port.
#[must_use]
pub fn of_instance(state: &State, instance: &Instance) -> Vec<SecurityGroup> {
    ids_of(instance)
        .filter_map(|id| find(state, instance.project, id))
        .collect()
}

/// How many instances with a port carry a group.
#[must_use]
pub fn instance_count(state: &State, id: SecurityGroupId) -> u64 {
    let all = (id, NetworkId(0))..=(id, NetworkId(u64::MAX));
    let ports = state.derived.network.group_ports.range(all);
    ports.map(|(_, count)| u64::from(*count)).sum()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_default_group_lets_all_out_and_in_only_from_itself() {
        let group = built_in(ProjectId(u64::MAX), TimestampMs(7));
        let ids: Vec<_> = group.rules.iter().map(|rule| rule.id.0).collect();
        assert_eq!(ids, [0, 1, 2]);
        let inward: Vec<_> = group
            .rules
            .iter()
            .filter(|rule| rule.direction == Direction::Ingress)
            .map(|rule| rule.peer)
            .collect();
        assert_eq!(inward, [Peer::Group(group.id)]);
    }
}
