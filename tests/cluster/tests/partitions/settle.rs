//! What is asked of the cell itself when everything is whole again: one leader,
//! equal states, hosts that are ready, an exact bill, the audit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use nube_proto::v1;
use nube_proto::v1::billing_service_client::BillingServiceClient;
use nube_proto::v1::cluster_service_client::ClusterServiceClient;
use nube_proto::v1::event_service_client::EventServiceClient;
use nube_proto::v1::node_service_client::NodeServiceClient;

use super::client::Cell;
use super::load::PAGE;

/// Faults have stopped: by then all is well, or never (A10).
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);
/// Longer than that, and a reader wants to know for what.
const SLOW: Duration = Duration::from_secs(5);

/// What one controller says of itself, without asking the others.
pub async fn view(cell: &Cell, number: usize) -> anyhow::Result<v1::Cluster> {
    let ask = |channel| async move {
        let request = v1::GetClusterRequest { stale: true };
        ClusterServiceClient::new(channel)
            .get_cluster(request)
            .await
    };
    Ok(cell.ask(number, ask).await?)
}

/// The leader that the answering controllers know in the highest term.
pub async fn leader(cell: &Cell) -> anyhow::Result<u64> {
    let begun = Instant::now();
    loop {
        let views = (0..cell.count()).map(|number| view(cell, number));
        let views = futures::future::join_all(views).await;
        let newest = views.into_iter().flatten().max_by_key(|view| view.term);
        match newest.filter(|view| view.leader_id != 0) {
            Some(view) => return Ok(view.leader_id),
            None => anyhow::ensure!(begun.elapsed() < PATIENCE, "A10: no leader"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until all controllers follow one leader and hold one state, and all
/// hosts are ready. States that differ at one index end the test at once (A4).
pub async fn settle(cell: &Cell) -> anyhow::Result<v1::Cluster> {
    let (begun, mut told) = (Instant::now(), SLOW);
    loop {
        let lack = match look(cell).await? {
            Ok(cluster) => return Ok(cluster),
            Err(lack) => lack,
        };
        anyhow::ensure!(begun.elapsed() < PATIENCE, "A10: not settled: {lack}");
        if begun.elapsed() > told {
            println!("not settled after {} s: {lack}", told.as_secs());
            told += SLOW;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(cell: &Cell) -> anyhow::Result<Result<v1::Cluster, String>> {
    let views = (0..cell.count()).map(|number| view(cell, number));
    let mut views: Vec<v1::Cluster> = match futures::future::try_join_all(views).await {
        Ok(views) => views,
        Err(error) => return Ok(Err(format!("{error:#}"))),
    };
    let mut hashes: BTreeMap<u64, &str> = BTreeMap::new();
    for view in &views {
        let hash = hashes.entry(view.applied_index).or_insert(&view.state_hash);
        anyhow::ensure!(
            *hash == view.state_hash,
            "A4: two states at index {}: {views:#?}",
            view.applied_index
        );
    }
    let one = hashes.len() == 1;
    let led = |view: &v1::Cluster| view.leader_id != 0 && view.leader_id == views[0].leader_id;
    let whole = |view: &v1::Cluster| view.nodes_ready == view.nodes;
    if one && views.iter().all(|view| led(view) && whole(view)) {
        return Ok(Ok(views.swap_remove(0)));
    }
    let each = |view: &v1::Cluster| {
        let (id, at, term) = (view.answered_by, view.applied_index, view.term);
        let (leader, ready) = (view.leader_id, view.nodes_ready);
        format!("{id}: index {at}, term {term}, leader {leader}, {ready} hosts ready")
    };
    Ok(Err(views.iter().map(each).collect::<Vec<_>>().join("; ")))
}

/// D1: the bill follows from the log, as each controller says.
pub async fn verify_bill(cell: &Cell) -> anyhow::Result<()> {
    for number in 0..cell.count() {
        let ask = |channel| async move {
            BillingServiceClient::new(channel)
                .verify_bill(v1::VerifyBillRequest {})
                .await
        };
        let verified = cell.ask(number, ask).await?;
        anyhow::ensure!(
            verified.exact,
            "D1: controller {}: {verified:#?}",
            number + 1
        );
    }
    Ok(())
}

/// All audit records after a revision, the oldest first.
pub async fn audit(cell: &Cell, after: u64) -> anyhow::Result<Vec<v1::Event>> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let page = cell
            .call(|channel| {
                let request = v1::ListEventsRequest {
                    page_size: PAGE,
                    page_token: token.clone(),
                    all_projects: true,
                    ..v1::ListEventsRequest::default()
                };
                async move { EventServiceClient::new(channel).list_events(request).await }
            })
            .await?;
        let oldest = page.events.last().map_or(0, |event| event.revision);
        all.extend(page.events.into_iter().filter(|e| e.revision > after));
        token = page.next_page_token;
        if token.is_empty() || oldest <= after {
            all.reverse();
            return Ok(all);
        }
    }
}

/// A host's id and labels, by its name.
pub async fn node(cell: &Cell, name: &str) -> anyhow::Result<v1::Node> {
    let ask = |channel| async move {
        let request = v1::ListNodesRequest::default();
        NodeServiceClient::new(channel).list_nodes(request).await
    };
    let list = cell.call(ask).await?;
    let found = list.nodes.into_iter().find(|node| node.name == name);
    found.with_context(|| format!("no host {name}"))
}
