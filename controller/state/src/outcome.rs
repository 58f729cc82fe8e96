//! What the state machine answers. Refusals are business: decided in `apply`,
//! the same on every replica, and without any effect.

use std::fmt;

use minicbor::{Decode, Encode};
use nube_types::{
    AccessKeyId, AddressId, ImageId, InstanceId, LoadBalancerId, Name, NetworkId, NodeId,
    PrincipalId, ProjectId, SecurityGroupId, SshKeyId, SubnetId, TimestampMs,
};

use crate::join_token::Joined;

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// Done; there is nothing to tell.
    #[n(0)]
    Done,
    /// These were created or changed, in the order asked.
    #[n(1)]
    Instances(#[n(0)] Vec<InstanceId>),
    /// The key.
    #[n(2)]
    SshKey(#[n(0)] SshKeyId),
    /// The image.
    #[n(3)]
    Image(#[n(0)] ImageId),
    /// Nothing was changed.
    #[n(4)]
    Refused(#[n(0)] Refusal),
    /// The project.
    #[n(5)]
    Project(#[n(0)] ProjectId),
    /// The principal.
    #[n(6)]
    Principal(#[n(0)] PrincipalId),
    /// The access key.
    #[n(7)]
    AccessKey(#[n(0)] AccessKeyId),
    /// A join token that is good until then.
    #[n(10)]
    JoinToken(#[n(0)] TimestampMs),
    /// A newcomer's identity.
    #[n(11)]
    Joined(#[n(0)] Joined),
    /// The network.
    #[n(12)]
    Network(#[n(0)] NetworkId),
    /// The subnet.
    #[n(13)]
    Subnet(#[n(0)] SubnetId),
    /// The group.
    #[n(14)]
    SecurityGroup(#[n(0)] SecurityGroupId),
    /// The address.
    #[n(15)]
    Address(#[n(0)] AddressId),
    /// The load balancer.
    #[n(16)]
    LoadBalancer(#[n(0)] LoadBalancerId),
}

/// The kind of thing a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Kind {
    /// See `instance.rs`.
    #[n(0)]
    Instance,
    /// See `image.rs`.
    #[n(1)]
    Image,
    /// See `instance_type.rs`.
    #[n(2)]
    InstanceType,
    /// See `ssh_key.rs`.
    #[n(3)]
    SshKey,
    /// See `node.rs`.
    #[n(4)]
    Node,
    /// See `project.rs`.
    #[n(5)]
    Project,
    /// See `principal.rs`.
    #[n(6)]
    Principal,
    /// See `access_key.rs`.
    #[n(7)]
    AccessKey,
    /// See `network.rs`.
    #[n(8)]
    Network,
    /// See `subnet.rs`.
    #[n(9)]
    Subnet,
    /// See `security_group.rs`.
    #[n(10)]
    SecurityGroup,
    /// See `security_group.rs`.
    #[n(11)]
    SecurityRule,
    /// See `address.rs`.
    #[n(12)]
    Address,
    /// See `address.rs`.
    #[n(13)]
    AddressPool,
    /// See `load_balancer.rs`.
    #[n(14)]
    LoadBalancer,
    /// See `member.rs`.
    #[n(20)]
    Member,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instance => "instance",
            Self::Image => "image",
            Self::InstanceType => "instance type",
            Self::SshKey => "ssh key",
            Self::Node => "node",
            Self::Project => "project",
            Self::Principal => "principal",
            Self::AccessKey => "access key",
            Self::Network => "network",
            Self::Subnet => "subnet",
            Self::SecurityGroup => "security group",
            Self::SecurityRule => "rule",
            Self::Address => "address",
            Self::AddressPool => "address pool",
            Self::LoadBalancer => "load balancer",
            Self::Member => "member",
        })
    }
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// Absent, or another project's.
    #[n(0)]
    #[error("{kind} `{reference}` not found")]
    NotFound {
        /// Of what.
        #[n(0)]
        kind: Kind,
        /// As it was asked for.
        #[n(1)]
        reference: String,
    },
    /// The name is in use in this project.
    #[n(1)]
    #[error("{kind} `{name}` exists already")]
    NameTaken {
        /// Of what.
        #[n(0)]
        kind: Kind,
        /// The name.
        #[n(1)]
        name: Name,
    },
    /// The same key material is registered.
    #[n(2)]
    #[error("this key is registered already as `{name}` ({fingerprint})")]
    DuplicateSshKey {
        /// Under this name.
        #[n(0)]
        name: Name,
        /// Its fingerprint.
        #[n(1)]
        fingerprint: String,
    },
    /// The request id was used with other parameters.
    #[n(3)]
    #[error("this request id was used before with other parameters; draw a new one")]
    RequestIdReused,
    /// A limit of the cell or the project.
    #[n(4)]
    #[error("limit reached: at most {limit} {what}")]
    LimitReached {
        /// Of what.
        #[n(0)]
        what: String,
        /// How many.
        #[n(1)]
        limit: u64,
    },
    /// The host no longer fits: choose again. Never shown to clients.
    #[n(5)]
    #[error("node {node} no longer fits: {why}")]
    StalePlacement {
        /// The chosen one.
        #[n(0)]
        node: NodeId,
        /// What changed.
        #[n(1)]
        why: String,
    },
    /// Others depend on it.
    #[n(6)]
    #[error("{kind} `{name}` is used by {count} instances; delete them first")]
    InUse {
        /// Of what.
        #[n(0)]
        kind: Kind,
        /// Its name.
        #[n(1)]
        name: Name,
        /// By how many.
        #[n(2)]
        count: u64,
    },
    /// The wish does not fit the state.
    #[n(7)]
    #[error("instance `{name}` is {state}; {advice}")]
    WrongState {
        /// Which.
        #[n(0)]
        name: Name,
        /// What it is.
        #[n(1)]
        state: String,
        /// What to do.
        #[n(2)]
        advice: String,
    },
    /// A value breaks a rule.
    #[n(8)]
    #[error("{field}: {rule}")]
    Invalid {
        /// Which field.
        #[n(0)]
        field: String,
        /// What is asked of it.
        #[n(1)]
        rule: String,
    },
    /// The network has no address left.
    #[n(9)]
    #[error("the network has no free address")]
    NoAddress,
    /// The cluster has no first entry yet, or has one already.
    #[n(10)]
    #[error("the cluster is {0}")]
    Initialisation(#[n(0)] String),
    /// An id that exists was drawn again: draw another.
    #[n(11)]
    #[error("id {0} exists")]
    IdTaken(#[n(0)] String),
    /// More than the project may have.
    #[n(12)]
    #[error(
        "quota of {resource} exceeded: {asked} asked for, {used} of {limit} used; \
         delete some, or ask an admin of the cell for more"
    )]
    QuotaExceeded {
        /// As in a quota.
        #[n(0)]
        resource: String,
        /// The most.
        #[n(1)]
        limit: u64,
        /// What exists.
        #[n(2)]
        used: u64,
        /// What was asked for.
        #[n(3)]
        asked: u64,
    },
    /// The preview does not hold any more.
    #[n(13)]
    #[error("revision {asked} is out of date: hosts, quota or instances changed at {changed}")]
    RevisionChanged {
        /// The preview's.
        #[n(0)]
        asked: u64,
        /// The newest change.
        #[n(1)]
        changed: u64,
    },
    /// Something is left inside.
    #[n(14)]
    #[error("{kind} `{name}` still has {count} {what}; delete them first")]
    NotEmpty {
        /// Of what.
        #[n(0)]
        kind: Kind,
        /// Its name.
        #[n(1)]
        name: Name,
        /// What is left.
        #[n(2)]
        what: String,
        /// How many.
        #[n(3)]
        count: u64,
    },
    /// A key may not do more than its principal.
    #[n(15)]
    #[error("principal `{name}` has no role `{role}` there; give it the role first")]
    RoleMissing {
        /// Whose.
        #[n(0)]
        name: Name,
        /// Which.
        #[n(1)]
        role: String,
    },
    /// Unknown, expired, spent by another key, or of another role: nobody learns
    /// which.
    #[n(20)]
    #[error("the join token is not valid")]
    TokenRefused,
    /// A host is not lost as the command says. Never shown to clients.
    #[n(22)]
    #[error("node {node}: {why}")]
    Fence {
        /// Which.
        #[n(0)]
        node: NodeId,
        /// What is so.
        #[n(1)]
        why: String,
    },
    /// It points at something, or the target has one already.
    #[n(23)]
    #[error("address {address} {why}")]
    AddressInUse {
        /// Which, as `198.18.7.5`.
        #[n(0)]
        address: String,
        /// What it points at, and what to do.
        #[n(1)]
        why: String,
    },
    /// No pool has a free elastic address.
    #[n(24)]
    #[error("the cell has no free elastic address; an operator can add a range")]
    NoElasticAddress,
    /// The rest of the voters would have no quorum that answers.
    #[n(21)]
    #[error("{0}")]
    QuorumAtRisk(#[n(0)] String),
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
