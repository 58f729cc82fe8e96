//! Subnets: ranges of addresses in a network.
//!
//! A network's first subnet is part of its record, has the digits of the
//! network's id and goes with it; those made later are rows of their own.

use minicbor::{Decode, Encode};
use nube_types::net::Ipv4Prefix;
use nube_types::{Name, NetworkId, ProjectId, SubnetId, TimestampMs};

use crate::table::Record;

/// A further range of a network.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Subnet {
    /// Its id.
    #[n(0)]
    pub id: SubnetId,
    /// Its owner.
    #[n(1)]
    pub project: ProjectId,
    /// Where it lies.
    #[n(2)]
    pub network: NetworkId,
    /// Unique in the network.
    #[n(3)]
    pub name: Name,
    /// Overlaps no other subnet of the network.
    #[n(4)]
    pub range: Ipv4Prefix,
    /// Where the search for a free address goes on.
    #[n(5)]
    pub next_offset: u32,
    /// When it was made.
    #[n(6)]
    pub created_at: TimestampMs,
    /// Log index of the last change.
    #[n(7)]
    pub revision: u64,
}

impl Record for Subnet {
    type Key = SubnetId;
    const TABLE: u8 = 19;
    fn key(&self) -> SubnetId {
        self.id
    }
}
