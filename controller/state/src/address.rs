//! Elastic addresses: public addresses that projects hold, and the ranges they
//! come from.

use minicbor::{Decode, Encode};
use nube_types::net::Ipv4Prefix;
use nube_types::{AddressId, InstanceId, LoadBalancerId, Name, ProjectId, TimestampMs};

use crate::table::Record;

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
