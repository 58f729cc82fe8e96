//! Everything that is in networks, at one revision, ready to be drawn.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use nube_proto::v1;
use nube_state::{
    Instance, LoadBalancer, Network, State, address, load_balancer, network, security_group,
};
use nube_types::{NodeId, net};

use crate::api::convert;

/// What hosts are called to those who may not know their names.
struct Hosts {
    nodes: Vec<NodeId>,
    named: bool,
}

impl Hosts {
    fn of(state: &State, networks: &[&Network], named: bool) -> Self {
        let ports = networks
            .iter()
            .flat_map(|n| network::instances(state, n.id));
        let nodes: BTreeSet<NodeId> = ports.map(|instance| instance.node).collect();
        Self {
            nodes: nodes.into_iter().collect(),
            named,
        }
    }

    fn name(&self, state: &State, node: NodeId) -> String {
        let known = state.nodes.get(&node).filter(|_| self.named);
        match (known, self.nodes.binary_search(&node)) {
            (Some(known), _) => known.facts.name.to_string(),
            (None, Ok(at)) => format!("host-{}", at + 1),
            (None, Err(_)) => String::new(),
        }
    }
}

/// The map of these networks.
pub fn draw(state: &State, networks: &[&Network], sees_hosts: bool) -> v1::NetworkMap {
    let hosts = Hosts::of(state, networks, sees_hosts);
    let drawn = networks.iter().map(|one| {
        let ports = network::instances(state, one.id);
        let balancers = load_balancer::of_network(state, one.id);
        v1::MappedNetwork {
            network: Some(convert::network(state, one)),
            ports: ports
                .map(|instance| port(state, one, instance, &hosts))
                .collect(),
            load_balancers: balancers.map(|b| balancer(state, b)).collect(),
        }
    });
    v1::NetworkMap {
        networks: drawn.collect(),
        revision: state.index,
    }
}

fn port(state: &State, network: &Network, instance: &Instance, hosts: &Hosts) -> v1::MappedPort {
    let address = Ipv4Addr::from_bits(instance.address);
    let elastic = convert::elastic_of(state, instance.id);
    let groups = security_group::of_instance(state, instance);
    v1::MappedPort {
        instance_id: instance.id.to_string(),
        instance_name: instance.name.to_string(),
        state: instance.state.word().to_owned(),
        subnet_id: convert::subnet_of(state, network, instance.address).to_string(),
        private_ip: address.to_string(),
        ipv6: net::address_v6(network.id, address).to_string(),
        elastic_address: elastic.map(|one| one.to_string()).unwrap_or_default(),
        security_groups: groups.iter().map(|group| group.name.to_string()).collect(),
        host: hosts.name(state, instance.node),
    }
}

fn balancer(state: &State, balancer: &LoadBalancer) -> v1::MappedLoadBalancer {
    let elastic = address::of_load_balancer(state, balancer.id).map(|held| held.address);
    let addresses = [Some(balancer.address), elastic];
    let listeners = addresses.into_iter().flatten().flat_map(|address| {
        let address = Ipv4Addr::from_bits(address);
        balancer.listeners.iter().map(move |listener| {
            let protocol = convert::protocol_word(listener.protocol);
            format!("{protocol} {address}:{}", listener.port)
        })
    });
    let targets = load_balancer::targets(state, balancer);
    v1::MappedLoadBalancer {
        id: balancer.id.to_string(),
        name: balancer.name.to_string(),
        listeners: listeners.collect(),
        targets: targets
            .iter()
            .map(|target| target.instance.to_string())
            .collect(),
    }
}
