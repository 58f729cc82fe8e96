//! The clients of a round: registers that are read and written by several at
//! once, keys that come and go, instances that are rented and given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nube_harness::lab::ZONE_SIMULATED;
use nube_history::Sight;
use nube_history::model::{register, set};
use nube_proto::v1;
use nube_proto::v1::instance_service_client::InstanceServiceClient;
use nube_proto::v1::node_service_client::NodeServiceClient;
use nube_proto::v1::ssh_key_service_client::SshKeyServiceClient;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tonic::Code;
use uuid::Uuid;

use super::client::Cell;
use super::history::{KeyList, Recorder};

/// Clients on the registers: enough to overlap, few enough to be checked.
const REGISTER_CLIENTS: u64 = 6;
const REGISTERS: u32 = 3;
const KEY_CLIENTS: u64 = 3;
/// Keys that a client leaves standing.
const KEYS_KEPT: usize = 5;
const INSTANCES_KEPT: usize = 3;
pub const PAGE: u32 = 1_000;

/// Everything a client needs.
#[derive(Clone)]
struct Client {
    cell: Cell,
    recorder: Recorder,
    /// Of the round: names are unique over all rounds.
    seed: u64,
    number: u64,
    /// The host whose labels are the registers.
    node: String,
    stop: Arc<AtomicBool>,
}

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: tokio::task::JoinSet<()>,
}

impl Load {
    /// Starts all clients. Call within a runtime.
    pub fn start(cell: &Cell, recorder: &Recorder, node: &str, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = tokio::task::JoinSet::new();
        let client = |number| Client {
            cell: cell.clone(),
            recorder: recorder.clone(),
            seed,
            number,
            node: node.to_owned(),
            stop: Arc::clone(&stop),
        };
        for number in 0..REGISTER_CLIENTS {
            tasks.spawn(registers(client(number)));
        }
        for number in REGISTER_CLIENTS..REGISTER_CLIENTS + KEY_CLIENTS {
            tasks.spawn(keys(client(number)));
        }
        tasks.spawn(instances(client(REGISTER_CLIENTS + KEY_CLIENTS)));
        Self { stop, tasks }
    }

    /// Lets every client end its call and waits for all.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended?;
        }
        Ok(())
    }
}

