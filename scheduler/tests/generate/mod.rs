//! Random hosts and requests for the property tests.

use nube_scheduler::{Accelerator, Driver, DriverSet, Host, Isolation, Request, Strategy as Wish};
use nube_types::{Mib, Name, NodeId};
use proptest::prelude::*;

fn accelerators() -> impl Strategy<Value = Accelerator> {
    prop::sample::select(vec![Accelerator::None, Accelerator::Tcg, Accelerator::Kvm])
}

fn isolations() -> impl Strategy<Value = Isolation> {
    prop::sample::select(vec![Isolation::None, Isolation::Hardware])
}

fn zones() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["z1".to_owned(), "z2".to_owned()])
}

prop_compose! {
    pub fn hosts_with()(
        ready in prop::bool::weighted(0.9),
        drained in prop::bool::weighted(0.1),
        zone in zones(),
        (vcpus_total, vcpu_overcommit_percent, vcpus_used) in (2..16u32, 50..400u32, 0..24u32),
        (memory, memory_used) in (1_024..16_384u64, 0..8_192u64),
        (disk, disk_used) in (1_024..16_384u64, 0..8_192u64),
        accelerator in accelerators(),
        isolation in isolations(),
        drivers in prop::sample::subsequence(Driver::ALL.to_vec(), 1..=3),
        (instances, same_group) in (0..5u32, 0..3u32),
    ) -> Host {
        Host {
            id: NodeId(0),
            name: Name::new("host").expect("a name"),
            zone,
            ready,
            drained,
            vcpus_total,
            vcpu_overcommit_percent,
            vcpus_used,
            memory_total: Mib(memory),
            memory_used: Mib(memory_used),
            disk_total: Mib(disk),
            disk_used: Mib(disk_used),
            accelerator,
            isolation,
            drivers: DriverSet::of(&drivers),
            instances,
            same_group,
        }
    }
}

pub fn fleets() -> impl Strategy<Value = Vec<Host>> {
    prop::collection::vec(hosts_with(), 0..12).prop_map(|mut hosts| {
        for (host, id) in hosts.iter_mut().zip(1..) {
            host.id = NodeId(id);
        }
        hosts
    })
}

prop_compose! {
    pub fn requests()(
        (vcpus, memory, disk) in (0..8u32, 0..4_096u64, 0..4_096u64),
        accelerator in prop::option::weighted(0.3, accelerators()),
        isolation in isolations(),
        zone in prop::option::weighted(0.3, zones()),
        driver in prop::sample::select(Driver::ALL.to_vec()),
        strategy in prop::sample::select(vec![Wish::Spread, Wish::Pack]),
    ) -> Request {
        let (memory, disk) = (Mib(memory), Mib(disk));
        Request { vcpus, memory, disk, accelerator, isolation, zone, driver, strategy }
    }
}
