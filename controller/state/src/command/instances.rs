//! What may be asked about instances, and what hosts say of them.

use minicbor::{Decode, Encode};
use nube_types::{
    ImageId, InstanceId, Labels, Name, NetworkId, NodeId, PlacementEpoch, ProjectId,
    SecurityGroupId, SshKeyId, SubnetId,
};

use crate::instance::{HostFailurePolicy, InstanceStage, InstanceState};
use crate::placement::{Explanation, HostNeeds};

/// See [`crate::Command::LaunchInstances`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LaunchInstances {
    /// Owner and payer.
    #[n(0)]
    pub project: ProjectId,
    /// Name of the type.
    #[n(1)]
    pub instance_type: String,
    /// What they boot.
    #[n(2)]
    pub image: ImageId,
    /// Who may log in.
    #[n(3)]
    pub ssh_keys: Vec<SshKeyId>,
    /// Sealed by the proposer: the log never holds it in clear.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub user_data_sealed: Vec<u8>,
    /// Checked labels.
    #[n(5)]
    pub labels: Labels,
    /// Each with its host: chosen outside, checked again here.
    #[n(6)]
    pub instances: Vec<NewInstance>,
    /// Refuse when what placements rest on has changed since.
    #[n(7)]
    pub if_revision: Option<u64>,
    /// What becomes of them when their host is lost.
    #[cbor(n(8), skip_if = "crate::table::is_default")]
    pub on_host_failure: HostFailurePolicy,
    /// What the owner asked of their hosts.
    #[cbor(n(9), skip_if = "crate::table::is_default")]
    pub needs: HostNeeds,
    /// Where they get their ports; absent: the default network.
    #[cbor(n(10), skip_if = "crate::table::is_default")]
    pub network: Option<NetworkId>,
    /// Absent: any subnet of the network.
    #[cbor(n(11), skip_if = "crate::table::is_default")]
    pub subnet: Option<SubnetId>,
    /// IPv4 address of the only instance; absent: the next free one.
    #[cbor(n(12), skip_if = "crate::table::is_default")]
    pub address: Option<u32>,
    /// None: the default group.
    #[cbor(n(13), skip_if = "crate::table::is_default")]
    pub security_groups: Vec<SecurityGroupId>,
}

/// One instance to create.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NewInstance {
    /// Drawn by the proposer.
    #[n(0)]
    pub id: InstanceId,
    /// Unique among the project's living instances.
    #[n(1)]
    pub name: Name,
    /// The scheduler's choice.
    #[n(2)]
    pub node: NodeId,
    /// Derived by the proposer from the cluster secret and the id; the private
    /// half is never in the log.
    #[n(3)]
    pub ssh_host_public_key: String,
    /// Why this host.
    #[n(4)]
    pub explanation: Option<Explanation>,
}

/// See [`crate::Command::ChangeInstance`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ChangeInstance {
    /// Owner; another project's instance is absent.
    #[n(0)]
    pub project: ProjectId,
    /// Which.
    #[n(1)]
    pub instance: InstanceId,
    /// What is wished.
    #[n(2)]
    pub wish: Wish,
    /// Skip the power button.
    #[n(3)]
    pub force: bool,
}

/// What an owner may wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Wish {
    /// Legal unless deleted.
    #[n(0)]
    Start,
    /// Legal unless deleted.
    #[n(1)]
    Stop,
    /// Legal while running.
    #[n(2)]
    Reboot,
    /// Always legal.
    #[n(3)]
    Delete,
}

/// See [`crate::Command::ReportInstances`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReportInstances {
    /// Who reports; only what is placed there changes.
    #[n(0)]
    pub node: NodeId,
    /// Grows with each start of the agent.
    #[n(1)]
    pub agent_epoch: u64,
    /// Grows with each report of that epoch.
    #[n(2)]
    pub sequence: u64,
    /// Instances not listed do not exist there.
    #[n(3)]
    pub full: bool,
    /// What is seen.
    #[n(4)]
    pub observed: Vec<Observed>,
    /// Found on the host and explained by nothing.
    #[n(5)]
    pub unknown: Vec<String>,
}

/// What an agent sees of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Observed {
    /// Which.
    #[n(0)]
    pub instance: InstanceId,
    /// Of which placement; another one's report changes nothing.
    #[n(1)]
    pub epoch: PlacementEpoch,
    /// The newest fulfilled wish.
    #[n(2)]
    pub applied_generation: u64,
    /// What it is.
    #[n(3)]
    pub state: InstanceState,
    /// How far it has come.
    #[n(4)]
    pub stage: InstanceStage,
    /// For people.
    #[n(5)]
    pub reason: String,
    /// It ended while no agent watched.
    #[n(6)]
    pub found_dead: bool,
    /// Reboots fulfilled.
    #[n(7)]
    pub reboot_count: u64,
}
