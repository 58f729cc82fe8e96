//! One seed from beginning to end: trouble, then (in repairable plays) calm, then judgement.

use nube_state::{Instance, InstanceState, State, member};

use crate::judge::{fail, hold};
use crate::marks::Marks;
use crate::scenario::{Mode, Scenario};
use crate::world::World;

/// Faults stop: within this time everything must be as wished (A10).
const CONVERGE_MS: u64 = 60_000;
/// Nothing may happen for so long once all is as wished.
const QUIET_MS: u64 = 15_000;
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
    let newest = world.scenario.controllers as u64;
    if world.controllers.iter().any(|c| c.id > newest && !c.over) {
        world.judge.marks.hit("a newcomer became a voter");
    }
    let effects = world.effects();
    world.note("settled", took_ms, effects);
    for i in world.judge.reference.state().instances.iter() {
        world.trace.tell(|| {
            format!(
                "{} {:?} wished {:?}, {} of {}, {:?}",
                i.id, i.state, i.desired, i.applied_generation, i.generation, i.reason
            )
        });
    }
    world.run_for(QUIET_MS);
    if world.effects() != effects {
        fail(
            "C11",
            format!("{} although all was as wished", world.newest_effects()),
        );
    }
    if let Some(lack) = world.unsettled() {
        fail("C11", format!("{lack}, after it had been as wished"));
    }
    took_ms
}

fn judge(world: &mut World) {
    let judge = &mut world.judge;
    judge.calls.judge(&judge.reference);
    judge.registers.judge();
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
        let status = self.controllers[leader].status()?;
        let commit = status.commit;
        for known in member::present(&self.controllers[leader].state) {
            let voter = |m: &nube_consensus::Member| m.id == known.id && m.voter;
            // One whose answer was lost has a number and no machine.
            if self.place_of(known.id).is_some() && !status.members.iter().any(voter) {
                return Some(format!("member {} has no vote yet", known.id));
            }
        }
        for controller in self.controllers.iter().filter(|c| !c.over) {
            let Some(status) = controller.status() else {
                return Some(format!("member {} is down", controller.id));
            };
            // The log goes on by a tick a second.
            if status.applied + 20 < commit {
                return Some(format!("member {} is behind", controller.id));
            }
        }
        if self.open_calls() > 0 {
            return Some(format!("{} calls are not answered", self.open_calls()));
        }
        if self.ends_due > 0 {
            return Some(format!("{} guests are about to end", self.ends_due));
        }
        let state = self.judge.reference.state();
        let silent = state.nodes.iter().find(|node| !node.reachable);
        if let Some(node) = silent {
            return Some(format!("{} is not reachable", node.facts.name));
        }
        let unsettled = |instance: &&Instance| {
            // A reboot is under way while its instance is called running.
            let owes = instance.applied_generation < instance.generation
                && matches!(
                    instance.state,
                    InstanceState::Running | InstanceState::Stopped
                );
            instance.state.is_transitional() || instance.host_owes_cleanup || owes
        };
        if let Some(instance) = state.instances.iter().find(unsettled) {
            let Instance { id, state, .. } = instance;
            return Some(format!("{id} is still {}", state.word()));
        }
        (0..self.agents.len()).find_map(|agent| self.differs(state, agent))
    }

    /// C5, C8, C9: what is on a host and what the cell says of it.
    fn differs(&self, state: &State, agent: usize) -> Option<String> {
        let known = &self.agents[agent];
        for (id, guest) in &known.host.guests {
            let instance = state.instances.get(id);
            let here = instance.filter(|i| i.node == known.node && i.holds_place());
            let Some(instance) = here else {
                return Some(format!("{id} is gone, but not from host {agent}"));
            };
            let runs = guest.run.is_some();
            if runs != (instance.state == InstanceState::Running) {
                let word = instance.state.word();
                return Some(format!("{id} is {word}, and on host {agent} runs: {runs}"));
            }
        }
        let runs = state.instances_on(known.node);
        let mut runs = runs.filter(|i| i.state == InstanceState::Running);
        let lost = runs.find(|i| !known.host.guests.contains_key(&i.id));
        lost.map(|i| format!("{} is running, but not on host {agent}", i.id))
    }

    /// Which instances hosts changed last, and what the cell says of them.
    fn newest_effects(&self) -> String {
        let state = self.judge.reference.state();
        let newest = self.agents.iter().filter_map(|agent| agent.host.last);
        let told = newest.map(|(id, verb)| match state.instances.get(&id) {
            Some(i) => format!(
                "{verb:?} of {id} ({:?}, wished {:?}, {} of {})",
                i.state, i.desired, i.applied_generation, i.generation
            ),
            None => format!("{verb:?} of {id} (forgotten)"),
        });
        told.collect::<Vec<_>>().join(", ")
    }

    /// C11: steps that changed something on a host, so far.
    fn effects(&self) -> u64 {
        self.agents.iter().map(|agent| agent.host.effects).sum()
    }
}
