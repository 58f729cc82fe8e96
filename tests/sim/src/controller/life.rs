//! Births, deaths and returns of controllers.

use nube_consensus::{Config, Core, Error, SnapshotMeta};
use nube_controller::agents::lease::Leases;
use nube_controller::clock::cluster::ClusterClock;
use nube_state::{State, codec};
use rand::Rng;

use super::{Controller, TICK_MS};
use crate::judge::{fail, hold};
use crate::scenario::Scenario;
use crate::world::{Event, World};

/// Between two looks of the membership loop.
pub const LOOK_MEMBERS_MS: u64 = 200;

fn config(controller: &Controller, scenario: &Scenario) -> Config {
    let mut config = Config::new(controller.id, [1; 16], "/member");
    config.initial_voters.clone_from(&controller.voters);
    config.max_entry_bytes = 64 << 10;
    config.segment_bytes = 256 << 10;
    config.tick_ms = TICK_MS;
    config.keep_entries = scenario.keep_entries;
    config.snapshot_timeout_ticks = 40;
    config
}

impl World {
    /// The first members.
    pub(crate) fn form(&mut self) {
        let ids: Vec<u64> = (1..=self.scenario.controllers as u64).collect();
        for id in &ids {
            self.controllers.push(Controller::new(*id, &ids));
        }
        for at in 0..self.controllers.len() {
            self.draw_clock(at);
            self.start(at);
        }
    }

    pub(crate) fn draw_clock(&mut self, at: usize) {
        let (drift, offset) = (
            self.random.random_range(-4_000..=4_000),
            self.random.random_range(-40..=40),
        );
        let clock = &mut self.controllers[at].clock;
        clock.wall_offset_ms = offset;
        if self.scenario.faults.clock_drift {
            clock.drift_ppm = drift;
        }
    }

    /// A process begins over what its disk holds.
    pub(crate) fn start(&mut self, at: usize) {
        if self.controllers[at].over {
            return;
        }
        let (seed, from_store) = (self.random.random(), self.random.random_bool(0.6));
        let controller = &mut self.controllers[at];
        let config = config(controller, &self.scenario);
        controller.disk.set_now(self.now_ms);
        let Some(recovered) = controller.disk.start(controller.id, &config) else {
            return self.stays_down(at);
        };
        controller.life += 1;
        let snapshot = recovered.snapshot.clone();
        // A copy from before the snapshot is of no use.
        let from_store = from_store && controller.stored.index >= snapshot.index;
        controller.state = match from_store {
            true => controller.stored.clone(),
            false => from_snapshot(controller, &snapshot),
        };
        controller.snapshot_index = snapshot.index;
        controller.snapshot_not_before = 0;
        let (recorder, history) = nube_controller::watch::channel(&controller.state);
        (controller.recorder, controller.history) = (recorder, history);
        let mono_ms = controller.clock.monotonic_ms(self.now_ms);
        controller.cell_clock = ClusterClock::new(mono_ms, controller.state.time);
        let (id, life, index) = (controller.id, controller.life, controller.state.index);
        let core = Core::new(&config, recovered, index, seed);
        match core {
            Ok(core) => self.controllers[at].core = Some(core),
            Err(error) => fail("B4", format!("member {id} does not start: {error}")),
        }
        self.judge
            .reference
            .restored(id, &self.controllers[at].state);
        if life > 1 {
            let how = match from_store {
                true => "a restart came back from the store",
                false => "a restart replayed the log from a snapshot",
            };
            self.mark(how, id);
        }
        self.note("start", id, index);
        let first = self.random.random_range(1..=TICK_MS);
        self.after(first, Event::Tick { at, life });
        self.after(first * 3, Event::Look { at, life });
        self.after(first * 2, Event::LookMembers { at, life });
        self.settle(at);
    }

    /// Its disk is full or failed: it tries again. Or it has lost its memory: never again (B4).
    fn stays_down(&mut self, at: usize) {
        let id = self.controllers[at].id;
        if self.controllers[at].disk.lost {
            self.mark("a member that lost its memory stayed out", id);
            self.controllers[at].over = true;
        } else {
            self.note("stays down", id, 0);
            self.after(300, Event::Restart { at });
        }
    }

    /// A leader knows better than this member's disk what it had: it never takes part again (B4).
    pub(crate) fn forswear(&mut self, at: usize, index: u64) {
        let controller = &mut self.controllers[at];
        let id = controller.id;
        hold("B4", !controller.disk.bytes.atlas().is_empty(), || {
            format!("member {id} lost entries up to {index} on a sound disk")
        });
        let noted = controller.disk.log().map(|log| log.forswear(index));
        if matches!(noted, Some(Ok(()))) {
            self.mark("a member that lost its memory stayed out", id);
            self.controllers[at].over = true;
        }
        self.kill(at);
        self.after(300, Event::Restart { at });
    }

    /// A disk failed under a process: it ends at once (B2).
    pub(crate) fn disk_failed(&mut self, at: usize, error: &Error) {
        let disk = &self.controllers[at].disk.bytes;
        hold("B2", !disk.atlas().is_empty(), || {
            format!("a sound disk failed: {error}")
        });
        self.mark(
            "a process ended because its disk failed",
            self.controllers[at].id,
        );
        self.kill(at);
        let ms = self.random.random_range(10..3_000);
        self.after(ms, Event::Restart { at });
    }

    pub(crate) fn restart(&mut self, at: usize) {
        if self.controllers[at].core.is_none() {
            self.start(at);
        }
    }

    /// A process dies: what was not synced is lost, and whoever waits hears nothing.
    pub(crate) fn kill(&mut self, at: usize) {
        let controller = &mut self.controllers[at];
        if controller.core.take().is_none() {
            return;
        }
        controller.life += 1;
        controller.queued.clear();
        controller.disk_busy_until_ms = 0;
        controller.waiting.clear();
        controller.confirmed.clear();
        controller.tasks.clear();
        controller.answers.clear();
        controller.leases = Leases::default();
        controller.heard_ms.clear();
        controller.told = (0, 0, false);
        let power = self.random.random_bool(0.5);
        let random = &mut || self.random.random();
        let controller = &mut self.controllers[at];
        controller.disk.end(if power { Some(random) } else { None });
        let id = controller.id;
        self.note("dies", id, 0);
        self.sessions_end(at);
    }
}

/// The state that a local snapshot holds.
fn from_snapshot(controller: &Controller, meta: &SnapshotMeta) -> State {
    if meta.index == 0 {
        // It waits to be joined.
        return State::default();
    }
    let body = controller.disk.load(meta);
    let body = body.unwrap_or_else(|error| fail("B1", format!("{meta:?}: {error}")));
    // The first one of a new cell has no body.
    let mut state = match body.is_empty() {
        true => State::default(),
        false => codec::decode_snapshot(&body)
            .unwrap_or_else(|error| fail("A5", format!("{meta:?}: {error}"))),
    };
    state.index = state.index.max(meta.index);
    state
}
