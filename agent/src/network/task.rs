//! The one task that makes networks here: what the leader wishes and which guests
//! are here come in; devices, rules, services and reports go out.
//!
//! A network is touched when its wish or its guests changed, and looked at again
//! every minute: what somebody else changed on the host is put back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use nube_proto::agent::v1::{DesiredNetworks, agent_message::Message};
use nube_types::InstanceId;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior};

use super::apply::HostPlan;
use super::guests::{Guest, Present};
use super::health::{self, Health};
use super::kernel::Changes;
use super::meter::Owners;
use super::spec::{self, NetworkSpec};
use super::store::Store;
use crate::driver::PortSpec;
use crate::host::network::tap_name;
use crate::host::port::Networks;
use crate::metrics;
use crate::service::{LocalPort, Services, Site};

const ANSWERS_QUEUED: usize = 64;
/// What could not be made is tried again.
const RETRY: Duration = Duration::from_secs(2);
const REPAIR: Duration = Duration::from_secs(60);
const METER: Duration = Duration::from_secs(10);
const HEALTH: Duration = Duration::from_secs(5);

/// What the task works with.
#[derive(Debug)]
pub struct Parts {
    /// Devices and rules.
    pub networks: Arc<Networks>,
    /// Guests here.
    pub guests: watch::Receiver<Present>,
    /// The newest list of the obeyed leader.
    pub desired: watch::Receiver<Option<Arc<DesiredNetworks>>>,
    /// To the leader.
    pub tell: mpsc::Sender<Message>,
    /// Where the newest list is kept.
    pub store: Store,
    /// This host, as others reach it.
    pub overlay: Option<Ipv4Addr>,
    /// How often traffic is reported.
    pub traffic_report: Duration,
    /// For guests.
    pub services: Services,
}

/// What a network was last made of.
#[derive(PartialEq, Eq)]
struct Made {
    spec: Option<NetworkSpec>,
    guests: Present,
}

/// The task.
pub struct Task {
    parts: Parts,
    specs: BTreeMap<u32, NetworkSpec>,
    /// A list has come, from disk or from a leader.
    informed: bool,
    made: BTreeMap<u32, Made>,
    /// Networks whose guests are served.
    served: BTreeSet<u32>,
    host: Option<HostPlan>,
    health: Health,
    answers: mpsc::Receiver<health::Answer>,
    /// All that this task has changed on the host.
    changed: Changes,
}

