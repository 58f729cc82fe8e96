//! From kill -9 of the leader to the next committed write, beside the peer's,
//! in turns. Every survivor is asked again and again, without waiting for
//! earlier answers; the first one that counts ends the time. Writes asked for
//! before the kill are not among them.

use std::time::{Duration, Instant};

use nube_harness::eventually;
use tokio::sync::mpsc;

use crate::figure::{Aim, Figure};
use crate::launch::LIMIT;
use crate::mutations::Pair;
use crate::write::{Target, Writer};

/// Between two questions: the resolution of the figure.
const STEP: Duration = Duration::from_millis(10);
/// Ends a run that hangs.
const ATTEMPTS_MAX: usize = 6_000;
/// Between a full cluster and the next kill: followers catch up.
const REST: Duration = Duration::from_millis(1_500);

pub async fn run(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let mut pair = Pair::up().await?;
    let peer = pair.peer().await?;
    let kills = if quick { 3 } else { 7 };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..kills {
        ours.push(kill_ours(&pair).await?);
        if pair.etcd.is_some() {
            theirs.push(kill_theirs(&mut pair).await?);
        }
    }
    let name = "leader kill -9 to the next write";
    let figure = match theirs.is_empty() {
        true => Figure::alone(name, "s", &ours)?,
        false => Figure::beside(name, "s", &ours, &peer, &theirs)?.aim(Aim::AtMost(0.2)),
    };
    Ok(vec![figure.note(format!("{kills} kills each"))])
}

async fn kill_ours(pair: &Pair) -> anyhow::Result<f64> {
    let cloud = &pair.cloud;
    tokio::time::sleep(REST).await;
    let leads = pair.doors.addresses(cloud, false)?;
    let mut survivors = pair.doors.addresses(cloud, true)?;
    survivors.retain(|address| !leads.contains(address));
    let process = cloud.process(&format!("controller-{}", cloud.leader()?))?;
    let target = Target::Nube(&pair.doors, pair.node.clone());
    let writers = connect(&target, &survivors).await?;
    let begun = Instant::now();
    process.kill()?;
    while process.is_alive() {
        tokio::task::yield_now().await;
    }
    let time = race(writers, begun).await?;
    cloud.start()?;
    eventually("every controller answers", LIMIT, || {
        let cluster = cloud.json(&["cluster", "status"])?;
        let members = cluster["members"].as_array().map_or(&[][..], Vec::as_slice);
        let silent = |member: &serde_json::Value| member["reachable"] != true;
        anyhow::ensure!(!members.iter().any(silent), "{cluster}");
        Ok(())
    })?;
    Ok(time)
}

async fn kill_theirs(pair: &mut Pair) -> anyhow::Result<f64> {
    let Some(etcd) = &mut pair.etcd else {
        anyhow::bail!("there is no peer");
    };
    tokio::time::sleep(REST).await;
    let leader = etcd.ready().await?;
    let mut survivors = etcd.addresses();
    survivors.remove(leader);
    let writers = connect(&Target::Etcd(etcd), &survivors).await?;
    let begun = Instant::now();
    etcd.kill(leader)?;
    let time = race(writers, begun).await?;
    etcd.restart(leader)?;
    etcd.ready().await?;
    Ok(time)
}

/// Connections that stand before the kill.
async fn connect(target: &Target<'_>, survivors: &[String]) -> anyhow::Result<Vec<Writer>> {
    let mut writers = Vec::new();
    for (n, address) in survivors.iter().enumerate() {
        writers.push(target.writer(target.connect(address).await?, n));
    }
    Ok(writers)
}

/// Seconds to the first write that was asked for after the kill.
async fn race(writers: Vec<Writer>, begun: Instant) -> anyhow::Result<f64> {
    let (done, mut first) = mpsc::channel(1);
    for attempt in 0..ATTEMPTS_MAX {
        let mut writer = writers[attempt % writers.len()].clone();
        let done = done.clone();
        tokio::spawn(async move {
            if writer.write().await.is_ok() {
                // Only the first one is of interest.
                let _ = done.try_send(begun.elapsed());
            }
        });
        if let Ok(Some(time)) = tokio::time::timeout(STEP, first.recv()).await {
            return Ok(time.as_secs_f64());
        }
    }
    anyhow::bail!("no write after the kill")
}
