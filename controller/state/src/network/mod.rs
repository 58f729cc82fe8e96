//! Networks: private address space of projects. Each has a default one, made with
//! it. `allocate` hands out addresses, `index` knows what is where.
//!
//! Addresses and MACs are handed out in the entry that creates their owner. A
//! MAC comes from a counter and is never used twice.

mod allocate;
pub mod index;

use std::net::Ipv4Addr;

use minicbor::{Decode, Encode};
use nube_types::limits::{ADDRESS_QUARANTINE_MS, NETWORKS_PER_PROJECT_MAX};
use nube_types::net::Ipv4Prefix;
use nube_types::{InstanceId, LoadBalancerId, Name, NetworkId, ProjectId, SubnetId, TimestampMs};

use crate::command::CreateNetwork;
use crate::instance::Instance;
use crate::outcome::{Kind, Outcome, Refusal};
use crate::project;
use crate::state::State;
use crate::subnet;
use crate::table::Record;

pub use crate::subnet::{SubnetView, subnets};
pub(crate) use allocate::{Ask, allocate, expire, release, usable, waits_until};
pub use index::Holder;
pub(crate) use index::{tell_hosts, touch, touch_group, touch_host};

/// What a project's first network, and a network's first subnet, are called.
pub const DEFAULT: &str = "default";

/// Elastic addresses wait under this id, which no network has.
pub(crate) const PUBLIC: NetworkId = NetworkId(0);
/// VXLAN has room for this many (RFC 7348).
const NUMBER_MAX: u32 = (1 << 24) - 1;

/// One network with its first subnet.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Network {
    /// Its id.
    #[n(0)]
    pub id: NetworkId,
    /// Its owner.
    #[n(1)]
    pub project: ProjectId,
    /// Unique in the cell; names devices and namespaces on hosts.
    #[n(2)]
    pub number: u32,
    /// First address of the subnet.
    #[n(3)]
    pub base: u32,
    /// Length of its prefix.
    #[n(4)]
    pub prefix_length: u8,
    /// Where the search for a free address goes on.
    #[n(5)]
    pub next_offset: u32,
    /// Unique in the project; absent: `default`, made with the project.
    #[cbor(n(6), skip_if = "crate::table::is_default")]
    pub name: Option<Name>,
    /// It has no internet gateway.
    #[cbor(n(7), skip_if = "crate::table::is_default")]
    pub isolated: bool,
    /// When it was made; 0: with its project.
    #[cbor(n(8), skip_if = "crate::table::is_default")]
    pub created_at: TimestampMs,
    /// Log index of the last change; 0: none since it was made with its project.
    #[cbor(n(9), skip_if = "crate::table::is_default")]
    pub revision: u64,
}

impl Record for Network {
    type Key = NetworkId;
    const TABLE: u8 = 4;
    fn key(&self) -> NetworkId {
        self.id
    }
}

impl Network {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_ref().map_or(DEFAULT, Name::as_str)
    }

    /// The address that the host answers for.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Its first subnet.
    #[must_use]
    pub fn range(&self) -> Ipv4Prefix {
        Ipv4Prefix::around(Ipv4Addr::from(self.base), self.prefix_length)
    }

    /// Made with its project.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.name.is_none()
    }
}

/// An address that waits before it is given again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReleasedAddress {
    /// Of which network.
    #[n(0)]
    pub network: NetworkId,
    /// The address.
    #[n(1)]
    pub address: u32,
    /// Since when it is free.
    #[n(2)]
    pub released_at: TimestampMs,
}

impl Record for ReleasedAddress {
    type Key = (NetworkId, u32);
    const TABLE: u8 = 5;
    fn key(&self) -> (NetworkId, u32) {
        (self.network, self.address)
    }
}

impl ReleasedAddress {
    /// Caches and leases may still know its last owner.
    pub(crate) fn waits(&self, now: TimestampMs) -> bool {
        now.since_ms(self.released_at) < ADDRESS_QUARANTINE_MS
    }
}

/// The network that is made with a project.
pub(crate) fn default_network(id: NetworkId, project: ProjectId, number: u32) -> Network {
    Network {
        id,
        project,
        number,
        base: u32::from(Ipv4Addr::new(10, 0, 0, 0)),
        prefix_length: 16,
        next_offset: 0,
        name: None,
        isolated: false,
        created_at: TimestampMs(0),
        revision: 0,
    }
}

/// A project's networks in order of ids.
pub fn of_project(state: &State, project: ProjectId) -> impl Iterator<Item = &Network> {
    let all = (project, NetworkId(0))..=(project, NetworkId(u64::MAX));
    let ids = state.derived.network.networks.range(all);
    ids.filter_map(|(_, id)| state.networks.get(id))
}

/// The network of launches that name none.
#[must_use]
pub fn default_of(state: &State, project: ProjectId) -> Option<&Network> {
    of_project(state, project).find(|network| network.is_default())
}

/// A project's network of this name.
#[must_use]
pub fn by_name<'a>(state: &'a State, project: ProjectId, name: &str) -> Option<&'a Network> {
    of_project(state, project).find(|network| network.name() == name)
}

/// The project's network with this id; another project's is absent.
pub(crate) fn find(state: &State, project: ProjectId, id: NetworkId) -> Result<&Network, Refusal> {
    let network = state.networks.get(&id);
    network
        .filter(|network| network.project == project)
        .ok_or_else(|| Refusal::NotFound {
            kind: Kind::Network,
            reference: id.to_string(),
        })
}

