//! The laws of the core under random histories: slow and failing disks, steps
//! that fail, guests that end, lists and leases that come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use nube_proto::v1::InstanceState;
use nube_types::{InstanceId, PlacementEpoch};
use proptest::prelude::*;

use super::*;
use crate::driver::{GuestExit, GuestSpec};
use crate::instance::record::Step;
use crate::instance::{Ending, Version};
use crate::lease::Held;
use crate::plan::test::{run, spec};

const INSTANCES: u64 = 3;
/// This one may run only under a lease.
const LEASED: InstanceId = InstanceId(3);

/// One move of a history; small numbers choose among what is possible.
#[derive(Debug, Clone)]
enum Move {
    List(Vec<(u64, u8)>, u64),
    /// A grant of this fence for so long.
    Lease(u64, u64),
    /// The oldest record under way is answered.
    Disk(bool),
    /// A step under way is answered.
    Verb(usize, bool),
    End(u64, bool),
    Told(u64),
    /// Time goes on; whether the fencer is faster than the agent.
    Time(u64, bool),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let wishes = prop::collection::vec((1..=INSTANCES, 0..4_u8), 0..4);
    let one = prop_oneof![
        2 => (wishes, 0..2_u64).prop_map(|(wishes, fence)| Move::List(wishes, fence)),
        3 => (0..2_u64, 0..30_000_u64).prop_map(|(fence, ms)| Move::Lease(fence, ms)),
        8 => prop::bool::weighted(0.8).prop_map(Move::Disk),
        6 => (0..4_usize, prop::bool::weighted(0.8)).prop_map(|(n, ok)| Move::Verb(n, ok)),
        1 => (1..=INSTANCES, any::<bool>()).prop_map(|(n, off)| Move::End(n, off)),
        1 => (1..=INSTANCES).prop_map(Move::Told),
        3 => (0..40_000_u64, any::<bool>()).prop_map(|(ms, fast)| Move::Time(ms, fast)),
    ];
    prop::collection::vec(one, 1..120)
}

/// The world around a core: what it asked for and what the disk holds.
#[derive(Default)]
struct World {
    now_ms: u64,
    generation: u64,
    wakes_at_ms: Option<u64>,
    disk: BTreeMap<InstanceId, Record>,
    writing: Vec<(InstanceId, Option<Record>)>,
    verbs: Vec<(InstanceId, u64, Verb)>,
    runs: BTreeMap<InstanceId, u32>,
    next_pid: u32,
    view: View,
    listed_fence: Option<u64>,
    lease: Option<Held>,
    /// When leased guests must end.
    deadline_ms: u64,
    trace: Vec<Output>,
}

impl World {
    fn feed(&mut self, core: &mut Core, input: Input) {
        self.wakes_at_ms = None;
        for output in core.handle(self.now_ms, input) {
            self.check(&output);
            self.trace.push(output.clone());
            match output {
                Output::WriteRecord(record) => {
                    self.writing.push((record.instance, Some(*record)));
                }
                Output::Forget(id) => self.writing.push((id, None)),
                Output::Begin {
                    instance,
                    token,
                    verb,
                    ..
                } => self.verbs.push((instance, token, verb)),
                Output::Show(change) => self.view.apply(change),
                Output::Prolong { deadline_ms } => self.deadline_ms = deadline_ms,
                Output::WakeAt(at_ms) => self.wakes_at_ms = Some(at_ms),
                Output::AbortFetch(id) => self
                    .verbs
                    .retain(|(of, _, verb)| *of != id || *verb != Verb::Fetch),
                Output::PinImages(_) => {}
            }
        }
        assert_eq!(core.view(), &self.view);
    }

