//! Asks every controller for itself, and one with a leader for the rest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nube_proto::v1::GetClusterRequest;
use nube_proto::v1::cluster_service_client::ClusterServiceClient;

use super::cell::{Answer, Said};
use super::load::Load;
use crate::client::{Client, Link};
use crate::commands::{cluster, instance, node};
use crate::error::Result;
use crate::output::text::now_ms;

/// A controller that needs longer counts as silent.
const SILENT: Duration = Duration::from_secs(3);
/// Between the rounds of questions.
const PAUSE: Duration = Duration::from_millis(70);
/// Rounds, until all were met at one index: a tick changes it each second.
const ROUNDS: usize = 8;

/// Every controller's own view, asked several times at once.
pub async fn controllers(client: &Client) -> Vec<Answer> {
    let mut answers: Vec<Answer> = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let asked = client.each().map(|(address, channel)| async move {
            let said = ask(channel).await;
            let address = address.to_owned();
            Answer { address, said }
        });
        let newer = futures::future::join_all(asked).await;
        answers = match round {
            0 => newer,
            _ => answers.into_iter().zip(newer).map(merge).collect(),
        };
        if have_met(&answers) {
            break;
        }
    }
    answers
}

/// Whether all who answer were seen at one index.
fn have_met(answers: &[Answer]) -> bool {
    let said: Vec<&Said> = answers
        .iter()
        .filter_map(|a| a.said.as_ref().ok())
        .collect();
    let Some(first) = said.first() else {
        return true;
    };
    let common = |index: &u64| said.iter().all(|said| said.hashes.contains_key(index));
    first.hashes.keys().any(common)
}

/// The newer view, with what the older one knew of hashes.
fn merge((older, newer): (Answer, Answer)) -> Answer {
    let said = match (older.said, newer.said) {
        (Ok(older), Ok(mut newer)) => {
            newer.hashes.extend(older.hashes);
            newer.took_ms = newer.took_ms.min(older.took_ms);
            Ok(newer)
        }
        (_, newer) => newer,
    };
    Answer {
        address: newer.address,
        said,
    }
}

async fn ask(channel: Link) -> std::result::Result<Said, String> {
    let begun = Instant::now();
    let mut service = ClusterServiceClient::new(channel);
    let call = service.get_cluster(GetClusterRequest { stale: true });
    let answer = match tokio::time::timeout(SILENT, call).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) => return Err(reason(&status)),
        Err(_) => return Err(format!("no answer within {} s", SILENT.as_secs())),
    };
    let took = begun.elapsed();
    let date = answer
        .metadata()
        .get("date")
        .and_then(|date| date.to_str().ok());
    let skew_ms = date.and_then(|date| skew_ms(date, took));
    let cluster = answer.into_inner();
    let hashes = BTreeMap::from([(cluster.applied_index, cluster.state_hash.clone())]);
    Ok(Said {
        cluster,
        hashes,
        skew_ms,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    })
}

/// The innermost cause says most: `Connection refused`, not `transport error`.
fn reason(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = std::error::Error::source(status);
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    text
}

/// By the answer's `date` header: whole seconds, so half of one is added.
fn skew_ms(date: &str, took: Duration) -> Option<i64> {
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let ours = i64::try_from(now_ms()).ok()? - i64::try_from(took.as_millis() / 2).ok()?;
    Some(theirs.as_millisecond() + 500 - ours)
}

/// Hosts and guests as the leader lists them.
pub async fn load(client: &Client) -> Result<Load> {
    let cluster = cluster::get(client, false).await?;
    Ok(Load {
        now_ms: cluster.time_ms,
        nodes: node::list_all(client).await?.nodes,
        instances: instance::list_all(client, BTreeMap::new(), false)
            .await?
            .instances,
    })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_clock_is_read_from_the_header() {
        let now = i64::try_from(now_ms()).expect("after 1970");
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let skew = skew_ms(date, Duration::ZERO).expect("a date");
        // The test may take a while; the date is decades ago.
        assert!((784_111_777_500 - now - skew).abs() < 60_000, "{skew}");
        assert_eq!(skew_ms("yesterday", Duration::ZERO), None);
    }
}
