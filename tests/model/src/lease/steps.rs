//! What can happen next.

use super::Model;
use super::world::{Command, World};

/// Messages from one controller that are on their way at a time.
const DOWN_MAX: usize = 2;
/// Entries under way at a time.
const FLIGHT_MAX: usize = 2;

/// One thing that happens. Numbers are controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Time goes on.
    Tick,
    /// The agent sends a heartbeat to the leader it obeys.
    Beat,
    /// The agent dies.
    Dies,
    /// A new agent lives, and finds the guest if there is one.
    Lives,
    /// A stream ends.
    Breaks(usize),
    /// The agent hears the next message.
    Hears(usize),
    /// The heartbeat arrives.
    Arrives(usize),
    /// A quorum says that this one leads.
    Confirms(usize),
    /// The confirmed heartbeat is answered, on the newest view or an older one.
    Grants(usize, bool),
    /// A leader sends its list.
    Lists(usize),
    /// The newest leader proposes.
    Proposes(Command),
    /// The oldest entry under way is committed.
    Commits,
    /// This one is elected and knows it; so many of the entries under way survive.
    Elects(usize, usize),
}

impl World {
    pub(super) fn steps(&self, model: &Model, out: &mut Vec<Step>) {
        if self.tick < model.bounds.ticks {
            out.push(Step::Tick);
        }
        self.agent_steps(model, out);
        for at in 0..self.controllers.len() {
            self.controller_steps(model, at, out);
        }
        self.log_steps(model, out);
    }

    fn agent_steps(&self, model: &Model, out: &mut Vec<Step>) {
        let Some(agent) = &self.agent else {
            out.push(Step::Lives);
            return;
        };
        let may_beat = |leader: usize| self.controllers[leader].up.is_none();
        if self.beats < model.bounds.beats && agent.obeys.is_some_and(may_beat) {
            out.push(Step::Beat);
        }
        if self.deaths < model.bounds.deaths {
            out.push(Step::Dies);
        }
    }

    fn controller_steps(&self, model: &Model, at: usize, out: &mut Vec<Step>) {
        let controller = &self.controllers[at];
        let lives = self.agent.is_some();
        let busy = controller.up.is_some()
            || controller.confirming.is_some()
            || !controller.down.is_empty();
        if lives && busy && self.broken < model.bounds.breaks {
            out.push(Step::Breaks(at));
        }
        if lives && !controller.down.is_empty() {
            out.push(Step::Hears(at));
        }
        if controller.up.is_some() {
            out.push(Step::Arrives(at));
        }
        let Some(term) = controller.leads else {
            return;
        };
        let room = controller.down.len() < DOWN_MAX;
        match controller.confirming {
            Some((_, None)) if term == self.term || !model.rules.confirms => {
                out.push(Step::Confirms(at));
            }
            Some((_, Some(then))) if room => {
                out.push(Step::Grants(at, true));
                if then != self.view(at) {
                    out.push(Step::Grants(at, false));
                }
            }
            _ => {}
        }
        if lives && room && controller.told != Some((term, self.view(at).revision)) {
            out.push(Step::Lists(at));
        }
    }

    fn log_steps(&self, model: &Model, out: &mut Vec<Step>) {
        if !self.flight.is_empty() {
            out.push(Step::Commits);
        }
        if self.term < model.bounds.terms {
            for survive in 0..=self.flight.len() {
                out.push(Step::Elects(1 - self.leader, survive));
            }
        }
        let entries = usize::from(self.cell.revision) + self.flight.len();
        let full = self.flight.len() >= FLIGHT_MAX || entries >= model.bounds.entries.into();
        if full || self.cell.moved {
            return;
        }
        let mut propose = |command| {
            if !self.flight.contains(&command) {
                out.push(Step::Proposes(command));
            }
        };
        if self.cell.reachable {
            propose(Command::Silent);
        } else if self.cell.fence_epoch < model.bounds.fences {
            propose(Command::Fence(self.cell.fence_epoch + 1));
        }
        if self.cell.fenced {
            propose(Command::Replace);
        }
        if self.cell.fenced {
            propose(Command::Answers);
        }
    }
}
