//! `Fleet` against the plain scan: after any changes, in any order, both choose
//! the same host with the same score.

mod generate;

use generate::{fleets, hosts_with, requests};
use nube_scheduler::{
    Accelerator, Driver, DriverSet, Fleet, Host, Isolation, Request, Score, Strategy as Wish,
    choose,
};
use nube_types::{Mib, Name, NodeId};
use proptest::prelude::*;

/// A change of a fleet.
#[derive(Debug, Clone)]
enum Step {
    Upsert(Box<Host>),
    Remove(NodeId),
    /// Places, and reserves what was chosen.
    Launch(Request),
    Release(NodeId, Request),
    StartGroup,
}

fn ids() -> impl Strategy<Value = NodeId> {
    (1..14u64).prop_map(NodeId)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (hosts_with(), ids()).prop_map(|(host, id)| Step::Upsert(Box::new(Host { id, ..host }))),
        1 => ids().prop_map(Step::Remove),
        8 => requests().prop_map(Step::Launch),
        2 => (ids(), requests()).prop_map(|(id, request)| Step::Release(id, request)),
        1 => Just(Step::StartGroup),
    ];
    prop::collection::vec(step, 0..60)
}

/// The plain hosts that a fleet must agree with.
struct Plain(Vec<Host>);

impl Plain {
    fn choose(&self, request: &Request) -> Option<(NodeId, Score)> {
        choose(&self.0, request).map(|(ordinal, score)| (self.0[ordinal].id, score))
    }

    fn host(&mut self, id: NodeId) -> Option<&mut Host> {
        self.0.iter_mut().find(|host| host.id == id)
    }

    fn reserve(&mut self, id: NodeId, request: &Request) {
        let host = self.host(id).expect("a chosen host");
        host.vcpus_used += request.vcpus;
        host.memory_used.0 += request.memory.0;
        host.disk_used.0 += request.disk.0;
        host.instances += 1;
        host.same_group += 1;
    }

    fn release(&mut self, id: NodeId, request: &Request) -> bool {
        let Some(host) = self.host(id) else {
            return false;
        };
        host.vcpus_used = host.vcpus_used.saturating_sub(request.vcpus);
        host.memory_used.0 = host.memory_used.0.saturating_sub(request.memory.0);
        host.disk_used.0 = host.disk_used.0.saturating_sub(request.disk.0);
        host.instances = host.instances.saturating_sub(1);
        host.same_group = host.same_group.saturating_sub(1);
        true
    }
}

fn run(fleet: &mut Fleet, plain: &mut Plain, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Upsert(host) => {
            plain.0.retain(|other| other.id != host.id);
            plain.0.push((*host).clone());
            fleet.upsert(*host);
        }
        Step::Remove(id) => {
            let known = plain.host(id).is_some();
            plain.0.retain(|host| host.id != id);
            prop_assert_eq!(fleet.remove(id), known);
        }
        Step::Launch(request) => {
            let chosen = fleet.place(&request);
            prop_assert_eq!(chosen, plain.choose(&request), "{:?}", request);
            prop_assert_eq!(fleet.explain(&request).chosen, chosen.map(|(id, _)| id));
            if let Some((id, _)) = chosen {
                plain.reserve(id, &request);
                prop_assert!(fleet.reserve(id, &request));
            }
        }
        Step::Release(id, request) => {
            let known = plain.release(id, &request);
            prop_assert_eq!(fleet.release(id, &request), known);
        }
        Step::StartGroup => {
            plain.0.iter_mut().for_each(|host| host.same_group = 0);
            fleet.start_group();
        }
    }
    Ok(())
}

fn same_hosts(fleet: &Fleet, plain: &Plain) -> Result<(), TestCaseError> {
    let sorted = |hosts: &[Host]| {
        let mut hosts = hosts.to_vec();
        hosts.sort_by_key(|host| host.id);
        hosts
    };
    prop_assert_eq!(sorted(fleet.hosts()), sorted(&plain.0));
    Ok(())
}

