//! Traffic between instances and the internet: what hosts reported, and the
//! ledger of it.
//!
//! Hosts report totals that grow within a placement, so a report may be lost,
//! repeated or late. The growth since the last one is put into the ledger row of
//! the day and price version that hold when it is committed.

use minicbor::{Decode, Encode};
use nube_types::{InstanceId, PlacementEpoch, ProjectId};

use crate::table::Record;

/// The newest totals of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TrafficCounter {
    /// Whose.
    #[n(0)]
    pub instance: InstanceId,
    /// The placement that the totals below belong to.
    #[n(1)]
    pub epoch: PlacementEpoch,
    /// As reported for that placement.
    #[n(2)]
    pub reported_out: u64,
    /// As reported for that placement.
    #[n(3)]
    pub reported_in: u64,
    /// Over all placements.
    #[n(4)]
    pub bytes_out: u64,
    /// Over all placements.
    #[n(5)]
    pub bytes_in: u64,
}

impl Record for TrafficCounter {
    type Key = InstanceId;
    const TABLE: u8 = 25;
    fn key(&self) -> InstanceId {
        self.instance
    }
}

/// A row of the ledger: what an instance exchanged with the internet on one UTC
/// day under one price version.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TrafficUsage {
    /// Whose.
    #[n(0)]
    pub instance: InstanceId,
    /// Who pays.
    #[n(1)]
    pub project: ProjectId,
    /// Days since the epoch.
    #[n(2)]
    pub day: u32,
    /// The price version in force; 0: none.
    #[n(3)]
    pub price_version: u32,
    /// To the internet.
    #[n(4)]
    pub bytes_out: u64,
    /// From the internet.
    #[n(5)]
    pub bytes_in: u64,
    /// Log index of the first report in it.
    #[n(6)]
    pub first_index: u64,
    /// Log index of the last report in it.
    #[n(7)]
    pub last_index: u64,
}

impl Record for TrafficUsage {
    type Key = (InstanceId, (u32, u32));
    const TABLE: u8 = 26;
    fn key(&self) -> Self::Key {
        (self.instance, (self.day, self.price_version))
    }
}
