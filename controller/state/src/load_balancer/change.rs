//! What owners do with load balancers.

use std::collections::BTreeSet;

use nube_types::limits::{
    LISTENERS_PER_LOAD_BALANCER_MAX, LOAD_BALANCERS_PER_PROJECT_MAX, TARGETS_PER_LOAD_BALANCER_MAX,
};
use nube_types::{InstanceId, LoadBalancerId, NetworkId, ProjectId, label};

use super::{LoadBalancer, is_target, of_network, of_project};
use crate::address::{self, Address};
use crate::command::{CreateLoadBalancer, SetTargetDraining};
use crate::network::{self, Holder};
use crate::outcome::{Kind, Outcome, Refusal};
use crate::project;
use crate::security_group::Protocol;
use crate::state::State;

const INTERVAL_MS: std::ops::RangeInclusive<u32> = 1_000..=300_000;
const THRESHOLD: std::ops::RangeInclusive<u8> = 1..=10;

fn invalid(field: &str, rule: impl Into<String>) -> Refusal {
    Refusal::Invalid {
        field: field.to_owned(),
        rule: rule.into(),
    }
}

fn find_or_refuse(
    state: &State,
    project: ProjectId,
    id: LoadBalancerId,
) -> Result<LoadBalancer, Refusal> {
    let balancer = state.load_balancers.get(&id);
    let own = balancer.filter(|balancer| balancer.project == project);
    own.cloned().ok_or_else(|| Refusal::NotFound {
        kind: Kind::LoadBalancer,
        reference: id.to_string(),
    })
}

pub(super) fn store(state: &mut State, mut balancer: LoadBalancer) {
    balancer.revision = state.index;
    state.derived.network.note_balancer(&balancer);
    let place = (balancer.network, balancer.address);
    let holder = Holder::LoadBalancer(balancer.id);
    state.derived.addresses.insert(place, holder);
    network::touch(state, balancer.network);
    state.load_balancers.put(balancer);
}

fn check_values(command: &CreateLoadBalancer) -> Result<(), Refusal> {
    let max = LISTENERS_PER_LOAD_BALANCER_MAX;
    if !(1..=max).contains(&command.listeners.len()) {
        return Err(invalid("listeners", format!("1 to {max}")));
    }
    let mut known = BTreeSet::new();
    for listener in &command.listeners {
        if !matches!(listener.protocol, Protocol::Tcp | Protocol::Udp) {
            return Err(invalid("listeners.protocol", "tcp or udp"));
        }
        if listener.port == 0 || listener.target_port == 0 {
            return Err(invalid("listeners.port", "1 to 65535"));
        }
        if !known.insert((listener.protocol, listener.port)) {
            let rule = format!("port {} is given twice", listener.port);
            return Err(invalid("listeners.port", rule));
        }
    }
    if command.target_labels.is_empty() {
        return Err(invalid("target_labels", "at least one"));
    }
    label::check(&command.target_labels).map_err(|rule| invalid("target_labels", rule))?;
    let check = &command.health_check;
    if check.port == 0 {
        return Err(invalid("health_check.port", "1 to 65535"));
    }
    if !INTERVAL_MS.contains(&check.interval_ms) {
        return Err(invalid("health_check.interval", "1 to 300 seconds"));
    }
    if !THRESHOLD.contains(&check.threshold) {
        return Err(invalid("health_check.threshold", "1 to 10"));
    }
    Ok(())
}

/// The elastic address, which must point at nothing yet.
fn check_elastic(state: &State, command: &CreateLoadBalancer) -> Result<Option<Address>, Refusal> {
    let Some(id) = command.elastic_address else {
        return Ok(None);
    };
    let address = address::find_or_refuse(state, command.project, id)?;
    address::must_be_free(state, &address)?;
    let network = network::find(state, command.project, command.network)?;
    if network.isolated {
        let rule = format!("network `{}` has no internet gateway", network.name());
        return Err(invalid("elastic_address", rule));
    }
    Ok(Some(address))
}

