//! Packing density: how close packing comes to the lower bound of any packing.
//!
//! The lower bound of a load is the largest, over vCPUs, memory and disk, of the
//! sum of its demand divided by a host's capacity, rounded up: with fewer hosts
//! the scarcest resource does not suffice, whatever the packing. All hosts of one
//! measurement are equal.
//!
//! - `fill`: random requests of the mix go to a fleet until the first one, of
//!   whatever size, is refused. Lower bound of what was placed / hosts of the
//!   fleet.
//! - `churn`: the fleet is filled to a lower bound of 90 % of its hosts. Then, in
//!   each round, a random tenth of the instances is deleted and the load filled
//!   up to 90 % again with other random requests. After the rounds it is filled
//!   to the first refusal, and counted as `fill`.
//! - `fill_hosts`, `churn_hosts`: at 90 %, before and after the rounds: lower
//!   bound / hosts that hold an instance. Says how many whole hosts stay free.

use nube_scheduler::{Fleet, Host, Request, Strategy};
use nube_types::NodeId;

use crate::load::{Luck, Mix};

const HOSTS: u64 = 1_000;
const ROUNDS: u64 = 100;

pub struct Density {
    pub mix: &'static str,
    pub fill: f64,
    pub churn: f64,
    pub fill_hosts: f64,
    pub churn_hosts: f64,
}

/// A fleet and what it holds.
struct Packing<'a> {
    mix: &'a Mix,
    fleet: Fleet,
    luck: Luck,
    placed: Vec<(NodeId, Request)>,
    /// vCPUs, memory, disk.
    demand: [u64; 3],
}

pub fn measure(mix: &Mix) -> Density {
    let mut filled = Packing::new(mix);
    while filled.launch() {}
    let mut churned = Packing::new(mix);
    churned.fill_to(HOSTS * 9 / 10);
    let fill_hosts = churned.per_used();
    for _ in 0..ROUNDS {
        churned.delete(churned.placed.len() / 10);
        churned.fill_to(HOSTS * 9 / 10);
    }
    let churn_hosts = churned.per_used();
    while churned.launch() {}
    Density {
        mix: mix.name,
        fill: ratio(filled.lower_bound(), HOSTS),
        churn: ratio(churned.lower_bound(), HOSTS),
        fill_hosts,
        churn_hosts,
    }
}

impl<'a> Packing<'a> {
    fn new(mix: &'a Mix) -> Self {
        Self {
            mix,
            fleet: Fleet::new((1..=HOSTS).map(|id| mix.host(id))),
            luck: Luck::new(3),
            placed: Vec::new(),
            demand: [0; 3],
        }
    }

    fn launch(&mut self) -> bool {
        let request = self.mix.draw(&mut self.luck, Strategy::Pack);
        self.fleet.start_group();
        let Some((id, _)) = self.fleet.place(&request) else {
            return false;
        };
        self.fleet.reserve(id, &request);
        for (sum, amount) in self.demand.iter_mut().zip(amounts(&request)) {
            *sum += amount;
        }
        self.placed.push((id, request));
        true
    }

    /// A refused request is left out: the next one may be smaller.
    fn fill_to(&mut self, hosts: u64) {
        while self.lower_bound() < hosts {
            self.launch();
        }
    }

    fn delete(&mut self, count: usize) {
        for _ in 0..count {
            let victim = self.luck.below(self.placed.len());
            let (id, request) = self.placed.swap_remove(victim);
            self.fleet.release(id, &request);
            for (sum, amount) in self.demand.iter_mut().zip(amounts(&request)) {
                *sum -= amount;
            }
        }
    }

    fn lower_bound(&self) -> u64 {
        let capacity = capacities(&self.mix.host(0));
        let hosts = self.demand.iter().zip(capacity);
        hosts
            .map(|(sum, capacity)| sum.div_ceil(capacity))
            .max()
            .expect("three resources")
    }

    fn per_used(&self) -> f64 {
        let used = self.fleet.hosts().iter().filter(|host| host.instances > 0);
        ratio(self.lower_bound(), used.count() as u64)
    }
}

fn amounts(request: &Request) -> [u64; 3] {
    [u64::from(request.vcpus), request.memory.0, request.disk.0]
}

fn capacities(host: &Host) -> [u64; 3] {
    [
        host.vcpus_capacity(),
        host.memory_total.0,
        host.disk_total.0,
    ]
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
