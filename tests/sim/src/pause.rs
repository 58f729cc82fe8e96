//! Machines that stand still: what concerns them waits, in its order, until they go on. Then
//! what came from outside is found first and their own timers last, which is the worst order
//! for whoever believes that no time has passed.

use std::collections::VecDeque;

use crate::world::{Event, World};

/// A machine that can stand still, by its place in the world's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// A controller's process.
    Controller(usize),
    /// A host, guests included.
    Host(usize),
}

/// What waits for a machine.
#[derive(Default)]
pub struct Waiting {
    outside: VecDeque<Event>,
    timers: VecDeque<Event>,
}

/// Whom an event concerns, and whether it is a timer of its own.
fn concerns(event: &Event) -> Option<(Machine, bool)> {
    let found = match event {
        Event::Tick { at, .. } | Event::Look { at, .. } | Event::LookMembers { at, .. } => {
            (Machine::Controller(*at), true)
        }
        Event::Peer { at, .. }
        | Event::PeerSnapshot { at, .. }
        | Event::SnapshotReport { at, .. }
        | Event::DiskDone { at, .. }
        | Event::Call { at, .. }
        | Event::Task { at, .. }
        | Event::Forward { at, .. }
        | Event::Forwarded { at, .. }
        | Event::Up { at, .. }
        | Event::SessionLost { at, .. } => (Machine::Controller(*at), false),
        // The fencer before anything else: a guest that wakes up late must not run.
        Event::AgentTick { agent, .. }
        | Event::AgentWake { agent, .. }
        | Event::AgentStart { agent }
        | Event::Connect { agent, .. }
        | Event::StepDone { agent, .. }
        | Event::GuestEnds { agent, .. } => (Machine::Host(*agent), true),
        Event::Fencer { agent } | Event::Down { agent, .. } | Event::LinkLost { agent, .. } => {
            (Machine::Host(*agent), false)
        }
        _ => return None,
    };
    Some(found)
}

impl World {
    fn paused_until_ms(&self, machine: Machine) -> u64 {
        match machine {
            Machine::Controller(at) => self.controllers[at].paused_until_ms,
            Machine::Host(agent) => self.agents[agent].paused_until_ms,
        }
    }

    /// A machine stands still for a while. Pauses end with the faults.
    pub(crate) fn stand_still(&mut self, machine: Machine, ms: u64) {
        let until_ms = (self.now_ms + ms).min(self.scenario.trouble_ms);
        let known = match machine {
            Machine::Controller(at) => &mut self.controllers[at].paused_until_ms,
            Machine::Host(agent) => &mut self.agents[agent].paused_until_ms,
        };
        if until_ms > *known {
            *known = until_ms;
            self.queue.push(until_ms, Event::Awake { machine });
        }
    }

    /// What concerns a machine that stands still waits; everything else comes back.
    pub(crate) fn unless_paused(&mut self, event: Event) -> Option<Event> {
        let Some((machine, timer)) = concerns(&event) else {
            return Some(event);
        };
        if self.paused_until_ms(machine) <= self.now_ms && !self.waiting.contains_key(&machine) {
            return Some(event);
        }
        let waiting = self.waiting.entry(machine).or_default();
        match timer {
            true => waiting.timers.push_back(event),
            false => waiting.outside.push_back(event),
        }
        None
    }

    /// A pause is over, unless it was made longer.
    pub(crate) fn awake(&mut self, machine: Machine) {
        if self.paused_until_ms(machine) > self.now_ms {
            return;
        }
        let Some(waiting) = self.waiting.remove(&machine) else {
            return;
        };
        for event in waiting.outside.into_iter().chain(waiting.timers) {
            self.happen(event);
        }
    }
}
