//! Tests of whole networks in the kernel: emulated hosts on one bridge, each with
//! the task of an agent, guests with network stacks of their own behind real
//! taps, and somebody outside. Nothing waits for a time: each step is settled
//! before the next one.

mod guest;
mod health;
mod isolation;
mod reach;
mod spoof;
mod wan;
mod wire;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use nube_proto::agent::v1::{DesiredNetwork, DesiredNetworks, agent_message::Message};
use nube_types::{InstanceId, NetworkId, PlacementEpoch};
use tokio::sync::{Mutex, MutexGuard, mpsc, watch};

use self::guest::RealGuest;
use super::guests::Guests;
use super::meter::Meter;
use super::store::Store;
use super::task::{Parts, Task};
use crate::driver::{DiskFormat, GuestSpec, ImageSpec, PortSpec};
use crate::host::link::Links;
use crate::host::namespace::Namespace;
use crate::host::nft;
use crate::host::port::Networks;
use crate::host::scratch::Scratch;
use crate::service::Services;

/// An address of the world outside, beyond every host's own network.
pub const WORLD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Elastic addresses are of 203.0.113.0/24, on the hosts' own network.
pub const ELASTIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 50);

/// One emulated host and its agent's task.
pub struct LabHost {
    pub namespace: Namespace,
    pub overlay: Ipv4Addr,
    pub networks: Arc<Networks>,
    guests: Guests,
    desired: watch::Sender<Option<Arc<DesiredNetworks>>>,
    pub task: Option<Task>,
    pub told: mpsc::Receiver<Message>,
    dir: tempfile::TempDir,
}

/// All of it. Labs follow each other: they share names and addresses.
pub struct Lab {
    pub hosts: Vec<LabHost>,
    /// Who is outside of the cloud.
    pub outside: Namespace,
    pub outside_address: Ipv4Addr,
    /// As the leader knows them; `wire` changes them.
    pub wishes: BTreeMap<u32, DesiredNetwork>,
    revision: u64,
    _scratch: Scratch,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    /// Two hosts and the world, with these networks; nothing without root.
    pub async fn new(networks: &[u32]) -> Option<Self> {
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        let scratch = Scratch::with_hosts(11, 3)?;
        let outside = Namespace::named(scratch.hosts[2].namespace.clone());
        let outside_address = scratch.hosts[2].address;
        let mut hosts = Vec::new();
        for place in 0..2 {
            hosts.push(LabHost::new(&scratch, place, outside_address).await);
        }
        outside
            .run_async(|| async {
                let links = Links::open()?;
                let lo = links.require("lo").await?;
                links.address(lo, WORLD, 32).await?;
                let eth0 = links.require("eth0").await?;
                let elastic = rtnetlink::RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(Ipv4Addr::new(203, 0, 113, 0), 24)
                    .output_interface(eth0);
                links.route_message(elastic.build()).await
            })
            .await
            .expect("the world");
        let wishes = networks
            .iter()
            .map(|number| (*number, wire::network(*number)));
        let mut lab = Self {
            hosts,
            outside,
            outside_address,
            wishes: wishes.collect(),
            revision: 0,
            _scratch: scratch,
            _turn: turn,
        };
        lab.tell().await;
        Some(lab)
    }

    /// What every agent is told now, and has done before this returns.
    pub async fn tell(&mut self) {
        self.revision += 1;
        for host in 0..self.hosts.len() {
            self.tell_one(host).await;
        }
    }

    /// Only one of them hears.
    pub async fn tell_one(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        let mut networks: Vec<_> = self.wishes.values().cloned().collect();
        for network in &mut networks {
            for port in &mut network.ports {
                port.local = port.host_address == host.overlay.to_string();
            }
            for address in &mut network.addresses {
                // In the lab's wishes a zone names the host that announces.
                let (address_text, announcer) = match address.address.split_once('@') {
                    Some((text, place)) => (text.to_owned(), place.to_owned()),
                    None => (address.address.clone(), String::new()),
                };
                address.announced = announcer == host.overlay.to_string();
                address.address = address_text;
            }
        }
        let revision = self.revision;
        let desired = DesiredNetworks { revision, networks };
        host.desired.send(Some(Arc::new(desired))).expect("heard");
        let task = host.task.as_mut().expect("an agent");
        task.take_desired();
        assert!(task.settle().await, "everything could be made");
    }

