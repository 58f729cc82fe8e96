//! Traffic between instances and the internet: what hosts reported, and the
//! ledger of it.
//!
//! Hosts report totals that grow within a placement, so a report may be lost,
//! repeated or late. The growth since the last one is put into the ledger row of
//! the day and price version that hold when it is committed.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use nube_types::{InstanceId, NodeId, PlacementEpoch, ProjectId};

use crate::command::{InstanceTraffic, ReportTraffic};
use crate::outcome::{Kind, Outcome, Refusal};
use crate::state::State;
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

/// More than a host can send between two reports. What is above it counts with the
/// next ones: nothing is lost, and a host that lies is slow.
const GROWTH_MAX_BYTES: u64 = 1 << 40;
const DAY_MS: u64 = 86_400_000;

pub(crate) fn report(state: &mut State, command: &ReportTraffic) -> Result<Outcome, Refusal> {
    if state.nodes.get(&command.node).is_none() {
        return Err(Refusal::NotFound {
            kind: Kind::Node,
            reference: command.node.to_string(),
        });
    }
    // Once each: what is above the limit of one report would come in by two.
    let mut listed = BTreeSet::new();
    for totals in &command.instances {
        if had_placement(state, command.node, totals) && listed.insert(totals.instance) {
            note(state, totals);
        }
    }
    Ok(Outcome::Done)
}

/// Reports of an instance that left this host, or is gone for its owner, may still
/// be on their way.
fn had_placement(state: &State, node: NodeId, totals: &InstanceTraffic) -> bool {
    let Some(instance) = state.instances.get(&totals.instance) else {
        return false;
    };
    let left = state.evictions.get(&(totals.instance, node));
    (instance.node, instance.epoch) == (node, totals.epoch)
        || left.is_some_and(|left| left.epoch == totals.epoch)
}

fn note(state: &mut State, totals: &InstanceTraffic) {
    let known = state.traffic_counters.get(&totals.instance).cloned();
    let mut counter = known.unwrap_or(TrafficCounter {
        instance: totals.instance,
        epoch: totals.epoch,
        reported_out: 0,
        reported_in: 0,
        bytes_out: 0,
        bytes_in: 0,
    });
    // A later placement has reported: this one's rest is lost.
    if totals.epoch < counter.epoch {
        return;
    }
    if totals.epoch > counter.epoch {
        counter.epoch = totals.epoch;
        (counter.reported_out, counter.reported_in) = (0, 0);
    }
    let out = grow(
        &mut counter.reported_out,
        &mut counter.bytes_out,
        totals.bytes_out,
    );
    let into = grow(
        &mut counter.reported_in,
        &mut counter.bytes_in,
        totals.bytes_in,
    );
    if (out, into) == (0, 0) {
        return;
    }
    state.traffic_counters.put(counter);
    enter(state, totals.instance, out, into);
}

/// How much of a total is new, and noted as such.
fn grow(reported: &mut u64, sum: &mut u64, total: u64) -> u64 {
    let growth = total.saturating_sub(*reported);
    let growth = growth.min(GROWTH_MAX_BYTES).min(u64::MAX - *sum);
    *reported += growth;
    *sum += growth;
    growth
}

fn enter(state: &mut State, id: InstanceId, bytes_out: u64, bytes_in: u64) {
    let Some(project) = state.instances.get(&id).map(|instance| instance.project) else {
        return;
    };
    let day = u32::try_from(state.time.0 / DAY_MS).unwrap_or(u32::MAX);
    let prices = state.prices.version_at(state.time);
    let price_version = prices.map_or(0, |version| version.version);
    let index = state.index;
    let row = state.traffic_usage.get(&(id, (day, price_version)));
    let mut row = row.cloned().unwrap_or(TrafficUsage {
        instance: id,
        project,
        day,
        price_version,
        bytes_out: 0,
        bytes_in: 0,
        first_index: index,
        last_index: index,
    });
    // The counter, which is the sum of all rows, has room for both.
    row.bytes_out += bytes_out;
    row.bytes_in += bytes_in;
    row.last_index = index;
    state.traffic_usage.put(row);
}

/// The ledger has rows of an instance with this id.
pub(crate) fn is_known(state: &State, id: InstanceId) -> bool {
    let mut rows = state.traffic_usage.range_from((id, (0, 0)));
    rows.next().is_some_and(|row| row.instance == id)
}
