//! What is looked up at a scrape: consensus, the newest view, sessions. Nothing
//! of a tenant but how many there are of a thing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nube_consensus::{Role, Status};
use nube_state::{InstanceState, State};
use nube_telemetry::endpoint::{self, Source};
use nube_telemetry::prometheus_client::registry::Registry;
use nube_telemetry::sheet::{Sheet, figures};

use super::events;
use crate::cell::Cell;
use crate::clock::Comparison;

/// Serves this controller's figures for the life of the process.
pub fn start(cell: &Arc<Cell>) {
    tokio::spawn(count_leaders(cell.raft.watch_status()));
    if let Some(address) = cell.config.metrics_listen {
        tokio::spawn(endpoint::run(address, source(cell)));
    }
}

/// Counts what a scrape would miss: leaders that came and went in between.
async fn count_leaders(mut raft: tokio::sync::watch::Receiver<Status>) {
    let seen = |status: &Status| (status.term, status.leader);
    let mut last = (0, None);
    loop {
        let now = seen(&raft.borrow_and_update());
        if now != last && now.1.is_some() {
            events().leader_changes.inc();
        }
        last = now;
        if raft.changed().await.is_err() {
            return;
        }
    }
}

fn source(cell: &Arc<Cell>) -> Arc<Source> {
    let mut registry = Registry::default();
    events().register(&mut registry);
    let data_dir = cell.config.data_dir.clone();
    let version = env!("CARGO_PKG_VERSION");
    let process = nube_telemetry::process::collector(version, data_dir);
    registry.register_collector(process);
    let looked_at = Arc::clone(cell);
    registry.register_collector(figures(move |sheet| {
        let (raft, state) = (looked_at.raft.status(), looked_at.views.now());
        consensus(sheet, &raft);
        contents(sheet, &state);
        clocks(sheet, looked_at.clock.compare());
        let lag = state.index.saturating_sub(events().stored_index());
        sheet.gauge(
            "nube_store_lag_entries",
            "Entries applied and not yet in the write-behind store",
            lag,
        );
        sheet.gauge(
            "nube_watchers",
            "Watch streams on this controller",
            looked_at.watchers.load(Ordering::Relaxed),
        );
        sheet.gauge(
            "nube_sessions",
            "Agents connected to this controller",
            looked_at.agents.connected(),
        );
    }));
    let asked = Arc::clone(cell);
    Source::new(registry, move || health(&asked.raft.status()))
}

/// Whether this controller can answer: the address that a load balancer asks.
fn health(raft: &Status) -> Result<(), String> {
    let lacks = if raft.stopped {
        "stopping"
    } else if raft.leader.is_none() {
        "no leader"
    } else if raft.storage_full {
        "disk full"
    } else {
        return Ok(());
    };
    Err(lacks.to_owned())
}

fn consensus(sheet: &mut Sheet<'_>, raft: &Status) {
    let role = |role: Role| i64::from(raft.role == role);
    sheet.gauges(
        "nube_raft_role",
        "1 for the part this controller plays",
        "role",
        [
            ("leader", role(Role::Leader)),
            ("candidate", role(Role::Candidate)),
            ("follower", role(Role::Follower)),
        ],
    );
    let known = i64::from(raft.leader.is_some());
    sheet.gauge("nube_raft_has_leader", "1 when a leader is known", known);
    for (name, help, value) in [
        ("nube_raft_term", "Current term", raft.term),
        (
            "nube_raft_commit_index",
            "Highest committed entry known",
            raft.commit,
        ),
        (
            "nube_raft_applied_index",
            "Highest entry applied",
            raft.applied,
        ),
        (
            "nube_raft_last_index",
            "Last entry of the log",
            raft.last_index,
        ),
        (
            "nube_raft_first_index",
            "First entry still in the log",
            raft.first_index,
        ),
        (
            "nube_raft_snapshot_index",
            "Newest snapshot, 0 without one",
            raft.snapshot_index,
        ),
        (
            "nube_raft_log_bytes",
            "Entries between first and last",
            raft.log_bytes,
        ),
        (
            "nube_raft_storage_full",
            "1 while the log waits for disk space: nothing can be written",
            u64::from(raft.storage_full),
        ),
        (
            "nube_raft_incarnation",
            "Starts of this controller",
            raft.incarnation,
        ),
    ] {
        sheet.gauge(name, help, value);
    }
    let voters = raft.members.iter().filter(|member| member.voter).count();
    sheet.gauge("nube_raft_voters", "Members that vote", voters);
    peers(sheet, raft);
}

