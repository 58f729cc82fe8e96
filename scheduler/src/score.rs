//! Scores: which of the fitting hosts wins. Integers, so that each controller
//! and each replay computes the same. A score is the sum of its parts, and the
//! parts are kept: a dry run shows them.
//!
//! The parts are ranked; each outweighs all after it together.
//!
//! 1. `group`: a host with fewer members of the launch's group wins.
//! 2. `balance` (pack, while hosts may be opened): a host where neither vCPUs nor
//!    memory is stranded wins (see `balance`).
//! 3. `in_use` (pack): a host that holds instances wins over an empty one.
//! 4. The level: permille free (spread: emptiest wins) or used (pack: fullest
//!    wins) of vCPUs, memory and disk, and the count of instances.
//!
//! Packing opens a host rather than strand something on one in use, because a
//! choice among some hosts is what keeps all of them in balance. It does so only
//! while those in use are almost full together and few of them are roomy:
//! otherwise a load that cannot be balanced would open every host, and after
//! churn no host would ever become empty (see `Census`).
//!
//! The level is that *before* the placement, and the rest is a comparison of two
//! amounts: a fleet can therefore keep hosts sorted by level and need not score
//! each one for each request (see `index`).

use std::fmt;

use crate::balance::Ratio;
use crate::filter::suits_host;
use crate::model::{Host, Request, Strategy};

/// Full scale of one resource part: permille of the host's capacity.
const SCALE: u64 = 1_000;
/// The count of instances only breaks ties that permille hide (a small guest on
/// a large host); above this many it stops counting.
const INSTANCES_COUNTED_MAX: u32 = 500;
/// The width of all levels: three resources and the count of instances.
const LEVELS: i64 = 3 * SCALE.cast_signed() + INSTANCES_COUNTED_MAX as i64;
/// Outweighs every level.
const IN_USE: i64 = 10_000;
/// Outweighs whether a host is in use, and every level.
pub(crate) const BALANCE: i64 = 20_000;
/// One more member of the group on a host outweighs all other parts together, so
/// a group spreads as far as hosts allow. Larger changes nothing.
const GROUP_PENALTY: i64 = 100_000;
/// Hosts may be opened for balance while those in use are this full, in percent
/// of their scarcer resource. At 96 a balanced mix fills only 95 % of a fleet:
/// what it strands keeps the hosts in use below that for ever. Lower leaves more
/// hosts in use after churn.
const OPENING_PERCENT: u128 = 93;
/// And while less than one host in so many is roomy: without this limit the last
/// large guests find only hosts that are half full.
const HOSTS_PER_ROOMY: u64 = 50;
/// A host in use is roomy while this part of its vCPUs and of its memory is free.
const ROOMY_PART: u64 = 4;

const _: () = assert!(IN_USE > LEVELS);
const _: () = assert!(BALANCE > IN_USE + LEVELS);
const _: () = assert!(GROUP_PENALTY > BALANCE + IN_USE + LEVELS);

/// How full the hosts are that could serve a request if they had room for it:
/// decides whether packing may open one more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    hosts: u64,
    roomy: u64,
    vcpus_used: u128,
    vcpus: u128,
    memory_used_mib: u128,
    memory_mib: u128,
}

impl Census {
    /// Counts the hosts that pass all filters of a request but room.
    #[must_use]
    pub fn of(hosts: &[Host], request: &Request) -> Self {
        if request.strategy == Strategy::Spread {
            return Self::default(); // spreading does not ask
        }
        let suited = hosts.iter().filter(|host| suits_host(host, request));
        suited.fold(Self::default(), |sum, host| sum.plus(Self::of_host(host)))
    }

    /// One host.
    pub(crate) fn of_host(host: &Host) -> Self {
        if host.instances == 0 {
            return Self {
                hosts: 1,
                ..Self::default()
            };
        }
        let (vcpus, memory_mib) = (host.vcpus_capacity(), host.memory_total.0);
        let (vcpus_free, memory_free) = (host.vcpus_free(), host.memory_free().0);
        let roomy = vcpus_free >= vcpus.div_ceil(ROOMY_PART)
            && memory_free >= memory_mib.div_ceil(ROOMY_PART);
        Self {
            hosts: 1,
            roomy: roomy.into(),
            vcpus_used: (vcpus - vcpus_free).into(),
            vcpus: vcpus.into(),
            memory_used_mib: (memory_mib - memory_free).into(),
            memory_mib: memory_mib.into(),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            hosts: self.hosts + other.hosts,
            roomy: self.roomy + other.roomy,
            vcpus_used: self.vcpus_used + other.vcpus_used,
            vcpus: self.vcpus + other.vcpus,
            memory_used_mib: self.memory_used_mib + other.memory_used_mib,
            memory_mib: self.memory_mib + other.memory_mib,
        }
    }

    /// Takes out what was added before.
    pub(crate) fn minus(self, other: Self) -> Self {
        Self {
            hosts: self.hosts - other.hosts,
            roomy: self.roomy - other.roomy,
            vcpus_used: self.vcpus_used - other.vcpus_used,
            vcpus: self.vcpus - other.vcpus,
            memory_used_mib: self.memory_used_mib - other.memory_used_mib,
            memory_mib: self.memory_mib - other.memory_mib,
        }
    }