    /// A guest of a network on a host, with its groups.
    pub async fn guest(&mut self, number: u32, host: usize, last: u8, groups: &[u64]) -> RealGuest {
        let port = wire::port(number, last);
        let instance = wire::instance(number, last);
        let at = &mut self.hosts[host];
        at.networks
            .ensure(&[(instance, port.clone())])
            .await
            .expect("a port");
        at.guests.insert(&guest_spec(instance, &port));
        let overlay = at.overlay;
        let network = self.wishes.get_mut(&number).expect("a network");
        network
            .ports
            .push(wire::wire_port(instance, &port, overlay, groups));
        let networks = Arc::clone(&self.hosts[host].networks);
        let guest = RealGuest::new(&networks, instance, port).await;
        self.tell().await;
        guest
    }

    /// As a driver removes it.
    pub async fn remove(&mut self, host: usize, guest: &RealGuest) {
        let at = &self.hosts[host];
        at.guests.remove(guest.instance);
        at.networks
            .remove(guest.instance, &guest.port)
            .await
            .expect("removed");
    }

    /// Another life of an agent, over the same host and disk.
    pub fn restart(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        host.task = None;
        let (sender, desired) = watch::channel(None);
        host.desired = sender;
        let (task, told) = task(
            &host.networks,
            &host.guests,
            desired,
            &host.dir,
            host.overlay,
        );
        host.task = Some(task);
        host.told = told;
    }

    /// A counter of the packet filter.
    pub async fn counter(&self, of: &Namespace, family: &str, table: &str, name: &str) -> u64 {
        let question = serde_json::json!({ "nftables": [{ "list": { "counter": {
            "family": family, "table": table, "name": name,
        }}}]});
        let answer = of
            .run(move || nft::query(&question))
            .await
            .expect("a counter");
        let packets = answer
            .iter()
            .find_map(|entry| entry["counter"]["packets"].as_u64());
        packets.expect("a counter")
    }
}

impl LabHost {
    async fn new(scratch: &Scratch, place: usize, outside: Ipv4Addr) -> Self {
        let host = &scratch.hosts[place];
        let namespace = Namespace::named(host.namespace.clone());
        namespace
            .run_async(move || async move {
                let world = rtnetlink::RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(Ipv4Addr::new(198, 51, 100, 0), 24)
                    .gateway(outside);
                Links::open()?.route_message(world.build()).await
            })
            .await
            .expect("a way to the world");
        let dir = tempfile::tempdir().expect("a directory");
        let meter = Meter::open(dir.path().join("traffic.json")).expect("a meter");
        let node = scratch.node_of(place);
        let name = Some(host.namespace.as_str());
        let networks = Arc::new(Networks::new(node, name, Vec::new(), meter));
        let guests = Guests::default();
        let (sender, desired) = watch::channel(None);
        let (task, told) = task(&networks, &guests, desired, &dir, host.address);
        Self {
            namespace,
            overlay: host.address,
            networks,
            guests,
            desired: sender,
            task: Some(task),
            told,
            dir,
        }
    }

    /// A network's namespace here.
    pub fn inside(&self, number: u32) -> Namespace {
        self.networks.namespace(number)
    }
}

fn task(
    networks: &Arc<Networks>,
    guests: &Guests,
    desired: watch::Receiver<Option<Arc<DesiredNetworks>>>,
    dir: &tempfile::TempDir,
    overlay: Ipv4Addr,
) -> (Task, mpsc::Receiver<Message>) {
    let (tell, told) = mpsc::channel(64);
    let task = Task::new(Parts {
        networks: Arc::clone(networks),
        guests: guests.watch(),
        desired,
        tell,
        store: Store::open(dir.path()).expect("a store"),
        overlay: Some(overlay),
        traffic_report: Duration::from_secs(60),
        services: Services::new(networks.host().clone(), Vec::new(), None),
    });
    (task, told)
}

fn guest_spec(instance: InstanceId, port: &PortSpec) -> GuestSpec {
    GuestSpec {
        instance,
        epoch: PlacementEpoch(1),
        hostname: format!("g{}", instance.0),
        vcpus: 1,
        memory_mib: 64,
        disk_mib: 64,
        image: ImageSpec {
            disk_sha256: String::new(),
            disk_size_bytes: 0,
            disk_format: DiskFormat::Raw,
            boot: None,
        },
        port: port.clone(),
        authorized_keys: Vec::new(),
        user_data: Vec::new(),
        ssh_host_private_key: String::new(),
        leased: false,
        metadata_only: false,
    }
}

/// The id of a lab's network.
pub fn network_id(number: u32) -> NetworkId {
    NetworkId(0x1000 + u64::from(number))
}
