//! What is placed, and on what: mixes of instance types, hosts, and the numbers
//! that decide which comes next.

use nube_scheduler::{Accelerator, Driver, DriverSet, Host, Isolation, Request, Strategy};
use nube_types::{Mib, Name, NodeId};

const GIB: u64 = 1024;

/// One size and how often it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub vcpus: u32,
    pub memory_mib: u64,
    pub disk_mib: u64,
    pub weight: u64,
}

/// A load and the hosts it goes to.
#[derive(Debug, Clone)]
pub struct Mix {
    pub name: &'static str,
    pub sizes: Vec<Size>,
    pub host_vcpus: u32,
    pub host_memory_mib: u64,
}

/// Seeded, so that each run places the same load (xorshift64*).
#[derive(Debug, Clone)]
pub struct Luck(u64);

impl Luck {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        usize::try_from(drawn).expect("32 bits fit") % limit
    }
}

/// Families of 2, 4 and 8 GiB per vCPU in sizes of 1 to 16 vCPUs, small ones
/// more often; the weights say how often each family is asked for.
fn families(compute: u64, general: u64, memory: u64) -> Vec<Size> {
    let sizes = [(1, 16), (2, 8), (4, 4), (8, 2), (16, 1)];
    [(compute, 2), (general, 4), (memory, 8)]
        .into_iter()
        .flat_map(|(family, gib_per_vcpu)| {
            sizes.map(|(vcpus, weight)| Size {
                vcpus,
                memory_mib: u64::from(vcpus) * gib_per_vcpu * GIB,
                disk_mib: u64::from(vcpus) * 20 * GIB,
                weight: weight * family,
            })
        })
        .collect()
}

/// The types of a new cluster.
fn defaults() -> Vec<Size> {
    let size = |vcpus, memory_mib, disk_gib, weight| Size {
        vcpus,
        memory_mib,
        disk_mib: disk_gib * GIB,
        weight,
    };
    vec![
        size(1, 128, 1, 40),
        size(1, 512, 10, 30),
        size(2, 2 * GIB, 20, 20),
        size(4, 8 * GIB, 40, 10),
    ]
}

impl Mix {
    pub fn all() -> Vec<Self> {
        let mix = |name, sizes, host_vcpus, host_gib| Self {
            name,
            sizes,
            host_vcpus,
            host_memory_mib: host_gib * GIB,
        };
        vec![
            mix("n1", defaults(), 64, 128),
            mix("n1 tight", defaults(), 64, 64),
            mix("balanced", families(2, 3, 1), 64, 256),
            mix("compute", families(3, 2, 1), 64, 256),
            mix("memory", families(1, 2, 1), 64, 256),
            mix("odd hosts", families(2, 3, 1), 60, 250),
        ]
    }

    /// The mix with which rates are measured.
    pub fn general() -> Self {
        let mut all = Self::all();
        all.swap_remove(2)
    }

    /// One request, without demands on where it goes.
    pub fn draw(&self, luck: &mut Luck, strategy: Strategy) -> Request {
        let total: u64 = self.sizes.iter().map(|size| size.weight).sum();
        let mut drawn = luck.below(usize::try_from(total).expect("weights are small")) as u64;
        let size = self
            .sizes
            .iter()
            .find(|size| {
                let hit = drawn < size.weight;
                drawn = drawn.wrapping_sub(size.weight);
                hit
            })
            .expect("a number below the sum of weights");
        Request {
            vcpus: size.vcpus,
            memory: Mib(size.memory_mib),
            disk: Mib(size.disk_mib),
            accelerator: None,
            isolation: Isolation::None,
            zone: None,
            driver: Driver::Qemu,
            strategy,
        }
    }

    /// A host of this mix; two vCPUs per hardware thread.
    pub fn host(&self, id: u64) -> Host {
        Host {
            id: NodeId(id),
            name: Name::new("host").expect("a name"),
            zone: "z1".to_owned(),
            ready: true,
            drained: false,
            vcpus_total: self.host_vcpus / 2,
            vcpu_overcommit_percent: 200,
            vcpus_used: 0,
            memory_total: Mib(self.host_memory_mib),
            memory_used: Mib(0),
            disk_total: Mib(4_096 * GIB),
            disk_used: Mib(0),
            accelerator: Accelerator::Kvm,
            isolation: Isolation::Hardware,
            drivers: DriverSet::of(&[Driver::Qemu, Driver::Container]),
            instances: 0,
            same_group: 0,
        }
    }
}
