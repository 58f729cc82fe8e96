//! What may be asked about networks and about what is in them.

use minicbor::{Decode, Encode};
use nube_types::net::Ipv4Prefix;
use nube_types::{
    AddressId, InstanceId, Labels, LoadBalancerId, Name, NetworkId, NodeId, PlacementEpoch,
    ProjectId, SecurityGroupId, SecurityRuleId, SubnetId,
};

use crate::load_balancer::{HealthCheck, Listener};
use crate::security_group::SecurityRule;

/// See [`crate::Command::CreateNetwork`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CreateNetwork {
    /// Owner.
    #[n(0)]
    pub project: ProjectId,
    /// Drawn by the proposer.
    #[n(1)]
    pub id: NetworkId,
    /// Unique in the project.
    #[n(2)]
    pub name: Name,
    /// Of the first subnet.
    #[n(3)]
    pub range: Ipv4Prefix,
    /// Without an internet gateway.
    #[n(4)]
    pub isolated: bool,
}

/// See [`crate::Command::CreateSubnet`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CreateSubnet {
    /// Owner.
    #[n(0)]
    pub project: ProjectId,
    /// Where.
    #[n(1)]
    pub network: NetworkId,
    /// Drawn by the proposer.
    #[n(2)]
    pub id: SubnetId,
    /// Unique in the network.
    #[n(3)]
    pub name: Name,
    /// Its range.
    #[n(4)]
    pub range: Ipv4Prefix,
}

/// See [`crate::Command::CreateSecurityGroup`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CreateSecurityGroup {
    /// Owner.
    #[n(0)]
    pub project: ProjectId,
    /// Drawn by the proposer.
    #[n(1)]
    pub id: SecurityGroupId,
    /// Unique in the project.
    #[n(2)]
    pub name: Name,
    /// Drawn by the proposer: for the rules that let all out, one for each family.
    #[n(3)]
    pub rules: (SecurityRuleId, SecurityRuleId),
}

/// See [`crate::Command::AddSecurityRule`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AddSecurityRule {
    /// Owner.
    #[n(0)]
    pub project: ProjectId,
    /// Where.
    #[n(1)]
    pub group: SecurityGroupId,
    /// What is allowed.
    #[n(2)]
    pub rule: SecurityRule,
}

/// See [`crate::Command::AllocateAddress`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AllocateAddress {
    /// Holder and payer.
    #[n(0)]
    pub project: ProjectId,
    /// Drawn by the proposer.
    #[n(1)]
    pub id: AddressId,
    /// Unique in the project.
    #[n(2)]
    pub name: Name,
}

/// See [`crate::Command::AssociateAddress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct AssociateAddress {
    /// Holder.
    #[n(0)]
    pub project: ProjectId,
    /// Which address.
    #[n(1)]
    pub address: AddressId,
    /// What it shall point at.
    #[n(2)]
    pub instance: InstanceId,
    /// Take it from where it is.
    #[n(3)]
    pub take: bool,
}

/// See [`crate::Command::CreateLoadBalancer`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CreateLoadBalancer {
    /// Owner.
    #[n(0)]
    pub project: ProjectId,
    /// Drawn by the proposer.
    #[n(1)]
    pub id: LoadBalancerId,
    /// Unique in the project.
    #[n(2)]
    pub name: Name,
    /// Where its targets are.
    #[n(3)]
    pub network: NetworkId,
    /// 1 to 10.
    #[n(4)]
    pub listeners: Vec<Listener>,
    /// At least one.
    #[n(5)]
    pub target_labels: Labels,
    /// How targets are judged.
    #[n(6)]
    pub health_check: HealthCheck,
    /// An address that points at nothing; absent: none.
    #[n(7)]
    pub elastic_address: Option<AddressId>,
}

/// See [`crate::Command::SetTargetDraining`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SetTargetDraining {
    /// Owner.
    #[n(0)]
    pub project: ProjectId,
    /// Of which load balancer.
    #[n(1)]
    pub load_balancer: LoadBalancerId,
    /// Which target.
    #[n(2)]
    pub instance: InstanceId,
    /// No new connections; otherwise again.
    #[n(3)]
    pub draining: bool,
}

/// See [`crate::Command::ReportTraffic`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReportTraffic {
    /// Who reports; only what is placed there counts.
    #[n(0)]
    pub node: NodeId,
    /// Totals.
    #[n(1)]
    pub instances: Vec<InstanceTraffic>,
}

/// Totals of one placement of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct InstanceTraffic {
    /// Which.
    #[n(0)]
    pub instance: InstanceId,
    /// Of which placement.
    #[n(1)]
    pub epoch: PlacementEpoch,
    /// To the internet.
    #[n(2)]
    pub bytes_out: u64,
    /// From the internet.
    #[n(3)]
    pub bytes_in: u64,
}

/// See [`crate::Command::ReportTargetHealth`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReportTargetHealth {
    /// Who reports; only what is placed there counts.
    #[n(0)]
    pub node: NodeId,
    /// Verdicts.
    #[n(1)]
    pub targets: Vec<TargetVerdict>,
}

/// A host's verdict about one target.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TargetVerdict {
    /// Of which load balancer.
    #[n(0)]
    pub load_balancer: LoadBalancerId,
    /// Which.
    #[n(1)]
    pub instance: InstanceId,
    /// Of which placement.
    #[n(2)]
    pub epoch: PlacementEpoch,
    /// It accepts connections.
    #[n(3)]
    pub healthy: bool,
    /// For people.
    #[n(4)]
    pub reason: String,
}
