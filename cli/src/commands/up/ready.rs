//! Waiting until a cloud that was just started can be used.

use std::time::{Duration, Instant};

use nube_proto::v1::cluster_service_client::ClusterServiceClient;
use nube_proto::v1::{Cluster, GetClusterRequest};
use tonic::transport::Channel;

use super::layout::{Layout, Service};
use super::process;
use crate::client::Client;
use crate::error::{Error, Exit, Result};
use crate::output::progress::Progress;

const POLL: Duration = Duration::from_millis(200);
/// One controller's answer; a silent one is asked again in the next round.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What has been reached, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reached {
    leader: bool,
    controllers: bool,
    nodes: bool,
}

/// Returns when a leader exists, every controller answers and every node is
/// ready; tells each once.
pub async fn wait(client: &Client, layout: &Layout, limit: Duration) -> Result<()> {
    let started = Instant::now();
    let progress = Progress::new();
    let track = progress.track("cloud");
    let mut reached = Reached::default();
    loop {
        let answers = ask_all(client).await;
        let seen = judge(&answers, layout);
        if seen.leader && !reached.leader {
            track.done("a leader is elected");
        }
        if seen.controllers && !reached.controllers {
            track.done(&format!("{} controllers answer", layout.cell.controllers));
        }
        if seen.nodes && !reached.nodes {
            track.done(&format!("{} nodes are ready", layout.cell.nodes));
        }
        track.doing(waiting_for(&seen));
        if seen.leader && seen.controllers && seen.nodes {
            return Ok(());
        }
        reached = Reached {
            leader: reached.leader || seen.leader,
            controllers: reached.controllers || seen.controllers,
            nodes: reached.nodes || seen.nodes,
        };
        if let Some(dead) = first_dead(layout)? {
            return Err(blame(&dead, "has ended", Exit::Failed));
        }
        if started.elapsed() >= limit {
            let silent = if seen.controllers {
                layout.node(1)
            } else {
                layout.controller(1)
            };
            let text = format!("{} after {} s", waiting_for(&seen), limit.as_secs());
            return Err(blame(&silent, &text, Exit::Unavailable));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn ask_all(client: &Client) -> Vec<Option<Cluster>> {
    let ask = client.each().map(|(_, channel)| ask(channel));
    futures::future::join_all(ask).await
}

/// From the controller's own state: one without a leader can still answer.
async fn ask(channel: Channel) -> Option<Cluster> {
    let mut client = ClusterServiceClient::new(channel);
    let answer = client.get_cluster(GetClusterRequest { stale: true });
    let answer = tokio::time::timeout(ANSWER_MAX, answer).await;
    Some(answer.ok()?.ok()?.into_inner())
}

fn judge(answers: &[Option<Cluster>], layout: &Layout) -> Reached {
    let known: Vec<_> = answers.iter().flatten().collect();
    let leader = known.iter().map(|c| c.leader_id).find(|id| *id != 0);
    let by_leader = known.iter().find(|c| Some(c.answered_by) == leader);
    Reached {
        leader: leader.is_some(),
        controllers: known.len() == answers.len()
            && known.iter().all(|c| Some(c.leader_id) == leader),
        nodes: by_leader.is_some_and(|c| c.nodes_ready >= layout.cell.nodes),
    }
}

fn waiting_for(seen: &Reached) -> &'static str {
    match seen {
        Reached { leader: false, .. } => "no leader yet",
        Reached {
            controllers: false, ..
        } => "not every controller answers yet",
        _ => "not every node is ready yet",
    }
}

fn first_dead(layout: &Layout) -> Result<Option<Service>> {
    let controllers = (1..=layout.cell.controllers).map(|n| layout.controller(n));
    let nodes = (1..=layout.cell.nodes).map(|n| layout.node(n));
    for service in controllers.chain(nodes) {
        if process::find(&service)?.is_none() {
            return Ok(Some(service));
        }
    }
    Ok(None)
}

fn blame(service: &Service, what: &str, exit: Exit) -> Error {
    let mut error = Error::new(exit, format!("{}: {what}", service.name));
    for line in process::log_tail(service, 10) {
        error = error.detail(line);
    }
    error.hint(format!(
        "its log: {}; `cloudctl up` again starts what does not run",
        service.log_file().display()
    ))
}

#[cfg(test)]
mod test {
    use super::super::layout::Cell;
    use super::*;

    #[test]
    fn readiness_needs_one_leader_known_to_all_and_every_node() {
        let cell = Cell {
            cell: "00c0ffee".into(),
            subnet_index: 7,
            controllers: 2,
            nodes: 2,
            base_port: 7101,
        };
        let layout = Layout {
            dir: "/nonexistent".into(),
            cell,
        };
        let answer = |id: u64, leader_id: u64, nodes_ready: u32| {
            Some(Cluster {
                answered_by: id,
                leader_id,
                nodes_ready,
                ..Cluster::default()
            })
        };
        let flags = |answers: &[Option<Cluster>]| {
            let seen = judge(answers, &layout);
            (seen.leader, seen.controllers, seen.nodes)
        };
        assert_eq!(flags(&[None, None]), (false, false, false));
        assert_eq!(
            flags(&[answer(1, 0, 0), answer(2, 0, 0)]),
            (false, false, false)
        );
        assert_eq!(flags(&[answer(1, 1, 2), None]), (true, false, true));
        assert_eq!(
            flags(&[answer(1, 1, 1), answer(2, 0, 0)]),
            (true, false, false)
        );
        assert_eq!(
            flags(&[answer(1, 1, 2), answer(2, 1, 0)]),
            (true, true, true)
        );
    }
}
