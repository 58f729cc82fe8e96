//! What must be true of networks and of what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nube_types::{InstanceId, NetworkId};

use crate::address::AddressTarget;
use crate::instance::DesiredState;
use crate::load_balancer;
use crate::network::{self, PUBLIC};
use crate::security_group::{self, Peer};
use crate::state::State;

pub(super) fn broken(state: &State, found: &mut Vec<String>) {
    holders(state, found);
    subnets(state, found);
    groups(state, found);
    elastic(state, found);
    balancers(state, found);
    traffic(state, found);
}

/// C3: no address of a network twice, whoever holds it, and each lies in a subnet,
/// beside what the cloud keeps there.
fn holders(state: &State, found: &mut Vec<String>) {
    let instances = state.instances.iter().filter(|i| i.holds_place());
    let instances = instances.map(|i| (i.network, i.address, i.id.to_string()));
    let balancers = state.load_balancers.iter();
    let balancers = balancers.map(|lb| (lb.network, lb.address, lb.id.to_string()));
    let mut held = BTreeSet::new();
    for (network, address, who) in instances.chain(balancers) {
        if !held.insert((network, address)) {
            found.push(format!("C3: the address of {who} is held twice"));
        }
        if state.released.get(&(network, address)).is_some() {
            found.push(format!("C3: the address of {who} is held and waits"));
        }
        let may_be_given = network::subnets(state, network).iter().any(|subnet| {
            let offset = address.wrapping_sub(subnet.range.address().to_bits());
            subnet.range.has(Ipv4Addr::from(address))
                && offset > 3
                && subnet.range.last() != Ipv4Addr::from(address)
        });
        if !may_be_given {
            found.push(format!("C3: the address of {who} is in no subnet"));
        }
    }
}

/// C3: ranges of a network do not overlap, numbers are the cell's own, and every
/// project has one default network.
fn subnets(state: &State, found: &mut Vec<String>) {
    let mut numbers = BTreeSet::new();
    let mut defaults = BTreeMap::new();
    for network in state.networks.iter() {
        let id = network.id;
        if id == PUBLIC || !numbers.insert(network.number) {
            found.push(format!("C3: the number of {id} is used twice"));
        }
        if network.is_default() && defaults.insert(network.project, id).is_some() {
            found.push(format!("C3: {} has two default networks", network.project));
        }
        let subnets = network::subnets(state, id);
        for (position, subnet) in subnets.iter().enumerate() {
            let others = &subnets[..position];
            if others
                .iter()
                .any(|other| other.range.overlaps(subnet.range))
            {
                found.push(format!("C3: subnet {} of {id} overlaps", subnet.id));
            }
        }
    }
    for subnet in state.subnets.iter() {
        let network = state.networks.get(&subnet.network);
        if network.is_none_or(|network| network.project != subnet.project) {
            found.push(format!("C3: subnet {} is in no network", subnet.id));
        }
    }
    for project in state.projects.iter() {
        // The default project of a damaged cell apart, each has one.
        if !defaults.contains_key(&project.id) {
            found.push(format!("C3: {} has no default network", project.id));
        }
    }
}

/// C9: what ports carry and rules name exists in the same project.
fn groups(state: &State, found: &mut Vec<String>) {
    let exists = |project, id| security_group::find(state, project, id).is_some();
    for instance in state.instances.iter().filter(|i| i.holds_place()) {
        let groups = &instance.security_groups;
        let in_order = groups.windows(2).all(|pair| pair[0] < pair[1]);
        let known = groups.iter().all(|id| exists(instance.project, *id));
        if !known || !in_order {
            found.push(format!("C9: groups of {} are not", instance.id));
        }
    }
    for group in state.security_groups.iter() {
        let mut ids = BTreeSet::new();
        for rule in &group.rules {
            let named = match rule.peer {
                Peer::Range(_) => true,
                Peer::Group(named) => exists(group.project, named),
            };
            if !named || !ids.insert(rule.id) || rule.port_min > rule.port_max {
                found.push(format!("C9: rule {} of {} is none", rule.id, group.id));
            }
        }
    }
}

