//! What is where in networks: indexes that are rebuilt from the tables, so that no
//! command scans all instances, and which hosts have to hear of a change.

use imbl::{OrdMap, OrdSet};
use nube_types::{
    AddressId, InstanceId, LoadBalancerId, NetworkId, NodeId, ProjectId, SecurityGroupId, SubnetId,
};

use crate::address::{Address, AddressTarget};
use crate::instance::Instance;
use crate::load_balancer::LoadBalancer;
use crate::network::Network;
use crate::security_group::{self, Peer, SecurityGroup};
use crate::state::State;
use crate::subnet::Subnet;

/// Who holds an address of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A port of this instance.
    Instance(InstanceId),
    /// A load balancer's own address.
    LoadBalancer(LoadBalancerId),
}

/// Indexes over what belongs to networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkIndex {
    /// Networks by owner.
    pub networks: OrdSet<(ProjectId, NetworkId)>,
    /// Further subnets by network.
    pub subnets: OrdSet<(NetworkId, SubnetId)>,
    /// How many instances hold a place in a network.
    pub ports: OrdMap<NetworkId, u32>,
    /// How many of them are on a host.
    pub port_hosts: OrdMap<(NetworkId, NodeId), u32>,
    /// The other way round.
    pub host_networks: OrdSet<(NodeId, NetworkId)>,
    /// Groups with a record, by owner.
    pub groups: OrdSet<(ProjectId, SecurityGroupId)>,
    /// How many instances that hold a place carry a group.
    pub group_ports: OrdMap<(SecurityGroupId, NetworkId), u32>,
    /// Groups that rules of others name, and whose rules: (named, by).
    pub group_names: OrdSet<(SecurityGroupId, SecurityGroupId)>,
    /// Held elastic addresses by owner.
    pub addresses: OrdSet<(ProjectId, AddressId)>,
    /// Held elastic addresses by number.
    pub numbers: OrdMap<u32, AddressId>,
    /// What points at an instance.
    pub of_instance: OrdMap<InstanceId, AddressId>,
    /// What points at a load balancer.
    pub of_balancer: OrdMap<LoadBalancerId, AddressId>,
    /// Load balancers by owner.
    pub balancers: OrdSet<(ProjectId, LoadBalancerId)>,
    /// Load balancers by network.
    pub network_balancers: OrdSet<(NetworkId, LoadBalancerId)>,
}

fn add<K: Ord + Clone>(counts: &mut OrdMap<K, u32>, key: K) -> u32 {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
    *count
}

fn subtract<K: Ord + Clone>(counts: &mut OrdMap<K, u32>, key: &K) -> u32 {
    let rest = counts.get(key).copied().unwrap_or_default();
    let rest = rest.saturating_sub(1);
    match rest {
        0 => counts.remove(key),
        rest => counts.insert(key.clone(), rest),
    };
    rest
}

impl NetworkIndex {
    pub(crate) fn note_network(&mut self, network: &Network) {
        self.networks.insert((network.project, network.id));
    }

    pub(crate) fn note_subnet(&mut self, subnet: &Subnet) {
        self.subnets.insert((subnet.network, subnet.id));
    }

    pub(crate) fn note_port(&mut self, instance: &Instance) {
        let (network, node) = (instance.network, instance.node);
        add(&mut self.ports, network);
        add(&mut self.port_hosts, (network, node));
        self.host_networks.insert((node, network));
        for group in security_group::ids_of(instance) {
            add(&mut self.group_ports, (group, network));
        }
    }

    pub(crate) fn forget_port(&mut self, instance: &Instance) {
        let (network, node) = (instance.network, instance.node);
        subtract(&mut self.ports, &network);
        if subtract(&mut self.port_hosts, &(network, node)) == 0 {
            self.host_networks.remove(&(node, network));
        }
        for group in security_group::ids_of(instance) {
            subtract(&mut self.group_ports, &(group, network));
        }
    }

    pub(crate) fn note_group(&mut self, group: &SecurityGroup) {
        self.groups.insert((group.project, group.id));
        for rule in &group.rules {
            if let Peer::Group(named) = rule.peer
                && named != group.id
            {
                self.group_names.insert((named, group.id));
            }
        }
    }

    pub(crate) fn forget_group(&mut self, group: &SecurityGroup) {
        self.groups.remove(&(group.project, group.id));
        for rule in &group.rules {
            if let Peer::Group(named) = rule.peer {
                self.group_names.remove(&(named, group.id));
            }
        }
    }

    pub(crate) fn note_address(&mut self, address: &Address) {
        self.addresses.insert((address.project, address.id));
        self.numbers.insert(address.address, address.id);
        match address.target {
            Some(AddressTarget::Instance(id)) => {
                self.of_instance.insert(id, address.id);
            }
            Some(AddressTarget::LoadBalancer(id)) => {
                self.of_balancer.insert(id, address.id);
            }
            None => {}
        }
    }

    pub(crate) fn forget_address(&mut self, address: &Address) {
        self.addresses.remove(&(address.project, address.id));
        self.numbers.remove(&address.address);
        match address.target {
            Some(AddressTarget::Instance(id)) => {
                self.of_instance.remove(&id);
            }
            Some(AddressTarget::LoadBalancer(id)) => {
                self.of_balancer.remove(&id);
            }
            None => {}
        }
    }

    pub(crate) fn note_balancer(&mut self, balancer: &LoadBalancer) {
        self.balancers.insert((balancer.project, balancer.id));
        self.network_balancers
            .insert((balancer.network, balancer.id));
    }

    pub(crate) fn forget_balancer(&mut self, balancer: &LoadBalancer) {
        self.balancers.remove(&(balancer.project, balancer.id));
        self.network_balancers
            .remove(&(balancer.network, balancer.id));
    }

    /// From the tables alone; ports are noted with their instances.
    pub(crate) fn rebuild_all_but_ports(&mut self, state: &State) {
        for network in state.networks.iter() {
            self.note_network(network);
        }
        for subnet in state.subnets.iter() {
            self.note_subnet(subnet);
        }
        for group in state.security_groups.iter() {
            self.note_group(group);
        }
        for address in state.addresses.iter() {
            self.note_address(address);
        }
        for balancer in state.load_balancers.iter() {
            self.note_balancer(balancer);
        }
    }
}

/// Something in a network changed that its hosts must hear of.
pub(crate) fn touch(state: &mut State, network: NetworkId) {
    state.derived.touched.insert(network);
}

/// Something that every network with a port on this host must hear of.
pub(crate) fn touch_host(state: &mut State, node: NodeId) {
    let all = (node, NetworkId(0))..=(node, NetworkId(u64::MAX));
    let networks = state.derived.network.host_networks.range(all);
    let networks: Vec<NetworkId> = networks.map(|(_, network)| *network).collect();
    state.derived.touched.extend(networks);
}

/// Everywhere that a group's rules hold.
pub(crate) fn touch_group(state: &mut State, group: SecurityGroupId) {
    let all = (group, NetworkId(0))..=(group, NetworkId(u64::MAX));
    let networks = state.derived.network.group_ports.range(all);
    let networks: Vec<NetworkId> = networks.map(|((_, network), _)| *network).collect();
    state.derived.touched.extend(networks);
}

/// At the end of an entry: once per network, whatever it did there.
pub(crate) fn tell_hosts(state: &mut State) {
    let index = state.index;
    for network in std::mem::take(&mut state.derived.touched) {
        let all = (network, NodeId(0))..=(network, NodeId(u64::MAX));
        for ((_, node), _) in state.derived.network.port_hosts.range(all) {
            state.derived.node_networks.insert(*node, index);
        }
    }
}
