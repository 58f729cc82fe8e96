//! Scores: which of the fitting hosts wins. Integers, so that each controller
//! and each replay computes the same. A score is the sum of its parts, and the
//! parts are kept: a dry run shows them.
//!
//! The parts are ranked: each outweighs all after it together.
//!
//! 1. `group`: a host with fewer members of the launch's group wins.
//! 2. `in_use` (pack): a host that holds instances wins over an empty one.
//! 3. `lean` (pack): a host whose leftover is what the request needs most of
//!    wins, so that neither vCPUs nor memory is stranded (see `lean`).
//! 4. The level: permille free (spread: emptiest wins) or used (pack: fullest
//!    wins) of vCPUs, memory and disk, and the count of instances.
//!
//! The level is that *before* the placement, and the rest depends on the request
//! only through its lean: a fleet can therefore keep hosts sorted by level and
//! need not score each one for each request (see `index`).

use std::fmt;

use crate::lean::{Lean, MATCH_MAX, Ratio};
use crate::model::{Host, Request, Strategy};

/// Full scale of one resource part: permille of the host's capacity.
const SCALE: u64 = 1_000;
/// The count of instances only breaks ties that permille hide (a small guest on
/// a large host); above this many it stops counting.
const INSTANCES_COUNTED_MAX: u32 = 500;
/// The width of all levels: three resources and the count of instances.
const LEVELS: i64 = 3 * SCALE.cast_signed() + INSTANCES_COUNTED_MAX as i64;
/// One step of `lean` outweighs every level.
const LEAN_STEP: i64 = 4_000;
/// A host in use outweighs every lean.
const IN_USE: i64 = 20_000;
/// One more member of the group on a host outweighs all other parts together, so
/// a group spreads as far as hosts allow. Larger changes nothing.
const GROUP_PENALTY: i64 = 100_000;

const _: () = assert!(LEAN_STEP > LEVELS);
const _: () = assert!(IN_USE > LEAN_STEP * MATCH_MAX as i64 + LEVELS);
const _: () = assert!(GROUP_PENALTY > IN_USE + LEAN_STEP * MATCH_MAX as i64 + LEVELS);

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
    /// Pack: how well the leftover goes with the request.
    pub lean: i64,
    /// Pack: the host holds instances already.
    pub in_use: i64,
    /// Members of the same group on the host: never more than needed.
    pub group: i64,
}

impl Score {
    /// The sum that decides.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.level() + self.lean + self.in_use + self.group
    }

    fn level(&self) -> i64 {
        self.vcpus + self.memory + self.disk + self.instances
    }
}

/// Scores a host that passed every filter.
#[must_use]
pub fn score(host: &Host, request: &Request) -> Score {
    let parts = parts(host, request.strategy);
    let group = -GROUP_PENALTY * i64::from(host.same_group);
    match request.strategy {
        Strategy::Spread => Score { group, ..parts },
        Strategy::Pack => {
            let ratio = Ratio::of(host);
            Score {
                group,
                lean: lean_part(request_lean(ratio, request), left_lean(ratio, host)),
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

pub(crate) fn lean_part(request: Lean, left: Lean) -> i64 {
    LEAN_STEP * i64::from(request.matches(left))
}

pub(crate) fn in_use_part(in_use: bool) -> i64 {
    if in_use { IN_USE } else { 0 }
}

pub(crate) fn request_lean(ratio: Ratio, request: &Request) -> Lean {
    Lean::of(ratio, u64::from(request.vcpus), request.memory.0)
}

pub(crate) fn left_lean(ratio: Ratio, host: &Host) -> Lean {
    Lean::of(ratio, host.vcpus_free(), host.memory_free().0)
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
            ("lean", self.lean),
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
