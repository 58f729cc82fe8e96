//! Balance: what is left of vCPUs against what is left of memory, measured in the
//! host's own ratio. Packing fills hosts so that neither runs out while the other
//! is left over. What can still be used together lies within twice the ratio:
//! guests with much memory and guests with little complete each other there.
//! What is beyond is stranded; `score` says when that decides.

use crate::model::{Host, Request};

/// MiB per vCPU of a whole host, to the nearest half octave: hosts that differ
/// by a few MiB are of one ratio, and a request weighs alike on all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(u8);

/// How far a host is from stranding memory and vCPUs, in 1/1024 MiB; below zero
/// some is stranded already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slack {
    /// Memory that may be left over in addition before some is stranded.
    pub memory: i64,
    /// vCPUs likewise, as the memory that goes with them.
    pub vcpus: i64,
}

/// What is left of a host, coarsely. Hosts of one lean resemble each other, so
/// an index that keeps them apart skips many at once; decides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lean {
    VcpusStranded,
    Vcpus,
    Even,
    Memory,
    MemoryStranded,
}

impl Lean {
    /// How many there are; they count from 0.
    pub const COUNT: usize = 5;
}

impl Ratio {
    /// The ratio of a host's whole capacity.
    #[must_use]
    pub fn of(host: &Host) -> Self {
        let per_vcpu = host.memory_total.0 / host.vcpus_capacity().max(1);
        // Above 2^30 MiB per vCPU nothing differs that anybody could rent.
        let per_vcpu = u128::from(per_vcpu.clamp(1, 1 << 30));
        // ⌊2·log2(r) + ½⌋ = ⌊log2(2·r⁴) / 2⌋
        let halves = (2 * per_vcpu.pow(4)).ilog2() / 2;
        Self(u8::try_from(halves).unwrap_or(u8::MAX))
    }

    /// Memory that goes with these vCPUs, in 1/1024 MiB.
    fn memory_for(self, vcpus: u64) -> i128 {
        // 1449 / 1024 is the square root of 2.
        let step: i128 = if self.0.is_multiple_of(2) { 1024 } else { 1449 };
        (i128::from(vcpus) * step) << (self.0 / 2)
    }

    /// The slack of what is left of a host.
    #[must_use]
    pub fn slack(self, host: &Host) -> Slack {
        let vcpus = self.memory_for(host.vcpus_free());
        let memory = i128::from(host.memory_free().0) << 10;
        Slack {
            memory: narrow(2 * vcpus - memory),
            vcpus: narrow(2 * memory - vcpus),
        }
    }

    /// The slack that a host must have so that a request strands nothing there.
    /// `i64::MIN` where the request takes enough of what might be left over.
    #[must_use]
    pub fn slack_needed(self, request: &Request) -> Slack {
        // Less than a quarter of a vCPU with its memory is not worth a host.
        let trifle = self.memory_for(1) / 4;
        let vcpus = self.memory_for(u64::from(request.vcpus));
        let memory = i128::from(request.memory.0) << 10;
        let needed = |taken: i128| {
            if taken > trifle {
                narrow(taken - trifle)
            } else {
                i64::MIN
            }
        };
        Slack {
            memory: needed(2 * vcpus - memory),
            vcpus: needed(2 * memory - vcpus),
        }
    }

    pub(crate) fn lean(self, host: &Host) -> Lean {
        let vcpus = self.memory_for(host.vcpus_free());
        let memory = i128::from(host.memory_free().0) << 10;
        if memory * 2 < vcpus {
            Lean::VcpusStranded
        } else if memory * 4 < vcpus * 3 {
            Lean::Vcpus
        } else if memory * 3 <= vcpus * 4 {
            Lean::Even
        } else if memory <= vcpus * 2 {
            Lean::Memory
        } else {
            Lean::MemoryStranded
        }
    }
}

impl Slack {
    /// Whether this is enough for what is needed.
    #[must_use]
    pub fn covers(self, needed: Self) -> bool {
        self.memory >= needed.memory && self.vcpus >= needed.vcpus
    }
}

fn narrow(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod test {
    use nube_types::{Mib, Name, NodeId};

    use super::*;
    use crate::model::{Accelerator, Driver, DriverSet, Isolation, Strategy};

    fn host(vcpus: u32, memory_mib: u64) -> Host {
        Host {
            id: NodeId(1),
            name: Name::new("a").expect("a name"),
            zone: String::new(),
            ready: true,
            drained: false,
            vcpus_total: vcpus,
            vcpu_overcommit_percent: 100,
            vcpus_used: 0,
            memory_total: Mib(memory_mib),
            memory_used: Mib(0),
            disk_total: Mib(0),
            disk_used: Mib(0),
            accelerator: Accelerator::Kvm,
            isolation: Isolation::Hardware,
            drivers: DriverSet::of(&[Driver::Qemu]),
            instances: 0,
            same_group: 0,
        }
    }

    fn ratio(vcpus: u32, memory_mib: u64) -> Ratio {
        Ratio::of(&host(vcpus, memory_mib))
    }

    fn strands(left: (u32, u64), asked: (u32, u64)) -> bool {
        let ratio = ratio(1, 4096);
        let request = Request {
            vcpus: asked.0,
            memory: Mib(asked.1),
            disk: Mib(0),
            accelerator: None,
            isolation: Isolation::None,
            zone: None,
            driver: Driver::Qemu,
            strategy: Strategy::Pack,
        };
        let slack = ratio.slack(&host(left.0, left.1));
        !slack.covers(ratio.slack_needed(&request))
    }

    #[test]
    fn hosts_of_almost_one_size_have_one_ratio() {
        assert_eq!(ratio(64, 64 * 4096), ratio(64, 64 * 4096 - 700));
        assert_ne!(ratio(64, 64 * 4096), ratio(64, 64 * 8192));
        assert_eq!(Ratio(24), ratio(1, 4096));
        assert_eq!(Ratio(25), ratio(1, 5793));
        assert_eq!(Ratio(0), ratio(0, 0));
        assert_eq!(Ratio(60), ratio(1, u64::MAX));
    }

    #[test]
    fn a_whole_host_is_even_and_extremes_do_not_wrap() {
        for (vcpus, memory) in [(4, 8_192), (64, 262_144), (7, 100_000), (1, 1)] {
            let host = host(vcpus, memory);
            assert_eq!(Ratio::of(&host).lean(&host), Lean::Even, "{vcpus} {memory}");
        }
        let ratio = ratio(1, 1 << 30);
        assert_eq!(ratio.slack(&host(u32::MAX, 0)).vcpus, i64::MIN);
        assert_eq!(ratio.slack(&host(0, u64::MAX)).memory, i64::MIN);
        assert_eq!(ratio.slack(&host(0, u64::MAX)).vcpus, i64::MAX);
    }

    #[test]
    fn what_leaves_one_thing_alone_strands_it() {
        let gib = 1024;
        assert!(!strands((2, 8 * gib), (1, 4 * gib)), "even stays even");
        assert!(!strands((1, 4 * gib), (1, 4 * gib)), "nothing is left");
        assert!(!strands((1, 5 * gib), (1, 4 * gib)), "a trifle is left");
        assert!(strands((1, 6 * gib), (1, 4 * gib)), "memory alone is left");
        assert!(strands((2, 8 * gib), (1, 8 * gib)), "a vCPU alone is left");
        assert!(
            !strands((9, 8 * gib), (8, 8 * gib)),
            "fewer vCPUs than were"
        );
        assert!(strands((9, 8 * gib), (1, 4 * gib)), "the last memory");
    }
}
