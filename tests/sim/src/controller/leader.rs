//! The leader's loops, on the real plans: time, hosts, members.

use std::collections::BTreeMap;
use std::time::Duration;

use nube_consensus::{Input, MembershipChange};
use nube_controller::clock::cluster::{Sample, Steered};
use nube_controller::config;
use nube_controller::reconcile;
use nube_controller::reconcile::member::{self, Step};
use nube_state::command::InitCluster;
use nube_state::{Command, Envelope, codec};
use nube_types::limits::{NODE_SEEN_COMMIT_MS, TICK_MS};
use nube_types::{NetworkId, NodeId, ProjectId, TimestampMs};

use rand::Rng;

use super::Waiter;
use super::life::LOOK_MEMBERS_MS;
use crate::world::{Event, World};

/// The project that each cell begins with.
pub const PROJECT: ProjectId = ProjectId(1);

impl World {
    /// The clock that a leader stamps entries with.
    pub(crate) fn stamp(&self, at: usize) -> TimestampMs {
        let controller = &self.controllers[at];
        let mono_ms = controller.clock.monotonic_ms(self.now_ms);
        controller.cell_clock.now(mono_ms)
    }

    /// As `nube_controller::clock::sample`: every voter in reach is asked for its wall clock.
    fn sample_clocks(&mut self, at: usize) {
        let Some(status) = self.controllers[at].status() else {
            return;
        };
        let (now_ms, me) = (self.now_ms, self.controllers[at].id);
        let mono_ms = self.controllers[at].clock.monotonic_ms(now_ms);
        let voters = status.members.iter().filter(|m| m.voter);
        let voters: Vec<u64> = voters.map(|m| m.id).collect();
        for voter in &voters {
            let round_trip_ms = match *voter == me {
                true => 0,
                false => self.random.random_range(2..40),
            };
            let Some(other) = self.place_of(*voter).map(|at| &self.controllers[at]) else {
                continue;
            };
            let answers = other.core.is_some() && other.paused_until_ms <= now_ms;
            if answers && self.network.is_open(me, *voter) {
                let asked_ms = mono_ms.saturating_sub(round_trip_ms);
                let wall = other.wall(now_ms.saturating_sub(round_trip_ms / 2));
                let sample = Sample::new(wall, asked_ms, mono_ms);
                self.controllers[at].cell_clock.sample(*voter, sample);
            }
        }
        let leading = status.is_leader();
        let clock = &mut self.controllers[at].cell_clock;
        if let Steered::Stepped(_) = clock.steer(mono_ms, &voters, leading) {
            self.mark("replicated time caught up in one step", me);
        }
    }

    fn leads(&self, at: usize) -> bool {
        self.controllers[at]
            .status()
            .is_some_and(|s| s.leader_ready)
    }

    pub(crate) fn propose_own(&mut self, at: usize, command: Command) {
        self.propose_as(at, Waiter::Nobody, command);
    }

    pub(crate) fn propose_as(&mut self, at: usize, waiter: Waiter, command: Command) {
        let actor = format!("controller/{}", self.controllers[at].id);
        let envelope = Envelope {
            request: None,
            at: self.stamp(at),
            actor,
            command,
            source: None,
        };
        self.propose(at, waiter, codec::encode_envelope(&envelope));
    }

    /// As `nube_controller::reconcile::run`.
    pub(crate) fn look(&mut self, at: usize, life: u64) {
        if self.controllers[at].life != life {
            return;
        }
        self.after(TICK_MS, Event::Look { at, life });
        self.sample_clocks(at);
        let Some(status) = self.controllers[at].status() else {
            return;
        };
        let term = status.leader_ready.then_some(status.term);
        let mono_ms = self.controllers[at].clock.monotonic_ms(self.now_ms);
        let leases = &mut self.controllers[at].leases;
        leases.lead(term, mono_ms);
        let (Some(term), Some(since_ms)) = (term, leases.leading_since_ms()) else {
            return;
        };
        let controller = &self.controllers[at];
        if controller.state.cluster.is_some() || controller.cell_clock.is_set() {
            self.lead(at, term, mono_ms - since_ms);
        }
    }

    /// As `nube_controller::reconcile::member::run`.
    pub(crate) fn look_members(&mut self, at: usize, life: u64) {
        if self.controllers[at].life != life {
            return;
        }
        self.after(LOOK_MEMBERS_MS, Event::LookMembers { at, life });
        if !self.leads(at) || self.controllers[at].state.cluster.is_none() {
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

    /// One round of the leader's loop.
    fn lead(&mut self, at: usize, term: u64, leading_ms: u64) {
        let (now_ms, now) = (self.now_ms, self.stamp(at));
        let controller = &mut self.controllers[at];
        let mono_ms = controller.clock.monotonic_ms(now_ms);
        let heard = controller.heard_ms.iter();
        let silence: BTreeMap<NodeId, Duration> = heard
            .map(|(node, at_ms)| (*node, Duration::from_millis(now_ms - at_ms)))
            .collect();
        let with_seen = now_ms - controller.seen_at_ms >= NODE_SEEN_COMMIT_MS;
        if with_seen {
            controller.seen_at_ms = now_ms;
        }
        let look = reconcile::Look {
            state: &controller.state,
            silence: &silence,
            now,
            leading_ms,
            with_seen,
            hosts: &controller.hosts,
        };
        let leases = &mut controller.leases;
        let mut fence = |node, fence_epoch| leases.begin_fence(node, term, fence_epoch, mono_ms);
        for command in reconcile::round(&look, &mut fence, first_entry) {
            // Proposed in this term or not at all: nothing happens in between here.
            match &command {
                Command::FenceNode(fence) => {
                    let waiter = Waiter::Fence(fence.node);
                    self.judge.marks.hit("a silent host was fenced");
                    self.propose_as(at, waiter, command);
                }
                Command::ReplaceInstance(_) => {
                    self.judge
                        .marks
                        .hit("an instance of a lost host began anew");
                    self.propose_own(at, command);
                }
                _ => self.propose_own(at, command),
            }
        }
    }

    /// A fence was committed or refused, or certainly never proposed.
    pub(crate) fn fence_settled(&mut self, at: usize, node: NodeId) {
        let controller = &mut self.controllers[at];
        let known = controller.state.nodes.get(&node);
        let fence_epoch = known.map_or(0, |node| node.fence_epoch);
        controller.leases.fence_settled(node, fence_epoch);
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

fn first_entry() -> InitCluster {
    InitCluster {
        cluster_id: [1; 16],
        project: PROJECT,
        network: NetworkId(1),
        network_prices: false,
    }
}
