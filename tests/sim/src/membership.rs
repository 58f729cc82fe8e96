//! Members that join by token and members that are removed, as operators do it; the leader's
//! loop makes consensus follow (A7).

use nube_state::join_token::{CreateJoinToken, Joined, RedeemJoinToken};
use nube_state::member::RemoveMember;
use nube_state::{Command, JoinRole, Outcome, member};
use nube_types::{Name, NodeId};
use rand::Rng;

use crate::controller::{Controller, Waiter};
use crate::world::World;

/// Machines that one run may have.
const CONTROLLERS_MAX: usize = 9;
/// A voter that was not heard for so long counts as silent, as in `nube_controller::propose`.
const SILENT_MS: u64 = 1_500;

impl World {
    /// An operator adds a member or removes one.
    pub(crate) fn change_members(&mut self) {
        let Some(leader) = self.leader() else { return };
        let state = &self.controllers[leader].state;
        let present: Vec<u64> = member::present(state).map(|m| m.id).collect();
        if present.is_empty() {
            return;
        }
        let room = present.len() < 6 && self.controllers.len() < CONTROLLERS_MAX;
        if room && (present.len() <= 3 || self.random.random_bool(0.5)) {
            return self.invite(leader);
        }
        let id = present[self.random.random_range(0..present.len())];
        let first = self.scenario.controllers as u64;
        let known = present.iter().filter(|id| **id <= first).count();
        if id <= first && known <= 1 {
            // A host that was away while all it knows were replaced finds nobody: its operator
            // has to tell it where the cell is.
            return;
        }
        self.dismiss(leader, id);
    }

    fn invite(&mut self, leader: usize) {
        self.newcomers += 1;
        let name = format!("newcomer-{}", self.newcomers);
        let address = format!("{name}:7400");
        let hash: [u8; 32] = self.random.random();
        self.mark("fault: member joins", self.newcomers);
        let token = CreateJoinToken {
            hash,
            role: JoinRole::Controller,
            name: Name::new(&name).expect("simulated names are valid"),
        };
        self.propose_own(leader, Command::CreateJoinToken(token));
        let redeem = RedeemJoinToken {
            hash,
            public_key_hash: hash,
            address: Some(address.clone()),
            node: NodeId(0),
        };
        let waiter = Waiter::Joined(address);
        self.propose_as(leader, waiter, Command::RedeemJoinToken(redeem));
    }

    /// The newcomer has its number and starts with an empty disk.
    pub(crate) fn joined(&mut self, address: String, outcome: &Outcome) {
        let Outcome::Joined(Joined::Controller { member, .. }) = outcome else {
            return;
        };
        if self.place_of(*member).is_some() {
            return;
        }
        let mut newcomer = Controller::new(*member, &[]);
        newcomer.address = address;
        self.controllers.push(newcomer);
        let at = self.controllers.len() - 1;
        self.draw_clock(at);
        self.start(at);
    }

    fn dismiss(&mut self, leader: usize, id: u64) {
        let Some(status) = self.controllers[leader].status() else {
            return;
        };
        self.mark("fault: member removed", id);
        let voters = status.members.iter().filter(|m| m.voter);
        let silent = voters
            .clone()
            .filter(|m| m.last_contact_ms.is_none_or(|ms| ms >= SILENT_MS));
        let command = RemoveMember {
            id,
            silent: silent.map(|m| m.id).collect(),
            voters: voters.map(|m| m.id).collect(),
        };
        self.propose_own(leader, Command::RemoveMember(command));
    }

    /// A member that knows that it was removed ends for good.
    pub(crate) fn retire_if_removed(&mut self, at: usize) {
        let controller = &self.controllers[at];
        let (state, id) = (&controller.state, controller.id);
        let removed = !state.members.is_empty() && member::is_removed(state, id);
        if removed && controller.status().is_some_and(|s| !s.is_member(id)) {
            self.retire(at);
        }
    }

    /// Peers refuse a removed member and tell it so. True when this one was.
    pub(crate) fn refused_as_removed(&mut self, at: usize, from: u64) -> bool {
        let state = &self.controllers[at].state;
        if state.members.is_empty() || !member::is_removed(state, from) {
            return false;
        }
        let me = self.controllers[at].id;
        // While consensus still counts on it, it is heard.
        let status = self.controllers[at].status();
        if status.is_some_and(|status| status.is_member(from)) {
            return false;
        }
        if let Some(sender) = self
            .place_of(from)
            .filter(|_| self.network.is_open(me, from))
        {
            self.retire(sender);
        }
        true
    }

    fn retire(&mut self, at: usize) {
        if !self.controllers[at].over {
            self.mark("a removed member ended", self.controllers[at].id);
            self.controllers[at].over = true;
            self.kill(at);
        }
    }
}
