//! What hosts say of the targets that they have. A report is complete: a target of
//! the host that is not in it has no verdict.

use std::collections::BTreeSet;

use nube_types::{InstanceId, LoadBalancerId, NetworkId};

use super::{TargetHealth, is_target};
use crate::command::{ReportTargetHealth, TargetVerdict};
use crate::network;
use crate::node::bounded;
use crate::outcome::{Kind, Outcome, Refusal};
use crate::state::State;

type Key = (LoadBalancerId, InstanceId);

pub(crate) fn report(state: &mut State, command: &ReportTargetHealth) -> Result<Outcome, Refusal> {
    if state.nodes.get(&command.node).is_none() {
        return Err(Refusal::NotFound {
            kind: Kind::Node,
            reference: command.node.to_string(),
        });
    }
    let mut listed: BTreeSet<Key> = BTreeSet::new();
    for verdict in &command.targets {
        let key = (verdict.load_balancer, verdict.instance);
        if is_of_host(state, command, verdict) && listed.insert(key) {
            note(state, verdict);
        }
    }
    for key in verdicts_on(state, command) {
        if !listed.contains(&key) {
            forget(state, key);
        }
    }
    Ok(Outcome::Done)
}

fn is_of_host(state: &State, command: &ReportTargetHealth, verdict: &TargetVerdict) -> bool {
    let Some(instance) = state.instances.get(&verdict.instance) else {
        return false;
    };
    let balancer = state.load_balancers.get(&verdict.load_balancer);
    (instance.node, instance.epoch) == (command.node, verdict.epoch)
        && balancer.is_some_and(|balancer| is_target(balancer, instance))
}

/// A row is written when the verdict or its reason changes, and at no other time.
fn note(state: &mut State, verdict: &TargetVerdict) {
    let key = (verdict.load_balancer, verdict.instance);
    let reason = bounded(&verdict.reason);
    let known = state.target_health.get(&key);
    let turned = known.is_none_or(|known| known.healthy != verdict.healthy);
    if !turned && known.is_some_and(|known| known.reason == reason) {
        return;
    }
    let since = known.filter(|_| !turned).map_or(state.time, |k| k.since);
    state.target_health.put(TargetHealth {
        load_balancer: verdict.load_balancer,
        instance: verdict.instance,
        healthy: verdict.healthy,
        reason,
        since,
    });
    if turned {
        tell(state, verdict.load_balancer);
    }
}

/// Hosts and watchers hear of the targets by their load balancer.
fn tell(state: &mut State, balancer: LoadBalancerId) {
    if let Some(balancer) = state.load_balancers.get(&balancer).cloned() {
        super::change::store(state, balancer);
    }
}

fn forget(state: &mut State, key: Key) {
    if state.target_health.get(&key).is_some() {
        state.target_health.remove(&key);
        tell(state, key.0);
    }
}

fn verdicts_on(state: &State, command: &ReportTargetHealth) -> Vec<Key> {
    let mut keys = Vec::new();
    for instance in state.instances_on(command.node) {
        for balancer in network::load_balancers(state, instance.network) {
            let key = (balancer, instance.id);
            if state.target_health.get(&key).is_some() {
                keys.push(key);
            }
        }
    }
    keys
}

/// With its load balancer.
pub(crate) fn forget_verdicts(state: &mut State, balancer: LoadBalancerId) {
    let keys: Vec<Key> = state
        .target_health
        .range_from((balancer, InstanceId(0)))
        .take_while(|health| health.load_balancer == balancer)
        .map(|health| (health.load_balancer, health.instance))
        .collect();
    for key in keys {
        state.target_health.remove(&key);
    }
}

/// An instance goes, or begins anew elsewhere: what was said of it is over.
pub(crate) fn forget_of_instance(state: &mut State, network: NetworkId, instance: InstanceId) {
    let balancers: Vec<_> = network::load_balancers(state, network).collect();
    for balancer in balancers {
        forget(state, (balancer, instance));
    }
}
