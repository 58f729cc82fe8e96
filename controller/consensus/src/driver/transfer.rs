//! Callers that wait for a hand-over of leadership.
//!
//! Lives here: targets and deadlines. May not: the hand-over itself (raft does it). Part of
//! `driver`.

use tokio::sync::oneshot::Sender;

use super::Driver;
use crate::core::Input;
use crate::error::MembershipError;
use crate::state_machine::StateMachine;
use crate::status::Role;

type Reply = Sender<Result<u64, MembershipError>>;

/// Ticks until a transfer counts as failed. raft itself gives up after one election timeout; the
/// rest is for the news of the new leader.
const TICKS_MAX: u64 = 40;

#[derive(Default)]
pub(super) struct Transfers {
    now: u64,
    waiting: Vec<(u64, u64, Reply)>,
}

impl Transfers {
    pub(super) fn leader_is(&mut self, leader: Option<u64>) {
        let (done, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|(to, ..)| leader == Some(*to));
        self.waiting = waiting;
        for (to, _, reply) in done {
            // The caller may be gone, here and below.
            let _ = reply.send(Ok(to));
        }
    }

    pub(super) fn tick(&mut self) {
        self.now += 1;
        let now = self.now;
        let (over, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, gives_up_at, _)| *gives_up_at <= now);
        self.waiting = waiting;
        for (.., reply) in over {
            let _ = reply.send(Err(MembershipError::TimedOut));
        }
    }
}

impl<S: StateMachine> Driver<S> {
    /// A leader whose log waits for disk space can apply nothing, though a healthy majority could
    /// go on. It keeps its heartbeats, so nobody else would take over by itself.
    pub(super) fn lead_elsewhere(&mut self) {
        if self.core.leader_ready()
            && self.transfers.now.is_multiple_of(TICKS_MAX)
            && let Some(to) = self.core.best_successor()
        {
            tracing::warn!(to, "disk full: handing leadership over");
            self.core.step(Input::TransferLeader(to));
        }
    }

    pub(super) fn begin_transfer(&mut self, to: Option<u64>, reply: Reply) {
        let status = self.core.status();
        let target = to.or_else(|| self.core.best_successor());
        let refusal = match target {
            _ if status.role != Role::Leader => MembershipError::NotLeader {
                leader: status.leader,
            },
            None => MembershipError::Refused("no other voter answers".to_owned()),
            Some(id) if !self.core.membership().voters.contains(&id) => {
                MembershipError::Refused(format!("{id} is not a voter"))
            }
            Some(id) if id == status.id => {
                let _ = reply.send(Ok(id));
                return;
            }
            Some(id) => {
                self.core.step(Input::TransferLeader(id));
                self.transfers
                    .waiting
                    .push((id, self.transfers.now + TICKS_MAX, reply));
                return;
            }
        };
        let _ = reply.send(Err(refusal));
    }
}
