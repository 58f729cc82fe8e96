//! One uid per guest: a machine process that breaks out finds nobody else's
//! processes, sockets or files under its own uid.

use std::collections::BTreeSet;
use std::ops::Range;

/// Uids that one agent hands out. Agents on one machine get disjoint ranges;
/// more guests than this do not fit a host.
pub const UIDS_PER_HOST: u32 = 4096;

/// Lower uids belong to the system and to people: a wrong setting must never
/// make their processes look like guests.
pub const UID_BASE_MIN: u32 = 65_536;

/// The range that begins at `base`, if guests may have it.
#[must_use]
pub fn range(base: u32) -> Option<Range<u32>> {
    let end = base.checked_add(UIDS_PER_HOST)?;
    (base >= UID_BASE_MIN).then_some(base..end)
}

/// The lowest uid of the range that no record holds.
#[must_use]
pub fn lowest_free(uids: Range<u32>, held: &BTreeSet<u32>) -> Option<u32> {
    uids.into_iter().find(|uid| !held.contains(uid))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_lowest_gap_is_taken_and_a_full_range_says_so() {
        let held = BTreeSet::from([10, 11, 13]);
        assert_eq!(lowest_free(10..20, &held), Some(12));
        assert_eq!(lowest_free(10..12, &held), None);
        assert_eq!(range(1000), None);
        assert_eq!(range(u32::MAX), None);
    }
}
