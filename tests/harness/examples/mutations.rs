//! Committed mutations per second through gRPC with mutual TLS, three
//! controllers, every entry on stable storage before its answer; beside it, in
//! the same run, what the disk gives: 512 bytes and an fdatasync, one after the
//! other. The ratio is the figure: absolute ones of a shared machine say little.
//!
//! ```text
//! cargo run --release -p nube-harness --example mutations [SECONDS]
//! ```
//!
//! A mutation is a drain or an uncordon with a request id of its own. The load
//! is made on the same cores as the controllers.

#[path = "mutations/doors.rs"]
mod doors;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use doors::Doors;
use nube_harness::{Cloud, Size, eventually};
use nube_proto::v1::ChangeNodeRequest;
use nube_proto::v1::node_service_client::NodeServiceClient;
use tonic::transport::Channel;

const CLIENTS: [usize; 4] = [1, 16, 64, 256];
/// HTTP/2 carries many calls, but one connection is one task at the server.
const CLIENTS_PER_CHANNEL: usize = 16;
/// Not counted: connections and caches get warm.
const WARM_UP: Duration = Duration::from_millis(500);
const SECONDS: u64 = 5;
const FLOOR: Duration = Duration::from_secs(2);

fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(SECONDS), |n| n.parse())?;
    let installed = rustls::crypto::ring::default_provider().install_default();
    anyhow::ensure!(installed.is_ok(), "a TLS provider was installed before");
    let load_before = fs::read_to_string("/proc/loadavg")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let cloud = Cloud::up_bare(Size {
        controllers: 3,
        nodes: 1,
    })?;
    let node = eventually("a node", Duration::from_secs(30), || {
        let list = cloud.json(&["node", "list"])?;
        Ok(list["nodes"][0]["id"].as_str().context("none")?.to_owned())
    })?;
    let doors = Doors::read(&cloud)?;
    let load = Load {
        node,
        length: Duration::from_secs(seconds),
    };
    println!("floor = fdatasync/s of 512 B appends, mean of {FLOOR:?} before and after the row");
    println!("all = channels spread over all three controllers (1 client: a follower)\n");
    println!("clients via    mutations/s   p50 ms   p99 ms   max ms    floor  ratio errors");
    let mut floor = Floor::open(cloud.scratch())?;
    let mut before = floor.rate()?;
    for clients in CLIENTS {
        for spread in [true, false] {
            let addresses = doors.addresses(&cloud, spread)?;
            let commits = commit_index(&cloud)?;
            let sum = runtime.block_on(load.run(&doors, &addresses, clients))?;
            let entries = commit_index(&cloud)?.saturating_sub(commits);
            anyhow::ensure!(
                entries >= sum.micros.len() as u64,
                "{} answers and only {entries} log entries",
                sum.micros.len()
            );
            let after = floor.rate()?;
            sum.print(clients, spread, (before + after) / 2.0);
            before = after;
        }
    }
    let load_after = fs::read_to_string("/proc/loadavg")?;
    println!(
        "\nload before {}, after {}",
        load_before.trim(),
        load_after.trim()
    );
    Ok(())
}

fn commit_index(cloud: &Cloud) -> anyhow::Result<u64> {
    let cluster = cloud.json(&["cluster", "status"])?;
    let index = cluster["commit_index"].as_str().context("a commit index")?;
    Ok(index.parse()?)
}

/// What the clients of one row do.
struct Load {
    node: String,
    length: Duration,
}

impl Load {
    async fn run(&self, doors: &Doors, to: &[String], clients: usize) -> anyhow::Result<Sum> {
        let count = clients
            .div_ceil(CLIENTS_PER_CHANNEL)
            .max(to.len().min(clients));
        let mut channels = Vec::new();
        for address in to.iter().cycle().take(count) {
            channels.push(doors.connect(address).await?);
        }
        let begin = Instant::now() + WARM_UP;
        let end = begin + self.length;
        let tasks: Vec<_> = channels
            .iter()
            .cycle()
            .take(clients)
            .enumerate()
            .map(|(n, channel)| {
                tokio::spawn(client(
                    channel.clone(),
                    self.node.clone(),
                    n % 2 == 0,
                    begin,
                    end,
                ))
            })
            .collect();
        let mut sum = Sum {
            length: self.length,
            ..Sum::default()
        };
        for task in tasks {
            let one = task.await?;
            sum.micros.extend(one.micros);
            sum.errors += one.errors;
        }
        sum.micros.sort_unstable();
        Ok(sum)
    }
}

/// One client: the next call follows the answer. Counts what was answered
/// between the two moments.
async fn client(
    channel: Channel,
    node: String,
    mut drain: bool,
    begin: Instant,
    end: Instant,
) -> Sum {
    let mut client = NodeServiceClient::new(channel);
    let mut sum = Sum::default();
    loop {
        let request = ChangeNodeRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            node: node.clone(),
        };
        let asked = Instant::now();
        let answer = if drain {
            client.drain_node(request).await
        } else {
            client.uncordon_node(request).await
        };
        drain = !drain;
        let now = Instant::now();
        if now > end {
            return sum;
        }
        match answer {
            Ok(_) if now >= begin => sum.micros.push((now - asked).as_micros()),
            Ok(_) => {}
            Err(_) => sum.errors += 1,
        }
    }
}

/// What came of a row.
#[derive(Default)]
struct Sum {
    length: Duration,
    /// Latency of each committed mutation.
    micros: Vec<u128>,
    errors: u64,
}

impl Sum {
    fn print(&self, clients: usize, spread: bool, floor: f64) {
        let rate = self.micros.len() as f64 / self.length.as_secs_f64();
        let at = |permille: usize| {
            let index = self.micros.len().saturating_sub(1) * permille / 1000;
            self.micros
                .get(index)
                .map_or(f64::NAN, |us| *us as f64 / 1000.0)
        };
        println!(
            "{clients:7} {:6} {rate:11.0} {:8.2} {:8.2} {:8.2} {floor:8.0} {:6.2} {:6}",
            if spread { "all" } else { "leader" },
            at(500),
            at(990),
            at(1000),
            rate / floor,
            self.errors
        );
    }
}

/// The disk's own speed, in a file on the cloud's disk.
struct Floor(File);

impl Floor {
    fn open(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self(File::create(dir.join("floor"))?))
    }

    fn rate(&mut self) -> anyhow::Result<f64> {
        let (begun, mut syncs) = (Instant::now(), 0_u32);
        while begun.elapsed() < FLOOR {
            self.0.write_all(&[7; 512])?;
            self.0.sync_data()?;
            syncs += 1;
        }
        Ok(f64::from(syncs) / begun.elapsed().as_secs_f64())
    }
}
