//! One seed from beginning to end: trouble, then (in repairable plays) calm, then judgement.

use crate::judge::{fail, hold};
use crate::marks::Marks;
use crate::scenario::{Mode, Scenario};
use crate::world::World;

/// Faults stop: within this time everything must be as wished (A10).
const CONVERGE_MS: u64 = 60_000;
/// Looks while it converges.
const STEP_MS: u64 = 500;

/// What a run that broke nothing tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its seed.
    pub seed: u64,
    /// The fingerprint of everything that happened.
    pub trace: String,
    /// Events in it.
    pub events: u64,
    /// Simulated time.
    pub simulated_ms: u64,
    /// Entries of the log.
    pub entries: u64,
    /// Mutations that were acknowledged.
    pub writes: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Mutations without an answer.
    pub unknown: u64,
    /// How long it took after the faults until all was as wished.
    pub converged_ms: Option<u64>,
    /// Faults and `sometimes`.
    pub marks: Marks,
}

/// Plays a scenario.
///
/// # Panics
/// At the first broken law, with a [`crate::judge::Violation`] as payload; or where the product
/// itself finds its state broken.
#[must_use]
pub fn run(scenario: Scenario, tell: bool) -> Summary {
    let (mode, trouble_ms) = (scenario.mode, scenario.trouble_ms);
    let mut world = World::new(scenario, tell);
    world.run_for(trouble_ms);
    let converged_ms = match mode {
        Mode::Repairable => Some(converge(&mut world)),
        Mode::Unlimited => None,
    };
    judge(&mut world);
    Summary {
        seed: world.scenario.seed,
        trace: world.trace.hash(),
        events: world.trace.events(),
        simulated_ms: world.now_ms,
        entries: world.judge.reference.entries() as u64,
        writes: world.judge.calls.acknowledged() as u64,
        reads: world.judge.calls.reads() as u64,
        unknown: world.judge.calls.unknown,
        converged_ms,
        marks: world.judge.marks.clone(),
    }
}

/// A10: without faults everything comes to an end.
fn converge(world: &mut World) -> u64 {
    world.heal();
    // Clients go on for a while: the cell must serve again, not only come to rest.
    world.run_for(5_000);
    world.busy = false;
    let begun_ms = world.now_ms;
    while let Some(lack) = world.unsettled() {
        if world.now_ms - begun_ms > CONVERGE_MS {
            fail(
                "A10",
                format!("{lack}, {CONVERGE_MS} ms after the last fault"),
            );
        }
        world.run_for(STEP_MS);
    }
    let took_ms = world.now_ms - begun_ms;
    world.run_for(3_000);
    took_ms
}

fn judge(world: &mut World) {
    let judge = &mut world.judge;
    judge.calls.judge(&judge.reference);
    judge.watch.judge(&judge.reference);
    judge.reference.judge_laws();
    judge.reference.judge_bill();
    let wrote = judge.calls.acknowledged();
    hold(
        "A10",
        world.scenario.mode == Mode::Unlimited || wrote > 0,
        || "nothing was ever written".to_owned(),
    );
}

impl World {
    /// What is not as it should be in the end; nothing when all is.
    fn unsettled(&self) -> Option<String> {
        let Some(leader) = self.leader() else {
            return Some("nobody leads".to_owned());
        };
        let commit = self.controllers[leader].status()?.commit;
        for controller in self.controllers.iter().filter(|c| !c.over) {
            let Some(status) = controller.status() else {
                return Some(format!("member {} is down", controller.id));
            };
            // The log goes on by a tick a second.
            if status.applied + 20 < commit {
                return Some(format!("member {} is behind", controller.id));
            }
        }
        match self.open_calls() {
            0 => None,
            calls => Some(format!("{calls} calls are not answered")),
        }
    }
}
