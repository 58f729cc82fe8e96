//! Filters: may this instance run on this host at all? Each no carries the
//! numbers that made it one, so that a refusal tells what to change. `fits` is
//! the same question without words, for the fast path; a property test holds the
//! two together.

use std::fmt;

use nube_types::Mib;

use crate::model::{Accelerator, Driver, DriverSet, Host, Isolation, Request};

/// Why a host does not fit. Ordered as reported: state first, then kind, then
/// room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Its agent is not connected.
    NotReady,
    /// The operator takes it out of service.
    Drained,
    /// It is in another failure domain.
    Zone {
        /// Asked zone.
        wanted: String,
        /// The host's zone.
        host: String,
    },
    /// It cannot run this kind of instance.
    Driver {
        /// Asked driver.
        wanted: Driver,
        /// What it can run.
        host: DriverSet,
    },
    /// It has no such accelerator, or only a weaker one.
    Accelerator {
        /// At least this one.
        wanted: Accelerator,
        /// The host's.
        host: Accelerator,
    },
    /// It separates guests less than asked.
    Isolation {
        /// At least this class.
        wanted: Isolation,
        /// The class of this driver on the host.
        host: Isolation,
    },
    /// Too few virtual CPUs are free.
    Vcpus {
        /// Needed.
        needed: u32,
        /// Not reserved.
        free: u64,
        /// Overcommit included.
        capacity: u64,
    },
    /// Too little memory is free.
    Memory {
        /// Needed.
        needed: Mib,
        /// Not reserved.
        free: Mib,
        /// For guests, in total.
        total: Mib,
    },
    /// Too little disk is free.
    Disk {
        /// Needed.
        needed: Mib,
        /// Not reserved.
        free: Mib,
        /// For guests, in total.
        total: Mib,
    },
}

/// Whether a host passes every filter. Allocates nothing.
#[must_use]
pub fn fits(host: &Host, request: &Request) -> bool {
    suits_host(host, request)
        && u64::from(request.vcpus) <= host.vcpus_free()
        && request.memory <= host.memory_free()
        && request.disk <= host.disk_free()
}

/// Whether a host passes every filter but room.
pub(crate) fn suits_host(host: &Host, request: &Request) -> bool {
    host.ready
        && !host.drained
        && suits(
            &host.zone,
            host.accelerator,
            host.isolation,
            host.drivers,
            request,
        )
}

/// The filters that depend neither on room nor on the host's state: whole
/// classes of hosts answer them alike.
pub(crate) fn suits(
    zone: &str,
    accelerator: Accelerator,
    isolation: Isolation,
    drivers: DriverSet,
    request: &Request,
) -> bool {
    drivers.contains(request.driver)
        && request
            .accelerator
            .is_none_or(|wanted| wanted <= accelerator)
        && request.isolation <= isolation.of_driver(request.driver)
        && request.zone.as_ref().is_none_or(|wanted| wanted == zone)
}

/// All reasons why a host does not fit, not only the first: repairing one and
/// meeting the next is no way to plan. Empty when it fits.
#[must_use]
pub fn reasons(host: &Host, request: &Request) -> Vec<Reason> {
    let filters = [
        ready,
        drained,
        zone,
        driver,
        accelerator,
        isolation,
        vcpus,
        memory,
        disk,
    ];
    filters
        .iter()
        .filter_map(|filter| filter(host, request))
        .collect()
}

fn ready(host: &Host, _: &Request) -> Option<Reason> {
    (!host.ready).then_some(Reason::NotReady)
}

fn drained(host: &Host, _: &Request) -> Option<Reason> {
    host.drained.then_some(Reason::Drained)
}

fn zone(host: &Host, request: &Request) -> Option<Reason> {
    let wanted = request
        .zone
        .as_ref()
        .filter(|wanted| **wanted != host.zone)?;
    Some(Reason::Zone {
        wanted: wanted.clone(),
        host: host.zone.clone(),
    })
}

fn driver(host: &Host, request: &Request) -> Option<Reason> {
    let wanted = request.driver;
    let host = host.drivers;
    (!host.contains(wanted)).then_some(Reason::Driver { wanted, host })
}

fn accelerator(host: &Host, request: &Request) -> Option<Reason> {
    let wanted = request
        .accelerator
        .filter(|wanted| *wanted > host.accelerator)?;
    Some(Reason::Accelerator {
        wanted,
        host: host.accelerator,
    })
}

fn isolation(host: &Host, request: &Request) -> Option<Reason> {
    let wanted = request.isolation;
    let host = host.isolation_for(request.driver);
    (wanted > host).then_some(Reason::Isolation { wanted, host })
}

fn vcpus(host: &Host, request: &Request) -> Option<Reason> {
    let (free, capacity) = (host.vcpus_free(), host.vcpus_capacity());
    let needed = request.vcpus;
    (u64::from(needed) > free).then_some(Reason::Vcpus {
        needed,
        free,
        capacity,
    })
}

fn memory(host: &Host, request: &Request) -> Option<Reason> {
    let (free, total) = (host.memory_free(), host.memory_total);
    let needed = request.memory;
    (needed > free).then_some(Reason::Memory {
        needed,
        free,
        total,
    })
}

fn disk(host: &Host, request: &Request) -> Option<Reason> {
    let (free, total) = (host.disk_free(), host.disk_total);
    let needed = request.disk;
    (needed > free).then_some(Reason::Disk {
        needed,
        free,
        total,
    })
}

impl Reason {
    /// The reason in one word, as interfaces carry it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotReady => "unreachable",
            Self::Drained => "drained",
            Self::Zone { .. } => "zone",
            Self::Driver { .. } => "driver",
            Self::Accelerator { .. } => "accelerator",
            Self::Isolation { .. } => "isolation",
            Self::Vcpus { .. } => "vcpus",
            Self::Memory { .. } => "memory",
            Self::Disk { .. } => "disk",
        }
    }
}

impl fmt::Display for Reason {
    /// The word and the numbers. Amounts stay in MiB and are not scaled: the
    /// reader compares them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.word())?;
        match self {
            Self::NotReady => f.write_str("its agent is not connected, or has to clean up first"),
            Self::Drained => f.write_str("the operator takes it out of service"),
            Self::Zone { wanted, host } => write!(f, "needs {wanted}, is in {host}"),
            Self::Driver { wanted, host } => write!(f, "needs {wanted}, has {host}"),
            Self::Accelerator { wanted, host } => write!(f, "needs {wanted}, has {host}"),
            Self::Isolation { wanted, host } => write!(f, "needs {wanted}, has {host}"),
            Self::Vcpus {
                needed,
                free,
                capacity,
            } => write!(f, "needs {needed}, {free} of {capacity} free"),
            Self::Memory {
                needed,
                free,
                total,
            }
            | Self::Disk {
                needed,
                free,
                total,
            } => write!(
                f,
                "needs {} MiB, {} MiB of {} MiB free",
                needed.0, free.0, total.0
            ),
        }
    }
}
