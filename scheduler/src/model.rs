//! What placement looks at: hosts, a request, and the words for both. Filled in
//! from the state by the controller; nothing here knows where it came from.

use std::fmt;

use nube_types::{Mib, Name, NodeId};

/// How a host runs guests' instructions. Ordered: a stronger one serves a
/// request for a weaker one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Accelerator {
    /// No virtual machines at all (containers, simulated guests).
    None,
    /// Emulation: works everywhere, about ten times slower, no isolation promise.
    Tcg,
    /// Hardware virtualization that has been proven to work on this host.
    Kvm,
}

/// What separates a guest from its neighbours. Ordered: a stronger class serves
/// a request for a weaker one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isolation {
    /// A shared kernel, or emulation without an isolation promise.
    None,
    /// Hardware virtualization.
    Hardware,
}

/// What runs an instance on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Driver {
    /// Virtual machines.
    Qemu,
    /// System containers: they share the host's kernel.
    Container,
    /// Nothing runs; for tests and the simulator.
    Simulated,
}

/// A small set of drivers: one bit each, so that a host stays dense.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriverSet(u8);

/// Free room first, or full hosts first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The emptiest host wins: small loss when one host dies.
    #[default]
    Spread,
    /// The fullest host that still fits wins: whole hosts stay free.
    Pack,
}

/// One compute host, as last seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Identity; the last tie-break of every decision.
    pub id: NodeId,
    /// The operator's name for it, shown in refusals.
    pub name: Name,
    /// Failure domain.
    pub zone: String,
    /// Its agent is connected and has reported.
    pub ready: bool,
    /// The operator takes it out of service: nothing new goes there.
    pub drained: bool,
    /// Hardware threads.
    pub vcpus_total: u32,
    /// Virtual CPUs handed out per 100 hardware threads' worth: 100 = none
    /// shared, 400 = four to one.
    pub vcpu_overcommit_percent: u32,
    /// Virtual CPUs reserved by instances placed here.
    pub vcpus_used: u32,
    /// Memory for guests. Never overcommitted: a guest that is swapped or killed
    /// is not what the tenant rents.
    pub memory_total: Mib,
    /// Memory reserved by instances placed here.
    pub memory_used: Mib,
    /// Disk for guests, counted by virtual size.
    pub disk_total: Mib,
    /// Disk reserved by instances placed here.
    pub disk_used: Mib,
    /// The strongest accelerator that was proven to work.
    pub accelerator: Accelerator,
    /// What separates virtual machines on this host.
    pub isolation: Isolation,
    /// What can run here.
    pub drivers: DriverSet,
    /// Instances placed here.
    pub instances: u32,
    /// Instances here of the group that the request belongs to; 0 without one.
    pub same_group: u32,
}

/// What is to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory, reserved in full.
    pub memory: Mib,
    /// Disk by virtual size, reserved in full.
    pub disk: Mib,
    /// At least this accelerator; `None` = any.
    pub accelerator: Option<Accelerator>,
    /// At least this class.
    pub isolation: Isolation,
    /// Only hosts of this zone; `None` = any.
    pub zone: Option<String>,
    /// What runs it.
    pub driver: Driver,
    /// Which of the fitting hosts wins.
    pub strategy: Strategy,
}

impl DriverSet {
    /// The set of these drivers.
    #[must_use]
    pub fn of(drivers: &[Driver]) -> Self {
        Self(drivers.iter().fold(0, |bits, driver| bits | driver.bit()))
    }

    /// Whether the set holds a driver.
    #[must_use]
    pub fn contains(self, driver: Driver) -> bool {
        self.0 & driver.bit() != 0
    }
}

impl Driver {
    /// Every driver, in the order in which sets print.
    pub const ALL: [Self; 3] = [Self::Qemu, Self::Container, Self::Simulated];

    fn bit(self) -> u8 {
        match self {
            Self::Qemu => 1,
            Self::Container => 2,
            Self::Simulated => 4,
        }
    }
}

impl Host {
    /// Virtual CPUs that may be reserved: threads × overcommit, rounded down.
    #[must_use]
    pub fn vcpus_capacity(&self) -> u64 {
        u64::from(self.vcpus_total) * u64::from(self.vcpu_overcommit_percent) / 100
    }

    /// Virtual CPUs that are not reserved.
    #[must_use]
    pub fn vcpus_free(&self) -> u64 {
        self.vcpus_capacity()
            .saturating_sub(u64::from(self.vcpus_used))
    }

    /// Memory that is not reserved.
    #[must_use]
    pub fn memory_free(&self) -> Mib {
        Mib(self.memory_total.0.saturating_sub(self.memory_used.0))
    }

    /// Disk that is not reserved.
    #[must_use]
    pub fn disk_free(&self) -> Mib {
        Mib(self.disk_total.0.saturating_sub(self.disk_used.0))
    }

    /// What separates guests of this driver here.
    #[must_use]
    pub fn isolation_for(&self, driver: Driver) -> Isolation {
        self.isolation.of_driver(driver)
    }
}

impl Isolation {
    /// What is left of a host's class for guests of one driver. Containers share
    /// the host's kernel, whatever its processor can do.
    #[must_use]
    pub fn of_driver(self, driver: Driver) -> Self {
        match driver {
            Driver::Container => Self::None,
            Driver::Qemu | Driver::Simulated => self,
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        })
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Hardware => "hardware",
        })
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qemu => "qemu",
            Self::Container => "container",
            Self::Simulated => "simulated",
        })
    }
}

impl fmt::Display for DriverSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Driver::ALL.iter().filter(|driver| self.contains(**driver));
        let Some(first) = names.next() else {
            return f.write_str("no driver");
        };
        write!(f, "{first}")?;
        names.try_for_each(|name| write!(f, ", {name}"))
    }
}