pub(crate) fn create(state: &mut State, command: &CreateLoadBalancer) -> Result<Outcome, Refusal> {
    project::find(state, command.project)?;
    network::find(state, command.project, command.network)?;
    check_values(command)?;
    if of_project(state, command.project).any(|lb| lb.name == command.name) {
        let (kind, name) = (Kind::LoadBalancer, command.name.clone());
        return Err(Refusal::NameTaken { kind, name });
    }
    if state.load_balancers.get(&command.id).is_some() {
        return Err(Refusal::IdTaken(command.id.to_string()));
    }
    if of_project(state, command.project).count() >= LOAD_BALANCERS_PER_PROJECT_MAX {
        let what = "load balancers".to_owned();
        let limit = LOAD_BALANCERS_PER_PROJECT_MAX as u64;
        return Err(Refusal::LimitReached { what, limit });
    }
    let elastic = check_elastic(state, command)?;
    let ask = network::Ask {
        network: command.network,
        subnet: None,
        address: None,
        count: 1,
    };
    // The last check, and the first change.
    let given = network::allocate(state, &ask)?;
    let balancer = LoadBalancer {
        id: command.id,
        project: command.project,
        name: command.name.clone(),
        network: command.network,
        address: given.first().copied().expect("as many as were asked for"),
        listeners: command.listeners.clone(),
        target_labels: command.target_labels.clone(),
        health_check: command.health_check,
        draining: Vec::new(),
        created_at: state.time,
        revision: state.index,
    };
    store(state, balancer);
    if let Some(elastic) = elastic {
        address::listen(state, elastic, command.id);
    }
    Ok(Outcome::LoadBalancer(command.id))
}

pub(crate) fn drain(state: &mut State, command: &SetTargetDraining) -> Result<Outcome, Refusal> {
    let mut balancer = find_or_refuse(state, command.project, command.load_balancer)?;
    let instance = state.instances.get(&command.instance);
    let own = instance.filter(|instance| instance.project == command.project);
    let instance = own.ok_or_else(|| Refusal::NotFound {
        kind: Kind::Instance,
        reference: command.instance.to_string(),
    })?;
    if !is_target(&balancer, instance) {
        let (instance, balancer) = (&instance.name, &balancer.name);
        let rule = format!("`{instance}` is no target of `{balancer}`");
        return Err(invalid("instance", rule));
    }
    let done = Ok(Outcome::LoadBalancer(balancer.id));
    let drains = balancer.draining.contains(&command.instance);
    match (drains, command.draining) {
        (false, true) if balancer.draining.len() >= TARGETS_PER_LOAD_BALANCER_MAX => {
            let what = "draining targets".to_owned();
            let limit = TARGETS_PER_LOAD_BALANCER_MAX as u64;
            return Err(Refusal::LimitReached { what, limit });
        }
        (false, true) => balancer.draining.push(command.instance),
        (true, false) => balancer.draining.retain(|id| *id != command.instance),
        _ => return done,
    }
    store(state, balancer);
    done
}

pub(crate) fn delete(
    state: &mut State,
    project: ProjectId,
    id: LoadBalancerId,
) -> Result<Outcome, Refusal> {
    let balancer = find_or_refuse(state, project, id)?;
    address::forget_balancer(state, id);
    super::forget_verdicts(state, id);
    let place = (balancer.network, balancer.address);
    network::release(state, balancer.network, balancer.address);
    state.derived.addresses.remove(&place);
    state.derived.network.forget_balancer(&balancer);
    network::touch(state, balancer.network);
    state.load_balancers.remove(&id);
    Ok(Outcome::Done)
}

/// An instance goes: no load balancer knows it any more.
pub(crate) fn forget_target(state: &mut State, network: NetworkId, instance: InstanceId) {
    super::health::forget_of_instance(state, network, instance);
    let draining: Vec<LoadBalancer> = of_network(state, network)
        .filter(|balancer| balancer.draining.contains(&instance))
        .cloned()
        .collect();
    for mut balancer in draining {
        balancer.draining.retain(|id| *id != instance);
        store(state, balancer);
    }
}