proptest! {
    #[test]
    fn a_fleet_chooses_as_a_scan_does(
        hosts in fleets(), steps in steps(), last in prop::collection::vec(requests(), 8),
    ) {
        let mut fleet = Fleet::new(hosts.clone());
        let mut plain = Plain(hosts);
        for step in steps {
            run(&mut fleet, &mut plain, step)?;
        }
        same_hosts(&fleet, &plain)?;
        for request in last {
            prop_assert_eq!(fleet.place(&request), plain.choose(&request), "{:?}", request);
        }
    }
}

/// Hosts of few sizes: long lists, many ties, so that blocks split and join.
fn uniform(hosts: u64) -> Vec<Host> {
    (1..=hosts)
        .map(|id| Host {
            id: NodeId(id * 7_919 % 10_007),
            name: Name::new("host").expect("a name"),
            zone: format!("z{}", id % 2),
            ready: true,
            drained: id % 50 == 0,
            vcpus_total: 16,
            vcpu_overcommit_percent: 100,
            vcpus_used: 0,
            memory_total: Mib(65_536 - id % 3),
            memory_used: Mib(0),
            disk_total: Mib(1_000_000),
            disk_used: Mib(0),
            accelerator: Accelerator::Kvm,
            isolation: Isolation::Hardware,
            drivers: DriverSet::of(&[Driver::Qemu]),
            instances: 0,
            same_group: 0,
        })
        .collect()
}

prop_compose! {
    fn sizes()(
        size in prop::sample::select(vec![1u32, 1, 2, 4, 8]),
        gib_per_vcpu in prop::sample::select(vec![2u64, 4, 8]),
        zone in prop::option::weighted(0.3, prop::sample::select(vec!["z0".to_owned(), "z1".to_owned()])),
        strategy in prop::sample::select(vec![Wish::Pack, Wish::Pack, Wish::Spread]),
    ) -> Request {
        Request {
            vcpus: size,
            memory: Mib(u64::from(size) * gib_per_vcpu * 1024),
            disk: Mib(10_240),
            accelerator: None,
            isolation: Isolation::Hardware,
            zone,
            driver: Driver::Qemu,
            strategy,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn long_lists_choose_as_a_scan_does(
        wishes in prop::collection::vec(sizes(), 700..1_000),
        deletions in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8), 1_000),
    ) {
        let mut fleet = Fleet::new(uniform(200));
        let mut plain = Plain(uniform(200));
        let mut placed = Vec::new();
        for (request, (victim, luck)) in wishes.into_iter().zip(deletions) {
            let chosen = fleet.place(&request);
            prop_assert_eq!(chosen, plain.choose(&request), "{:?}", request);
            if let Some((id, _)) = chosen {
                run(&mut fleet, &mut plain, Step::Launch(request.clone()))?;
                placed.push((id, request));
            }
            if luck == 0 && !placed.is_empty() {
                let (id, request) = placed.swap_remove(victim.index(placed.len()));
                run(&mut fleet, &mut plain, Step::Release(id, request))?;
            }
            if luck != 1 {
                run(&mut fleet, &mut plain, Step::StartGroup)?;
            }
        }
        same_hosts(&fleet, &plain)?;
    }
}

#[test]
fn an_unknown_host_is_told_and_changes_nothing() {
    let mut fleet = Fleet::new(uniform(3));
    let before = fleet.hosts().to_vec();
    let request = Request {
        vcpus: 1,
        memory: Mib(1),
        disk: Mib(1),
        accelerator: None,
        isolation: Isolation::None,
        zone: None,
        driver: Driver::Qemu,
        strategy: Wish::Pack,
    };
    assert!(!fleet.reserve(NodeId(99_999), &request));
    assert!(!fleet.release(NodeId(99_999), &request));
    assert!(!fleet.remove(NodeId(99_999)));
    assert_eq!(fleet.hosts(), before);
}
