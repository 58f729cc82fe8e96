//! A9: a watcher sees every visible change once, in order, whole per revision, at whichever
//! controllers it watches; or it is told that the past is gone.

use std::collections::BTreeMap;

use super::hold;
use super::reference::{Reference, Seen};

/// What one watcher saw.
#[derive(Default)]
struct Watcher {
    /// It has everything up to here.
    position: u64,
    /// Changes by revision since the last fresh start.
    revisions: BTreeMap<u64, Vec<Seen>>,
    /// Where it began afresh.
    from: u64,
}

/// All watchers.
#[derive(Default)]
pub struct Watchers(BTreeMap<usize, Watcher>);

impl Watchers {
    /// It lists everything anew at this revision.
    pub fn begin(&mut self, watcher: usize, reference: &Reference, revision: u64) {
        self.judge_one(watcher, reference);
        let afresh = Watcher {
            position: revision,
            from: revision,
            ..Watcher::default()
        };
        self.0.insert(watcher, afresh);
    }

    /// It is told a revision's changes.
    pub fn told(&mut self, watcher: usize, revision: u64, mut changes: Vec<Seen>) {
        let known = self.0.entry(watcher).or_default();
        hold("A9", revision > known.position, || {
            format!(
                "watcher {watcher} is told {revision} after {}",
                known.position
            )
        });
        known.position = revision;
        changes.sort_unstable();
        if !changes.is_empty() {
            known.revisions.insert(revision, changes);
        }
    }

    /// It has everything up to here.
    pub fn reached(&mut self, watcher: usize, head: u64) {
        let known = self.0.entry(watcher).or_default();
        known.position = known.position.max(head);
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self, watcher: usize) -> u64 {
        self.0.get(&watcher).map_or(0, |known| known.position)
    }

    fn judge_one(&self, watcher: usize, reference: &Reference) {
        let Some(known) = self.0.get(&watcher) else {
            return;
        };
        let after = reference.visible.range(known.from + 1..);
        let due: Vec<_> = after.take_while(|(at, _)| **at <= known.position).collect();
        let seen: Vec<_> = known.revisions.iter().collect();
        let first = due.iter().zip(&seen).find(|(due, seen)| due != seen);
        hold("A9", due == seen, || {
            format!(
                "watcher {watcher} saw {} of {} revisions up to {}; the first that differs: {first:?}",
                seen.len(),
                due.len(),
                known.position
            )
        });
    }

    /// At the end of a run.
    pub fn judge(&self, reference: &Reference) {
        for watcher in self.0.keys() {
            self.judge_one(*watcher, reference);
        }
    }
}
