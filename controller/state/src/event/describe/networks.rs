//! What mutations of networks and of what is in them say of themselves.

use std::net::Ipv4Addr;

use nube_types::{AddressId, InstanceId, NetworkId, SecurityGroupId};

use super::Note;
use crate::command::{AddSecurityRule, AssociateAddress, Command, SetTargetDraining};
use crate::event::Before;
use crate::outcome::Kind;
use crate::security_group::{self, Direction, Peer, Protocol, SecurityRule};
use crate::state::State;

/// The audit record of a mutation that took effect, if it is one of these.
pub(super) fn mutation(state: &State, command: &Command, before: &Before) -> Option<Note> {
    network(state, command, before)
        .or_else(|| group(state, command, before))
        .or_else(|| address(state, command, before))
        .or_else(|| balancer(state, command, before))
}

fn network(state: &State, command: &Command, before: &Before) -> Option<Note> {
    let named = |id: &NetworkId| {
        let found = state.networks.get(id);
        found.map(|n| n.name().to_owned()).unwrap_or_default()
    };
    let (kind, gone) = (Kind::Network, &before.name);
    Some(match command {
        Command::CreateNetwork(c) => Note::new("network.create", kind, c.id, &c.name)
            .of(c.project)
            .saying(c.range.to_string()),
        Command::SetInternetGateway(project, id, attached) => {
            let word = if *attached { "attached" } else { "detached" };
            Note::new("network.gateway", kind, id, named(id))
                .of(*project)
                .saying(word)
        }
        Command::DeleteNetwork(project, id) => {
            Note::new("network.delete", kind, id, gone).of(*project)
        }
        Command::CreateSubnet(c) => Note::new("subnet.create", Kind::Subnet, c.id, &c.name)
            .of(c.project)
            .saying(format!("{} in {}", c.range, named(&c.network))),
        Command::DeleteSubnet(project, id) => {
            Note::new("subnet.delete", Kind::Subnet, id, gone).of(*project)
        }
        _ => return None,
    })
}

fn group(state: &State, command: &Command, before: &Before) -> Option<Note> {
    let (kind, gone) = (Kind::SecurityGroup, &before.name);
    Some(match command {
        Command::CreateSecurityGroup(c) => {
            Note::new("security_group.create", kind, c.id, &c.name).of(c.project)
        }
        Command::AddSecurityRule(c) => added(state, c),
        Command::RemoveSecurityRule(project, id, rule) => {
            let name = security_group::find(state, *project, *id).map(|g| g.name.to_string());
            Note::new("security_group.rule", kind, id, name.unwrap_or_default())
                .of(*project)
                .saying(format!("removed {rule}"))
        }
        Command::SetInstanceSecurityGroups(project, id, groups) => {
            let texts: Vec<String> = groups.iter().map(SecurityGroupId::to_string).collect();
            let detail = match texts.is_empty() {
                true => "default".to_owned(),
                false => texts.join(" "),
            };
            let (action, name) = ("instance.security_groups", instance_name(state, *id));
            Note::new(action, Kind::Instance, id, name)
                .of(*project)
                .saying(detail)
        }
        Command::DeleteSecurityGroup(project, id) => {
            Note::new("security_group.delete", kind, id, gone).of(*project)
        }
        _ => return None,
    })
}

fn added(state: &State, c: &AddSecurityRule) -> Note {
    let name = security_group::find(state, c.project, c.group).map(|g| g.name.to_string());
    let (kind, name) = (Kind::SecurityGroup, name.unwrap_or_default());
    Note::new("security_group.rule", kind, c.group, name)
        .of(c.project)
        .saying(format!("added {}", rule_text(&c.rule)))
}

/// As `ingress tcp 22 from 0.0.0.0/0`.
fn rule_text(rule: &SecurityRule) -> String {
    let (way, side) = match rule.direction {
        Direction::Ingress => ("ingress", "from"),
        Direction::Egress => ("egress", "to"),
    };
    let protocol = match rule.protocol {
        Protocol::Any => "any",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
    };
    let ports = match (rule.port_min, rule.port_max) {
        (0, 0) => String::new(),
        (min, max) if min == max => format!(" {min}"),
        (min, max) => format!(" {min}-{max}"),
    };
    let peer = match rule.peer {
        Peer::Range(range) => range.to_string(),
        Peer::Group(group) => group.to_string(),
    };
    format!("{way} {protocol}{ports} {side} {peer}")
}

fn instance_name(state: &State, id: InstanceId) -> String {
    let found = state.instances.get(&id);
    found.map(|i| i.name.to_string()).unwrap_or_default()
}

fn address(state: &State, command: &Command, before: &Before) -> Option<Note> {
    let named = |id: &AddressId| {
        let found = state.addresses.get(id);
        found.map(|a| a.name.to_string()).unwrap_or_default()
    };
    let (kind, gone) = (Kind::Address, &before.name);
    Some(match command {
        Command::AddAddressPool(range) => {
            Note::new("address_pool.add", Kind::AddressPool, range, range)
        }
        Command::RemoveAddressPool(range) => {
            Note::new("address_pool.remove", Kind::AddressPool, range, range)
        }
        Command::AllocateAddress(c) => {
            let given = state
                .addresses
                .get(&c.id)
                .map(|a| Ipv4Addr::from(a.address));
            let given = given.map(|address| address.to_string());
            Note::new("address.allocate", kind, c.id, &c.name)
                .of(c.project)
                .saying(given.unwrap_or_default())
        }
        Command::AssociateAddress(c) => associated(state, c, named(&c.address)),
        Command::DisassociateAddress(project, id) => {
            Note::new("address.disassociate", kind, id, named(id)).of(*project)
        }
        Command::ReleaseAddress(project, id) => {
            Note::new("address.release", kind, id, gone).of(*project)
        }
        _ => return None,
    })
}

fn associated(state: &State, c: &AssociateAddress, name: String) -> Note {
    let detail = format!("with {}", instance_name(state, c.instance));
    Note::new("address.associate", Kind::Address, c.address, name)
        .of(c.project)
        .saying(detail)
}

fn balancer(state: &State, command: &Command, before: &Before) -> Option<Note> {
    let kind = Kind::LoadBalancer;
    Some(match command {
        Command::CreateLoadBalancer(c) => {
            let ports = c.listeners.iter().map(|listener| listener.port.to_string());
            Note::new("load_balancer.create", kind, c.id, &c.name)
                .of(c.project)
                .saying(format!(
                    "listens on {}",
                    ports.collect::<Vec<_>>().join(" ")
                ))
        }
        Command::SetTargetDraining(c) => drained(state, c),
        Command::DeleteLoadBalancer(project, id) => {
            Note::new("load_balancer.delete", kind, id, &before.name).of(*project)
        }
        _ => return None,
    })
}

fn drained(state: &State, c: &SetTargetDraining) -> Note {
    let found = state.load_balancers.get(&c.load_balancer);
    let name = found.map(|lb| lb.name.to_string()).unwrap_or_default();
    let target = instance_name(state, c.instance);
    let detail = match c.draining {
        true => format!("{target} drains"),
        false => format!("{target} is back"),
    };
    let (action, kind) = ("load_balancer.drain", Kind::LoadBalancer);
    Note::new(action, kind, c.load_balancer, name)
        .of(c.project)
        .saying(detail)
}
