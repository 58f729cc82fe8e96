//! Who the other controllers are and where: read from the members table, from
//! the config before there is one, and from what a newcomer says of itself while
//! this replica lags behind. Pure; `transport` acts on it.

use std::collections::BTreeMap;

use nube_consensus::Status;
use nube_state::{State, member};

use crate::config;

/// Introductions kept at once: more than a cell has members.
const INTRODUCED_MAX: usize = 32;

/// What is known besides the state.
#[derive(Debug, Default)]
pub struct Directory {
    /// This controller, which is not its own peer.
    pub own: u64,
    /// From `controller.toml`.
    pub seeds: Vec<config::Member>,
    introduced: BTreeMap<u64, String>,
}

impl Directory {
    /// Starts with the config's members.
    #[must_use]
    pub fn new(own: u64, seeds: Vec<config::Member>) -> Self {
        Self {
            own,
            seeds,
            introduced: BTreeMap::new(),
        }
    }

    /// Notes where a peer says it is; its certificate proved who it is. True when
    /// that is news.
    pub fn introduce(&mut self, id: u64, address: &str) -> bool {
        let known = self
            .introduced
            .get(&id)
            .is_some_and(|known| known == address);
        let room = self.introduced.len() < INTRODUCED_MAX || self.introduced.contains_key(&id);
        if known || !room || member::check_address(address).is_err() {
            return false;
        }
        self.introduced.insert(id, address.to_owned());
        true
    }

    /// Every peer to talk with. A member that was removed is still one until
    /// consensus has let it go: its vote may be needed for that.
    #[must_use]
    pub fn peers(&self, state: &State, raft: &Status) -> BTreeMap<u64, String> {
        let mut peers = BTreeMap::new();
        for (id, address) in &self.introduced {
            if !member::is_removed(state, *id) {
                peers.insert(*id, address.clone());
            }
        }
        if state.members.is_empty() {
            let seeds = self.seeds.iter();
            peers.extend(seeds.map(|seed| (seed.id, seed.address.clone())));
        }
        for known in state.members.iter() {
            if known.removed_at.is_none() || raft.is_member(known.id) {
                peers.insert(known.id, known.address.clone());
            }
        }
        peers.remove(&self.own);
        peers
    }
}

/// This member was removed: the state says so, and consensus has let it go. Until
/// both are true it is heard.
#[must_use]
pub fn is_out(state: &State, raft: &Status, id: u64) -> bool {
    member::is_removed(state, id) && !raft.is_member(id)
}

#[cfg(test)]
mod test {
    use super::*;
    use nube_state::Member;
    use nube_types::TimestampMs;

    fn row(id: u64, removed: bool) -> Member {
        Member {
            id,
            address: format!("c{id}:7000"),
            agent_address: None,
            name: None,
            removed_at: removed.then_some(TimestampMs(1)),
            revision: 1,
        }
    }

    fn raft(ids: &[u64]) -> Status {
        let member = |id: &u64| nube_consensus::Member {
            id: *id,
            voter: true,
            matched: None,
            last_contact_ms: None,
        };
        Status {
            members: ids.iter().map(member).collect(),
            ..Status::default()
        }
    }

    fn seed(id: u64) -> config::Member {
        config::Member {
            id,
            address: format!("seed{id}:7000"),
            agent_address: None,
        }
    }

    #[test]
    fn the_table_counts_and_the_config_only_before_it() {
        let directory = Directory::new(1, vec![seed(1), seed(2)]);
        let mut state = State::default();
        let peers = directory.peers(&state, &raft(&[]));
        assert_eq!(peers, BTreeMap::from([(2, "seed2:7000".to_owned())]));
        state.members.put(row(1, false));
        state.members.put(row(3, false));
        let peers = directory.peers(&state, &raft(&[1, 3]));
        assert_eq!(peers, BTreeMap::from([(3, "c3:7000".to_owned())]));
    }

    #[test]
    fn a_removed_member_is_a_peer_until_consensus_lets_it_go() {
        let mut directory = Directory::new(1, vec![]);
        let mut state = State::default();
        for id in 1..=3 {
            state.members.put(row(id, id == 2));
        }
        assert!(directory.peers(&state, &raft(&[1, 2, 3])).contains_key(&2));
        assert!(!is_out(&state, &raft(&[1, 2, 3]), 2));
        assert!(!directory.peers(&state, &raft(&[1, 3])).contains_key(&2));
        assert!(is_out(&state, &raft(&[1, 3]), 2));
        // It may still say where it is: nobody calls back.
        directory.introduce(2, "c2:7000");
        assert!(!directory.peers(&state, &raft(&[1, 3])).contains_key(&2));
    }

    #[test]
    fn a_member_that_lags_answers_a_newcomer_where_it_says_it_is() {
        let mut directory = Directory::new(1, vec![]);
        let mut state = State::default();
        state.members.put(row(1, false));
        assert!(directory.introduce(4, "c4:7000"));
        assert!(!directory.introduce(4, "c4:7000"), "no news");
        assert!(!directory.introduce(5, "not an address"));
        let peers = directory.peers(&state, &raft(&[1]));
        assert_eq!(peers.get(&4).map(String::as_str), Some("c4:7000"));
        assert!(!is_out(&state, &raft(&[1]), 4), "unknown is not removed");
        state.members.put(Member {
            address: "moved:7000".to_owned(),
            ..row(4, false)
        });
        let peers = directory.peers(&state, &raft(&[1, 4]));
        assert_eq!(peers.get(&4).map(String::as_str), Some("moved:7000"));
    }
}
