//! How long nobody writes after a leader's death: kill -9 of the leader, again
//! and again, and the time to the next acknowledged write.

use std::time::{Duration, Instant};

use anyhow::Context;
use nube_harness::lab::Lab;
use nube_proto::v1;
use nube_proto::v1::node_service_client::NodeServiceClient;
use uuid::Uuid;

use super::client::Cell;
use super::settle;

/// Nothing is measured with it: beyond, the cell is stuck.
const PATIENCE: Duration = Duration::from_secs(30);
/// One attempt at one controller. Shorter than an election: whoever waits for a
/// leader that died is asked again.
const ATTEMPT: Duration = Duration::from_millis(400);

/// What the kills cost.
pub struct Figures {
    recoveries: Vec<Duration>,
}

impl Figures {
    /// Of a hundred recoveries, so many are no longer than this.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.recoveries.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

/// Kills the leader so many times; each is back before the next one dies.
pub fn measure(
    lab: &mut Lab,
    runtime: &tokio::runtime::Runtime,
    cell: &Cell,
    kills: usize,
) -> anyhow::Result<Figures> {
    let node = runtime.block_on(settle::node(cell, "host-1"))?.id;
    let mut recoveries = Vec::new();
    for number in 0..kills {
        let leader = format!("controller-{}", runtime.block_on(settle::leader(cell))?);
        lab.daemon(&leader)?.kill()?;
        let begun = Instant::now();
        runtime
            .block_on(write(cell, &node, number))
            .with_context(|| format!("A10: kill {number}, of {leader}"))?;
        recoveries.push(begun.elapsed());
        lab.start(&leader)?;
        runtime.block_on(settle::settle(cell))?;
    }
    Ok(Figures { recoveries })
}

/// One write, asked of all controllers at once until one acknowledges it: what
/// is measured is the cell, not a client's luck.
async fn write(cell: &Cell, node: &str, number: usize) -> anyhow::Result<()> {
    let request = v1::SetNodeLabelsRequest {
        request_id: Uuid::new_v4().to_string(),
        node: node.to_owned(),
        labels: [("failover".to_owned(), number.to_string())].into(),
        remove: Vec::new(),
    };
    let tries = (0..cell.count()).map(|controller| {
        let (channel, request) = (cell.channel(controller), request.clone());
        Box::pin(async move {
            loop {
                let call = NodeServiceClient::new(channel.clone());
                let answer = ask(call, request.clone()).await;
                if answer {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    });
    let first = futures::future::select_all(tries);
    tokio::time::timeout(PATIENCE, first)
        .await
        .context("no write was acknowledged")?;
    Ok(())
}

async fn ask(
    mut client: NodeServiceClient<tonic::transport::Channel>,
    request: v1::SetNodeLabelsRequest,
) -> bool {
    let answer = tokio::time::timeout(ATTEMPT, client.set_node_labels(request)).await;
    matches!(answer, Ok(Ok(_)))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let figures = Figures {
            recoveries: (1..=50).rev().map(Duration::from_millis).collect(),
        };
        assert_eq!(figures.percentile(50), Duration::from_millis(25));
        assert_eq!(figures.percentile(99), Duration::from_millis(50));
        assert_eq!(figures.percentile(0), Duration::from_millis(1));
    }
}
