//! Networks and what is in them as messages: subnets, groups, addresses, load
//! balancers.

use std::net::Ipv4Addr;

use nube_proto::v1;
use nube_state::security_group::{Direction, Peer, Protocol};
use nube_state::subnet::first_id;
use nube_state::{self as state, AddressTarget, State, address, load_balancer, network};
use nube_types::{InstanceId, NetworkId, SubnetId, net};

use super::price;
use crate::agents::desired::MTU;

/// The resource that held addresses are billed as.
const ADDRESS: &str = "address";

/// A network with its subnets.
pub fn network(state: &State, network: &state::Network) -> v1::Network {
    let subnets = network::subnets(state, network.id);
    let instances = network::port_count(state, network.id);
    v1::Network {
        id: network.id.to_string(),
        project_id: network.project.to_string(),
        name: network.name().to_owned(),
        number: network.number,
        subnets: subnets.iter().map(|one| subnet(network.id, one)).collect(),
        internet_gateway: !network.isolated,
        is_default: network.is_default(),
        instances,
        ipv6_cidr: format!("{}/64", net::network_prefix_v6(network.id)),
        mtu: MTU,
        created_at_ms: network.created_at.0,
        revision: network.revision,
    }
}

/// A subnet of a network.
pub fn subnet(network: NetworkId, subnet: &network::SubnetView) -> v1::Subnet {
    v1::Subnet {
        id: subnet.id.to_string(),
        network_id: network.to_string(),
        name: subnet.name.clone(),
        cidr: subnet.range.to_string(),
        gateway: subnet.gateway.to_string(),
        addresses_free: subnet.free,
        created_at_ms: subnet.created_at.0,
        revision: subnet.revision,
    }
}

/// A later subnet from its record; one that is gone has no free addresses.
pub fn subnet_record(state: &State, record: &state::Subnet) -> v1::Subnet {
    let mut known = network::subnets(state, record.network).into_iter();
    let now = known.find(|one| one.id == record.id);
    let shown = now.unwrap_or_else(|| network::SubnetView {
        id: record.id,
        name: record.name.to_string(),
        range: record.range,
        gateway: Ipv4Addr::from_bits(record.range.address().to_bits().saturating_add(1)),
        free: 0,
        created_at: record.created_at,
        revision: record.revision,
    });
    subnet(record.network, &shown)
}

/// The subnet that an address of a network lies in.
#[must_use]
pub fn subnet_of(state: &State, network: &state::Network, address: u32) -> SubnetId {
    let address = Ipv4Addr::from_bits(address);
    let first = first_id(network.id);
    if network.range().has(address) {
        return first;
    }
    let all = (network.id, SubnetId(0))..=(network.id, SubnetId(u64::MAX));
    let mut later = state.derived.network.subnets.range(all);
    let inside = |id: &SubnetId| {
        let found = state.subnets.get(id);
        found.is_some_and(|subnet| subnet.range.has(address))
    };
    let found = later.find(|(_, id)| inside(id));
    found.map_or(first, |(_, id)| *id)
}

/// A group with what carries it now.
pub fn security_group(state: &State, group: &state::SecurityGroup) -> v1::SecurityGroup {
    let instances = state::security_group::instance_count(state, group.id);
    v1::SecurityGroup {
        id: group.id.to_string(),
        project_id: group.project.to_string(),
        name: group.name.to_string(),
        rules: group.rules.iter().map(rule).collect(),
        instances: u32::try_from(instances).unwrap_or(u32::MAX),
        is_default: group.id == state::security_group::default_id(group.project),
        created_at_ms: group.created_at.0,
        revision: group.revision,
    }
}

/// As in the contract.
#[must_use]
pub fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Any => "any",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
    }
}

fn rule(rule: &state::SecurityRule) -> v1::SecurityRule {
    let (cidr, group) = match rule.peer {
        Peer::Range(range) => (range.to_string(), String::new()),
        Peer::Group(group) => (String::new(), group.to_string()),
    };
    let direction = match rule.direction {
        Direction::Ingress => v1::TrafficDirection::Ingress,
        Direction::Egress => v1::TrafficDirection::Egress,
    };
    v1::SecurityRule {
        id: rule.id.to_string(),
        direction: direction.into(),
        protocol: protocol_word(rule.protocol).to_owned(),
        port_min: rule.port_min.into(),
        port_max: rule.port_max.into(),
        cidr,
        group,
    }
}

