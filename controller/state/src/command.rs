//! What may be asked of the state machine. Variants and fields are numbered and
//! append-only: a number is never reused, a new field is optional.

use minicbor::{Decode, Encode};
use nube_types::net::Ipv4Prefix;
use nube_types::{
    AccessKeyId, AddressId, ImageId, InstanceId, Labels, LoadBalancerId, Mib, Name, NetworkId,
    NodeId, PlacementEpoch, PrincipalId, ProjectId, RequestId, SecurityGroupId, SecurityRuleId,
    SshKeyId, SubnetId, TimestampMs,
};

use crate::eviction::{FenceNode, ReplaceInstance};
use crate::hash_check::CheckStateHash;
use crate::image::{Blob, Datasource, DiskFormat};
use crate::instance::{HostFailurePolicy, InstanceStage, InstanceState};
use crate::join_token::{CreateJoinToken, RedeemJoinToken};
use crate::load_balancer::{HealthCheck, Listener};
use crate::member::{RegisterMembers, RemoveMember};
use crate::node::NodeFacts;
use crate::placement::{Explanation, HostNeeds};
use crate::principal::{AccessRole, PrincipalKind};
use crate::project::Quota;
use crate::security_group::SecurityRule;

/// One log entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Envelope {
    /// Absent for the control plane's own commands, which are safe to repeat.
    #[n(0)]
    pub request: Option<Request>,
    /// The proposing leader's clock; clamped so that it never goes back.
    #[n(1)]
    pub at: TimestampMs,
    /// Who asked, as `operator/admin`; for people and the audit.
    #[n(2)]
    pub actor: String,
    /// What is asked.
    #[n(3)]
    pub command: Command,
    /// Address that the request came from.
    #[n(4)]
    pub source: Option<String>,
}

/// A client's claim that this is one and the same mutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Request {
    /// In whose name; ids of different projects do not meet.
    #[n(0)]
    pub project: ProjectId,
    /// The client's id.
    #[n(1)]
    pub id: RequestId,
    /// Hash of method and parameters: the same id with others is refused.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub parameters: [u8; 16],
}

