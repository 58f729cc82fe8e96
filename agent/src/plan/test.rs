//! Every desired x observed combination as a table, and random histories that
//! must come to rest: with agent crashes, failing verbs and repeated steps.

use std::net::Ipv4Addr;
use std::sync::Arc;

use nube_types::{InstanceId, NetworkId, PlacementEpoch};
use proptest::prelude::*;

use super::{Action, Leave, plan};
use crate::driver::{DiskFormat, GuestExit, GuestSpec, ImageSpec, PortSpec, Run};
use crate::instance::record::Found;
use crate::instance::{Desire, Done, Ending, Failure, Goal, Machine, Phase, Verb, Version, Wish};

const ID: InstanceId = InstanceId(1);

pub(crate) fn spec(id: InstanceId, epoch: u32) -> GuestSpec {
    GuestSpec {
        instance: id,
        epoch: PlacementEpoch(epoch),
        hostname: "web".to_owned(),
        vcpus: 1,
        memory_mib: 128,
        disk_mib: 512,
        image: ImageSpec {
            disk_sha256: "a".repeat(64),
            disk_size_bytes: 10,
            disk_format: DiskFormat::Raw,
            boot: None,
        },
        port: PortSpec {
            network: NetworkId(1),
            network_number: 1,
            address: Ipv4Addr::new(10, 0, 0, 5),
            prefix_length: 24,
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            mac: [2, 0, 0, 0, 0, 5],
            mtu: 1450,
            address_v6: None,
            network_name: String::new(),
        },
        authorized_keys: vec![],
        user_data: vec![],
        ssh_host_private_key: String::new(),
        leased: false,
        metadata_only: false,
    }
}

pub(crate) fn run(pid: u32) -> Run {
    Run {
        host_boot_id: "boot".to_owned(),
        pid,
        start_ticks: 1,
    }
}

fn version(epoch: u32, generation: u64) -> Version {
    Version {
        epoch: PlacementEpoch(epoch),
        generation,
    }
}

fn running(epoch: u32) -> Desire {
    Desire::Running(Arc::new(spec(ID, epoch)))
}

fn wish(desire: Desire, epoch: u32, generation: u64) -> Wish {
    Wish {
        instance: ID,
        version: version(epoch, generation),
        desire,
        reboot_count: 0,
        force: false,
    }
}

/// A machine of placement 1 that has fulfilled generation 1.
fn machine(phase: Phase) -> Machine {
    let mut machine = Machine::new(ID);
    machine.accepted = version(1, 1);
    machine.applied = version(1, 1);
    machine.epoch = PlacementEpoch(1);
    machine.touched = !matches!(
        phase,
        Phase::Absent | Phase::Fetching | Phase::Fetched | Phase::Removed
    );
    machine.run = Some(run(1));
    machine.phase = phase;
    machine
}

fn phases() -> Vec<(&'static str, Phase)> {
    let failed = |retry_at_ms| {
        let verb = Some(Verb::Start);
        Phase::Failed(Failure {
            verb,
            reason: String::new(),
            retry_at_ms,
            version: version(1, 1),
        })
    };
    vec![
        ("absent", Phase::Absent),
        ("fetched", Phase::Fetched),
        ("prepared", Phase::Prepared { fresh: true }),
        ("prepared, old", Phase::Prepared { fresh: false }),
        ("running", Phase::Running),
        ("stopping", Phase::Stopping { cut_at_ms: 100 }),
        ("stopping, late", Phase::Stopping { cut_at_ms: 0 }),
        ("stopped, asked", Phase::Stopped(Ending::Asked)),
        ("stopped, itself", Phase::Stopped(Ending::PoweredOff)),
        (
            "dead, untold",
            Phase::Stopped(Ending::FoundDead { told: false }),
        ),
        (
            "dead, told",
            Phase::Stopped(Ending::FoundDead { told: true }),
        ),
        (
            "fenced, untold",
            Phase::Stopped(Ending::Fenced { told: false }),
        ),
        (
            "fenced, told",
            Phase::Stopped(Ending::Fenced { told: true }),
        ),
        ("fencing", Phase::Fencing { retry_at_ms: 0 }),
        ("fencing, again", Phase::Fencing { retry_at_ms: 100 }),
        ("removing", Phase::Removing { retry_at_ms: 0 }),
        ("removed", Phase::Removed),
        ("failed, again", failed(Some(100))),
        ("failed, due", failed(Some(0))),
        ("failed", failed(None)),
    ]
}

