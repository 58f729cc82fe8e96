//! Committed mutations per second through gRPC with mutual TLS, three
//! controllers, every entry on stable storage before its answer; beside it, in
//! the same run and in turns, three etcd members on the same disk with as many
//! clients. The load is made on the same cores as the servers, for both.

use std::time::Duration;

use anyhow::Context;
use nube_harness::{Cloud, Size, eventually};

use crate::batch;
use crate::doors::Doors;
use crate::etcd::Etcd;
use crate::figure::{Aim, Figure};
use crate::floor::Floor;
use crate::load;
use crate::write::Target;

const CLIENTS: [usize; 3] = [1, 16, 256];
/// At 256 clients twice the peer's, else ahead of it.
const AIMS: [f64; 3] = [1.0, 1.0, 2.0];

/// A cloud with one node, the ways into it, and the peer.
pub struct Pair {
    pub cloud: Cloud,
    pub doors: Doors,
    pub node: String,
    pub etcd: Option<Etcd>,
}

impl Pair {
    pub async fn up() -> anyhow::Result<Self> {
        let cloud = Cloud::up_bare(Size {
            controllers: 3,
            nodes: 1,
        })?;
        let node = eventually("a node", Duration::from_secs(30), || {
            let list = cloud.json(&["node", "list"])?;
            Ok(list["nodes"][0]["id"].as_str().context("none")?.to_owned())
        })?;
        Ok(Self {
            doors: Doors::read(&cloud)?,
            cloud,
            node,
            etcd: Etcd::up().await?,
        })
    }

    /// The peer's name; empty without one.
    pub async fn peer(&self) -> anyhow::Result<String> {
        match &self.etcd {
            Some(etcd) => etcd.version().await,
            None => Ok(String::new()),
        }
    }
}

pub async fn run(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let pair = Pair::up().await?;
    let peer = pair.peer().await?;
    let (rounds, length) = match quick {
        true => (3, Duration::from_secs(2)),
        false => (5, Duration::from_secs(4)),
    };
    let mut figures = Vec::new();
    for (clients, aim) in CLIENTS.into_iter().zip(AIMS) {
        let mut row = Row::default();
        for round in 0..rounds {
            row.round(&pair, clients, length, round % 2 == 0).await?;
        }
        let name = format!("mutations, {clients} clients");
        figures.push(row.figure(&name, &peer, aim)?);
    }
    figures.extend(latency(&pair, rounds, length).await?);
    let batches = batch::run(&pair, quick).await?;
    figures.extend(batches);
    Ok(figures)
}

/// Rates of one number of clients, round by round.
#[derive(Default)]
struct Row {
    ours: Vec<f64>,
    theirs: Vec<f64>,
    p99_ms: [Vec<f64>; 2],
    errors: u64,
}

impl Row {
    async fn round(
        &mut self,
        pair: &Pair,
        clients: usize,
        length: Duration,
        ours_first: bool,
    ) -> anyhow::Result<()> {
        for ours in [ours_first, !ours_first] {
            if ours {
                self.ours(pair, clients, length).await?;
            } else if let Some(etcd) = &pair.etcd {
                let (target, addresses) = (Target::Etcd(etcd), etcd.addresses());
                let sum = load::run(&target, &addresses, clients, length).await?;
                self.theirs.push(sum.rate);
                self.p99_ms[1].push(sum.permille(990));
                self.errors += sum.errors;
            }
        }
        Ok(())
    }

    async fn ours(&mut self, pair: &Pair, clients: usize, length: Duration) -> anyhow::Result<()> {
        let addresses = pair.doors.addresses(&pair.cloud, true)?;
        let target = Target::Nube(&pair.doors, pair.node.clone());
        let before = commit_index(&pair.cloud)?;
        let sum = load::run(&target, &addresses, clients, length).await?;
        let entries = commit_index(&pair.cloud)?.saturating_sub(before);
        anyhow::ensure!(
            entries >= sum.times_ms.len() as u64,
            "{} answers and only {entries} log entries",
            sum.times_ms.len()
        );
        self.ours.push(sum.rate);
        self.p99_ms[0].push(sum.permille(990));
        self.errors += sum.errors;
        Ok(())
    }

    fn figure(&self, name: &str, peer: &str, aim: f64) -> anyhow::Result<Figure> {
        let figure = match self.theirs.is_empty() {
            true => Figure::alone(name, "1/s", &self.ours)?,
            false => {
                Figure::beside(name, "1/s", &self.ours, peer, &self.theirs)?.aim(Aim::AtLeast(aim))
            }
        };
        let worst = |times: &[f64]| times.iter().copied().fold(f64::NAN, f64::max);
        let [ours, theirs] = &self.p99_ms;
        Ok(figure.note(format!(
            "worst p99 {:.1} ms, the peer's {:.1} ms; {} errors",
            worst(ours),
            worst(theirs),
            self.errors
        )))
    }
}

/// One client at the leader, over what the disk does in the same seconds.
async fn latency(pair: &Pair, rounds: usize, length: Duration) -> anyhow::Result<Vec<Figure>> {
    let mut floor = Floor::open(pair.cloud.scratch())?;
    let (mut ours, mut theirs, mut disk) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut sorted = floor.run(length / 4)?;
        let addresses = pair.doors.addresses(&pair.cloud, false)?;
        let target = Target::Nube(&pair.doors, pair.node.clone());
        let sum = load::run(&target, &addresses, 1, length / 2).await?;
        ours.push(sum.permille(500));
        if let Some(etcd) = &pair.etcd {
            let leader = etcd.ready().await?;
            let addresses = &etcd.addresses()[leader..=leader];
            let sum = load::run(&Target::Etcd(etcd), addresses, 1, length / 2).await?;
            theirs.push(sum.permille(500));
        }
        sorted.extend(floor.run(length / 4)?);
        sorted.sort_by(f64::total_cmp);
        disk.push(sorted[sorted.len() / 2]);
    }
    let name = "commit latency, 1 client at the leader";
    let figure = Figure::beside(name, "ms", &ours, "fdatasync floor", &disk)?.aim(Aim::AtMost(3.0));
    let beside: Vec<f64> = theirs.iter().zip(&disk).map(|(t, d)| t / d).collect();
    let beside = crate::figure::Spread::of(&beside).map_or(f64::NAN, |spread| spread.median);
    Ok(vec![figure.note(format!("etcd's ratio: {beside:.1}"))])
}

fn commit_index(cloud: &Cloud) -> anyhow::Result<u64> {
    let cluster = cloud.json(&["cluster", "status"])?;
    let index = cluster["commit_index"].as_str().context("a commit index")?;
    Ok(index.parse()?)
}