/// Everything that can change the state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// First entry of a cluster; refused when repeated.
    #[n(0)]
    InitCluster(#[n(0)] InitCluster),
    /// Time goes on; proven liveness of nodes is kept.
    #[n(1)]
    Tick(#[n(0)] Tick),
    /// Registers a checked public key.
    #[n(2)]
    ImportSshKey(#[n(0)] ImportSshKey),
    /// Forgets a key; guests keep it.
    #[n(3)]
    DeleteSshKey(#[n(0)] ProjectId, #[n(1)] SshKeyId),
    /// Makes an image of stored files.
    #[n(4)]
    RegisterImage(#[n(0)] RegisterImage),
    /// Refused while instances use it.
    #[n(5)]
    DeleteImage(#[n(0)] ProjectId, #[n(1)] ImageId),
    /// An agent said hello, or its facts changed.
    #[n(6)]
    RegisterNode(#[n(0)] NodeFacts),
    /// The leader lost or regained an agent.
    #[n(7)]
    SetNodeReachable(#[n(0)] SetNodeReachable),
    /// An operator takes a node out of placement, or back.
    #[n(8)]
    SetNodeDrained(#[n(0)] NodeId, #[n(1)] bool),
    /// Creates all of these instances, or none.
    #[n(9)]
    LaunchInstances(#[n(0)] LaunchInstances),
    /// A wish about one instance.
    #[n(10)]
    ChangeInstance(#[n(0)] ChangeInstance),
    /// What an agent sees.
    #[n(11)]
    ReportInstances(#[n(0)] ReportInstances),
    /// A new owner, with a network.
    #[n(12)]
    CreateProject(#[n(0)] CreateProject),
    /// What exists stays, even above it.
    #[n(13)]
    SetProjectQuota(#[n(0)] ProjectId, #[n(1)] Quota),
    /// Refused while anything is left in it.
    #[n(14)]
    DeleteProject(#[n(0)] ProjectId),
    /// A new person or program, without any role.
    #[n(15)]
    CreatePrincipal(#[n(0)] CreatePrincipal),
    /// One role in one place, given or taken.
    #[n(16)]
    SetRole(#[n(0)] SetRole),
    /// Its access keys end with it.
    #[n(17)]
    DeletePrincipal(#[n(0)] PrincipalId),
    /// A way to prove oneself.
    #[n(18)]
    CreateAccessKey(#[n(0)] CreateAccessKey),
    /// Refused everywhere from then on.
    #[n(19)]
    DeleteAccessKey(#[n(0)] AccessKeyId),
    /// Labels that an operator gives a host.
    #[n(20)]
    SetNodeLabels(#[n(0)] SetNodeLabels),
    /// One host or one controller may join.
    #[n(21)]
    CreateJoinToken(#[n(0)] CreateJoinToken),
    /// A newcomer presents a secret and its public key.
    #[n(22)]
    RedeemJoinToken(#[n(0)] RedeemJoinToken),
    /// The first members, from the config of the first leader.
    #[n(23)]
    RegisterMembers(#[n(0)] RegisterMembers),
    /// A member must not take part any more.
    #[n(24)]
    RemoveMember(#[n(0)] RemoveMember),
    /// Replicas compare what they were at an index; one that differs ends.
    #[n(25)]
    CheckStateHash(#[n(0)] CheckStateHash),
    /// Nothing that may be replaced runs on this host any more.
    #[n(26)]
    FenceNode(#[n(0)] FenceNode),
    /// An instance of a fenced host begins anew on another one.
    #[n(27)]
    ReplaceInstance(#[n(0)] ReplaceInstance),
    /// A private address space with its first subnet.
    #[n(28)]
    CreateNetwork(#[n(0)] CreateNetwork),
    /// Whether a network has a way to the internet.
    #[n(29)]
    SetInternetGateway(#[n(0)] ProjectId, #[n(1)] NetworkId, #[n(2)] bool),
    /// Refused while anything is in it.
    #[n(30)]
    DeleteNetwork(#[n(0)] ProjectId, #[n(1)] NetworkId),
    /// A further range of a network.
    #[n(31)]
    CreateSubnet(#[n(0)] CreateSubnet),
    /// Refused while an address of it is held.
    #[n(32)]
    DeleteSubnet(#[n(0)] ProjectId, #[n(1)] SubnetId),
    /// A group that lets everything out and nothing in.
    #[n(33)]
    CreateSecurityGroup(#[n(0)] CreateSecurityGroup),
    /// One more thing that is allowed.
    #[n(34)]
    AddSecurityRule(#[n(0)] AddSecurityRule),
    /// One thing less.
    #[n(35)]
    RemoveSecurityRule(
        #[n(0)] ProjectId,
        #[n(1)] SecurityGroupId,
        #[n(2)] SecurityRuleId,
    ),
    /// An instance carries these groups from now on; none: the default one.
    #[n(36)]
    SetInstanceSecurityGroups(
        #[n(0)] ProjectId,
        #[n(1)] InstanceId,
        #[n(2)] Vec<SecurityGroupId>,
    ),
    /// Refused while instances carry it or rules name it.
    #[n(37)]
    DeleteSecurityGroup(#[n(0)] ProjectId, #[n(1)] SecurityGroupId),
    /// A range for elastic addresses.
    #[n(38)]
    AddAddressPool(#[n(0)] Ipv4Prefix),
    /// Refused while addresses of it are held.
    #[n(39)]
    RemoveAddressPool(#[n(0)] Ipv4Prefix),
    /// A free address of any range; billed from here on.
    #[n(40)]
    AllocateAddress(#[n(0)] AllocateAddress),
    /// The address points at this instance.
    #[n(41)]
    AssociateAddress(#[n(0)] AssociateAddress),
    /// It points at nothing.
    #[n(42)]
    DisassociateAddress(#[n(0)] ProjectId, #[n(1)] AddressId),
    /// Refused while it points at something; billed up to here.
    #[n(43)]
    ReleaseAddress(#[n(0)] ProjectId, #[n(1)] AddressId),
    /// With its listeners.
    #[n(44)]
    CreateLoadBalancer(#[n(0)] CreateLoadBalancer),
    /// A target gets no new connections, or gets them again.
    #[n(45)]
    SetTargetDraining(#[n(0)] SetTargetDraining),
    /// Its elastic address points at nothing afterwards.
    #[n(46)]
    DeleteLoadBalancer(#[n(0)] ProjectId, #[n(1)] LoadBalancerId),
    /// What a host's guests exchanged with the internet.
    #[n(47)]
    ReportTraffic(#[n(0)] ReportTraffic),
    /// What a host says of its targets; those not listed have no verdict.
    #[n(48)]
    ReportTargetHealth(#[n(0)] ReportTargetHealth),
}

/// See [`Command::CreateNetwork`].
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

/// See [`Command::CreateSubnet`].
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

/// See [`Command::CreateSecurityGroup`].
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

/// See [`Command::AddSecurityRule`].
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

/// See [`Command::AllocateAddress`].
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

/// See [`Command::AssociateAddress`].
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

/// See [`Command::CreateLoadBalancer`].
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

/// See [`Command::SetTargetDraining`].
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

/// See [`Command::ReportTraffic`].
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

/// See [`Command::ReportTargetHealth`].
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

/// See [`Command::CreateProject`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CreateProject {
    /// Drawn by the proposer.
    #[n(0)]
    pub id: ProjectId,
    /// Unique in the cell.
    #[n(1)]
    pub name: Name,
    /// Drawn by the proposer, for its network.
    #[n(2)]
    pub network: NetworkId,
    /// Absent: the default.
    #[n(3)]
    pub quota: Option<Quota>,
}

/// See [`Command::CreatePrincipal`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CreatePrincipal {
    /// Drawn by the proposer.
    #[n(0)]
    pub id: PrincipalId,
    /// Unique in the cell.
    #[n(1)]
    pub name: Name,
    /// Person or program.
    #[n(2)]
    pub kind: PrincipalKind,
}

/// See [`Command::SetRole`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SetRole {
    /// Whose.
    #[n(0)]
    pub principal: PrincipalId,
    /// Where; absent: the cell.
    #[n(1)]
    pub project: Option<ProjectId>,
    /// Absent: none any more.
    #[n(2)]
    pub role: Option<AccessRole>,
}

/// See [`Command::CreateAccessKey`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CreateAccessKey {
    /// Drawn by the proposer.
    #[n(0)]
    pub id: AccessKeyId,
    /// Whose.
    #[n(1)]
    pub principal: PrincipalId,
    /// Where; absent: the cell.
    #[n(2)]
    pub project: Option<ProjectId>,
    /// The most it may do there.
    #[n(3)]
    pub role: AccessRole,
    /// SHA-256 of the secret, which is never in the log.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub secret_hash: [u8; 32],
    /// From the commit on; absent: for ever.
    #[n(5)]
    pub ttl_ms: Option<u64>,
}

/// See [`Command::SetNodeLabels`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SetNodeLabels {
    /// Which.
    #[n(0)]
    pub node: NodeId,
    /// Checked labels to set.
    #[n(1)]
    pub set: Labels,
    /// Keys to remove.
    #[n(2)]
    pub remove: Vec<String>,
}

/// See [`Command::InitCluster`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct InitCluster {
    /// Drawn at bootstrap; in every certificate and message.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub cluster_id: [u8; 16],
    /// The project `default`.
    #[n(1)]
    pub project: ProjectId,
    /// Its network.
    #[n(2)]
    pub network: NetworkId,
    /// The price book names addresses and traffic. Cells of the first version
    /// began without.
    #[cbor(n(3), skip_if = "crate::table::is_default")]
    pub network_prices: bool,
}

/// See [`Command::Tick`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Tick {
    /// Nodes that proved themselves, and when (leader's clock).
    #[n(0)]
    pub seen: Vec<NodeSeen>,
}

/// A node was alive at this instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct NodeSeen {
    /// Which.
    #[n(0)]
    pub node: NodeId,
    /// When.
    #[n(1)]
    pub at: TimestampMs,
}

/// See [`Command::ImportSshKey`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ImportSshKey {
    /// Owner.
    #[n(0)]
    pub project: ProjectId,
    /// Drawn by the proposer.
    #[n(1)]
    pub id: SshKeyId,
    /// Unique in the project.
    #[n(2)]
    pub name: Name,
    /// OpenSSH form without options.
    #[n(3)]
    pub public_key: String,
    /// `SHA256:…`, unique in the project.
    #[n(4)]
    pub fingerprint: String,
    /// As `ssh-ed25519`.
    #[n(5)]
    pub algorithm: String,
}

/// See [`Command::RegisterImage`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RegisterImage {
    /// Owner.
    #[n(0)]
    pub project: ProjectId,
    /// Drawn by the proposer.
    #[n(1)]
    pub id: ImageId,
    /// Unique in the project.
    #[n(2)]
    pub name: Name,
    /// Free text.
    #[n(3)]
    pub version: String,
    /// `x86_64`.
    #[n(4)]
    pub architecture: String,
    /// Login user.
    #[n(5)]
    pub user: String,
    /// Root disk.
    #[n(6)]
    pub disk: Blob,
    /// How it is stored.
    #[n(7)]
    pub disk_format: DiskFormat,
    /// As the guest sees it.
    #[n(8)]
    pub virtual_size_bytes: u64,
    /// Direct boot when both are here.
    #[n(9)]
    pub kernel: Option<Blob>,
    /// See `kernel`.
    #[n(10)]
    pub initrd: Option<Blob>,
    /// Printable ASCII.
    #[n(11)]
    pub cmdline: String,
    /// Smaller types are refused.
    #[n(12)]
    pub memory_min: Mib,
    /// Smaller types are refused.
    #[n(13)]
    pub disk_min: Mib,
    /// Where its guests look for what they are told.
    #[cbor(n(14), skip_if = "crate::table::is_default")]
    pub datasource: Datasource,
}

/// See [`Command::SetNodeReachable`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SetNodeReachable {
    /// Which.
    #[n(0)]
    pub node: NodeId,
    /// What it is now.
    #[n(1)]
    pub reachable: bool,
    /// The last instant it was proven alive.
    #[n(2)]
    pub last_seen: TimestampMs,
}

/// See [`Command::LaunchInstances`].
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

/// See [`Command::ChangeInstance`].
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

/// See [`Command::ReportInstances`].
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
