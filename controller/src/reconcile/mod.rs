//! The leader's loops. They take no input and keep no state: they look at a
//! view, make a plan, and propose. A lost leadership or a failed proposal needs
//! no care: the next round is the retry.

pub mod cluster;
pub mod member;
pub mod node;
pub mod replace;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nube_consensus::ProposeError;
use nube_state::command::InitCluster;
use nube_state::{Command, Envelope, Outcome, State, hash_check};
use nube_types::limits::{NODE_SEEN_COMMIT_MS, TICK_MS};
use nube_types::{NetworkId, NodeId, ProjectId, TimestampMs};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cell::Cell;
use crate::fleet::Hosts;
use crate::metrics;

/// Between two looks at a clock that is not set yet: the beginning of a cell waits.
const CLOCK_LOOK: Duration = Duration::from_millis(10);

/// What the leader goes by in one round.
pub struct Look<'a> {
    /// The newest view.
    pub state: &'a State,
    /// For how long each node that ever spoke to this member has been silent.
    pub silence: &'a BTreeMap<NodeId, Duration>,
    /// What proposals will be stamped with, about.
    pub now: TimestampMs,
    /// For how long this member has led without a break.
    pub leading_ms: u64,
    /// Proof of life is due for committing.
    pub with_seen: bool,
    /// For new places.
    pub hosts: &'a Hosts,
}

/// All that the leader decides in one round, in the order in which it is to be
/// proposed, in the term it was decided in. `fence`: as [`replace::fences`] asks;
/// `draw`: a first entry with fresh ids.
pub fn round(
    look: &Look<'_>,
    fence: &mut dyn FnMut(NodeId, u64) -> Option<u64>,
    draw: impl FnOnce() -> InitCluster,
) -> Vec<Command> {
    if let Some(first) = cluster::plan(look.state, draw) {
        return vec![first];
    }
    let mut commands = vec![node::tick(look.silence, look.now, look.with_seen)];
    commands.extend(hash_check::due(look.state));
    commands.extend(node::plan(look));
    commands.extend(replace::fences(look.state, fence));
    commands.extend(replace::replacements(look.state, look.hosts));
    commands
}

/// Runs for the life of the controller; acts only while it leads.
pub async fn run(cell: Arc<Cell>) {
    let mut tick = interval(Duration::from_millis(TICK_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen_at = Instant::now();
    loop {
        tick.tick().await;
        let status = cell.raft.status();
        let term = status.leader_ready.then_some(status.term);
        let leading_ms = cell.agents.leases(|leases, now_ms| {
            leases.lead(term, now_ms);
            leases.leading_since_ms().map(|since_ms| now_ms - since_ms)
        });
        let (Some(term), Some(leading_ms)) = (term, leading_ms) else {
            continue;
        };
        let (state, silence) = (cell.views.now(), cell.agents.silence());
        let with_seen = seen_at.elapsed() >= Duration::from_millis(NODE_SEEN_COMMIT_MS);
        if with_seen {
            seen_at = Instant::now();
        }
        if state.cluster.is_none() && !clock_is_set(&cell).await {
            continue;
        }
        let look = Look {
            state: &state,
            silence: &silence,
            now: cell.clock.now(),
            leading_ms,
            with_seen,
            hosts: &cell.hosts,
        };
        let mut fence = |node, fence_epoch| {
            let agents = &cell.agents;
            agents.leases(|leases, now_ms| leases.begin_fence(node, term, fence_epoch, now_ms))
        };
        for command in round(&look, &mut fence, || first_entry(&cell)) {
            carry_out(&cell, term, command).await;
        }
    }
}

/// Proposes; notes what became of fences and replacements.
async fn carry_out(cell: &Cell, term: u64, command: Command) {
    let fenced = match &command {
        Command::FenceNode(fence) => Some(fence.node),
        _ => None,
    };
    let replaces = matches!(command, Command::ReplaceInstance(_));
    let outcome = propose(cell, term, command).await;
    let committed = matches!(&outcome, Ok(outcome) if !matches!(outcome, Outcome::Refused(_)));
    if let Ok(Outcome::Refused(refusal)) = &outcome {
        tracing::debug!("refused, the next round looks again: {refusal}");
    }
    if committed && replaces {
        metrics::events().replacements.inc();
    }
    let Some(node) = fenced else { return };
    if committed {
        tracing::warn!(%node, "fenced: nothing that may be replaced runs there");
        metrics::events().fences.inc();
    }
    // Lost on the way it may still take effect, but not in this term.
    if !matches!(outcome, Err(ProposeError::UnknownOutcome)) {
        let state = cell.views.now();
        let fence_epoch = state.nodes.get(&node).map_or(0, |node| node.fence_epoch);
        let agents = &cell.agents;
        agents.leases(|leases, _| leases.fence_settled(node, fence_epoch));
    }
}

/// The first entry waits until a majority's clocks agree: its time is the beginning
/// of the cell's, and a wrong one could never be taken back.
async fn clock_is_set(cell: &Cell) -> bool {
    let begun = Instant::now();
    while !cell.clock.is_set() && begun.elapsed() < Duration::from_millis(TICK_MS) {
        tokio::time::sleep(CLOCK_LOOK).await;
    }
    cell.clock.is_set()
}

fn first_entry(cell: &Cell) -> InitCluster {
    let cluster_id = cell.config.cluster_id_bytes();
    InitCluster {
        cluster_id: cluster_id.expect("checked before the controller began to serve"),
        project: ProjectId(rand::random()),
        network: NetworkId(rand::random()),
        network_prices: true,
    }
}

async fn propose(cell: &Cell, term: u64, command: Command) -> Result<Outcome, ProposeError> {
    let actor = format!("controller/{}", cell.config.id);
    let envelope = Envelope {
        source: None,
        request: None,
        at: cell.clock.now(),
        actor,
        command,
    };
    let answer = cell.proposer.append_in(term, envelope).await;
    answer
        .map(|committed| committed.outcome)
        .inspect_err(|error| {
            tracing::debug!("not committed, the next round tries again: {error}");
        })
}
