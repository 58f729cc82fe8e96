//! Makes consensus follow the members table: rows that are not in it come in as
//! learners, learners that have caught up become voters, removed rows go. One
//! step at a time; consensus guards each (A7). A step that is refused now is
//! tried again at the next look.

use std::sync::Arc;
use std::time::Duration;

use nube_consensus::Status;
use nube_state::member::{NewMember, RegisterMembers};
use nube_state::{Command, State, member};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::cell::Cell;
use crate::config;
use crate::propose::MEMBER_SILENT_MS;

/// Between two looks while something is to be done.
const LOOK: Duration = Duration::from_millis(200);
/// A change waits for its commit, a transfer for an election.
const STEP: Duration = Duration::from_secs(5);

/// One change of the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The first members' rows.
    Register(RegisterMembers),
    /// Comes in without a vote.
    AddLearner(u64),
    /// Has caught up and may vote.
    Promote(u64),
    /// Another voter must lead: this member is about to go.
    Transfer,
    /// Goes.
    Remove(u64),
}

/// What is to be done, most urgent first.
#[must_use]
pub fn plan(state: &State, raft: &Status, seeds: &[config::Member]) -> Vec<Step> {
    if state.members.is_empty() {
        let new = |seed: &config::Member| NewMember {
            id: seed.id,
            address: seed.address.clone(),
            agent_address: seed.agent_address.clone(),
        };
        let members = seeds.iter().map(new).collect();
        return vec![Step::Register(RegisterMembers { members })];
    }
    let gone = |id: &u64| member::is_removed(state, *id);
    let mut steps = Vec::new();
    for id in raft.members.iter().map(|member| member.id).filter(gone) {
        // The leader goes last: the others can go without a change of leader.
        if id != raft.id {
            steps.push(Step::Remove(id));
        }
    }
    if steps.is_empty() && raft.is_member(raft.id) && gone(&raft.id) {
        steps.push(Step::Transfer);
    }
    for present in member::present(state) {
        match raft.members.iter().find(|member| member.id == present.id) {
            None => steps.push(Step::AddLearner(present.id)),
            Some(known) if !known.voter => {
                // Consensus judges how far it has come; one that is not there
                // yet need not be asked about.
                let heard = known
                    .last_contact_ms
                    .is_some_and(|ms| ms < MEMBER_SILENT_MS);
                if heard {
                    steps.push(Step::Promote(present.id));
                }
            }
            Some(_) => {}
        }
    }
    steps
}

/// Runs for the life of the controller; acts only while it leads.
pub async fn run(cell: Arc<Cell>) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let (raft, state) = (cell.raft.status(), cell.views.now());
        if !raft.leader_ready || state.cluster.is_none() {
            continue;
        }
        for step in plan(&state, &raft, &cell.config.members) {
            if take(&cell, raft.term, &step).await {
                // The picture has changed: look again before the next one.
                break;
            }
        }
    }
}

/// True when it was done.
async fn take(cell: &Cell, term: u64, step: &Step) -> bool {
    let raft = &cell.raft;
    let work = async {
        match step {
            Step::Register(rows) => {
                let command = Command::RegisterMembers(rows.clone());
                return super::propose(cell, term, command).await.is_ok();
            }
            Step::AddLearner(id) => raft.add_learner(*id).await,
            Step::Promote(id) => raft.promote(*id).await,
            Step::Remove(id) => raft.remove(*id).await,
            Step::Transfer => raft.transfer_leader(None).await.map(|_| ()),
        }
        .inspect(|()| tracing::info!(?step, "membership changed"))
        .inspect_err(|error| tracing::debug!(?step, "not yet: {error}"))
        .is_ok()
    };
    timeout(STEP, work).await.unwrap_or(false)
}

#[cfg(test)]
mod test {
    use super::*;
    use nube_consensus::Member;
    use nube_types::TimestampMs;

    fn seed(id: u64) -> config::Member {
        config::Member {
            id,
            address: format!("c{id}:7000"),
            agent_address: Some(format!("a{id}:7000")),
        }
    }

    fn state(present: &[u64], removed: &[u64]) -> State {
        let mut state = State::default();
        for id in present.iter().chain(removed) {
            state.members.put(nube_state::Member {
                id: *id,
                address: format!("c{id}:7000"),
                agent_address: None,
                name: None,
                removed_at: removed.contains(id).then_some(TimestampMs(1)),
                revision: 1,
            });
        }
        state
    }

    fn raft(voters: &[u64], learners: &[(u64, Option<u64>)]) -> Status {
        let member = |id, voter, last_contact_ms| Member {
            id,
            voter,
            matched: Some(1),
            last_contact_ms,
        };
        let voters = voters.iter().map(|id| member(*id, true, Some(0)));
        let learners = learners.iter().map(|(id, ms)| member(*id, false, *ms));
        Status {
            id: 1,
            members: voters.chain(learners).collect(),
            ..Status::default()
        }
    }

    #[test]
    fn the_first_leader_writes_all_members_down_at_once() {
        let steps = plan(&state(&[], &[]), &raft(&[1, 2], &[]), &[seed(1), seed(2)]);
        let [Step::Register(rows)] = steps.as_slice() else {
            panic!("{steps:?}");
        };
        assert_eq!(rows.members.len(), 2);
        assert_eq!(rows.members[1].agent_address.as_deref(), Some("a2:7000"));
    }

    #[test]
    fn newcomers_learn_first_and_vote_when_they_are_heard() {
        let seen = |raft: &Status| plan(&state(&[1, 2, 3, 4], &[]), raft, &[]);
        assert_eq!(seen(&raft(&[1, 2, 3], &[])), [Step::AddLearner(4)]);
        assert_eq!(seen(&raft(&[1, 2, 3], &[(4, None)])), []);
        assert_eq!(seen(&raft(&[1, 2, 3], &[(4, Some(60_000))])), []);
        assert_eq!(
            seen(&raft(&[1, 2, 3], &[(4, Some(50))])),
            [Step::Promote(4)]
        );
        assert_eq!(seen(&raft(&[1, 2, 3, 4], &[])), []);
    }

    #[test]
    fn removed_members_go_and_a_leader_hands_over_last() {
        let leaving = state(&[2, 3, 4], &[1, 5]);
        let steps = plan(&leaving, &raft(&[1, 2, 3, 4, 5], &[]), &[]);
        assert_eq!(steps, [Step::Remove(5)]);
        let steps = plan(&leaving, &raft(&[1, 2, 3, 4], &[]), &[]);
        assert_eq!(steps, [Step::Transfer]);
        assert_eq!(plan(&leaving, &raft(&[2, 3, 4], &[]), &[]), []);
    }
}
