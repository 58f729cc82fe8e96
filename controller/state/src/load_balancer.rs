//! Load balancers: listeners, which instances are targets, and what their hosts
//! say of them.

use minicbor::{Decode, Encode};
use nube_types::{InstanceId, Labels, LoadBalancerId, Name, NetworkId, ProjectId, TimestampMs};

use crate::security_group::Protocol;
use crate::table::Record;

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
