//! Placements per second; what is timed is in the head of `main.rs`.

use std::time::Duration;

use nube_scheduler::{Accelerator, Fleet, Host, Isolation, Request, Strategy, choose};
use nube_types::{Mib, NodeId};
use rustix::time::{ClockId, clock_gettime};

use crate::load::{Luck, Mix};

const ROUNDS: usize = 5;
/// Small fleets are filled again and again for this long.
const ROUND_MIN: Duration = Duration::from_millis(150);
const CHURNED_PER_ROUND: usize = 200_000;

pub struct Rate {
    pub nodes: u64,
    pub strategy: Strategy,
    /// Placements per second.
    pub fill: u64,
    pub churn: u64,
    pub scan: u64,
}

/// Counts the time that this thread had a processor: what others do on the
/// machine meanwhile does not count.
struct Clock(Duration);

impl Clock {
    fn start() -> Self {
        Self(Self::now())
    }

    fn spent(&self) -> Duration {
        Self::now().saturating_sub(self.0)
    }

    fn now() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(time).expect("a clock of processor time is not negative")
    }
}

pub fn measure(nodes: u64, strategy: Strategy) -> Rate {
    let hosts = hosts(nodes);
    let load = load(&hosts, strategy);
    Rate {
        nodes,
        strategy,
        fill: median(|| fill(&hosts, &load)),
        churn: churn(&hosts, &load, strategy),
        scan: median(|| scan(&hosts, &load)),
    }
}

fn hosts(nodes: u64) -> Vec<Host> {
    let mix = Mix::general();
    (1..=nodes)
        .map(|id| {
            let mut host = mix.host(id);
            host.zone = format!("z{}", id % 3);
            host.ready = id % 50 != 7;
            host.drained = id % 50 == 9;
            if id % 4 == 1 {
                host.vcpus_total *= 2;
                host.memory_total.0 *= 2;
                host.disk_total.0 *= 2;
            }
            // No two hosts have quite the same memory left for guests.
            host.memory_total = Mib(host.memory_total.0 + id * 37 % 512);
            if id % 20 == 3 {
                (host.accelerator, host.isolation) = (Accelerator::Tcg, Isolation::None);
            }
            host
        })
        .collect()
}

fn draw(mix: &Mix, luck: &mut Luck, strategy: Strategy) -> Request {
    let mut request = mix.draw(luck, strategy);
    request.zone = Some(format!("z{}", luck.below(3)));
    request.accelerator = Some(Accelerator::Kvm);
    request.isolation = Isolation::Hardware;
    request
}

/// Requests up to 85 % of those that fit before the first refusal.
fn load(hosts: &[Host], strategy: Strategy) -> Vec<Request> {
    let (mix, mut luck) = (Mix::general(), Luck::new(7));
    let mut fleet = Fleet::new(hosts.iter().cloned());
    let mut load = Vec::new();
    loop {
        let request = draw(&mix, &mut luck, strategy);
        if launch(&mut fleet, &request).is_none() {
            break;
        }
        load.push(request);
    }
    load.truncate(load.len() * 85 / 100);
    load
}

fn launch(fleet: &mut Fleet, request: &Request) -> Option<NodeId> {
    fleet.start_group();
    let (id, _) = fleet.place(request)?;
    fleet.reserve(id, request);
    Some(id)
}

fn fill(hosts: &[Host], load: &[Request]) -> u64 {
    let (mut spent, mut placed) = (Duration::ZERO, 0);
    while spent < ROUND_MIN {
        let mut fleet = Fleet::new(hosts.iter().cloned());
        let start = Clock::start();
        for request in load {
            launch(&mut fleet, request).expect("the load fits");
        }
        spent += start.spent();
        placed += load.len();
    }
    per_second(placed, spent)
}

/// The fleet ages over the rounds, as a real one does.
fn churn(hosts: &[Host], load: &[Request], strategy: Strategy) -> u64 {
    let (mix, mut luck) = (Mix::general(), Luck::new(11));
    let mut fleet = Fleet::new(hosts.iter().cloned());
    let mut placed: Vec<(NodeId, Request)> = load
        .iter()
        .map(|request| {
            let id = launch(&mut fleet, request).expect("the load fits");
            (id, request.clone())
        })
        .collect();
    let mut round = || {
        // Drawn beforehand: the strings of a request are not what is measured.
        let wishes: Vec<(usize, Request)> = (0..CHURNED_PER_ROUND)
            .map(|_| (luck.below(placed.len()), draw(&mix, &mut luck, strategy)))
            .collect();
        let start = Clock::start();
        for (victim, request) in wishes {
            let (id, gone) = &placed[victim];
            fleet.release(*id, gone);
            // A full zone refuses now and then: the old instance comes back.
            let (id, request) = match launch(&mut fleet, &request) {
                Some(id) => (id, request),
                None => placed[victim].clone(),
            };
            if id == placed[victim].0 && request == placed[victim].1 {
                fleet.reserve(id, &request);
            }
            placed[victim] = (id, request);
        }
        per_second(CHURNED_PER_ROUND, start.spent())
    };
    median(&mut round)
}

fn scan(hosts: &[Host], load: &[Request]) -> u64 {
    let mut hosts = hosts.to_vec();
    let start = Clock::start();
    let mut placed = 0;
    for request in load {
        let (ordinal, _) = choose(&hosts, request).expect("the load fits");
        let host = &mut hosts[ordinal];
        host.vcpus_used += request.vcpus;
        host.memory_used.0 += request.memory.0;
        host.disk_used.0 += request.disk.0;
        host.instances += 1;
        placed += 1;
        if start.spent() > ROUND_MIN {
            break;
        }
    }
    per_second(placed, start.spent())
}

fn per_second(placed: usize, spent: Duration) -> u64 {
    let nanos = spent.as_nanos().max(1);
    u64::try_from(placed as u128 * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

fn median(mut round: impl FnMut() -> u64) -> u64 {
    let mut rates: Vec<u64> = (0..ROUNDS).map(|_| round()).collect();
    rates.sort_unstable();
    rates[ROUNDS / 2]
}
