//! What may be asked of the state machine. Variants and fields are numbered and
//! append-only: a number is never reused, a new field is optional.

mod instances;
mod networks;
mod tenancy;

use minicbor::{Decode, Encode};
use nube_types::net::Ipv4Prefix;
use nube_types::{
    AccessKeyId, AddressId, ImageId, InstanceId, Labels, LoadBalancerId, Mib, Name, NetworkId,
    NodeId, PrincipalId, ProjectId, RequestId, SecurityGroupId, SecurityRuleId, SshKeyId, SubnetId,
    TimestampMs,
};

use crate::eviction::{FenceNode, ReplaceInstance};
use crate::hash_check::CheckStateHash;
use crate::image::{Blob, Datasource, DiskFormat};
use crate::join_token::{CreateJoinToken, RedeemJoinToken};
use crate::member::{RegisterMembers, RemoveMember};
use crate::node::NodeFacts;
use crate::project::Quota;

pub use instances::{
    ChangeInstance, LaunchInstances, NewInstance, Observed, ReportInstances, Wish,
};
pub use networks::{
    AddSecurityRule, AllocateAddress, AssociateAddress, CreateLoadBalancer, CreateNetwork,
    CreateSecurityGroup, CreateSubnet, InstanceTraffic, ReportTargetHealth, ReportTraffic,
    SetTargetDraining, TargetVerdict,
};
pub use tenancy::{CreateAccessKey, CreatePrincipal, CreateProject, SetRole};

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
