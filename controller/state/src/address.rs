//! Elastic addresses: public addresses that projects hold, and the ranges they
//! come from.

mod change;
mod pool;

use minicbor::{Decode, Encode};
use nube_types::net::Ipv4Prefix;
use nube_types::{AddressId, InstanceId, LoadBalancerId, Name, NetworkId, ProjectId, TimestampMs};

use crate::state::State;
use crate::table::Record;

pub(crate) use change::{
    allocate, associate, disassociate, find_or_refuse, forget_balancer, forget_instance, listen,
    must_be_free, release,
};
pub(crate) use pool::{add, remove};
pub use pool::{held, pool_of};

// What the price book calls an hour of one.
pub use nube_billing::ADDRESS as RESOURCE;

/// A range that an operator gave the cell.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AddressPool {
    /// Overlaps no other.
    #[n(0)]
    pub range: Ipv4Prefix,
    /// Where the search for a free address goes on.
    #[n(1)]
    pub next_offset: u32,
    /// Log index of the last change.
    #[n(2)]
    pub revision: u64,
}

impl Record for AddressPool {
    type Key = u32;
    const TABLE: u8 = 21;
    fn key(&self) -> u32 {
        self.range.address().to_bits()
    }
}

/// What an address points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum AddressTarget {
    /// An instance: both ways.
    #[n(0)]
    Instance(#[n(0)] InstanceId),
    /// A load balancer's listeners.
    #[n(1)]
    LoadBalancer(#[n(0)] LoadBalancerId),
}

/// A held address.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Address {
    /// Its id.
    #[n(0)]
    pub id: AddressId,
    /// Holder and payer.
    #[n(1)]
    pub project: ProjectId,
    /// Unique in the project.
    #[n(2)]
    pub name: Name,
    /// IPv4.
    #[n(3)]
    pub address: u32,
    /// Absent: nothing.
    #[n(4)]
    pub target: Option<AddressTarget>,
    /// When it was allocated.
    #[n(5)]
    pub created_at: TimestampMs,
    /// Log index of the last change.
    #[n(6)]
    pub revision: u64,
}

impl Record for Address {
    type Key = AddressId;
    const TABLE: u8 = 22;
    fn key(&self) -> AddressId {
        self.id
    }
}

/// A project's addresses in order of ids.
pub fn of_project(state: &State, project: ProjectId) -> impl Iterator<Item = &Address> {
    let all = (project, AddressId(0))..=(project, AddressId(u64::MAX));
    let ids = state.derived.network.addresses.range(all);
    ids.filter_map(|(_, id)| state.addresses.get(id))
}

/// Who holds this very address.
#[must_use]
pub fn by_number(state: &State, number: u32) -> Option<&Address> {
    state
        .addresses
        .get(state.derived.network.numbers.get(&number)?)
}

/// What points at an instance.
#[must_use]
pub fn of_instance(state: &State, instance: InstanceId) -> Option<&Address> {
    let id = state.derived.network.of_instance.get(&instance)?;
    state.addresses.get(id)
}

/// What points at a load balancer.
#[must_use]
pub fn of_load_balancer(state: &State, balancer: LoadBalancerId) -> Option<&Address> {
    let id = state.derived.network.of_balancer.get(&balancer)?;
    state.addresses.get(id)
}

/// Where an address leads.
fn network_of(state: &State, target: AddressTarget) -> Option<NetworkId> {
    match target {
        AddressTarget::Instance(id) => state.instances.get(&id).map(|i| i.network),
        AddressTarget::LoadBalancer(id) => state.load_balancers.get(&id).map(|lb| lb.network),
    }
}
