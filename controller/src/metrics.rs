//! What is counted as it happens; `figures` adds what is looked up at a scrape.
//!
//! One process is one controller, so the counters belong to the process, like
//! its log: whoever has something to count needs no handle for it.

pub mod figures;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nube_telemetry::prometheus_client::metrics::counter::Counter;
use nube_telemetry::prometheus_client::metrics::family::Family;
use nube_telemetry::prometheus_client::metrics::gauge::Gauge;
use nube_telemetry::prometheus_client::metrics::histogram::Histogram;
use nube_telemetry::prometheus_client::registry::Registry;

/// Values of one label. All of them are words of this program.
pub type Label = [(&'static str, &'static str); 1];
/// Method and code.
pub type MethodCode = [(&'static str, &'static str); 2];
type Histograms = Family<Label, Histogram, fn() -> Histogram>;

/// From a local read to a deadline.
const SECONDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Entries of one batch: powers of four up to more than a queue holds.
const ENTRIES: [f64; 7] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0];

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

/// The counters of this process.
pub struct Events {
    /// Ended calls.
    pub rpcs: Family<MethodCode, Counter>,
    /// How long calls took; a stream's life counts whole.
    pub rpc_seconds: Histograms,
    /// Calls that have not ended.
    pub rpcs_in_flight: Gauge,
    /// Entries proposed on this controller.
    pub proposals: Family<Label, Counter>,
    /// From proposal to applied.
    pub proposal_seconds: Histogram,
    /// Confirming leadership for a linearizable read.
    pub read_index_seconds: Histogram,
    /// Reads that found no leader or no quorum.
    pub read_index_failures: Counter,
    /// Entries applied together.
    pub apply_entries: Histogram,
    /// Applying a batch, publishing its view, queueing its rows.
    pub apply_seconds: Histogram,
    /// Changes of leader or term seen here.
    pub leader_changes: Counter,
    /// Heartbeats of hosts that were answered with a lease.
    pub leases_granted: Counter,
    /// Hosts that this leader took for lost.
    pub fences: Counter,
    /// Instances that this leader began anew on another host.
    pub replacements: Counter,
    /// Tunnels, consoles and serial logs that are attached.
    pub streams: Gauge,
    stored_index: AtomicU64,
}

/// The one set.
pub fn events() -> &'static Events {
    static EVENTS: LazyLock<Events> = LazyLock::new(Events::new);
    &EVENTS
}

impl Events {
    fn new() -> Self {
        let proposals = Family::<Label, Counter>::default();
        // A rate over a series that begins with its first event misses it.
        for result in ["committed", "refused", "failed"] {
            drop(proposals.get_or_create(&[("result", result)]));
        }
        Self {
            rpcs: Family::default(),
            rpc_seconds: Family::new_with_constructor(seconds),
            rpcs_in_flight: Gauge::default(),
            proposals,
            proposal_seconds: seconds(),
            read_index_seconds: seconds(),
            read_index_failures: Counter::default(),
            apply_entries: Histogram::new(ENTRIES),
            apply_seconds: seconds(),
            leader_changes: Counter::default(),
            leases_granted: Counter::default(),
            fences: Counter::default(),
            replacements: Counter::default(),
            streams: Gauge::default(),
            stored_index: AtomicU64::new(0),
        }
    }

    /// An entry's end: `committed`, `refused` or `failed`.
    pub fn proposed(&self, result: &'static str, took: Duration) {
        self.proposals.get_or_create(&[("result", result)]).inc();
        self.proposal_seconds.observe(took.as_secs_f64());
    }

    /// The store holds everything up to this entry.
    pub fn stored(&self, index: u64) {
        self.stored_index.store(index, Ordering::Relaxed);
    }

    /// How far the store is.
    #[must_use]
    pub fn stored_index(&self) -> u64 {
        self.stored_index.load(Ordering::Relaxed)
    }

    fn register(&self, registry: &mut Registry) {
        let help = "Ended calls by method and code";
        registry.register("nube_rpcs", help, self.rpcs.clone());
        let histograms = "How long calls took, streams from open to end";
        registry.register(
            "nube_rpc_duration_seconds",
            histograms,
            self.rpc_seconds.clone(),
        );
        let proposals =
            "Entries proposed here: refused ones changed nothing, failed ones have no outcome";
        registry.register("nube_proposals", proposals, self.proposals.clone());
        for (name, help, histogram) in [
            (
                "nube_proposal_duration_seconds",
                "From a proposal to its entry's outcome",
                &self.proposal_seconds,
            ),
            (
                "nube_read_index_duration_seconds",
                "Confirming that a read is linearizable",
                &self.read_index_seconds,
            ),
            (
                "nube_apply_batch_entries",
                "Entries applied together",
                &self.apply_entries,
            ),
            (
                "nube_apply_duration_seconds",
                "Applying one batch and publishing its view",
                &self.apply_seconds,
            ),
        ] {
            registry.register(name, help, histogram.clone());
        }
        self.register_counters(registry);
        for (name, help, gauge) in [
            (
                "nube_rpcs_in_flight",
                "Calls that have not ended",
                &self.rpcs_in_flight,
            ),
            (
                "nube_streams",
                "Tunnels, consoles and serial logs through this controller",
                &self.streams,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }

    fn register_counters(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "nube_read_index_failures",
                "Reads that found no leader or no quorum",
                &self.read_index_failures,
            ),
            (
                "nube_raft_leader_changes",
                "New leaders and terms seen by this controller",
                &self.leader_changes,
            ),
            (
                "nube_leases_granted",
                "Heartbeats of hosts answered with a lease by this leader",
                &self.leases_granted,
            ),
            (
                "nube_fences",
                "Hosts that this leader took for lost",
                &self.fences,
            ),
            (
                "nube_replacements",
                "Instances that this leader began anew on another host",
                &self.replacements,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}

/// One of something that is counted while it lives.
#[derive(Debug)]
pub struct Held(Gauge);

impl Held {
    /// One more, until this is dropped.
    #[must_use]
    pub fn one(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