    /// Whether a host may be opened where a placement would strand something.
    pub(crate) fn opening(self) -> bool {
        let full = |used, all| used * 100 >= all * OPENING_PERCENT;
        let in_use_full =
            full(self.vcpus_used, self.vcpus) || full(self.memory_used_mib, self.memory_mib);
        in_use_full && self.roomy * HOSTS_PER_ROOMY < self.hosts
    }
}

/// The parts of a host's score for one request. Larger wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Virtual CPUs: permille free (spread) or used (pack).
    pub vcpus: i64,
    /// Memory, likewise.
    pub memory: i64,
    /// Disk, likewise.
    pub disk: i64,
    /// Instances on the host: fewer (spread) or more (pack).
    pub instances: i64,
    /// Pack, while hosts may be opened: nothing is stranded.
    pub balance: i64,
    /// Pack: the host holds instances already.
    pub in_use: i64,
    /// Members of the same group on the host: never more than needed.
    pub group: i64,
}

impl Score {
    /// The sum that decides.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.level() + self.balance + self.in_use + self.group
    }

    fn level(&self) -> i64 {
        self.vcpus + self.memory + self.disk + self.instances
    }
}

/// Scores a host that passed every filter.
#[must_use]
pub fn score(host: &Host, request: &Request, census: Census) -> Score {
    let parts = parts(host, request.strategy);
    let group = -GROUP_PENALTY * i64::from(host.same_group);
    match request.strategy {
        Strategy::Spread => Score { group, ..parts },
        Strategy::Pack => {
            let ratio = Ratio::of(host);
            let balanced =
                census.opening() && ratio.slack(host).covers(ratio.slack_needed(request));
            Score {
                group,
                balance: if balanced { BALANCE } else { 0 },
                in_use: in_use_part(host.instances > 0),
                ..parts
            }
        }
    }
}

/// The parts that make up the level.
fn parts(host: &Host, strategy: Strategy) -> Score {
    let vcpus = free_permille(host.vcpus_free(), host.vcpus_capacity());
    let memory = free_permille(host.memory_free().0, host.memory_total.0);
    let disk = free_permille(host.disk_free().0, host.disk_total.0);
    let instances = i64::from(host.instances.min(INSTANCES_COUNTED_MAX));
    let full = SCALE.cast_signed();
    let (vcpus, memory, disk, instances) = match strategy {
        Strategy::Spread => (vcpus, memory, disk, -instances),
        Strategy::Pack => (full - vcpus, full - memory, full - disk, instances),
    };
    Score {
        vcpus,
        memory,
        disk,
        instances,
        ..Score::default()
    }
}

/// A host's levels as (spread, pack). They mirror each other.
pub(crate) fn levels(host: &Host) -> (i32, i32) {
    let spread = parts(host, Strategy::Spread).level();
    let pack = 3 * SCALE.cast_signed() - spread;
    let narrow = |level| i32::try_from(level).expect("a level is within 4,000 of zero");
    (narrow(spread), narrow(pack))
}

pub(crate) fn in_use_part(in_use: bool) -> i64 {
    if in_use { IN_USE } else { 0 }
}

/// Permille of the capacity that is free: 0 to `SCALE`. A host without such a
/// resource counts as full.
fn free_permille(free: u64, capacity: u64) -> i64 {
    let permille = match free.checked_mul(SCALE) {
        Some(scaled) => scaled.checked_div(capacity).unwrap_or(0),
        None => {
            let scaled = u128::from(free) * u128::from(SCALE);
            let permille = scaled.checked_div(u128::from(capacity)).unwrap_or(0);
            u64::try_from(permille).unwrap_or(SCALE)
        }
    };
    permille.min(SCALE).cast_signed()
}

impl fmt::Display for Score {
    /// `2403 = vcpus 750 + memory 750 + disk 900 + instances 3`; parts of 0 are
    /// left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.total())?;
        let parts = [
            ("vcpus", self.vcpus),
            ("memory", self.memory),
            ("disk", self.disk),
            ("instances", self.instances),
            ("balance", self.balance),
            ("in_use", self.in_use),
            ("group", self.group),
        ];
        let mut separator = " =";
        for (name, part) in parts.into_iter().filter(|(_, part)| *part != 0) {
            write!(f, "{separator} {name} {part}")?;
            separator = " +";
        }
        Ok(())
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn permille_stay_on_their_scale() {
        assert_eq!(free_permille(75, 100), 750);
        assert_eq!(free_permille(0, 100), 0);
        assert_eq!(free_permille(0, 0), 0);
        assert_eq!(free_permille(5, 0), 0);
        assert_eq!(free_permille(u64::MAX, u64::MAX), 1_000);
        assert_eq!(free_permille(u64::MAX / 2, u64::MAX), 499);
        assert_eq!(free_permille(u64::MAX, 1), 1_000);
    }
}
