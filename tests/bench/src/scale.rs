//! Does a large cell answer as a small one? Launch and list at a thousand and
//! at a million instances: the state machine in this process, both cells in
//! turns; and real controllers with simulated hosts, small and then larger.
//!
//! In this process a launch is one entry and the view published after it, a
//! list is one page. Choosing a host does not depend on the number of
//! instances and is left out: it would only flatter the ratio.

use std::time::{Duration, Instant};

use nube_proto::v1::instance_service_client::InstanceServiceClient;
use nube_proto::v1::{Instance, InstanceState, ListInstancesRequest, ListInstancesResponse};
use nube_types::InstanceId;
use nube_types::limits::{INSTANCES_MAX, INSTANCES_PER_LAUNCH_MAX, PAGE_SIZE_DEFAULT};
use tonic::transport::Channel;

use crate::cell::{Cell, PROJECT};
use crate::doors::Doors;
use crate::figure::{Aim, Figure, Spread};
use crate::launch::LIMIT;
use crate::{batch, simulated};

const NODES: u64 = 1_000;
const SMALL: u64 = 1_000;
const HOSTS: u32 = 8;
/// Almost as many as a cell may have: launches must still be let in.
const LARGE: u64 = INSTANCES_MAX as u64 - 10_000;
const RATIO_MAX: f64 = 1.1;
/// Calls in one sample: single ones are as short as the clock's own noise.
const CALLS: u32 = 50;

pub async fn run(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let (large, rounds) = if quick { (100_000, 21) } else { (LARGE, 41) };
    let mut figures = in_process(large, rounds)?;
    figures.extend(real(if quick { 4_000 } else { 10_000 }, rounds).await?);
    Ok(figures)
}

fn in_process(large: u64, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let mut cells = [Cell::new(NODES)?, Cell::new(NODES)?];
    for (cell, size) in cells.iter_mut().zip([SMALL, large]) {
        cell.launch_to(size)?;
        cell.run_all()?;
    }
    let (mut launches, mut lists) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        for (place, cell) in cells.iter_mut().enumerate() {
            launches[place].push(launch_us(cell)?);
            lists[place].push(list_us(cell));
        }
    }
    let figure = |name: &str, [small, big]: &[Vec<f64>; 2]| {
        let name = format!("{name}, {large} instances, in process");
        let peer = format!("{SMALL} instances");
        Figure::beside(&name, "us", big, &peer, small).map(|f| f.aim(Aim::AtMost(RATIO_MAX)))
    };
    Ok(vec![figure("launch", &launches)?, figure("page", &lists)?])
}

fn launch_us(cell: &mut Cell) -> anyhow::Result<f64> {
    let commands: Result<Vec<_>, _> = (0..CALLS).map(|_| cell.launch_command(1)).collect();
    let commands = commands?;
    let begun = Instant::now();
    for command in commands {
        cell.commit(command)?;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS))
}

/// A page from the middle of all ids, each record looked at.
fn list_us(cell: &Cell) -> f64 {
    let begun = Instant::now();
    let mut seen = 0;
    for _ in 0..CALLS {
        let after = Some(InstanceId(u64::MAX / 2));
        let page = cell.state.instances_of(PROJECT, after);
        let living = page.filter(|instance| instance.holds_place());
        seen += std::hint::black_box(living.take(PAGE_SIZE_DEFAULT as usize).count());
    }
    std::hint::black_box(seen);
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}

/// The same through gRPC. One cloud that grows: the pairs are not in turns.
async fn real(large: usize, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let cloud = simulated::up(HOSTS)?;
    let doors = Doors::read(&cloud)?;
    let leader = doors.addresses(&cloud, false)?;
    let channel = doors.connect(&leader[0]).await?;
    let mut made = 0;
    let (mut launches, mut lists) = (Vec::new(), Vec::new());
    for size in [usize::try_from(SMALL)?, large] {
        while made < size {
            let name = format!("fill-{made}");
            made += batch::launch(channel.clone(), &name, INSTANCES_PER_LAUNCH_MAX).await?;
        }
        let token = settle(&channel).await?;
        let (mut launch, mut list) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let begun = Instant::now();
            let name = format!("one-{size}-{round}");
            made += batch::launch(channel.clone(), &name, 1).await?;
            launch.push(begun.elapsed().as_secs_f64() * 1e3);
            let begun = Instant::now();
            page(&channel, &token).await?;
            list.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        launches.push(launch);
        lists.push(list);
    }
    let figure = |name: &str, times: &[Vec<f64>]| {
        let name = format!("{name}, {large} instances, three controllers");
        let peer = format!("{SMALL} instances");
        let figure = Figure::beside(&name, "ms", &times[1], &peer, &times[0])?;
        // Not pairs: the medians are compared, not each with a stranger.
        let ratio = figure
            .peer
            .as_ref()
            .map(|p| figure.ours.median / p.spread.median);
        let ratio = ratio.and_then(|ratio| Spread::of(&[ratio]));
        anyhow::Ok(Figure { ratio, ..figure }.aim(Aim::AtMost(RATIO_MAX)))
    };
    Ok(vec![
        figure("launch", &launches)?,
        figure("middle page", &lists)?,
    ])
}

/// Waits until nothing is starting any more; the token of a page in the middle.
async fn settle(channel: &Channel) -> anyhow::Result<String> {
    let begun = Instant::now();
    loop {
        let (tokens, starting) = walk(channel).await?;
        if starting == 0 {
            return Ok(tokens[tokens.len() / 2].clone());
        }
        anyhow::ensure!(begun.elapsed() < LIMIT, "{starting} are starting still");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// The tokens of all pages, and how many instances do not run yet.
async fn walk(channel: &Channel) -> anyhow::Result<(Vec<String>, usize)> {
    let (mut tokens, mut starting) = (vec![String::new()], 0);
    loop {
        let token = tokens.last().cloned().unwrap_or_default();
        let answer = page(channel, &token).await?;
        let runs = |instance: &&Instance| instance.state() != InstanceState::Running;
        starting += answer.instances.iter().filter(runs).count();
        if answer.next_page_token.is_empty() {
            return Ok((tokens, starting));
        }
        tokens.push(answer.next_page_token);
    }
}

async fn page(channel: &Channel, token: &str) -> anyhow::Result<ListInstancesResponse> {
    let request = ListInstancesRequest {
        page_token: token.to_owned(),
        ..ListInstancesRequest::default()
    };
    let mut client = InstanceServiceClient::new(channel.clone());
    Ok(client.list_instances(request).await?.into_inner())
}
