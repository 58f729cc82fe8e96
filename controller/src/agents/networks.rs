//! What one node must know of the networks that its guests are in, from a view:
//! complete each time, and nothing of networks that have no port there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nube_proto::agent::v1::{
    DesiredListener, DesiredLoadBalancer, DesiredNetwork, DesiredNetworks, DesiredSecurityGroup,
    DesiredSecurityRule, DesiredSubnet, DesiredTarget, ElasticAddress, NetworkPort,
    desired_security_rule,
};
use nube_state::security_group::{Direction, Peer};
use nube_state::{
    Address, AddressTarget, Instance, LoadBalancer, Network, SecurityGroup, SecurityRule, State,
    address, load_balancer, network, security_group,
};
use nube_types::{NetworkId, NodeId, ProjectId, SecurityGroupId, net};

use super::desired::MTU;
use crate::api::convert;

/// Everything that this node must know.
#[must_use]
pub fn of_node(state: &State, node: NodeId) -> DesiredNetworks {
    let placed: BTreeSet<NetworkId> = state.instances_on(node).map(|i| i.network).collect();
    let networks = placed.iter().filter_map(|id| state.networks.get(id));
    DesiredNetworks {
        revision: state.index,
        networks: networks.map(|one| desired(state, one, node)).collect(),
    }
}

fn desired(state: &State, network: &Network, node: NodeId) -> DesiredNetwork {
    let mut carried = BTreeSet::new();
    let mut ports = Vec::new();
    for instance in network::instances(state, network.id) {
        let groups = security_group::of_instance(state, instance);
        let groups: Vec<SecurityGroupId> = groups.iter().map(|group| group.id).collect();
        carried.extend(&groups);
        ports.push(port(state, instance, node, &groups));
    }
    let subnets = network::subnets(state, network.id);
    let balancers = load_balancer::of_network(state, network.id);
    DesiredNetwork {
        network_id: network.id.to_string(),
        number: network.number,
        name: network.name().to_owned(),
        internet_gateway: !network.isolated,
        mtu: MTU,
        subnets: subnets
            .iter()
            .map(|subnet| DesiredSubnet {
                cidr: subnet.range.to_string(),
                gateway: subnet.gateway.to_string(),
            })
            .collect(),
        ports,
        security_groups: groups(state, network.project, carried),
        addresses: addresses(state, network, node),
        load_balancers: balancers.map(|one| balancer(state, one)).collect(),
    }
}

fn port(
    state: &State,
    instance: &Instance,
    node: NodeId,
    groups: &[SecurityGroupId],
) -> NetworkPort {
    let address = Ipv4Addr::from_bits(instance.address);
    let host = state.nodes.get(&instance.node);
    let host = host.and_then(|host| host.facts.overlay_address);
    NetworkPort {
        instance_id: instance.id.to_string(),
        name: instance.name.to_string(),
        address: address.to_string(),
        ipv6_address: net::address_v6(instance.network, address).to_string(),
        mac_address: convert::mac_text(instance.mac),
        host_address: host
            .map(|host| Ipv4Addr::from_bits(host).to_string())
            .unwrap_or_default(),
        placement_epoch: instance.epoch.0,
        local: instance.node == node,
        security_group_ids: groups.iter().map(ToString::to_string).collect(),
    }
}

/// Those that are carried, and those that their rules name, and so on.
fn groups(
    state: &State,
    project: ProjectId,
    carried: BTreeSet<SecurityGroupId>,
) -> Vec<DesiredSecurityGroup> {
    let mut known: BTreeMap<SecurityGroupId, SecurityGroup> = BTreeMap::new();
    let mut open: Vec<SecurityGroupId> = carried.into_iter().collect();
    while let Some(id) = open.pop() {
        if known.contains_key(&id) {
            continue;
        }
        let Some(group) = security_group::find(state, project, id) else {
            continue;
        };
        open.extend(group.rules.iter().filter_map(|rule| match rule.peer {
            Peer::Group(named) => Some(named),
            Peer::Range(_) => None,
        }));
        known.insert(id, group);
    }
    let shown = known.values().map(|group| DesiredSecurityGroup {
        security_group_id: group.id.to_string(),
        rules: group.rules.iter().map(rule).collect(),
    });
    shown.collect()
}

fn rule(rule: &SecurityRule) -> DesiredSecurityRule {
    let peer = match rule.peer {
        Peer::Range(range) => desired_security_rule::Peer::Cidr(range.to_string()),
        Peer::Group(group) => desired_security_rule::Peer::SecurityGroupId(group.to_string()),
    };
    DesiredSecurityRule {
        rule_id: rule.id.to_string(),
        ingress: rule.direction == Direction::Ingress,
        protocol: convert::protocol_word(rule.protocol).to_owned(),
        port_min: rule.port_min.into(),
        port_max: rule.port_max.into(),
        peer: Some(peer),
    }
}

/// Those that point into the network, and whether this node answers for them.
fn addresses(state: &State, network: &Network, node: NodeId) -> Vec<ElasticAddress> {
    address::of_project(state, network.project)
        .filter_map(|held| elastic(state, network, node, held))
        .collect()
}

fn elastic(
    state: &State,
    network: &Network,
    node: NodeId,
    held: &Address,
) -> Option<ElasticAddress> {
    let mut message = ElasticAddress {
        address: Ipv4Addr::from_bits(held.address).to_string(),
        ..ElasticAddress::default()
    };
    let (place, host) = match held.target? {
        AddressTarget::Instance(id) => {
            let instance = state.instances.get(&id).filter(|one| one.holds_place())?;
            message.instance_id = id.to_string();
            (instance.network, Some(instance.node))
        }
        AddressTarget::LoadBalancer(id) => {
            let balancer = state.load_balancers.get(&id)?;
            message.load_balancer_id = id.to_string();
            (balancer.network, load_balancer::announcer(state, balancer))
        }
    };
    // Without a gateway nothing comes in: nobody answers for it.
    message.announced = host == Some(node) && !network.isolated;
    (place == network.id).then_some(message)
}

fn balancer(state: &State, balancer: &LoadBalancer) -> DesiredLoadBalancer {
    let check = &balancer.health_check;
    let listeners = balancer.listeners.iter().map(|one| DesiredListener {
        protocol: convert::protocol_word(one.protocol).to_owned(),
        port: one.port.into(),
        target_port: one.target_port.into(),
    });
    let targets = load_balancer::targets(state, balancer);
    let targets = targets.iter().map(|target| DesiredTarget {
        instance_id: target.instance.to_string(),
        takes_new: target.takes_new,
    });
    DesiredLoadBalancer {
        load_balancer_id: balancer.id.to_string(),
        address: Ipv4Addr::from_bits(balancer.address).to_string(),
        listeners: listeners.collect(),
        targets: targets.collect(),
        health_port: check.port.into(),
        health_interval_ms: check.interval_ms,
        health_threshold: check.threshold.into(),
    }
}

#[cfg(test)]
mod test;
