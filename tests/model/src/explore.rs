//! Walks all states of a model, breadth first, so that the first broken one is
//! reached by the fewest steps. (Crates for this bring a web server and a random
//! number generator along, and want states that can be compared; ours hold pieces
//! of the product, which can only be printed.)

use std::collections::{HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// A protocol.
pub trait Model {
    /// Everything that is so at a moment.
    type State: Clone + Hash;
    /// What can happen.
    type Step: Clone + Debug;

    /// The first moment.
    fn start(&self) -> Self::State;
    /// What can happen next.
    fn steps(&self, state: &Self::State, steps: &mut Vec<Self::Step>);
    /// What is so afterwards.
    fn take(&self, state: &Self::State, step: &Self::Step) -> Self::State;
    /// What must never be so, in words, if it is.
    fn broken(&self, state: &Self::State) -> Option<String>;
    /// What must be reachable: numbers from 0 on.
    fn reached(&self, state: &Self::State) -> Vec<usize>;
}

/// How states are counted and where the walk ends.
pub const STATES_MAX: usize = 3_000_000;

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// Steps to the farthest state.
    pub depth: usize,
    /// All states were seen (else one was broken, or there were too many).
    pub complete: bool,
    /// Which of the wanted states were seen.
    pub reached: std::collections::BTreeSet<usize>,
    /// The shortest way to a broken state, and what is broken there.
    pub broken: Option<(Vec<String>, String)>,
}

/// How a state was reached first.
struct Way<S> {
    from: usize,
    step: Option<S>,
    depth: usize,
}

/// Walks until all states were seen or one is broken.
pub fn explore<M: Model>(model: &M) -> Explored {
    let mut explored = Explored::default();
    let mut seen = HashSet::new();
    let mut ways: Vec<Way<M::Step>> = Vec::new();
    let mut queue = VecDeque::new();
    let start = model.start();
    seen.insert(fingerprint(&start));
    ways.push(Way {
        from: 0,
        step: None,
        depth: 0,
    });
    queue.push_back((0, start));
    let mut steps = Vec::new();
    while let Some((at, state)) = queue.pop_front() {
        explored.reached.extend(model.reached(&state));
        explored.depth = ways[at].depth;
        if let Some(what) = model.broken(&state) {
            explored.states = ways.len();
            explored.broken = Some((story(&ways, at), what));
            return explored;
        }
        steps.clear();
        model.steps(&state, &mut steps);
        for step in &steps {
            explored.steps += 1;
            let next = model.take(&state, step);
            if !seen.insert(fingerprint(&next)) {
                continue;
            }
            ways.push(Way {
                from: at,
                step: Some(step.clone()),
                depth: ways[at].depth + 1,
            });
            queue.push_back((ways.len() - 1, next));
        }
        if ways.len() > STATES_MAX {
            explored.states = ways.len();
            return explored;
        }
    }
    explored.states = ways.len();
    explored.complete = true;
    explored
}

/// 128 bits tell any two states of a walk apart (FNV-1a).
fn fingerprint(state: &impl Hash) -> u128 {
    let mut fingerprint = Fingerprint(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    state.hash(&mut fingerprint);
    fingerprint.0
}

struct Fingerprint(u128);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
        }
    }

    fn finish(&self) -> u64 {
        unreachable!("all 128 bits are taken")
    }
}

fn story<S: Debug>(ways: &[Way<S>], mut at: usize) -> Vec<String> {
    let mut story = Vec::new();
    while let Some(step) = &ways[at].step {
        story.push(format!("{step:?}"));
        at = ways[at].from;
    }
    story.reverse();
    story
}
