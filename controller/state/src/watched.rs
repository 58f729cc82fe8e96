//! Changed records, read back for those who watch: which nouns are shown, and
//! whose they are.

use nube_types::ProjectId;

use crate::access_key::AccessKey;
use crate::address::Address;
use crate::event::Event;
use crate::image::Image;
use crate::instance::Instance;
use crate::load_balancer::LoadBalancer;
use crate::network::Network;
use crate::node::Node;
use crate::principal::Principal;
use crate::project::Project;
use crate::security_group::SecurityGroup;
use crate::ssh_key::SshKey;
use crate::subnet::Subnet;
use crate::table::{Change, Record};

/// A record that may be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// See `ssh_key.rs`.
    SshKey(SshKey),
    /// See `image.rs`.
    Image(Box<Image>),
    /// See `node.rs`.
    Node(Box<Node>),
    /// See `instance/mod.rs`.
    Instance(Box<Instance>),
    /// See `project.rs`.
    Project(Project),
    /// See `principal.rs`.
    Principal(Principal),
    /// See `access_key.rs`.
    AccessKey(AccessKey),
    /// See `network/mod.rs`.
    Network(Network),
    /// See `subnet.rs`.
    Subnet(Subnet),
    /// See `security_group.rs`.
    SecurityGroup(Box<SecurityGroup>),
    /// See `address.rs`.
    Address(Address),
    /// See `load_balancer.rs`.
    LoadBalancer(Box<LoadBalancer>),
    /// See `event.rs`.
    Event(Box<Event>),
}

/// A change that may be watched: the record now, or the one that was removed.
#[must_use]
pub fn read(change: &Change) -> Option<(Watched, bool)> {
    let removed = change.value.is_none();
    let bytes = change.value.as_ref().or(change.removed.as_ref())?;
    let record = match *change.key.first()? {
        SshKey::TABLE => Watched::SshKey(decode(bytes)?),
        Image::TABLE => Watched::Image(Box::new(decode(bytes)?)),
        Node::TABLE => Watched::Node(Box::new(decode(bytes)?)),
        Instance::TABLE => Watched::Instance(Box::new(decode(bytes)?)),
        Project::TABLE => Watched::Project(decode(bytes)?),
        Principal::TABLE => Watched::Principal(decode(bytes)?),
        AccessKey::TABLE => Watched::AccessKey(decode(bytes)?),
        Network::TABLE => Watched::Network(decode(bytes)?),
        Subnet::TABLE => Watched::Subnet(decode(bytes)?),
        SecurityGroup::TABLE => Watched::SecurityGroup(Box::new(decode(bytes)?)),
        Address::TABLE => Watched::Address(decode(bytes)?),
        LoadBalancer::TABLE => Watched::LoadBalancer(Box::new(decode(bytes)?)),
        // Old events that make room are no news.
        Event::TABLE if !removed => Watched::Event(Box::new(decode(bytes)?)),
        _ => return None,
    };
    Some((record, removed))
}

fn decode<R: Record>(bytes: &[u8]) -> Option<R> {
    minicbor::decode(bytes).ok()
}

impl Watched {
    /// Whose it is; `None`: the cell's.
    #[must_use]
    pub fn project(&self) -> Option<ProjectId> {
        match self {
            Self::SshKey(key) => Some(key.project),
            Self::Image(image) => Some(image.spec.project),
            Self::Instance(instance) => Some(instance.project),
            Self::Project(project) => Some(project.id),
            Self::AccessKey(key) => key.project,
            Self::Network(network) => Some(network.project),
            Self::Subnet(subnet) => Some(subnet.project),
            Self::SecurityGroup(group) => Some(group.project),
            Self::Address(address) => Some(address.project),
            Self::LoadBalancer(balancer) => Some(balancer.project),
            Self::Event(event) => event.project,
            Self::Node(_) | Self::Principal(_) => None,
        }
    }

    /// The log index at which it last changed in a way that people see; a
    /// record is also written for what only the control plane needs.
    #[must_use]
    pub fn revision(&self) -> u64 {
        match self {
            Self::SshKey(key) => key.revision,
            Self::Image(image) => image.revision,
            Self::Node(node) => node.revision,
            Self::Instance(instance) => instance.revision,
            Self::Project(project) => project.revision,
            Self::Principal(principal) => principal.revision,
            Self::AccessKey(key) => key.revision,
            Self::Network(network) => network.revision,
            Self::Subnet(subnet) => subnet.revision,
            Self::SecurityGroup(group) => group.revision,
            Self::Address(address) => address.revision,
            Self::LoadBalancer(balancer) => balancer.revision,
            Self::Event(event) => event.index,
        }
    }
}