/// Who holds addresses of a network, in order of addresses.
pub fn holders(state: &State, id: NetworkId) -> impl Iterator<Item = (Ipv4Addr, Holder)> {
    let all = (id, 0)..=(id, u32::MAX);
    let held = state.derived.addresses.range(all);
    held.map(|((_, address), holder)| (Ipv4Addr::from(*address), *holder))
}

/// Instances with a port in it, in order of addresses.
pub fn instances(state: &State, id: NetworkId) -> impl Iterator<Item = &Instance> {
    holders(state, id).filter_map(|(_, holder)| match holder {
        Holder::Instance(id) => state.instances.get(&id),
        Holder::LoadBalancer(_) => None,
    })
}

/// Load balancers in it, in order of ids.
pub(crate) fn load_balancers(
    state: &State,
    id: NetworkId,
) -> impl Iterator<Item = LoadBalancerId> + '_ {
    let all = (id, LoadBalancerId(0))..=(id, LoadBalancerId(u64::MAX));
    let ids = state.derived.network.network_balancers.range(all);
    ids.map(|(_, id)| *id)
}

/// How many instances have a port in it.
#[must_use]
pub fn port_count(state: &State, id: NetworkId) -> u32 {
    let ports = state.derived.network.ports.get(&id);
    ports.copied().unwrap_or_default()
}

/// What holds an address, for people.
pub(crate) fn holder_text(state: &State, holder: Holder) -> String {
    let instance = |id: InstanceId| state.instances.get(&id).map(|i| i.name.to_string());
    match holder {
        Holder::Instance(id) => {
            let name = instance(id).unwrap_or_else(|| id.to_string());
            format!("instance `{name}`")
        }
        Holder::LoadBalancer(id) => {
            let name = state.load_balancers.get(&id).map(|lb| lb.name.to_string());
            format!("load balancer `{}`", name.unwrap_or_else(|| id.to_string()))
        }
    }
}

pub(crate) fn put(state: &mut State, network: Network) {
    state.derived.network.note_network(&network);
    state.networks.put(network);
}

/// An id that neither a network nor a subnet has: the first subnet has its
/// network's digits.
pub(crate) fn id_is_free(state: &State, digits: u64) -> bool {
    digits != PUBLIC.0
        && state.networks.get(&NetworkId(digits)).is_none()
        && state.subnets.get(&SubnetId(digits)).is_none()
}

pub(crate) fn create(state: &mut State, command: &CreateNetwork) -> Result<Outcome, Refusal> {
    project::find(state, command.project)?;
    subnet::check_range(command.range)?;
    if by_name(state, command.project, command.name.as_str()).is_some() {
        let (kind, name) = (Kind::Network, command.name.clone());
        return Err(Refusal::NameTaken { kind, name });
    }
    if !id_is_free(state, command.id.0) {
        return Err(Refusal::IdTaken(command.id.to_string()));
    }
    if of_project(state, command.project).count() >= NETWORKS_PER_PROJECT_MAX {
        let (what, limit) = ("networks".to_owned(), NETWORKS_PER_PROJECT_MAX as u64);
        return Err(Refusal::LimitReached { what, limit });
    }
    if state.network_number_max >= NUMBER_MAX {
        let (what, limit) = ("networks ever made".to_owned(), NUMBER_MAX.into());
        return Err(Refusal::LimitReached { what, limit });
    }
    state.network_number_max += 1;
    let network = Network {
        id: command.id,
        project: command.project,
        number: state.network_number_max,
        base: command.range.address().to_bits(),
        prefix_length: command.range.length(),
        next_offset: 0,
        name: Some(command.name.clone()),
        isolated: command.isolated,
        created_at: state.time,
        revision: state.index,
    };
    put(state, network);
    Ok(Outcome::Network(command.id))
}

pub(crate) fn set_gateway(
    state: &mut State,
    project: ProjectId,
    id: NetworkId,
    attached: bool,
) -> Result<Outcome, Refusal> {
    let mut network = find(state, project, id)?.clone();
    if network.isolated == attached {
        network.isolated = !attached;
        network.revision = state.index;
        put(state, network);
        touch(state, id);
    }
    Ok(Outcome::Network(id))
}

pub(crate) fn delete(
    state: &mut State,
    project: ProjectId,
    id: NetworkId,
) -> Result<Outcome, Refusal> {
    let network = find(state, project, id)?.clone();
    let Some(name) = network.name else {
        return Err(Refusal::Invalid {
            field: "network".to_owned(),
            rule: "the default network stays as long as its project".to_owned(),
        });
    };
    for (what, count) in [
        ("instances", u64::from(port_count(state, id))),
        ("load balancers", load_balancers(state, id).count() as u64),
        ("further subnets", subnet::further(state, id).count() as u64),
    ] {
        if count > 0 {
            let (kind, what) = (Kind::Network, what.to_owned());
            return Err(Refusal::NotEmpty {
                kind,
                name,
                what,
                count,
            });
        }
    }
    forget(state, project, id);
    Ok(Outcome::Done)
}

/// Takes away a network with its subnets.
pub(crate) fn forget(state: &mut State, project: ProjectId, id: NetworkId) {
    let subnets: Vec<SubnetId> = subnet::further(state, id).map(|s| s.id).collect();
    for subnet in subnets {
        state.derived.network.subnets.remove(&(id, subnet));
        state.subnets.remove(&subnet);
    }
    state.derived.network.networks.remove(&(project, id));
    state.networks.remove(&id);
}

/// A locally administered MAC from a number that is never used twice.
#[must_use]
pub fn mac(number: u64) -> [u8; 6] {
    let bytes = number.to_be_bytes();
    [0x02, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
}
