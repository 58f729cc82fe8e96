//! The lease protocol: one instance with `replace`, on one host; another host
//! that takes it over; two controllers that lead in turn.
//!
//! What decides is the product's own: `nube_controller::agents::lease::Leases` and
//! `nube_agent::lease::Lease`. What is drawn here is what lies between: the log,
//! messages that come late, in any order or never, sessions that break, an agent
//! that dies (its fencer does not), leaders that stand still and do not know that
//! another one was elected, clocks that drift as far as is allowed. Nobody ever
//! has to take a step: what does not happen is a pause.
//!
//! The other host is the worst one possible: it runs the instance from the very
//! log entry on that gives it. The first host's guest lives as long as it can:
//! to the very end of the lease, whatever the agent wants. So the law is short:
//! once the instance has moved, no guest of it is on the first host.

mod rules;
mod steps;
mod world;

pub use rules::{Bounds, Rules};
pub use world::{Cell, Command, Guest, World};

use crate::explore;

/// The protocol under some rules, within some bounds.
#[derive(Clone, Debug)]
pub struct Model {
    /// As built, or with one of them broken.
    pub rules: Rules,
    /// How far it is explored.
    pub bounds: Bounds,
}

/// States that must be reachable, so that the law is not kept by doing nothing.
pub const WANTED: [&str; 3] = [
    "the instance ran here, then moved",
    "the host was fenced, answered, and runs the instance again",
    "the instance moved under a later leader",
];

impl explore::Model for Model {
    type State = World;
    type Step = steps::Step;

    fn start(&self) -> World {
        World::start(self)
    }

    fn steps(&self, world: &World, out: &mut Vec<steps::Step>) {
        world.steps(self, out);
    }

    fn take(&self, world: &World, step: &steps::Step) -> World {
        let mut next = world.clone();
        next.take(self, step);
        next
    }

    fn broken(&self, world: &World) -> Option<String> {
        let guest = world.guest.filter(|_| world.cell.moved)?;
        Some(format!(
            "the instance has moved, and a guest of it runs on the first host until {} ms, at {} ms there",
            guest.stop_at_ms,
            world.host_ms(self)
        ))
    }

    fn reached(&self, world: &World) -> Vec<usize> {
        let lists = |fence_epoch: u64| fence_epoch > 0 && world.may_run(self);
        let list = world.agent.as_ref().and_then(|agent| agent.list);
        let again = list.is_some_and(|(_, fence_epoch, run)| run && lists(fence_epoch));
        let reached = [
            world.ran && world.cell.moved,
            world.guest.is_some() && again && !world.cell.moved,
            world.cell.moved && world.term > 1,
        ];
        (0..reached.len()).filter(|&at| reached[at]).collect()
    }
}
