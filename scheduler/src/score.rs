//! Scores: which of the fitting hosts wins. Integers, so that each controller
//! and each replay computes the same. A score is the sum of its parts, and the
//! parts are kept: a dry run shows them.

use crate::model::{Host, Request, Strategy};

/// Full scale of one resource part: permille of the host's capacity.
const SCALE: u64 = 1_000;
/// One more member of the group on a host outweighs all resource parts together,
/// so a group spreads as far as hosts allow. Larger changes nothing; smaller
/// than 3 × SCALE lets room win over the group.
const GROUP_PENALTY: i64 = 10_000;
/// The count of instances only breaks ties that permille hide (a small guest on
/// a large host); above this many it stops counting.
const INSTANCES_COUNTED_MAX: u32 = 500;

/// The parts of a host's score for one request. Larger wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Virtual CPUs after placement: permille free (spread) or used (pack).
    pub vcpus: i64,
    /// Memory after placement, likewise.
    pub memory: i64,
    /// Disk after placement, likewise.
    pub disk: i64,
    /// Instances on the host: fewer (spread) or more (pack).
    pub instances: i64,
    /// Members of the same group on the host: never more than needed.
    pub group: i64,
}

impl Score {
    /// The sum that decides.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.vcpus + self.memory + self.disk + self.instances + self.group
    }
}

/// Scores a host that passed every filter.
#[must_use]
pub fn score(host: &Host, request: &Request) -> Score {
    let vcpus = free_permille(
        host.vcpus_free(),
        u64::from(request.vcpus),
        host.vcpus_capacity(),
    );
    let memory = free_permille(host.memory_free().0, request.memory.0, host.memory_total.0);
    let disk = free_permille(host.disk_free().0, request.disk.0, host.disk_total.0);
    let instances = i64::from(host.instances.min(INSTANCES_COUNTED_MAX));
    let group = -GROUP_PENALTY * i64::from(host.same_group);
    let full = SCALE.cast_signed();
    match request.strategy {
        Strategy::Spread => Score {
            vcpus,
            memory,
            disk,
            instances: -instances,
            group,
        },
        Strategy::Pack => Score {
            vcpus: full - vcpus,
            memory: full - memory,
            disk: full - disk,
            instances,
            group,
        },
    }
}

/// Permille of the capacity that is free after placement: 0 to `SCALE`. A host
/// without such a resource counts as full.
fn free_permille(free: u64, needed: u64, capacity: u64) -> i64 {
    let left = u128::from(free.saturating_sub(needed)) * u128::from(SCALE);
    let permille = left.checked_div(u128::from(capacity)).unwrap_or(0);
    i64::try_from(permille.min(u128::from(SCALE))).unwrap_or(0)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn permille_stay_on_their_scale() {
        assert_eq!(free_permille(100, 25, 100), 750);
        assert_eq!(free_permille(10, 25, 100), 0);
        assert_eq!(free_permille(0, 0, 0), 0);
        assert_eq!(free_permille(u64::MAX, 0, u64::MAX), 1_000);
        assert_eq!(free_permille(u64::MAX, 0, 1), 1_000);
    }
}
