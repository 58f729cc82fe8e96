//! Trouble: every so often one of the kinds that this seed allows.

use nube_agent::driver::GuestExit;
use nube_consensus::Input;
use rand::Rng;

use crate::controller::Controller;
use crate::network::HOST;
use crate::pause::Machine;
use crate::scenario::Faults;
use crate::world::{Event, World};

/// Kinds that are drawn from.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Partition,
    OneWay,
    Crash,
    CrashLeader,
    CrashAll,
    Pause,
    ClockJump,
    Transfer,
    Members,
    DiskFails,
    DiskFull,
    Rot,
    AgentCrash,
    AgentAmnesia,
    HostCrash,
    HostPause,
    HostCut,
    GuestEnds,
    Lie,
}

fn kinds(faults: &Faults) -> Vec<Kind> {
    let all = [
        (faults.partitions, Kind::Partition),
        (faults.one_way, Kind::OneWay),
        (faults.crashes, Kind::Crash),
        (faults.crashes, Kind::CrashLeader),
        (faults.crashes, Kind::CrashAll),
        (faults.pauses, Kind::Pause),
        (faults.clock_jumps, Kind::ClockJump),
        (faults.transfers, Kind::Transfer),
        (faults.membership, Kind::Members),
        (faults.failing_disks, Kind::DiskFails),
        (faults.full_disks, Kind::DiskFull),
        (faults.rot, Kind::Rot),
        (faults.agent_crashes, Kind::AgentCrash),
        (faults.agent_amnesia, Kind::AgentAmnesia),
        (faults.host_crashes, Kind::HostCrash),
        (faults.host_pauses, Kind::HostPause),
        (faults.host_cuts, Kind::HostCut),
        (faults.guest_ends, Kind::GuestEnds),
        (faults.lying_agents, Kind::Lie),
    ];
    all.into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, kind)| kind)
        .collect()
}

impl World {
    /// A fault may happen.
    pub(crate) fn trouble(&mut self) {
        let pause = self.random.random_range(100..1_500);
        self.after(pause, Event::Trouble);
        let kinds = kinds(&self.scenario.faults);
        if self.calm || kinds.is_empty() {
            return;
        }
        let kind = kinds[self.random.random_range(0..kinds.len())];
        let at = self.random.random_range(0..self.controllers.len());
        match kind {
            Kind::Partition => self.partition(),
            Kind::OneWay => self.one_way(),
            Kind::Crash => self.crash(at),
            Kind::CrashLeader => self.crash(self.leader().unwrap_or(at)),
            Kind::CrashAll => self.crash_all(),
            Kind::Pause => self.pause_controller(at),
            Kind::ClockJump => self.clock_jump(at),
            Kind::Transfer => self.transfer(at),
            Kind::Members => self.change_members(),
            Kind::DiskFails => {
                self.mark("fault: a sync fails", at as u64);
                self.controllers[at].disk.bytes.fail_next_sync();
            }
            Kind::DiskFull => self.fill(at),
            Kind::Rot => self.rot(),
            on_host => self.trouble_on_host(on_host),
        }
    }

    fn partition(&mut self) {
        self.mark("fault: partition", 0);
        for at in 0..self.controllers.len() {
            let side = self.random.random_range(0..2);
            self.network.side(self.controllers[at].id, side);
        }
        let ms = self.random.random_range(300..8_000);
        self.after(ms, Event::Mend);
    }

    fn one_way(&mut self) {
        let count = self.controllers.len();
        let from = self.random.random_range(0..count);
        let to = (from + self.random.random_range(1..count)) % count;
        let (from, to) = (self.controllers[from].id, self.controllers[to].id);
        self.mark("fault: one-way cut", from);
        self.network.cut(from, to);
        let ms = self.random.random_range(300..8_000);
        self.after(ms, Event::Mend);
    }

    pub(crate) fn mend(&mut self) {
        self.network.mend();
        self.note("mend", 0, 0);
    }

    fn crash(&mut self, at: usize) {
        if self.leader() == Some(at) {
            self.judge.marks.hit("the leader crashed");
        }
        self.mark("fault: controller crash", self.controllers[at].id);
        self.kill(at);
        let ms = self.random.random_range(10..4_000);
        self.after(ms, Event::Restart { at });
    }

    fn crash_all(&mut self) {
        if !self.chance(200) {
            return;
        }
        self.mark("fault: all controllers crash", 0);
        for at in 0..self.controllers.len() {
            self.kill(at);
            let ms = self.random.random_range(10..4_000);
            self.after(ms, Event::Restart { at });
        }
    }

    fn pause_controller(&mut self, at: usize) {
        self.mark("fault: controller pause", self.controllers[at].id);
        let ms = self.random.random_range(100..6_000);
        self.stand_still(Machine::Controller(at), ms);
    }

    fn fill(&mut self, at: usize) {
        self.mark("fault: disk full", self.controllers[at].id);
        let disk = &self.controllers[at].disk.bytes;
        let room = self.random.random_range(0..400_000);
        disk.set_budget_bytes(Some(disk.used_bytes() + room));
        let ms = self.random.random_range(200..6_000);
        self.after(ms, Event::Space { at });
    }