/// C3, D2: an elastic address is held once, of a pool or of one that was, points at
/// one thing that is there, and is in the ledger for as long as it is held.
fn elastic(state: &State, found: &mut Vec<String>) {
    let (mut numbers, mut instances, mut balancers) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for address in state.addresses.iter() {
        let id = address.id;
        let waits = state.released.get(&(PUBLIC, address.address)).is_some();
        if !numbers.insert(address.address) || waits {
            found.push(format!("C3: elastic address {id} is held twice"));
        }
        let shown = Ipv4Addr::from(address.address);
        if crate::address::pool_of(state, shown).is_none() {
            found.push(format!("C3: elastic address {id} is of no pool"));
        }
        let right = match address.target {
            None => true,
            Some(AddressTarget::Instance(instance)) => {
                let there = state.instances.get(&instance);
                instances.insert(instance)
                    && there.is_some_and(|there| {
                        there.project == address.project && there.desired != DesiredState::Deleted
                    })
            }
            Some(AddressTarget::LoadBalancer(balancer)) => {
                let there = state.load_balancers.get(&balancer);
                balancers.insert(balancer)
                    && there.is_some_and(|there| there.project == address.project)
            }
        };
        if !right {
            found.push(format!("C3: {id} points at {:?}", address.target));
        }
        let run = state.usage.get(&(id.into(), 1));
        if !run.is_some_and(nube_billing::UsageInterval::is_open) {
            found.push(format!("D2: elastic address {id} is held and not metered"));
        }
    }
    let mut pools: Vec<_> = state.address_pools.iter().map(|pool| pool.range).collect();
    pools.dedup_by(|next, one| next.overlaps(*one));
    if pools.len() != state.address_pools.len() {
        found.push("C3: pools overlap".to_owned());
    }
}

/// Verdicts and drained targets are of things that are there.
fn balancers(state: &State, found: &mut Vec<String>) {
    let is_target = |balancer: &crate::LoadBalancer, id: &InstanceId| {
        let instance = state.instances.get(id);
        instance.is_some_and(|instance| load_balancer::is_target(balancer, instance))
    };
    for balancer in state.load_balancers.iter() {
        let network = state.networks.get(&balancer.network);
        let own = network.is_some_and(|network| network.project == balancer.project);
        let drains = balancer.draining.iter().all(|id| is_target(balancer, id));
        if !own || !drains {
            found.push(format!("H: {} has targets that are none", balancer.id));
        }
    }
    for health in state.target_health.iter() {
        let balancer = state.load_balancers.get(&health.load_balancer);
        if !balancer.is_some_and(|balancer| is_target(balancer, &health.instance)) {
            found.push(format!("H: a verdict about {} is left", health.instance));
        }
    }
}

/// D2: the ledger's rows add up to what the counter has counted.
fn traffic(state: &State, found: &mut Vec<String>) {
    let mut sums: BTreeMap<InstanceId, (u64, u64)> = BTreeMap::new();
    for row in state.traffic_usage.iter() {
        let sum = sums.entry(row.instance).or_default();
        sum.0 = sum.0.saturating_add(row.bytes_out);
        sum.1 = sum.1.saturating_add(row.bytes_in);
    }
    for counter in state.traffic_counters.iter() {
        let sum = sums.get(&counter.instance).copied().unwrap_or_default();
        if sum != (counter.bytes_out, counter.bytes_in) {
            found.push(format!(
                "D2: traffic of {} does not add up",
                counter.instance
            ));
        }
        if state.instances.get(&counter.instance).is_none() {
            found.push(format!("D2: a counter of {} is left", counter.instance));
        }
    }
}

/// Hosts with a port hear of changes: the index of the last one is kept for each.
pub(super) fn every_host_hears(state: &State) -> bool {
    let hosts = &state.derived.network.host_networks;
    let heard = |(node, _): &(_, NetworkId)| state.derived.node_networks.contains_key(node);
    state.derived.touched.is_empty() && hosts.iter().all(heard)
}