    /// What must hold at the moment an output comes.
    fn check(&self, output: &Output) {
        let waits = |id: &InstanceId| self.writing.iter().any(|(of, _)| of == id);
        match output {
            Output::WriteRecord(record) => assert!(!waits(&record.instance)),
            Output::Forget(id) => assert!(!waits(id)),
            Output::Prolong { deadline_ms } => {
                let held = self.lease.expect("granted");
                assert_eq!(Some(held.fence_epoch), self.listed_fence);
                assert_eq!(held.stop_at_ms(), *deadline_ms);
                assert!(*deadline_ms > self.deadline_ms);
            }
            Output::Begin { instance, verb, .. } => {
                assert!(!waits(instance), "begun before its record was answered");
                if *instance == LEASED && *verb == Verb::Start {
                    let held = self.lease.expect("granted");
                    let fence = self.listed_fence.expect("listed");
                    assert!(held.may_run(fence, self.now_ms) && self.deadline_ms > self.now_ms);
                }
                let step = self.disk.get(instance).map(|record| &record.step);
                match verb {
                    Verb::Prepare => assert_eq!(step, Some(&Step::Preparing)),
                    Verb::Start => assert!(matches!(step, Some(Step::Starting(_)))),
                    _ => {}
                }
            }
            Output::Show(Change::Instance(id, seen)) => {
                assert!(!waits(id), "shown before its record was answered");
                let step = self.disk.get(id).map(|record| &record.step);
                match seen.state() {
                    InstanceState::Running => assert!(
                        matches!(step, Some(Step::Running | Step::Stopping))
                            || seen.reason == "rebooting",
                        "{step:?}"
                    ),
                    InstanceState::Stopped
                        if !seen.found_dead
                            && matches!(step, Some(Step::Stopped(Ending::Fenced { .. }))) =>
                    {
                        panic!("an end by lease is nobody's wish");
                    }
                    InstanceState::Stopped => {
                        assert!(matches!(step, Some(Step::Stopped(_))), "{step:?}");
                    }
                    InstanceState::Deleted => assert_eq!(step, None),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, core: &mut Core, step: &Move) {
        match step {
            Move::List(chosen, fence_epoch) => {
                self.listed_fence = Some(*fence_epoch);
                if self
                    .lease
                    .is_some_and(|held| held.fence_epoch != *fence_epoch)
                {
                    self.deadline_ms = 0;
                }
                self.generation += 1;
                let chosen: BTreeMap<_, _> = chosen.iter().copied().collect();
                let wishes = chosen.iter().map(|(n, desire)| self.wish(*n, *desire));
                let input = Input::Desired {
                    wishes: wishes.collect(),
                    fence_epoch: *fence_epoch,
                };
                self.feed(core, input);
            }
            Move::Lease(fence_epoch, for_ms) => {
                let held = Held {
                    fence_epoch: *fence_epoch,
                    ends_at_ms: self.now_ms + for_ms,
                };
                self.lease = Some(held);
                self.feed(core, Input::Lease(held));
            }
            Move::Disk(durable) => {
                if self.writing.is_empty() {
                    return;
                }
                let (instance, record) = self.writing.remove(0);
                let durable = *durable;
                match record {
                    Some(record) if durable => drop(self.disk.insert(instance, record)),
                    None if durable => drop(self.disk.remove(&instance)),
                    _ => {}
                }
                self.feed(core, Input::Recorded { instance, durable });
            }
            Move::Verb(n, worked) => self.verb(core, *n, *worked),
            Move::End(n, off) => self.end(core, InstanceId(*n), *off),
            Move::Told(n) => self.feed(core, Input::Told(vec![InstanceId(*n)])),
            Move::Time(more_ms, fast) => {
                self.now_ms += more_ms;
                if *fast && self.now_ms >= self.deadline_ms {
                    self.end(core, LEASED, false);
                }
                if self.wakes_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
                    self.feed(core, Input::Wake);
                }
            }
        }
    }

    fn wish(&self, n: u64, desire: u8) -> Wish {
        let instance = InstanceId(n);
        Wish {
            instance,
            version: Version {
                epoch: PlacementEpoch(1),
                generation: self.generation,
            },
            desire: match desire {
                0 => Desire::Stopped,
                1 => Desire::Deleted,
                _ => Desire::Running(Arc::new(GuestSpec {
                    leased: instance == LEASED,
                    ..spec(instance, 1)
                })),
            },
            reboot_count: u64::from(desire == 3),
            force: false,
        }
    }

    fn verb(&mut self, core: &mut Core, n: usize, worked: bool) {
        if self.verbs.is_empty() {
            return;
        }
        let (instance, token, verb) = self.verbs.remove(n % self.verbs.len());
        let done = match (worked, verb) {
            (false, _) => Done::Failed("scripted".to_owned()),
            (true, Verb::Start) => {
                self.next_pid += 1;
                self.runs.insert(instance, self.next_pid);
                Done::Started(run(self.next_pid))
            }
            (true, Verb::PowerCut | Verb::Remove) => {
                self.end(core, instance, false);
                Done::Ok
            }
            (true, _) => Done::Ok,
        };
        let answer = Input::VerbFinished {
            instance,
            token,
            done,
        };
        self.feed(core, answer);
    }

    fn end(&mut self, core: &mut Core, instance: InstanceId, off: bool) {
        let Some(pid) = self.runs.remove(&instance) else {
            return;
        };
        let exit = match off {
            true => GuestExit::PoweredOff,
            false => GuestExit::Crashed("scripted".to_owned()),
        };
        let ended = GuestEnded {
            instance,
            run: run(pid),
            exit,
        };
        self.feed(core, Input::GuestEnded(ended));
    }

    /// The disk works, steps work, time goes on.
    fn come_to_rest(&mut self, core: &mut Core) {
        for _ in 0..1_000 {
            if !self.writing.is_empty() {
                self.take(core, &Move::Disk(true));
            } else if !self.verbs.is_empty() {
                self.take(core, &Move::Verb(0, true));
            } else if let Some(at_ms) = self.wakes_at_ms {
                let more_ms = at_ms.saturating_sub(self.now_ms);
                self.take(core, &Move::Time(more_ms, false));
            } else {
                // The core's last look was at or after the deadline.
                let over = self.now_ms >= self.deadline_ms;
                assert!(!over || !self.runs.contains_key(&LEASED));
                return;
            }
        }
        panic!("does not come to rest");
    }
}

fn play(history: &[Move]) -> World {
    let mut core = Core::recover(BTreeMap::new(), Vec::new(), Vec::new());
    let mut world = World::default();
    world.feed(&mut core, Input::Started);
    for step in history {
        world.take(&mut core, step);
    }
    world.come_to_rest(&mut core);
    let everything_goes = (1..=INSTANCES).map(|n| (n, 1)).collect();
    world.take(&mut core, &Move::List(everything_goes, 0));
    world.come_to_rest(&mut core);
    world.take(&mut core, &Move::List(Vec::new(), 0));
    world.come_to_rest(&mut core);
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Record before step, record before show (see `World::check`), and in the
    /// end nothing is left of what was deleted.
    #[test]
    fn records_come_first_and_every_history_comes_to_rest(history in moves()) {
        let world = play(&history);
        prop_assert!(world.disk.is_empty() && world.runs.is_empty());
        prop_assert!(world.view.instances.is_empty() && world.view.unknown.is_empty());
    }

    #[test]
    fn the_same_history_gives_the_same_outputs(history in moves()) {
        prop_assert_eq!(play(&history).trace, play(&history).trace);
    }
}

/// The fencer is faster than the agent: seen from here the guest just died.
#[test]
fn an_end_after_the_deadline_is_the_fencers_work() {
    for (early_ms, state) in [(0, InstanceState::Stopped), (1, InstanceState::Failed)] {
        let mut core = Core::recover(BTreeMap::new(), Vec::new(), Vec::new());
        let mut world = World::default();
        world.take(&mut core, &Move::Lease(0, 10_000));
        world.take(&mut core, &Move::List(vec![(LEASED.0, 2)], 0));
        while !world.runs.contains_key(&LEASED) || !world.writing.is_empty() {
            world.take(&mut core, &Move::Disk(true));
            world.take(&mut core, &Move::Verb(0, true));
        }
        world.now_ms = world.deadline_ms - early_ms;
        world.end(&mut core, LEASED, false);
        world.take(&mut core, &Move::Disk(true));
        let seen = &core.view().instances[&LEASED];
        assert_eq!(seen.state(), state);
        assert_eq!(seen.found_dead, early_ms == 0);
    }
}