impl Task {
    /// Starts with what is kept on disk.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let (sender, answers) = mpsc::channel(ANSWERS_QUEUED);
        let kept = parts.store.load().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the networks that were kept");
            None
        });
        let mut task = Self {
            parts,
            specs: BTreeMap::new(),
            informed: false,
            made: BTreeMap::new(),
            served: BTreeSet::new(),
            host: None,
            health: Health::new(sender),
            answers,
            changed: Changes::new(),
        };
        if let Some(kept) = kept {
            task.learn(&kept);
        }
        task
    }

    /// Runs until the agent ends.
    pub async fn run(mut self) {
        let mut repair = every(REPAIR);
        let mut meter = every(METER);
        let mut traffic = every(self.parts.traffic_report);
        let mut health = every(HEALTH);
        let counted = self.parts.networks.meter().clone();
        let mut whole = self.settle().await;
        loop {
            tokio::select! {
                changed = self.parts.desired.changed() => match changed {
                    Ok(()) => {
                        self.take_desired();
                        whole = self.settle().await;
                    }
                    Err(_) => return,
                },
                changed = self.parts.guests.changed() => match changed {
                    Ok(()) => whole = self.settle().await,
                    Err(_) => return,
                },
                () = tokio::time::sleep(RETRY), if !whole => whole = self.settle().await,
                _ = repair.tick() => {
                    self.made.clear();
                    self.host = None;
                    whole = self.settle().await;
                }
                _ = meter.tick() => self.read_meters().await,
                _ = traffic.tick() => {
                    self.read_meters().await;
                    self.report_traffic();
                }
                () = counted.left() => self.report_traffic(),
                Some(answer) = self.answers.recv() => if self.health.take(answer) {
                    self.report_health();
                },
                _ = health.tick() => self.report_health(),
            }
        }
    }

    pub(super) fn take_desired(&mut self) {
        let Some(desired) = self.parts.desired.borrow_and_update().clone() else {
            return;
        };
        self.learn(&desired);
        if let Err(error) = self.parts.store.keep(&desired) {
            // It is followed all the same; a restart begins with an older list.
            tracing::error!(%error, "cannot keep the list of networks");
        }
    }

    /// A network that makes no sense stays as it was known before.
    fn learn(&mut self, desired: &DesiredNetworks) {
        self.informed = true;
        let mut specs = BTreeMap::new();
        for wire in &desired.networks {
            match spec::network(wire.clone()) {
                Ok(spec) => {
                    specs.insert(spec.number, spec);
                }
                Err(reason) => {
                    tracing::error!(reason, "a network of the leader's makes no sense");
                    if let Some(known) = self.specs.remove(&wire.number) {
                        specs.insert(wire.number, known);
                    }
                }
            }
        }
        self.specs = specs;
    }

    /// Makes everything that differs; whether all of it could be made.
    pub async fn settle(&mut self) -> bool {
        let present = self.parts.guests.borrow_and_update().clone();
        let mut by_number: BTreeMap<u32, Present> = BTreeMap::new();
        for (instance, guest) in present {
            let number = guest.port.network_number;
            by_number.entry(number).or_default().insert(instance, guest);
        }
        self.made.retain(|number, _| by_number.contains_key(number));
        let here = |number: &u32| by_number.contains_key(number);
        let gone: Vec<u32> = self.served.iter().copied().filter(|n| !here(n)).collect();
        for number in gone {
            self.parts.services.remove(number).await;
            self.served.remove(&number);
        }
        // Nothing is known yet: what an agent before this one made stays.
        if !self.informed {
            return true;
        }
        let host = self.host_plan(&by_number);
        let mut whole = true;
        if self.host.as_ref() != Some(&host) {
            let withdrawn = self.parts.networks.withdraw(&host).await;
            whole &= self.done("withdraw elastic addresses", withdrawn);
        }
        for (number, guests) in &by_number {
            whole &= self.settle_network(*number, guests).await;
        }
        if self.host.as_ref() != Some(&host) {
            let announced = self.parts.networks.announce(&host).await;
            match self.done("announce elastic addresses", announced) {
                true => self.host = Some(host),
                false => whole = false,
            }
        }
        self.check_targets(&by_number);
        whole
    }

    async fn settle_network(&mut self, number: u32, guests: &Present) -> bool {
        let made = Made {
            spec: self.specs.get(&number).cloned(),
            guests: guests.clone(),
        };
        if self.made.get(&number) == Some(&made) {
            return true;
        }
        let ports: BTreeMap<InstanceId, PortSpec> = guests
            .iter()
            .map(|(instance, guest)| (*instance, guest.port.clone()))
            .collect();
        let networks = Arc::clone(&self.parts.networks);
        let applied = networks
            .apply(number, made.spec.as_ref(), self.parts.overlay, &ports)
            .await;
        if !self.done("make network", applied) {
            return false;
        }
        let namespace = networks.namespace(number);
        if !namespace.exists() {
            return true;
        }
        let owner = |guest: &Guest| (guest.instance, guest.epoch);
        let owners: Owners = guests
            .values()
            .map(|g| (g.port.address, owner(g)))
            .collect();
        if let Err(error) = networks.meter().ensure(&namespace, number, owners).await {
            tracing::warn!(number, %error, "cannot count a network's traffic");
            return false;
        }
        if let Some(spec) = made.spec.clone() {
            let port = |(instance, guest): (&InstanceId, &Guest)| {
                let local = LocalPort {
                    tap: tap_name(*instance),
                    guest: Arc::clone(&guest.spec),
                    started_ms: guest.started_ms,
                };
                (*instance, local)
            };
            let ports = guests.iter().map(port).collect();
            let site = Site {
                namespace,
                spec,
                ports,
            };
            self.parts.services.update(number, site).await;
            self.served.insert(number);
        }
        self.made.insert(number, made);
        true
    }

    fn host_plan(&self, by_number: &BTreeMap<u32, Present>) -> HostPlan {
        let mut host = HostPlan::default();
        for (number, spec) in &self.specs {
            let announced = spec.elastic.iter().filter(|(_, elastic)| elastic.announced);
            if spec.internet_gateway && by_number.contains_key(number) {
                host.elastic
                    .extend(announced.map(|(address, _)| (*address, *number)));
            }
            host.peers
                .extend(spec.ports.values().filter_map(|port| port.host));
        }
        if let Some(own) = self.parts.overlay {
            host.peers.remove(&own);
        }
        host
    }

    fn check_targets(&mut self, by_number: &BTreeMap<u32, Present>) {
        let mut wanted = BTreeMap::new();
        for (number, guests) in by_number {
            if let Some(spec) = self.specs.get(number) {
                let namespace = self.parts.networks.namespace(*number);
                wanted.extend(health::checks(&namespace, spec, |id| {
                    guests.contains_key(&id)
                }));
            }
        }
        self.health.set(wanted);
    }

    async fn read_meters(&self) {
        let networks = &self.parts.networks;
        let numbers: BTreeSet<u32> = self.made.keys().copied().collect();
        for number in numbers {
            let namespace = networks.namespace(number);
            if namespace.exists()
                && let Err(error) = networks.meter().read(&namespace, number).await
            {
                tracing::warn!(number, %error, "cannot read a network's traffic");
            }
        }
        if let Err(error) = networks.meter().keep() {
            tracing::error!(%error, "cannot keep traffic totals");
        }
    }

    /// Full queues and absent leaders: totals come again.
    fn report_traffic(&self) {
        let report = self.parts.networks.meter().report();
        if !report.instances.is_empty() {
            let _ = self.parts.tell.try_send(Message::Traffic(report));
        }
    }

    fn report_health(&mut self) {
        if let Some(report) = self.health.report() {
            let _ = self.parts.tell.try_send(Message::Health(report));
        }
    }

    fn done(&mut self, step: &'static str, result: std::io::Result<Changes>) -> bool {
        match result {
            Ok(changes) => {
                for (kind, count) in changes {
                    metrics::events().network_changes(kind, count);
                    *self.changed.entry(kind).or_default() += count;
                }
                true
            }
            Err(error) => {
                tracing::warn!(step, %error, "a network is not as it should be");
                false
            }
        }
    }

    /// All that this task has changed on the host, by kind.
    #[must_use]
    pub fn changed(&self) -> &Changes {
        &self.changed
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
