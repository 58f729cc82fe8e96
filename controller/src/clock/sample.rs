//! Asks the other voters for their wall clocks and steers the cell's clock: about
//! once a second while this controller leads, less often otherwise. Says so when a
//! clock is wrong.

use std::sync::Arc;
use std::time::Duration;

use nube_proto::peer::v1::ReadClockRequest;
use nube_proto::peer::v1::peer_service_client::PeerServiceClient;
use nube_types::TimestampMs;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::cluster::{AGREE_MS, ROUND_TRIP_MS_MAX, Steered};
use super::{Comparison, mono_ms};
use crate::cell::Cell;

/// Between two rounds of a leader.
const LEADING: Duration = Duration::from_secs(1);
/// Between two rounds of anybody else, who only wants to know about its own clock; a
/// third of a reading's life.
const FOLLOWING: Duration = Duration::from_secs(5);
/// Between two warnings about the same thing.
const WARNING: Duration = Duration::from_secs(60);

/// Runs for the life of the controller.
pub async fn run(cell: Arc<Cell>) {
    let mut raft = cell.raft.watch_status();
    let mut warned = None;
    loop {
        let status = raft.borrow_and_update().clone();
        let voters: Vec<u64> = status
            .members
            .iter()
            .filter(|member| member.voter)
            .map(|member| member.id)
            .collect();
        let leading = status.is_leader();
        // Before the round too: time must not wait for a peer that does not answer.
        steer(&cell, &voters, leading);
        ask(&cell, &voters).await;
        steer(&cell, &voters, leading);
        warn(cell.clock.compare(), voters.len(), &mut warned);
        let pause = if leading || !cell.clock.is_set() {
            LEADING
        } else {
            FOLLOWING
        };
        let changed = raft.wait_for(|now| now.is_leader() != leading || now.stopped);
        if let Ok(Ok(now)) = timeout(pause, changed).await
            && now.stopped
        {
            return;
        }
    }
}

fn steer(cell: &Cell, voters: &[u64], leading: bool) {
    if let Steered::Stepped(ms) = cell.clock.steer(voters, leading) {
        tracing::info!(
            ms,
            "replicated time caught up with the voters' clocks in one step"
        );
    }
}

/// All at once: one that hangs costs a round trip's limit and nobody else's reading.
async fn ask(cell: &Arc<Cell>, voters: &[u64]) {
    let mut asked = JoinSet::new();
    for id in voters.iter().copied().filter(|id| *id != cell.config.id) {
        let Some(channel) = cell.peers.channel(id) else {
            continue;
        };
        let cell = Arc::clone(cell);
        asked.spawn(async move {
            let began_ms = mono_ms();
            let limit = Duration::from_millis(ROUND_TRIP_MS_MAX);
            let mut client = PeerServiceClient::new(channel);
            match timeout(limit, client.read_clock(ReadClockRequest {})).await {
                Ok(Ok(answer)) => {
                    let wall = TimestampMs(answer.into_inner().wall_ms);
                    cell.clock.sample(id, wall, began_ms);
                }
                // An older version, or one that is gone: the others count.
                Ok(Err(status)) => tracing::debug!(peer = id, "clock not read: {status}"),
                Err(_) => tracing::debug!(peer = id, "clock not read in time"),
            }
        });
    }
    while asked.join_next().await.is_some() {}
}

/// What is to be said of a comparison.
fn complaint(now: Comparison, voters: usize) -> Option<String> {
    match now.own_error_ms {
        Some(ms) if ms.abs() > AGREE_MS => Some(format!(
            "this host's clock is {ms} ms ahead of what {} of {voters} controllers agree on; \
             replicated time does not follow it; set it right (NTP)",
            now.agreeing
        )),
        None if now.agreeing == 0 && voters > 0 => Some(format!(
            "no majority of the {voters} controllers' clocks agrees within {AGREE_MS} ms (or \
             answers); replicated time goes on by the leader's monotonic clock alone; set the \
             clocks right (NTP)"
        )),
        _ => None,
    }
}

fn warn(now: Comparison, voters: usize, warned: &mut Option<Instant>) {
    let Some(text) = complaint(now, voters) else {
        if warned.take().is_some() {
            tracing::info!("the controllers' clocks agree again");
        }
        return;
    };
    if warned.is_none_or(|at| at.elapsed() >= WARNING) {
        *warned = Some(Instant::now());
        tracing::warn!("{text}");
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_wrong_clock_is_named_and_a_right_one_is_not() {
        let of = |own_error_ms, agreeing| Comparison {
            own_error_ms,
            agreeing,
        };
        assert_eq!(complaint(of(Some(AGREE_MS), 3), 3), None);
        assert_eq!(complaint(of(Some(-AGREE_MS), 2), 3), None);
        let wrong = complaint(of(Some(-3_600_000), 2), 3).expect("an hour");
        assert!(
            wrong.contains("-3600000 ms ahead") && wrong.contains("2 of 3"),
            "{wrong}"
        );
        let none = complaint(of(None, 0), 3).expect("nobody agrees");
        assert!(none.contains("no majority"), "{none}");
    }
}