    pub(crate) fn space(&mut self, at: usize) {
        self.controllers[at].disk.bytes.set_budget_bytes(None);
    }

    /// Bits of one member's disk change: always the same member's, so that a majority is sound.
    fn rot(&mut self) {
        let at = usize::try_from(self.scenario.seed).unwrap_or(0) % self.scenario.controllers;
        let disk = self.controllers[at].disk.bytes.clone();
        match self.random.random_range(0..3) {
            0 => {
                self.mark("fault: disk rots", at as u64);
                drop(disk.rot(&mut || self.random.random()));
            }
            1 => {
                self.mark("fault: disk loses a write", at as u64);
                disk.lose_write(self.random.random());
            }
            _ => {
                self.mark("fault: disk misdirects a write", at as u64);
                disk.misdirect_write(self.random.random());
            }
        }
    }

    fn clock_jump(&mut self, at: usize) {
        const JUMPS_MS: [i64; 6] = [
            -3_600_000,
            3_600_000,
            -31_536_000_000,
            31_536_000_000,
            1_000,
            -1_000,
        ];
        let by = JUMPS_MS[self.random.random_range(0..JUMPS_MS.len())];
        let wrong = |c: &&Controller| c.clock.wall_offset_ms.abs() > 500;
        let already = self.controllers.iter().filter(wrong).count();
        let right_again = self.controllers[at].clock.wall_offset_ms.abs() > 500;
        // With members that come and go, one of three is the most.
        let few = self.scenario.faults.membership && already > 0;
        if !right_again && (few || (already + 1) * 2 >= self.scenario.controllers) {
            // A majority's clocks are what time is.
            return;
        }
        self.mark("fault: clock jump", self.controllers[at].id);
        let clock = &mut self.controllers[at].clock;
        clock.wall_offset_ms = if clock.wall_offset_ms.abs() > 500 {
            0
        } else {
            by
        };
    }

    fn transfer(&mut self, at: usize) {
        let Some(leader) = self.leader() else { return };
        self.mark("leadership was handed over", self.controllers[at].id);
        let (life, to) = (self.controllers[leader].life, self.controllers[at].id);
        self.input(leader, life, Input::TransferLeader(to));
    }

    fn trouble_on_host(&mut self, kind: Kind) {
        let agent = self.random.random_range(0..self.agents.len());
        let number = agent as u64;
        match kind {
            Kind::AgentCrash => self.agent_crash(agent),
            Kind::AgentAmnesia => {
                self.mark("fault: agent loses its journal", number);
                self.agent_crash(agent);
                let host = &mut self.agents[agent].host;
                // Its epoch is kept elsewhere: without it the cell refuses the host.
                (host.leader_term, host.journal) = (0, std::collections::BTreeMap::new());
            }
            Kind::HostCrash => {
                self.mark("fault: host loses power", number);
                self.agent_crash(agent);
                self.agents[agent].host.lose_power();
            }
            Kind::HostPause => {
                self.mark("fault: host stands still", number);
                let ms = self.random.random_range(100..40_000);
                self.stand_still(Machine::Host(agent), ms);
            }
            Kind::HostCut => {
                self.mark("fault: host is cut off", number);
                self.network.isolate(HOST + number, true);
                let ms = self.random.random_range(1_000..60_000);
                self.after(ms, Event::HostBack { agent });
            }
            Kind::GuestEnds => self.end_a_guest(agent),
            Kind::Lie => {
                let lies = !self.agents[agent].lies;
                self.agents[agent].lies = lies;
                if !lies {
                    self.agent_crash(agent);
                }
            }
            _ => {}
        }
    }

    fn agent_crash(&mut self, agent: usize) {
        self.mark("fault: agent crash", agent as u64);
        self.agent_kill(agent);
        let ms = self.random.random_range(10..12_000);
        self.after(ms, Event::AgentStart { agent });
    }

    fn end_a_guest(&mut self, agent: usize) {
        let running: Vec<_> = self.agents[agent].host.running().collect();
        if running.is_empty() {
            return;
        }
        let instance = running[self.random.random_range(0..running.len())];
        let exit = match self.random.random_bool(0.5) {
            true => GuestExit::PoweredOff,
            false => GuestExit::Crashed("it died".to_owned()),
        };
        self.mark("fault: guest ends by itself", agent as u64);
        if let Some(ended) = self.agents[agent].host.end(instance, exit) {
            self.tell_ended(agent, ended);
        }
    }

    /// A host is reachable again.
    pub(crate) fn host_back(&mut self, agent: usize) {
        self.network.isolate(HOST + agent as u64, false);
    }

    /// Ends all faults: everybody runs and hears everybody.
    pub fn heal(&mut self) {
        self.calm = true;
        self.mend();
        for at in 0..self.controllers.len() {
            self.controllers[at].clock.wall_offset_ms = 0;
            self.space(at);
            self.restart(at);
        }
        for agent in 0..self.agents.len() {
            self.host_back(agent);
            if std::mem::take(&mut self.agents[agent].lies) {
                // Whom nobody can believe starts anew and tells everything.
                self.agent_kill(agent);
            }
            self.agent_start(agent);
        }
    }
}
