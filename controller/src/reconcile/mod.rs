//! The leader's loops. They take no input and keep no state: they look at a
//! view, make a plan, and propose. A lost leadership or a failed proposal needs
//! no care: the next round is the retry.

pub mod cluster;
pub mod member;
pub mod node;

use std::sync::Arc;
use std::time::Duration;

use nube_state::{Command, Envelope};
use nube_types::limits::{NODE_SEEN_COMMIT_MS, TICK_MS};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cell::Cell;
use crate::clock;

/// Runs for the life of the controller; acts only while it leads.
pub async fn run(cell: Arc<Cell>) {
    let mut tick = interval(Duration::from_millis(TICK_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leading_since = None;
    let mut seen_at = Instant::now();
    loop {
        tick.tick().await;
        if !cell.raft.status().leader_ready {
            leading_since = None;
            continue;
        }
        let since = *leading_since.get_or_insert_with(Instant::now);
        let state = cell.views.now();
        if let Some(command) = cluster::plan(&state, &cell) {
            propose(&cell, command).await;
            continue;
        }
        let (silence, now) = (cell.agents.silence(), clock::now());
        let with_seen = seen_at.elapsed() >= Duration::from_millis(NODE_SEEN_COMMIT_MS);
        if with_seen {
            seen_at = Instant::now();
        }
        propose(&cell, node::tick(&silence, now, with_seen)).await;
        for command in node::plan(&state, &silence, now, since.elapsed()) {
            propose(&cell, command).await;
        }
    }
}

async fn propose(cell: &Cell, command: Command) {
    let actor = format!("controller/{}", cell.config.id);
    let envelope = Envelope {
        source: None,
        request: None,
        at: clock::now(),
        actor,
        command,
    };
    if let Err(error) = cell.proposer.append(envelope).await {
        tracing::debug!("not committed, the next round tries again: {error}");
    }
}
