//! The judges: what must hold whatever happened.
//!
//! Lives here: the record of what clients saw and members applied. May not: the world.

use std::collections::BTreeMap;

use nube_consensus::Role;

/// A client's operation that ended with success.
struct Done {
    began: u64,
    ended: u64,
    /// A write's index; for a read, the index of the newest write it saw.
    revision: u64,
    write: bool,
}

#[derive(Default)]
pub struct Checks {
    leaders: BTreeMap<u64, u64>,
    applied: BTreeMap<u64, (u64, Vec<u8>)>,
    acknowledged: BTreeMap<u64, Vec<u8>>,
    refused: Vec<Vec<u8>>,
    done: Vec<Done>,
}

impl Checks {
    /// A6: one leader per term.
    pub fn role(&mut self, id: u64, role: Role, term: u64) {
        if role == Role::Leader {
            let leader = *self.leaders.entry(term).or_insert(id);
            assert_eq!(leader, id, "two leaders in term {term}");
        }
    }

    /// A5, A6: what one member applies at an index, every member applies there, in every life.
    pub fn applied(&mut self, id: u64, index: u64, term: u64, data: &[u8]) {
        let known = self
            .applied
            .entry(index)
            .or_insert_with(|| (term, data.to_vec()));
        assert_eq!(
            *known,
            (term, data.to_vec()),
            "member {id} applied something else at {index}"
        );
    }

    pub fn wrote(&mut self, began: u64, ended: u64, index: u64, data: Vec<u8>) {
        let applied = self.applied.get(&index).map(|(_, data)| data);
        assert_eq!(
            applied,
            Some(&data),
            "acknowledged at {index} without being applied there"
        );
        self.acknowledged.insert(index, data);
        self.done.push(Done {
            began,
            ended,
            revision: index,
            write: true,
        });
    }

    pub fn read(&mut self, began: u64, ended: u64, revision: u64) {
        self.done.push(Done {
            began,
            ended,
            revision,
            write: false,
        });
    }

    /// The proposer was told "nothing was done".
    pub fn refused(&mut self, data: Vec<u8>) {
        self.refused.push(data);
    }

    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    pub fn reads(&self) -> usize {
        self.done.iter().filter(|done| !done.write).count()
    }

    /// A1: every acknowledged write is in the final log. Refused ones are not.
    pub fn check_log(&self, log: &BTreeMap<u64, Vec<u8>>) {
        for (index, data) in &self.acknowledged {
            assert_eq!(
                log.get(index),
                Some(data),
                "acknowledged write at {index} is lost"
            );
        }
        for data in &self.refused {
            assert!(
                !log.values().any(|found| found == data),
                "a refused write took effect"
            );
        }
    }

    /// A2: the log orders all writes of the one register, so a history is linearizable exactly
    /// when no operation saw less than one that had ended before it began.
    pub fn check_linearizable(&self) {
        let mut ends: Vec<(u64, u64)> = self.done.iter().map(|d| (d.ended, d.revision)).collect();
        ends.sort_unstable();
        let mut begins: Vec<&Done> = self.done.iter().collect();
        begins.sort_unstable_by_key(|done| done.began);
        let (mut at, mut newest) = (0, 0);
        for done in begins {
            while at < ends.len() && ends[at].0 < done.began {
                newest = newest.max(ends[at].1);
                at += 1;
            }
            if done.write {
                assert!(
                    done.revision > newest,
                    "write {} after {newest}",
                    done.revision
                );
            } else {
                assert!(
                    done.revision >= newest,
                    "stale read: {} after {newest}",
                    done.revision
                );
            }
        }
    }
}
