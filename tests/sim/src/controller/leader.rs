//! The leader's loops, on the real plans: time, hosts, members.

use std::collections::BTreeMap;
use std::time::Duration;

use nube_consensus::{Input, MembershipChange};
use nube_controller::config;
use nube_controller::reconcile::member::{self, Step};
use nube_controller::reconcile::node;
use nube_state::command::InitCluster;
use nube_state::{Command, Envelope, codec};
use nube_types::limits::{NODE_SEEN_COMMIT_MS, TICK_MS};
use nube_types::{NetworkId, NodeId, ProjectId, TimestampMs};

use super::Waiter;
use super::life::LOOK_MEMBERS_MS;
use crate::world::{Event, World};

/// The project that each cell begins with.
pub const PROJECT: ProjectId = ProjectId(1);

impl World {
    /// The clock that a leader stamps entries with.
    pub(crate) fn stamp(&self, at: usize) -> TimestampMs {
        self.controllers[at].wall(self.now_ms)
    }

    fn leads(&self, at: usize) -> bool {
        self.controllers[at]
            .status()
            .is_some_and(|s| s.leader_ready)
    }

    pub(crate) fn propose_own(&mut self, at: usize, command: Command) {
        let actor = format!("controller/{}", self.controllers[at].id);
        let envelope = Envelope {
            request: None,
            at: self.stamp(at),
            actor,
            command,
            source: None,
        };
        self.propose(at, Waiter::Nobody, codec::encode_envelope(&envelope));
    }

    /// As `nube_controller::reconcile::run`.
    pub(crate) fn look(&mut self, at: usize, life: u64) {
        if self.controllers[at].life != life {
            return;
        }
        let paused = self.controllers[at]
            .paused_until_ms
            .saturating_sub(self.now_ms);
        self.after(TICK_MS.max(paused + 1), Event::Look { at, life });
        if paused > 0 {
            return;
        }
        if !self.leads(at) {
            self.controllers[at].leading_since_ms = None;
            return;
        }
        let now_ms = self.now_ms;
        self.controllers[at].leading_since_ms.get_or_insert(now_ms);
        if self.controllers[at].state.cluster.is_none() {
            let init = InitCluster {
                cluster_id: [1; 16],
                project: PROJECT,
                network: NetworkId(1),
            };
            return self.propose_own(at, Command::InitCluster(init));
        }
        self.lead(at);
    }

    /// As `nube_controller::reconcile::member::run`.
    pub(crate) fn look_members(&mut self, at: usize, life: u64) {
        if self.controllers[at].life != life {
            return;
        }
        let paused = self.controllers[at]
            .paused_until_ms
            .saturating_sub(self.now_ms);
        self.after(
            LOOK_MEMBERS_MS.max(paused + 1),
            Event::LookMembers { at, life },
        );
        if paused > 0 || !self.leads(at) || self.controllers[at].state.cluster.is_none() {
            return;
        }
        let Some(status) = self.controllers[at].status() else {
            return;
        };
        let first = 1..=self.scenario.controllers as u64;
        let seeds: Vec<_> = first.map(seed).collect();
        let plan = member::plan(&self.controllers[at].state, &status, &seeds);
        if let Some(step) = plan.into_iter().next() {
            self.take(at, life, step);
        }
    }

    /// Time, and hosts that fell silent or came back.
    fn lead(&mut self, at: usize) {
        let (now_ms, now) = (self.now_ms, self.stamp(at));
        let controller = &mut self.controllers[at];
        let heard = controller.heard_ms.iter();
        let silence: BTreeMap<NodeId, Duration> = heard
            .map(|(node, at_ms)| (*node, Duration::from_millis(now_ms - at_ms)))
            .collect();
        let with_seen = now_ms - controller.seen_at_ms >= NODE_SEEN_COMMIT_MS;
        if with_seen {
            controller.seen_at_ms = now_ms;
        }
        let since_ms = controller.leading_since_ms.unwrap_or(now_ms);
        let leading = Duration::from_millis(now_ms - since_ms);
        let mut commands = vec![node::tick(&silence, now, with_seen)];
        commands.extend(node::plan(&controller.state, &silence, now, leading));
        for command in commands {
            self.propose_own(at, command);
        }
    }

    fn take(&mut self, at: usize, life: u64, step: Step) {
        let change = match step {
            Step::Register(rows) => {
                return self.propose_own(at, Command::RegisterMembers(rows));
            }
            Step::Transfer => {
                let me = self.controllers[at].id;
                let status = self.controllers[at].status();
                let members = status.map(|s| s.members).unwrap_or_default();
                let heir = members.iter().filter(|m| m.voter && m.id != me);
                let heir = heir.max_by_key(|m| m.matched).map(|m| m.id);
                if let Some(heir) = heir {
                    self.input(at, life, Input::TransferLeader(heir));
                }
                return;
            }
            Step::AddLearner(id) => MembershipChange::AddLearner(id),
            Step::Promote(id) => MembershipChange::Promote(id),
            Step::Remove(id) => MembershipChange::Remove(id),
        };
        let ticket = self.ticket(at, Waiter::Nobody);
        self.input(at, life, Input::Change { ticket, change });
    }
}

/// A first member as its config file says.
fn seed(id: u64) -> config::Member {
    config::Member {
        id,
        address: format!("controller-{id}:7400"),
        agent_address: None,
    }
}