fn clocks(sheet: &mut Sheet<'_>, now: Comparison) {
    sheet.gauge(
        "nube_clock_agreeing_voters",
        "Voters whose wall clocks agree, 0 when no majority does: then replicated time goes on alone",
        now.agreeing,
    );
    // Absent while nobody can tell: a zero would say that all is well.
    if let Some(error_ms) = now.own_error_ms {
        sheet.gauge(
            "nube_clock_offset_seconds",
            "This host's wall clock ahead of what a majority of the controllers agrees on",
            error_ms as f64 / 1_000.0,
        );
    }
}

/// Only the leader hears all of them; others leave the families empty.
fn peers(sheet: &mut Sheet<'_>, raft: &Status) {
    let others = || {
        let all = raft.members.iter();
        all.filter(|member| raft.is_leader() && member.id != raft.id)
    };
    let lag = |member: &nube_consensus::Member| {
        let matched = member.matched.unwrap_or_default();
        (
            member.id.to_string(),
            raft.last_index.saturating_sub(matched),
        )
    };
    sheet.gauges(
        "nube_raft_member_lag_entries",
        "Entries that a member does not have yet, seen by the leader",
        "member",
        others().map(lag),
    );
    let silent = |member: &nube_consensus::Member| {
        let silent_ms = member.last_contact_ms?;
        Some((member.id.to_string(), silent_ms as f64 / 1_000.0))
    };
    sheet.gauges(
        "nube_raft_member_silent_seconds",
        "Time since the leader heard a member",
        "member",
        others().filter_map(silent),
    );
}

const STATES: [InstanceState; 8] = [
    InstanceState::Pending,
    InstanceState::Starting,
    InstanceState::Running,
    InstanceState::Stopping,
    InstanceState::Stopped,
    InstanceState::Deleting,
    InstanceState::Deleted,
    InstanceState::Failed,
];

fn contents(sheet: &mut Sheet<'_>, state: &State) {
    let mut counts = [0_u64; STATES.len()];
    for instance in state.instances.iter() {
        if let Some(place) = STATES.iter().position(|known| *known == instance.state) {
            counts[place] += 1;
        }
    }
    let words = STATES.iter().map(|state| state.word());
    sheet.gauges(
        "nube_instances",
        "Instances by state",
        "state",
        words.zip(counts),
    );
    let nodes = |wanted: fn(&nube_state::Node) -> bool| {
        state.nodes.iter().filter(|node| wanted(node)).count()
    };
    sheet.gauges(
        "nube_nodes",
        "Hosts; drained and fenced ones are counted once more",
        "state",
        [
            ("ready", nodes(|node| node.reachable)),
            ("unreachable", nodes(|node| !node.reachable)),
            ("drained", nodes(|node| node.drained)),
            ("fenced", nodes(|node| node.fenced)),
        ],
    );
    records(sheet, state);
    sheet.gauge(
        "nube_replicated_time_seconds",
        "Time of the newest entry, Unix time",
        state.time.0 as f64 / 1_000.0,
    );
}

fn records(sheet: &mut Sheet<'_>, state: &State) {
    sheet.gauges(
        "nube_state_records",
        "Records of the replicated state",
        "table",
        [
            ("ssh_keys", state.ssh_keys.len()),
            ("images", state.images.len()),
            ("instance_types", state.instance_types.len()),
            ("networks", state.networks.len()),
            ("released_addresses", state.released.len()),
            ("requests", state.requests.len()),
            ("nodes", state.nodes.len()),
            ("instances", state.instances.len()),
            ("usage", state.usage.len()),
            ("transitions", state.transitions.len()),
            ("projects", state.projects.len()),
            ("principals", state.principals.len()),
            ("access_keys", state.access_keys.len()),
            ("events", state.events.len()),
            ("placements", state.placements.len()),
            ("evictions", state.evictions.len()),
            ("subnets", state.subnets.len()),
            ("security_groups", state.security_groups.len()),
            ("address_pools", state.address_pools.len()),
            ("addresses", state.addresses.len()),
            ("load_balancers", state.load_balancers.len()),
            ("target_health", state.target_health.len()),
            ("traffic_counters", state.traffic_counters.len()),
            ("traffic_usage", state.traffic_usage.len()),
        ],
    );
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn health_says_what_is_missing() {
        let well = Status {
            leader: Some(1),
            ..Status::default()
        };
        assert_eq!(health(&well), Ok(()));
        let cases = [
            (Status::default(), "no leader"),
            (
                Status {
                    storage_full: true,
                    ..well.clone()
                },
                "disk full",
            ),
            (
                Status {
                    stopped: true,
                    ..well.clone()
                },
                "stopping",
            ),
        ];
        for (status, lacks) in cases {
            assert_eq!(health(&status), Err(lacks.to_owned()));
        }
    }
}
