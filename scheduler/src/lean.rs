//! Lean: which of vCPUs and memory an amount has more of, measured against the
//! host's own ratio. Packing fills hosts so that neither runs out while the
//! other is left over: guests that need much memory go where memory is left.
//!
//! Five steps only. Hosts of one lean can then be kept sorted by fullness, and a
//! request meets few sorted lists instead of all hosts; finer steps pack little
//! better.

use crate::model::Host;

/// MiB per vCPU of a whole host, to the nearest half octave: hosts that differ
/// by a few MiB are of one ratio, and a request leans alike on all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(u8);

/// What an amount consists of, against a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lean {
    /// Memory for less than half of the vCPUs: the rest of them is stranded.
    VcpusFar,
    /// Memory for less than three quarters of the vCPUs.
    Vcpus,
    /// As the host as a whole.
    Even,
    /// vCPUs for less than three quarters of the memory.
    Memory,
    /// vCPUs for less than half of the memory: the rest of it is stranded.
    MemoryFar,
}

/// How well a request (row) goes with what a host has left (column): 4 is best.
/// A request goes where its own lean is left over, and an even request stays off
/// hosts that have almost run out of one thing: it would take the last of it.
const MATCHES: [[u8; Lean::COUNT]; Lean::COUNT] = [
    [4, 3, 2, 1, 0],
    [3, 4, 2, 1, 0],
    [0, 2, 2, 2, 0],
    [0, 1, 2, 4, 3],
    [0, 1, 2, 3, 4],
];

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
    fn memory_for(self, vcpus: u64) -> u128 {
        // 1449 / 1024 is the square root of 2.
        let step: u128 = if self.0.is_multiple_of(2) { 1024 } else { 1449 };
        (u128::from(vcpus) * step) << (self.0 / 2)
    }
}

impl Lean {
    /// How many there are; they count from 0.
    pub const COUNT: usize = 5;

    /// The lean of an amount. Nothing of both is even.
    #[must_use]
    pub fn of(ratio: Ratio, vcpus: u64, memory_mib: u64) -> Self {
        let (vcpus, memory) = (ratio.memory_for(vcpus), u128::from(memory_mib) << 10);
        if memory * 2 < vcpus {
            Self::VcpusFar
        } else if memory * 4 < vcpus * 3 {
            Self::Vcpus
        } else if memory * 3 <= vcpus * 4 {
            Self::Even
        } else if memory <= vcpus * 2 {
            Self::Memory
        } else {
            Self::MemoryFar
        }
    }

    /// How well a request of this lean goes with what is left: 0 to `MATCH_MAX`.
    #[must_use]
    pub fn matches(self, left: Self) -> u8 {
        MATCHES[self as usize][left as usize]
    }
}

/// The best match.
pub const MATCH_MAX: u8 = 4;

#[cfg(test)]
mod test {
    use nube_types::{Mib, Name, NodeId};

    use super::*;
    use crate::model::{Accelerator, Driver, DriverSet, Isolation};

    fn ratio(vcpus: u32, memory_mib: u64) -> Ratio {
        Ratio::of(&Host {
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
        })
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
    fn a_whole_host_is_even_and_extremes_lean() {
        for (vcpus, memory) in [(4, 8_192), (64, 262_144), (7, 100_000), (1, 1)] {
            let even = Lean::of(ratio(vcpus, memory), u64::from(vcpus), memory);
            assert_eq!(even, Lean::Even, "{vcpus} and {memory}");
        }
        let ratio = ratio(1, 4096);
        assert_eq!(Lean::of(ratio, 4, 8 * 1024), Lean::Vcpus);
        assert_eq!(Lean::of(ratio, 4, 8 * 1024 - 1), Lean::VcpusFar);
        assert_eq!(Lean::of(ratio, 4, 32 * 1024), Lean::Memory);
        assert_eq!(Lean::of(ratio, 4, 32 * 1024 + 1), Lean::MemoryFar);
        assert_eq!(Lean::of(ratio, 0, 0), Lean::Even);
        assert_eq!(Lean::of(ratio, u64::MAX, 0), Lean::VcpusFar);
        assert_eq!(Lean::of(ratio, 0, u64::MAX), Lean::MemoryFar);
    }

    #[test]
    fn no_match_is_off_its_scale() {
        assert!(MATCHES.iter().flatten().all(|rank| *rank <= MATCH_MAX));
    }
}
