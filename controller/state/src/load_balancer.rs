//! Load balancers: listeners, which instances are targets, and what their hosts
//! say of them.

mod change;
mod health;

use minicbor::{Decode, Encode};
use nube_types::limits::TARGETS_PER_LOAD_BALANCER_MAX;
use nube_types::{
    InstanceId, Labels, LoadBalancerId, Name, NetworkId, NodeId, ProjectId, TimestampMs,
};

use crate::instance::{DesiredState, Instance, InstanceState};
use crate::network;
use crate::security_group::Protocol;
use crate::state::State;
use crate::table::Record;

pub(crate) use change::{create, delete, drain, forget_target};
use health::forget_verdicts;
pub(crate) use health::{forget_of_instance, report};

/// Where it accepts connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Listener {
    /// TCP or UDP.
    #[n(0)]
    pub protocol: Protocol,
    /// Its own port; unique with the protocol.
    #[n(1)]
    pub port: u16,
    /// Port of the targets.
    #[n(2)]
    pub target_port: u16,
}

/// How targets are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct HealthCheck {
    /// TCP port that must accept.
    #[n(0)]
    pub port: u16,
    /// 1 to 300 seconds.
    #[n(1)]
    pub interval_ms: u32,
    /// Equal answers in a row that change the verdict.
    #[n(2)]
    pub threshold: u8,
}

/// One load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LoadBalancer {
    /// Its id.
    #[n(0)]
    pub id: LoadBalancerId,
    /// Its owner.
    #[n(1)]
    pub project: ProjectId,
    /// Unique in the project.
    #[n(2)]
    pub name: Name,
    /// Where its targets are.
    #[n(3)]
    pub network: NetworkId,
    /// IPv4 address of its own there; given and released like an instance's.
    #[n(4)]
    pub address: u32,
    /// At least one.
    #[n(5)]
    pub listeners: Vec<Listener>,
    /// Living instances of the network that carry all of these are targets.
    #[n(6)]
    pub target_labels: Labels,
    /// How targets are judged.
    #[n(7)]
    pub health_check: HealthCheck,
    /// Targets that get no new connections.
    #[n(8)]
    pub draining: Vec<InstanceId>,
    /// When it was made.
    #[n(9)]
    pub created_at: TimestampMs,
    /// Log index of the last change.
    #[n(10)]
    pub revision: u64,
}

impl Record for LoadBalancer {
    type Key = LoadBalancerId;
    const TABLE: u8 = 23;
    fn key(&self) -> LoadBalancerId {
        self.id
    }
}

/// What a target's host says of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TargetHealth {
    /// Of which load balancer.
    #[n(0)]
    pub load_balancer: LoadBalancerId,
    /// Which target.
    #[n(1)]
    pub instance: InstanceId,
    /// It accepts connections.
    #[n(2)]
    pub healthy: bool,
    /// For people.
    #[n(3)]
    pub reason: String,
    /// Since when.
    #[n(4)]
    pub since: TimestampMs,
}

impl Record for TargetHealth {
    type Key = (LoadBalancerId, InstanceId);
    const TABLE: u8 = 24;
    fn key(&self) -> (LoadBalancerId, InstanceId) {
        (self.load_balancer, self.instance)
    }
}

/// A target as people and hosts see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetView {
    /// Which.
    pub instance: InstanceId,
    /// `healthy`, `unhealthy`, `draining`, or `unknown` until the first verdict.
    pub state: &'static str,
    /// New connections may come to it.
    pub takes_new: bool,
    /// Why not, for people.
    pub reason: String,
}

/// A project's load balancers in order of ids.
pub fn of_project(state: &State, project: ProjectId) -> impl Iterator<Item = &LoadBalancer> {
    let all = (project, LoadBalancerId(0))..=(project, LoadBalancerId(u64::MAX));
    let ids = state.derived.network.balancers.range(all);
    ids.filter_map(|(_, id)| state.load_balancers.get(id))
}

/// A network's load balancers in order of ids.
pub fn of_network(state: &State, network: NetworkId) -> impl Iterator<Item = &LoadBalancer> {
    network::load_balancers(state, network).filter_map(|id| state.load_balancers.get(&id))
}

/// Living, in the network, and with all of the labels.
pub(crate) fn is_target(balancer: &LoadBalancer, instance: &Instance) -> bool {
    let carries = |(key, value)| instance.labels.get(key) == Some(value);
    instance.network == balancer.network
        && instance.project == balancer.project
        && instance.desired != DesiredState::Deleted
        && balancer.target_labels.iter().all(carries)
}

fn target_instances<'a>(
    state: &'a State,
    balancer: &'a LoadBalancer,
) -> impl Iterator<Item = &'a Instance> {
    network::instances(state, balancer.network)
        .filter(|instance| is_target(balancer, instance))
        .take(TARGETS_PER_LOAD_BALANCER_MAX)
}

/// Its targets in order of addresses.
#[must_use]
pub fn targets(state: &State, balancer: &LoadBalancer) -> Vec<TargetView> {
    target_instances(state, balancer)
        .map(|instance| target(state, balancer, instance))
        .collect()
}

fn target(state: &State, balancer: &LoadBalancer, instance: &Instance) -> TargetView {
    let verdict = state.target_health.get(&(balancer.id, instance.id));
    let healthy = verdict.is_some_and(|verdict| verdict.healthy);
    let node = state.nodes.get(&instance.node);
    let draining = balancer.draining.contains(&instance.id);
    let obstacle = if instance.state != InstanceState::Running {
        Some(format!("it is {}", instance.state.word()))
    } else if node.is_none_or(|node| !node.reachable) {
        Some("its host does not answer".to_owned())
    } else {
        None
    };
    let (word, reason) = match (draining, &obstacle, verdict) {
        (true, _, _) => ("draining", String::new()),
        (false, Some(why), _) => ("unhealthy", why.clone()),
        (false, None, None) => ("unknown", "no verdict of its host yet".to_owned()),
        (false, None, Some(verdict)) if healthy => ("healthy", verdict.reason.clone()),
        (false, None, Some(verdict)) => ("unhealthy", verdict.reason.clone()),
    };
    TargetView {
        instance: instance.id,
        state: word,
        takes_new: healthy && obstacle.is_none() && !draining,
        reason,
    }
}

/// The host that answers for its elastic address: the reachable one with the
/// lowest id among those of healthy targets, or else of any.
#[must_use]
pub fn announcer(state: &State, balancer: &LoadBalancer) -> Option<NodeId> {
    let (mut healthy, mut any) = (None::<NodeId>, None::<NodeId>);
    let lower = |best: Option<NodeId>, node| Some(best.map_or(node, |best| best.min(node)));
    for instance in target_instances(state, balancer) {
        let node = state.nodes.get(&instance.node);
        if node.is_none_or(|node| !node.reachable) {
            continue;
        }
        any = lower(any, instance.node);
        if target(state, balancer, instance).takes_new {
            healthy = lower(healthy, instance.node);
        }
    }
    healthy.or(any)
}