/// A held address with what it points at and costs.
pub fn address(state: &State, address: &state::Address) -> v1::Address {
    let (mut instance_id, mut load_balancer_id, mut target_name) = Default::default();
    match address.target {
        Some(AddressTarget::Instance(id)) => {
            let found = state.instances.get(&id);
            target_name = found.map(|one| one.name.to_string()).unwrap_or_default();
            instance_id = id.to_string();
        }
        Some(AddressTarget::LoadBalancer(id)) => {
            let found = state.load_balancers.get(&id);
            target_name = found.map(|one| one.name.to_string()).unwrap_or_default();
            load_balancer_id = id.to_string();
        }
        None => {}
    }
    v1::Address {
        id: address.id.to_string(),
        project_id: address.project.to_string(),
        address: Ipv4Addr::from_bits(address.address).to_string(),
        name: address.name.to_string(),
        instance_id,
        load_balancer_id,
        target_name,
        price_nanos_per_hour: price(state, ADDRESS, state.time),
        currency: state.prices.currency.clone(),
        created_at_ms: address.created_at.0,
        revision: address.revision,
    }
}

/// The elastic address that points at an instance.
#[must_use]
pub fn elastic_of(state: &State, instance: InstanceId) -> Option<Ipv4Addr> {
    let held = address::of_instance(state, instance)?;
    Some(Ipv4Addr::from_bits(held.address))
}

/// A range with how much of it is held.
pub fn address_pool(state: &State, pool: &state::AddressPool) -> v1::AddressPool {
    v1::AddressPool {
        cidr: pool.range.to_string(),
        addresses_total: u32::try_from(pool.range.size()).unwrap_or(u32::MAX),
        addresses_held: address::held(state, pool.range),
        revision: pool.revision,
    }
}

/// A load balancer with its targets as they are now.
pub fn load_balancer(state: &State, balancer: &state::LoadBalancer) -> v1::LoadBalancer {
    let elastic = address::of_load_balancer(state, balancer.id);
    let elastic = elastic.map(|held| Ipv4Addr::from_bits(held.address).to_string());
    let listeners = balancer.listeners.iter().map(|listener| v1::Listener {
        protocol: protocol_word(listener.protocol).to_owned(),
        port: listener.port.into(),
        target_port: listener.target_port.into(),
    });
    let targets = load_balancer::targets(state, balancer);
    let check = &balancer.health_check;
    v1::LoadBalancer {
        id: balancer.id.to_string(),
        project_id: balancer.project.to_string(),
        name: balancer.name.to_string(),
        network_id: balancer.network.to_string(),
        private_ip: Ipv4Addr::from_bits(balancer.address).to_string(),
        elastic_address: elastic.unwrap_or_default(),
        listeners: listeners.collect(),
        target_labels: balancer.target_labels.clone(),
        health_check: Some(v1::HealthCheck {
            port: check.port.into(),
            interval_seconds: check.interval_ms / 1_000,
            threshold: check.threshold.into(),
        }),
        targets: targets.iter().map(|one| target(state, one)).collect(),
        created_at_ms: balancer.created_at.0,
        revision: balancer.revision,
    }
}

fn target(state: &State, target: &load_balancer::TargetView) -> v1::Target {
    let instance = state.instances.get(&target.instance);
    let address = instance.map(|one| Ipv4Addr::from_bits(one.address).to_string());
    v1::Target {
        instance_id: target.instance.to_string(),
        instance_name: instance.map(|one| one.name.to_string()).unwrap_or_default(),
        private_ip: address.unwrap_or_default(),
        state: target.state.to_owned(),
        reason: target.reason.clone(),
    }
}

/// What an instance has in its network.
pub(super) fn fill_network(state: &State, instance: &state::Instance, message: &mut v1::Instance) {
    let groups = state::security_group::of_instance(state, instance);
    message.ipv6 = net::address_v6(instance.network, instance.address.into()).to_string();
    if let Some(network) = state.networks.get(&instance.network) {
        network.name().clone_into(&mut message.network_name);
        message.subnet_id = subnet_of(state, network, instance.address).to_string();
    }
    message.security_groups = groups.iter().map(|group| group.name.to_string()).collect();
    let elastic = elastic_of(state, instance.id);
    message.elastic_address = elastic.map(|one| one.to_string()).unwrap_or_default();
    if let Some(counter) = state.traffic_counters.get(&instance.id) {
        message.internet_bytes_out = counter.bytes_out;
        message.internet_bytes_in = counter.bytes_in;
    }
}