impl Client {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn random(&self) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(1_000).wrapping_add(self.number))
    }

    async fn pause(&self, random: &mut StdRng) {
        let ms = random.random_range(5..30);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

async fn registers(client: Client) {
    let mut random = client.random();
    let mut count = 0;
    while client.goes_on() {
        count += 1;
        let key = format!("r{}", random.random_range(0..REGISTERS));
        if random.random_bool(0.4) {
            let value = format!("{}-{}-{count}", client.seed, client.number);
            client.write(&key, value).await;
        } else {
            client.read(&key).await;
        }
        client.pause(&mut random).await;
    }
}

impl Client {
    async fn write(&self, key: &str, value: String) {
        let request = Uuid::new_v4();
        let message = v1::SetNodeLabelsRequest {
            request_id: request.to_string(),
            node: self.node.clone(),
            labels: [(key.to_owned(), value.clone())].into(),
            remove: Vec::new(),
        };
        let op = register::Op::Write(key.to_owned(), Some(value));
        let ticket = self.recorder.touch(self.number, op);
        match label(&self.cell, message).await {
            Ok(_) => {
                self.recorder.touched(ticket, register::Outcome::Done);
                self.recorder.acknowledged(request);
            }
            Err(status) => self.recorder.failed("writing a register", &status),
        }
    }

    async fn read(&self, key: &str) {
        let op = register::Op::Read(key.to_owned());
        let ticket = self.recorder.touch(self.number, op);
        let node = self.node.clone();
        let call = self.cell.call(|channel| {
            let message = v1::GetNodeRequest { node: node.clone() };
            async move { NodeServiceClient::new(channel).get_node(message).await }
        });
        match call.await {
            Ok(node) => {
                let value = node.labels.get(key).cloned();
                self.recorder
                    .touched(ticket, register::Outcome::Value(value));
            }
            Err(status) => self.recorder.failed("reading a register", &status),
        }
    }
}

/// Labels a host; the answer is its record.
pub async fn label(
    cell: &Cell,
    message: v1::SetNodeLabelsRequest,
) -> Result<v1::Node, tonic::Status> {
    let call = cell.call(|channel| {
        let message = message.clone();
        async move {
            NodeServiceClient::new(channel)
                .set_node_labels(message)
                .await
        }
    });
    call.await
}

async fn keys(client: Client) {
    let mut random = client.random();
    let mut kept: Vec<(String, String)> = Vec::new();
    let mut count = 0;
    while client.goes_on() {
        count += 1;
        match random.random_range(0..3) {
            0 => list_keys(&client.cell, &client.recorder, client.number).await,
            _ if kept.len() > KEYS_KEPT || kept.len() > 1 && random.random_bool(0.4) => {
                let (name, id) = kept.swap_remove(random.random_range(0..kept.len()));
                client.delete_key(name, id).await;
            }
            _ => {
                let name = format!("k{}-{}-{count}", client.seed, client.number);
                kept.extend(client.make_key(name).await);
            }
        }
        client.pause(&mut random).await;
    }
    // What stands at the end of a round would add up over hundreds.
    for (name, id) in kept.drain(1.min(kept.len())..) {
        client.delete_key(name, id).await;
    }
}

/// All keys, as some controller says.
pub async fn list_keys(cell: &Cell, recorder: &Recorder, client: u64) {
    let called_at = recorder.now();
    let call = cell.call(|channel| async move {
        let request = v1::ListSshKeysRequest {
            page_size: PAGE,
            ..v1::ListSshKeysRequest::default()
        };
        SshKeyServiceClient::new(channel)
            .list_ssh_keys(request)
            .await
    });
    match call.await {
        Ok(list) => {
            let names = list.ssh_keys.into_iter().map(|key| key.name).collect();
            let list_of = KeyList {
                client,
                called_at,
                returned_at: recorder.now(),
                names,
            };
            recorder.listed(list_of, list.revision);
        }
        Err(status) => recorder.failed("listing keys", &status),
    }
}

impl Client {
    async fn make_key(&self, name: String) -> Option<(String, String)> {
        let (request, called_at) = (Uuid::new_v4(), self.recorder.now());
        let ticket = self
            .recorder
            .change(self.number, set::Op::Add(name.clone()));
        let key = match self.generate(request, &name).await {
            Ok(key) => key,
            Err(status) => {
                self.recorder.failed("making a key", &status);
                return None;
            }
        };
        self.recorder.changed(ticket);
        let sight = Sight {
            client: self.number,
            called_at,
            returned_at: self.recorder.now(),
            revision: key.revision,
            wrote: true,
        };
        self.recorder.made(sight, request, &key.id);
        // The answer was lost, says the client, and asks again (A3).
        match self.generate(request, &name).await {
            Ok(again) => self.recorder.made_again(request, again.revision, &again.id),
            Err(status) => self.recorder.failed("repeating a request", &status),
        }
        Some((name, key.id))
    }

    async fn generate(&self, request: Uuid, name: &str) -> Result<v1::SshKey, tonic::Status> {
        let call = self.cell.call(|channel| {
            let message = v1::GenerateSshKeyRequest {
                request_id: request.to_string(),
                name: name.to_owned(),
            };
            async move {
                SshKeyServiceClient::new(channel)
                    .generate_ssh_key(message)
                    .await
            }
        });
        let key = call.await?.ssh_key;
        key.ok_or_else(|| tonic::Status::data_loss("an answer without a key"))
    }

    async fn delete_key(&self, name: String, id: String) {
        let request = Uuid::new_v4();
        let ticket = self.recorder.change(self.number, set::Op::Remove(name));
        let call = self.cell.call(|channel| {
            let message = v1::DeleteSshKeyRequest {
                request_id: request.to_string(),
                ssh_key: id.clone(),
            };
            async move {
                SshKeyServiceClient::new(channel)
                    .delete_ssh_key(message)
                    .await
            }
        });
        match call.await {
            Ok(_) => {
                self.recorder.changed(ticket);
                self.recorder.acknowledged(request);
            }
            Err(status) => self.recorder.failed("deleting a key", &status),
        }
    }
}

async fn instances(client: Client) {
    let mut random = client.random();
    let mut kept = Vec::new();
    let mut count = 0;
    while client.goes_on() {
        count += 1;
        if kept.len() >= INSTANCES_KEPT || !kept.is_empty() && random.random_bool(0.4) {
            let id = kept.swap_remove(random.random_range(0..kept.len()));
            client.give_back(id).await;
        } else {
            let name = format!("i{}-{count}", client.seed);
            kept.extend(client.rent(name).await);
        }
        let ms = random.random_range(100..600);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    for id in kept {
        client.give_back(id).await;
    }
}

impl Client {
    async fn rent(&self, name: String) -> Option<String> {
        let request = Uuid::new_v4();
        let call = self.cell.call(|channel| {
            let message = v1::LaunchInstancesRequest {
                request_id: request.to_string(),
                name: name.clone(),
                image: "micro".to_owned(),
                zone: ZONE_SIMULATED.to_owned(),
                ..v1::LaunchInstancesRequest::default()
            };
            async move {
                InstanceServiceClient::new(channel)
                    .launch_instances(message)
                    .await
            }
        });
        match call.await {
            Ok(launched) => {
                self.recorder.acknowledged(request);
                Some(launched.instances.first()?.id.clone())
            }
            // The zone's one host is cut off: nothing was done.
            Err(status) if status.code() == Code::ResourceExhausted => None,
            Err(status) => {
                self.recorder.failed("launching", &status);
                None
            }
        }
    }

    async fn give_back(&self, id: String) {
        let request = Uuid::new_v4();
        let call = self.cell.call(|channel| {
            let message = v1::ChangeInstanceRequest {
                request_id: request.to_string(),
                instance: id.clone(),
                force: false,
            };
            async move {
                InstanceServiceClient::new(channel)
                    .delete_instance(message)
                    .await
            }
        });
        match call.await {
            Ok(_) => self.recorder.acknowledged(request),
            Err(status) => self.recorder.failed("deleting an instance", &status),
        }
    }
}
