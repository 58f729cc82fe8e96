//! What of a host's totals and verdicts a view does not know yet. Agents say both
//! again and again; only what is new becomes a log entry.

use std::collections::BTreeSet;

use nube_state::command::{InstanceTraffic, ReportTargetHealth, ReportTraffic, TargetVerdict};
use nube_state::{DesiredState, State, load_balancer};
use nube_types::{InstanceId, LoadBalancerId, NodeId};

/// This placement is on the node, or left it and is not cleared away yet.
fn had_placement(state: &State, node: NodeId, said: &InstanceTraffic) -> bool {
    let found = state.instances.get(&said.instance);
    let left = state.evictions.get(&(said.instance, node));
    found.is_some_and(|found| (found.node, found.epoch) == (node, said.epoch))
        || left.is_some_and(|left| left.epoch == said.epoch)
}

/// The instance, if this placement of it is on the node.
fn placed(state: &State, node: NodeId, said: &TargetVerdict) -> bool {
    let found = state.instances.get(&said.instance);
    found.is_some_and(|found| {
        let stays = found.desired != DesiredState::Deleted;
        stays && (found.node, found.epoch) == (node, said.epoch)
    })
}

/// The totals that are larger than the known ones.
pub fn of_traffic(state: &State, mut report: ReportTraffic) -> ReportTraffic {
    let node = report.node;
    report.instances.retain(|said: &InstanceTraffic| {
        if !had_placement(state, node, said) {
            return false;
        }
        let known = state.traffic_counters.get(&said.instance);
        match known.filter(|known| known.epoch == said.epoch) {
            Some(known) => said.bytes_out > known.reported_out || said.bytes_in > known.reported_in,
            None => said.bytes_out > 0 || said.bytes_in > 0,
        }
    });
    report
}

/// Whether the verdicts differ from the known ones; those not listed are known no
/// more.
pub fn of_health(state: &State, report: &ReportTargetHealth) -> bool {
    let counts = |said: &&TargetVerdict| {
        let known = state.load_balancers.get(&said.load_balancer).is_some();
        known && placed(state, report.node, said)
    };
    let mut listed: BTreeSet<(LoadBalancerId, InstanceId)> = BTreeSet::new();
    for said in report.targets.iter().filter(counts) {
        let key = (said.load_balancer, said.instance);
        listed.insert(key);
        let known = state.target_health.get(&key);
        if known.is_none_or(|known| known.healthy != said.healthy || known.reason != said.reason) {
            return true;
        }
    }
    state.instances_on(report.node).any(|instance| {
        let mut balancers = load_balancer::of_network(state, instance.network);
        balancers.any(|balancer| {
            let key = (balancer.id, instance.id);
            state.target_health.get(&key).is_some() && !listed.contains(&key)
        })
    })
}
