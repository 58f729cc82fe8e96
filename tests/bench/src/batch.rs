//! Instances per second when each launch makes a hundred: one log entry, a
//! hundred placements, addresses, keys and records; beside it the peer's puts
//! per second with as many clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use nube_proto::v1::LaunchInstancesRequest;
use nube_proto::v1::instance_service_client::InstanceServiceClient;
use nube_types::limits::INSTANCES_PER_LAUNCH_MAX;
use tonic::transport::Channel;

use crate::doors::Doors;
use crate::figure::{Aim, Figure};
use crate::load;
use crate::mutations::Pair;
use crate::simulated;
use crate::write::Target;

const CLIENTS: usize = 16;
const NODES: u32 = 8;

/// Uses the peer of another pair; has a cloud of its own.
pub async fn run(pair: &Pair, quick: bool) -> anyhow::Result<Vec<Figure>> {
    let cloud = simulated::up(NODES)?;
    let doors = Doors::read(&cloud)?;
    let (rounds, launches) = if quick { (3, 16) } else { (3, 32) };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let addresses = doors.addresses(&cloud, true)?;
        ours.push(rate(&doors, &addresses, round, launches).await?);
        if let Some(etcd) = &pair.etcd {
            let length = Duration::from_secs(2);
            let (target, addresses) = (Target::Etcd(etcd), etcd.addresses());
            theirs.push(load::run(&target, &addresses, CLIENTS, length).await?.rate);
        }
    }
    let name = format!("instances by count={INSTANCES_PER_LAUNCH_MAX}, {CLIENTS} clients");
    let figure = match theirs.is_empty() {
        true => Figure::alone(&name, "1/s", &ours)?,
        false => Figure::beside(&name, "1/s", &ours, "etcd puts", &theirs)?.aim(Aim::AtLeast(20.0)),
    };
    let note = format!(
        "{} launches a round, placed on {NODES} simulated hosts that start them meanwhile",
        launches
    );
    Ok(vec![figure.note(note)])
}

/// A fixed number of launches by all clients together.
async fn rate(
    doors: &Doors,
    addresses: &[String],
    round: usize,
    launches: usize,
) -> anyhow::Result<f64> {
    let mut channels = Vec::new();
    for address in addresses {
        channels.push(doors.connect(address).await?);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let clients = channels.iter().cycle().take(CLIENTS);
    let tasks: Vec<_> = clients
        .map(|channel| tokio::spawn(client(channel.clone(), Arc::clone(&next), round, launches)))
        .collect();
    let mut made = 0;
    for task in tasks {
        made += task.await??;
    }
    Ok(made as f64 / begun.elapsed().as_secs_f64())
}

async fn client(
    channel: Channel,
    next: Arc<AtomicUsize>,
    round: usize,
    launches: usize,
) -> anyhow::Result<usize> {
    let mut made = 0;
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= launches {
            return Ok(made);
        }
        let name = format!("b-{round}-{n}");
        made += launch(channel.clone(), &name, INSTANCES_PER_LAUNCH_MAX).await?;
    }
}

/// One launch; how many instances it made.
pub async fn launch(channel: Channel, name: &str, count: u32) -> anyhow::Result<usize> {
    let request = LaunchInstancesRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        name: name.to_owned(),
        image: "micro".to_owned(),
        count,
        ..LaunchInstancesRequest::default()
    };
    let mut client = InstanceServiceClient::new(channel);
    let answer = client.launch_instances(request).await;
    let answer = answer.with_context(|| format!("launch of {name}"))?;
    Ok(answer.into_inner().instances.len())
}
