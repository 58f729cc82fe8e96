//! Whom an agent obeys, and which list counts. Pure.
//!
//! Several controllers may claim to lead: a deposed one does not know it yet.
//! The claim with the highest term counts, and a term below the highest ever
//! obeyed does not, also across restarts of the agent: otherwise a paused old
//! leader could bring back an instance that was deleted.
//!
//! One exception keeps a restored cluster from being ignored for ever: its terms
//! may start lower. A claim that stood unchallenged for [`STEADY_MS`] is obeyed
//! whatever its term; a deposed leader steps down within seconds.

use std::collections::BTreeMap;

/// Far above any election, so that no deposed leader is obeyed; far below an
/// operator's patience after a restore.
pub const STEADY_MS: u64 = 60_000;

/// Numbers the controllers that this process has talked to; never used again.
pub type LinkId = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Claim {
    term: u64,
    since_ms: u64,
}

/// Who claims to lead.
#[derive(Debug, Default)]
pub struct Leadership {
    claims: BTreeMap<LinkId, Claim>,
    /// The term of the newest leader that was obeyed.
    obeyed_term: u64,
}

impl Leadership {
    /// Continues after a restart.
    #[must_use]
    pub fn new(obeyed_term: u64) -> Self {
        Self {
            claims: BTreeMap::new(),
            obeyed_term,
        }
    }

    /// A controller said what it is.
    pub fn heard(&mut self, link: LinkId, leads: bool, term: u64, now_ms: u64) {
        if !leads {
            self.claims.remove(&link);
            return;
        }
        let same = self.claims.get(&link).filter(|claim| claim.term == term);
        let since_ms = same.map_or(now_ms, |claim| claim.since_ms);
        self.claims.insert(link, Claim { term, since_ms });
    }

    /// A session ended: its claim is void.
    pub fn closed(&mut self, link: LinkId) {
        self.claims.remove(&link);
    }

    /// Whom to obey now.
    pub fn leader(&mut self, now_ms: u64) -> Option<LinkId> {
        let (link, claim) = self.claims.iter().max_by_key(|(_, claim)| claim.term)?;
        let steady = now_ms.saturating_sub(claim.since_ms) >= STEADY_MS;
        if claim.term < self.obeyed_term && !steady {
            return None;
        }
        self.obeyed_term = claim.term;
        Some(*link)
    }

    /// The term of the newest leader that was obeyed.
    #[must_use]
    pub fn obeyed_term(&self) -> u64 {
        self.obeyed_term
    }
}

/// Lets only lists pass that are not older than the newest one.
#[derive(Debug, Default)]
pub struct RevisionGate {
    newest: u64,
}

impl RevisionGate {
    /// Whether a list read at this log index counts.
    pub fn passes(&mut self, revision: u64) -> bool {
        let passes = revision >= self.newest;
        self.newest = self.newest.max(revision);
        passes
    }

    /// Another history began: its indexes do not compare with the old ones.
    pub fn reset(&mut self) {
        self.newest = 0;
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_highest_term_leads() {
        let mut leadership = Leadership::new(0);
        assert_eq!(leadership.leader(0), None);
        leadership.heard(0, true, 3, 0);
        assert_eq!(leadership.leader(0), Some(0));
        leadership.heard(1, true, 4, 0);
        assert_eq!(
            leadership.leader(0),
            Some(1),
            "the old leader does not know yet"
        );
        leadership.heard(0, false, 4, 0);
        leadership.closed(1);
        assert_eq!(leadership.leader(0), None);
    }

    #[test]
    fn an_older_term_is_not_obeyed_even_after_a_restart() {
        let mut leadership = Leadership::new(0);
        leadership.heard(1, true, 7, 0);
        assert_eq!(leadership.leader(0), Some(1));
        leadership.closed(1);
        leadership.heard(0, true, 6, 1);
        assert_eq!(leadership.leader(2), None);
        let mut leadership = Leadership::new(leadership.obeyed_term());
        leadership.heard(0, true, 6, 1);
        assert_eq!(leadership.leader(2), None);
    }

    #[test]
    fn a_steady_lower_term_is_a_restored_cluster() {
        let mut leadership = Leadership::new(7);
        leadership.heard(0, true, 2, 1_000);
        leadership.heard(0, true, 2, 30_000);
        assert_eq!(leadership.leader(1_000 + STEADY_MS - 1), None);
        assert_eq!(leadership.leader(1_000 + STEADY_MS), Some(0));
        assert_eq!(leadership.obeyed_term(), 2);
    }

    #[test]
    fn a_broken_session_starts_the_wait_again() {
        let mut leadership = Leadership::new(7);
        leadership.heard(0, true, 2, 0);
        leadership.closed(0);
        leadership.heard(0, true, 2, 50_000);
        assert_eq!(leadership.leader(STEADY_MS), None);
    }

    #[test]
    fn older_lists_do_not_count() {
        let mut gate = RevisionGate::default();
        assert!(gate.passes(5) && gate.passes(5) && gate.passes(9));
        assert!(!gate.passes(8));
        gate.reset();
        assert!(gate.passes(1));
    }
}