fn short(wish: Option<&Wish>, leave: Leave, phase: &Phase) -> String {
    let planned = plan(wish, &machine(phase.clone()), leave, 50);
    match (planned.action, planned.wake_at_ms) {
        (Some(Action::Do(verb)), _) => format!("{verb:?}"),
        (Some(Action::Refuse(_)), _) => "Refuse".to_owned(),
        (Some(action), _) => format!("{action:?}"),
        (None, Some(at_ms)) => format!("wait {at_ms}"),
        (None, None) => "-".to_owned(),
    }
}

fn table(columns: &[(&str, Leave, Option<Wish>)]) -> String {
    let mut text = format!("{:16}", "");
    columns
        .iter()
        .for_each(|(name, _, _)| text.push_str(&format!("| {name:12}")));
    text.push('\n');
    for (name, phase) in phases() {
        text.push_str(&format!("{name:16}"));
        for (_, leave, wish) in columns {
            text.push_str(&format!("| {:12}", short(wish.as_ref(), *leave, &phase)));
        }
        text.push('\n');
    }
    // Trailing blanks are not kept in the snapshot.
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

#[test]
fn every_combination() {
    let reboot = Wish {
        reboot_count: 1,
        ..wish(running(1), 1, 2)
    };
    let forced = Wish {
        force: true,
        ..wish(Desire::Stopped, 1, 2)
    };
    insta::assert_snapshot!(table(&[
        ("unlisted", Leave::Start, None),
        ("run, same", Leave::Start, Some(wish(running(1), 1, 1))),
        ("run, newer", Leave::Start, Some(wish(running(1), 1, 2))),
        ("reboot", Leave::Start, Some(reboot)),
        ("run, epoch 2", Leave::Start, Some(wish(running(2), 2, 1))),
        ("stop", Leave::Start, Some(wish(Desire::Stopped, 1, 2))),
        ("stop, force", Leave::Start, Some(forced)),
        ("delete", Leave::Start, Some(wish(Desire::Deleted, 1, 2))),
        ("refused", Leave::Start, Some(wish(Desire::Refused("no".to_owned()), 1, 2))),
    ]), @r"
                    | unlisted    | run, same   | run, newer  | reboot      | run, epoch 2| stop        | stop, force | delete      | refused
    absent          | Forget      | Fetch       | Fetch       | Fetch       | Fetch       | Fulfil      | Fulfil      | Remove      | Refuse
    fetched         | Forget      | Prepare     | Prepare     | Prepare     | Fetch       | Fulfil      | Fulfil      | Remove      | Refuse
    prepared        | -           | Start       | Start       | Start       | Fetch       | Fulfil      | Fulfil      | Remove      | Refuse
    prepared, old   | -           | Fetch       | Fetch       | Fetch       | Fetch       | Fulfil      | Fulfil      | Remove      | Refuse
    running         | -           | -           | Fulfil      | PowerButton | PowerCut    | PowerButton | PowerCut    | Remove      | -
    stopping        | -           | wait 100    | wait 100    | wait 100    | wait 100    | wait 100    | PowerCut    | Remove      | wait 100
    stopping, late  | -           | PowerCut    | PowerCut    | PowerCut    | PowerCut    | PowerCut    | PowerCut    | Remove      | PowerCut
    stopped, asked  | -           | Fetch       | Fetch       | Fetch       | Fetch       | Fulfil      | Fulfil      | Remove      | Refuse
    stopped, itself | -           | -           | Fetch       | Fetch       | Fetch       | Fulfil      | Fulfil      | Remove      | Refuse
    dead, untold    | -           | -           | -           | -           | Fetch       | Fulfil      | Fulfil      | Remove      | -
    dead, told      | -           | Fetch       | Fetch       | Fetch       | Fetch       | Fulfil      | Fulfil      | Remove      | Refuse
    fenced, untold  | -           | -           | -           | -           | Fetch       | Fulfil      | Fulfil      | Remove      | -
    fenced, told    | -           | Fetch       | Fetch       | Fetch       | Fetch       | Fulfil      | Fulfil      | Remove      | Refuse
    fencing         | Fence       | Fence       | Fence       | Fence       | Fence       | Fence       | Fence       | Remove      | Fence
    fencing, again  | wait 100    | wait 100    | wait 100    | wait 100    | wait 100    | wait 100    | wait 100    | Remove      | wait 100
    removing        | -           | Remove      | Remove      | Remove      | Remove      | Remove      | Remove      | Remove      | Remove
    removed         | Forget      | -           | -           | -           | Fetch       | -           | -           | Fulfil      | -
    failed, again   | -           | wait 100    | Fetch       | Fetch       | Fetch       | PowerCut    | PowerCut    | Remove      | Refuse
    failed, due     | -           | Fetch       | Fetch       | Fetch       | Fetch       | PowerCut    | PowerCut    | Remove      | Refuse
    failed          | -           | -           | Fetch       | Fetch       | Fetch       | PowerCut    | PowerCut    | Remove      | Refuse
    ");
}

/// The columns are what the host's lease allows a leased guest.
#[test]
fn every_combination_with_a_lease() {
    let run = || Some(wish(running(1), 1, 1));
    let stop = Some(wish(Desire::Stopped, 1, 2));
    let delete = Some(wish(Desire::Deleted, 1, 2));
    insta::assert_snapshot!(table(&[
        ("run, granted", Leave::Start, run()),
        ("run on", Leave::RunOn, run()),
        ("run, over", Leave::Stop, run()),
        ("stop, over", Leave::Stop, stop),
        ("delete, over", Leave::Stop, delete),
        ("unlisted", Leave::RunOn, None),
        ("unl., over", Leave::Stop, None),
    ]), @r"
                    | run, granted| run on      | run, over   | stop, over  | delete, over| unlisted    | unl., over
    absent          | Fetch       | Fetch       | Fetch       | Fulfil      | Remove      | Forget      | Forget
    fetched         | Prepare     | Prepare     | Prepare     | Fulfil      | Remove      | Forget      | Forget
    prepared        | Start       | -           | -           | Fulfil      | Remove      | -           | -
    prepared, old   | Fetch       | Fetch       | Fetch       | Fulfil      | Remove      | -           | -
    running         | -           | -           | Fence       | Fence       | Remove      | -           | Fence
    stopping        | wait 100    | wait 100    | Fence       | Fence       | Remove      | -           | Fence
    stopping, late  | PowerCut    | PowerCut    | Fence       | Fence       | Remove      | -           | Fence
    stopped, asked  | Fetch       | -           | -           | Fulfil      | Remove      | -           | -
    stopped, itself | -           | -           | -           | Fulfil      | Remove      | -           | -
    dead, untold    | -           | -           | -           | Fulfil      | Remove      | -           | -
    dead, told      | Fetch       | -           | -           | Fulfil      | Remove      | -           | -
    fenced, untold  | -           | -           | -           | Fulfil      | Remove      | -           | -
    fenced, told    | Fetch       | -           | -           | Fulfil      | Remove      | -           | -
    fencing         | Fence       | Fence       | Fence       | Fence       | Remove      | Fence       | Fence
    fencing, again  | wait 100    | wait 100    | wait 100    | wait 100    | Remove      | wait 100    | wait 100
    removing        | Remove      | Remove      | Remove      | Remove      | Remove      | -           | -
    removed         | -           | -           | -           | -           | Fulfil      | Forget      | Forget
    failed, again   | wait 100    | wait 100    | wait 100    | PowerCut    | Remove      | -           | -
    failed, due     | Fetch       | Fetch       | Fetch       | PowerCut    | Remove      | -           | -
    failed          | -           | -           | -           | PowerCut    | Remove      | -           | -
    ");
}

#[test]
fn the_end_of_a_lease_waits_for_no_more_than_the_step_under_way() {
    let fence = |machine: &Machine| plan(None, machine, Leave::Stop, 0).action;
    let mut reboot = machine(Phase::Prepared { fresh: true });
    assert_eq!(fence(&reboot), None, "nothing runs");
    // It says `running` to the leader; that must end.
    reboot.rebooting = true;
    assert_eq!(fence(&reboot), Some(Action::Fence));
    let mut busy = machine(Phase::Running);
    let verb = Verb::PowerButton;
    busy.busy = Some(crate::instance::Busy { verb, token: 1 });
    assert_eq!(fence(&busy), None);
}

#[test]
fn while_a_verb_is_under_way_only_delete_overtakes_a_fetch() {
    for verb in [
        Verb::Fetch,
        Verb::Prepare,
        Verb::Start,
        Verb::PowerButton,
        Verb::PowerCut,
        Verb::Remove,
    ] {
        let mut busy = machine(Phase::Fetching);
        busy.busy = Some(crate::instance::Busy { verb, token: 1 });
        for desire in [running(1), Desire::Stopped] {
            assert_eq!(
                plan(Some(&wish(desire, 1, 9)), &busy, Leave::Start, 0),
                super::Plan::default()
            );
        }
        let planned = plan(Some(&wish(Desire::Deleted, 1, 9)), &busy, Leave::Start, 0).action;
        assert_eq!(
            planned,
            (verb == Verb::Fetch).then_some(Action::Do(Verb::Remove))
        );
    }
}

#[test]
fn older_wishes_are_refused() {
    let mut machine = machine(Phase::Running);
    machine.accepted = version(2, 5);
    assert!(!machine.take(&wish(running(1), 1, 9)), "older placement");
    assert!(
        !machine.take(&wish(Desire::Deleted, 2, 4)),
        "older generation"
    );
    assert!(machine.take(&wish(Desire::Stopped, 2, 5)), "the same again");
    assert!(
        machine.take(&wish(Desire::Stopped, 3, 0)),
        "a newer placement"
    );
}

/// A host that does what it is told, and counts.
#[derive(Debug, Default)]
struct Host {
    disk: bool,
    process: Option<u32>,
    next_pid: u32,
    starts: u32,
    disks_made: u32,
}

impl Host {
    fn perform(&mut self, verb: Verb) -> Done {
        match verb {
            Verb::Fetch | Verb::PowerButton => {}
            Verb::Prepare => {
                self.disks_made += u32::from(!self.disk);
                self.disk = true;
            }
            Verb::Start => {
                assert!(self.disk, "start without a disk");
                if self.process.is_none() {
                    self.next_pid += 1;
                    self.starts += 1;
                    self.process = Some(self.next_pid);
                }
                return Done::Started(run(self.process.unwrap_or_default()));
            }
            Verb::PowerCut => self.process = None,
            Verb::Remove => (self.disk, self.process) = (false, None),
        }
        Done::Ok
    }

    fn found(&self) -> Found {
        match (self.disk, self.process) {
            (_, Some(pid)) => Found::Running(PlacementEpoch(1), run(pid)),
            (true, None) => Found::Prepared(PlacementEpoch(1)),
            (false, None) => Found::Absent,
        }
    }
}

/// What may happen between two looks of the plan.
#[derive(Debug, Clone)]
enum Event {
    Want(u8),
    Reboot,
    NewEpoch,
    Plan,
    /// The verb under way is done, and answers.
    Answer,
    /// It is done, but fails (or its answer is lost on the way).
    Fail,
    AnswerTwice,
    GuestOff,
    GuestCrash,
    /// The agent dies: before or after the verb under way was done.
    AgentDies {
        done: bool,
    },
    Told,
    Later,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        2 => (0..8_u8).prop_map(Event::Want),
        1 => Just(Event::Reboot),
        1 => Just(Event::NewEpoch),
        8 => Just(Event::Plan),
        8 => Just(Event::Answer),
        2 => Just(Event::Fail),
        1 => Just(Event::AnswerTwice),
        1 => Just(Event::GuestOff),
        1 => Just(Event::GuestCrash),
        1 => any::<bool>().prop_map(|done| Event::AgentDies { done }),
        1 => Just(Event::Told),
        2 => Just(Event::Later),
    ];
    prop::collection::vec(event, 1..80)
}

struct World {
    machine: Machine,
    host: Host,
    wish: Wish,
    token: u64,
    now_ms: u64,
    deleted: bool,
}

impl World {
    fn new() -> Self {
        let wish = wish(running(1), 1, 1);
        let mut machine = Machine::new(ID);
        machine.take(&wish);
        Self {
            machine,
            host: Host::default(),
            wish,
            token: 0,
            now_ms: 0,
            deleted: false,
        }
    }

    fn want(&mut self, change: impl FnOnce(&mut Wish)) {
        if self.deleted {
            return;
        }
        change(&mut self.wish);
        self.wish.version.generation += 1;
        self.deleted = self.wish.desire == Desire::Deleted;
        assert!(self.machine.take(&self.wish));
    }

    fn step(&mut self, event: Event) {
        let epoch = self.wish.version.epoch.0;
        match event {
            Event::Want(0) => self.want(|wish| wish.desire = Desire::Deleted),
            Event::Want(1 | 2) => self.want(|wish| wish.desire = Desire::Stopped),
            Event::Want(3) => self.want(|wish| (wish.desire, wish.force) = (Desire::Stopped, true)),
            Event::Want(_) => self.want(|wish| (wish.desire, wish.force) = (running(epoch), false)),
            Event::Reboot => self.want(|wish| wish.reboot_count += 1),
            Event::NewEpoch => self.want(|wish| wish.version.epoch.0 += 1),
            Event::Plan => self.plan(),
            Event::Answer => self.answer(false),
            Event::Fail => self.answer(true),
            Event::AnswerTwice => {
                let late = self.token.saturating_sub(1);
                self.machine
                    .finished(late, Done::Started(run(999)), Some(&self.wish), self.now_ms);
            }
            Event::GuestOff => self.guest_ends(GuestExit::PoweredOff),
            Event::GuestCrash => self.guest_ends(GuestExit::Crashed("signal 11".to_owned())),
            Event::AgentDies { done } => self.agent_dies(done),
            Event::Told => self.machine.told_dead(),
            Event::Later => self.now_ms += 60_000,
        }
        self.check();
    }

    fn plan(&mut self) {
        let planned = plan(Some(&self.wish), &self.machine, Leave::Start, self.now_ms);
        let Some(action) = planned.action else {
            return;
        };
        assert!(self.machine.busy.is_none() || action == Action::Do(Verb::Remove));
        if action == Action::Do(Verb::Start) {
            assert_eq!(self.host.process, None, "a start while it runs");
        }
        self.token += 1;
        self.machine
            .begin(&action, &self.wish, self.token, self.now_ms);
    }

    fn answer(&mut self, fails: bool) {
        let Some(busy) = self.machine.busy else {
            return;
        };
        let mut done = self.host.perform(busy.verb);
        if fails {
            // The shell cuts what a failed start may have left.
            if busy.verb == Verb::Start {
                self.host.process = None;
            }
            done = Done::Failed("no".to_owned());
        }
        self.machine
            .finished(busy.token, done, Some(&self.wish), self.now_ms);
    }

    fn guest_ends(&mut self, exit: GuestExit) {
        if let Some(pid) = self.host.process.take() {
            self.machine.ended(&run(pid), exit);
        }
    }

    fn agent_dies(&mut self, done: bool) {
        let record = self.machine.record();
        if let Some(busy) = self.machine.busy.filter(|_| done) {
            self.host.perform(busy.verb);
        }
        let record = record.map(|record| {
            let json = serde_json::to_string(&record).expect("json");
            serde_json::from_str(&json).expect("the same record")
        });
        self.machine = Machine::recovered(ID, record, self.host.found());
        // The leader's list comes again; a removed one may be unknown by now.
        self.machine.take(&self.wish);
    }

    fn check(&self) {
        assert!(self.host.starts >= self.host.process.map_or(0, |_| 1));
        if let (Phase::Stopped(_) | Phase::Removed, Some(pid)) =
            (&self.machine.phase, self.host.process)
        {
            panic!("{:?} but process {pid} runs", self.machine.phase);
        }
    }

    /// No more trouble: what is wished must come true.
    fn come_to_rest(&mut self) {
        for _ in 0..60 {
            self.plan();
            self.answer(false);
            self.machine.told_dead();
            if let Phase::Stopping { .. } = self.machine.phase {
                self.guest_ends(GuestExit::PoweredOff);
            }
            self.now_ms += 60_000;
        }
        let rest = plan(Some(&self.wish), &self.machine, Leave::Start, self.now_ms);
        assert_eq!(
            rest,
            super::Plan::default(),
            "no flapping: {:?}",
            self.machine
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_history_comes_to_rest(history in events()) {
        let mut world = World::new();
        history.into_iter().for_each(|event| world.step(event));
        world.come_to_rest();
        let machine = &world.machine;
        match world.wish.desire {
            Desire::Deleted => {
                prop_assert_eq!(&machine.phase, &Phase::Removed);
                prop_assert!(!world.host.disk && world.host.process.is_none());
                prop_assert!(machine.record().is_none());
            }
            Desire::Stopped => {
                prop_assert!(matches!(machine.phase, Phase::Stopped(_)), "{:?}", machine);
                prop_assert!(world.host.process.is_none());
                prop_assert_eq!(machine.applied, world.wish.version);
            }
            _ => {
                // It runs, or its owner must decide: it ended by itself.
                let runs = machine.phase == Phase::Running;
                prop_assert_eq!(runs, world.host.process.is_some());
                let waits = matches!(
                    &machine.phase,
                    Phase::Stopped(Ending::PoweredOff) | Phase::Failed(Failure { retry_at_ms: None, .. })
                );
                prop_assert!(runs || waits, "{:?}", machine);
                if runs {
                    prop_assert_eq!(machine.applied, world.wish.version);
                    prop_assert_eq!(machine.reboots, Some(world.wish.reboot_count));
                }
            }
        }
    }

    #[test]
    fn a_newer_wish_to_run_always_runs(history in events()) {
        let mut world = World::new();
        history.into_iter().for_each(|event| world.step(event));
        if !world.deleted {
            let epoch = world.wish.version.epoch.0;
            world.want(|wish| wish.desire = running(epoch));
            world.come_to_rest();
            prop_assert_eq!(&world.machine.phase, &Phase::Running);
            prop_assert!(world.host.disks_made <= 1, "the disk is kept");
        }
    }

    #[test]
    fn an_agent_crash_at_any_step_of_a_reboot_boots_once(steps in 0..14_usize, done: bool) {
        let mut world = World::new();
        world.come_to_rest();
        let before = world.host.starts;
        world.want(|wish| wish.reboot_count += 1);
        for step in 0..steps {
            if step % 2 == 0 { world.plan() } else { world.answer(false) }
            if step == 3 { world.guest_ends(GuestExit::PoweredOff) }
        }
        world.agent_dies(done);
        world.come_to_rest();
        prop_assert_eq!(world.host.starts, before + 1);
        prop_assert_eq!(world.machine.reboots, Some(1));
    }
}

#[test]
fn a_goal_is_kept_in_the_record_of_a_start() {
    let mut starting = machine(Phase::Starting(Goal {
        version: version(1, 3),
        reboot_count: 2,
    }));
    starting.prepared = true;
    let recovered = Machine::recovered(
        ID,
        starting.record(),
        Found::Running(PlacementEpoch(1), run(7)),
    );
    assert_eq!(recovered.phase, Phase::Running);
    assert_eq!(
        (recovered.applied, recovered.reboots),
        (version(1, 3), Some(2))
    );
}

#[test]
fn without_a_record_nothing_running_is_touched() {
    let mut found = Machine::recovered(ID, None, Found::Running(PlacementEpoch(1), run(7)));
    let asked_before = Wish {
        reboot_count: 3,
        ..wish(running(1), 1, 5)
    };
    assert!(found.take(&asked_before));
    assert_eq!(
        plan(Some(&asked_before), &found, Leave::Start, 0).action,
        Some(Action::Fulfil)
    );
    let dead = Machine::recovered(ID, None, Found::Prepared(PlacementEpoch(1)));
    assert_eq!(
        dead.phase,
        Phase::Stopped(Ending::FoundDead { told: false })
    );
}

#[test]
fn a_lost_disk_is_said_and_not_replaced_silently() {
    let mut before = machine(Phase::Running);
    before.prepared = true;
    let lost = Machine::recovered(ID, before.record(), Found::Absent);
    assert!(
        matches!(&lost.phase, Phase::Failed(failure) if failure.reason.contains("disk is gone"))
    );
    assert_eq!(
        plan(Some(&wish(running(1), 1, 1)), &lost, Leave::Start, 0).action,
        None
    );
    let newer = wish(running(1), 1, 2);
    assert_eq!(
        plan(Some(&newer), &lost, Leave::Start, 0).action,
        Some(Action::Do(Verb::Fetch))
    );
}
