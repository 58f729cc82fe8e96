//! Everything that is so at a moment, and what each step changes.

use std::fmt::{self, Debug, Write};
use std::hash::{Hash, Hasher};

use nube_agent::lease::Lease;
use nube_controller::agents::lease::Leases;
use nube_types::NodeId;
use nube_types::limits::{LEASE_MS, LEASE_STOP_MARGIN_MS, LEASE_WAIT_MS};

use super::Model;
use super::steps::Step;

/// Clocks begin here, so that a wait fits before.
const BEGIN_MS: u64 = 100_000;
/// The first host.
const HOST: NodeId = NodeId(1);

/// A piece of the product: told apart by what it prints.
#[derive(Clone, Debug, Default)]
pub struct Piece<T>(pub T);

impl<T: Debug> Hash for Piece<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let _ = write!(Words(hasher), "{:?}", self.0);
    }
}

/// Takes text in as it is written.
struct Words<'a, H>(&'a mut H);

impl<H: Hasher> fmt::Write for Words<'_, H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// What the log has made so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cell {
    /// Entries.
    pub revision: u8,
    /// The host's agent answers.
    pub reachable: bool,
    /// How often the host was fenced.
    pub fence_epoch: u64,
    /// It was, and its agent has not answered since.
    pub fenced: bool,
    /// The instance is on the other host.
    pub moved: bool,
}

/// An entry on its way into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// The host is silent.
    Silent,
    /// Its agent answers.
    Answers,
    /// It is fenced from here on.
    Fence(u64),
    /// The instance begins anew on the other host.
    Replace,
}

impl Cell {
    fn apply(&mut self, command: Command) {
        match command {
            Command::Silent => self.reachable = false,
            Command::Answers => (self.reachable, self.fenced) = (true, false),
            Command::Fence(epoch) if !self.reachable && epoch == self.fence_epoch + 1 => {
                (self.fence_epoch, self.fenced) = (epoch, true);
            }
            Command::Replace if self.fenced && !self.moved => self.moved = true,
            Command::Fence(_) | Command::Replace => {}
        }
        self.revision += 1;
    }
}

/// To the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Down {
    /// A leader's claim and its list.
    List {
        /// The claim.
        term: u8,
        /// When it was read.
        revision: u8,
        /// How often the host was fenced then.
        fence_epoch: u64,
        /// Whether the instance is to run here.
        run: bool,
    },
    /// A lease for a heartbeat.
    Grant {
        /// Which heartbeat.
        beat: u8,
        /// How often the host was fenced, as far as the leader knew.
        fence_epoch: u64,
    },
}

/// A controller.
#[derive(Clone, Debug, Default, Hash)]
pub struct Controller {
    /// The term it believes to lead in.
    pub leads: Option<u8>,
    /// What it knows, when it is no longer the newest.
    pub stale: Option<Cell>,
    /// Its leases.
    pub leases: Piece<Leases>,
    /// A heartbeat on its way here.
    pub up: Option<u8>,
    /// A heartbeat whose confirmation is under way; then what was so when it came.
    pub confirming: Option<(u8, Option<Cell>)>,
    /// On their way to the agent, in this order.
    pub down: Vec<Down>,
    /// Term and revision of the list it sent last in this session.
    pub told: Option<(u8, u8)>,
}

/// The agent of the first host.
#[derive(Clone, Debug, Default, Hash)]
pub struct Agent {
    /// Whom it obeys.
    pub obeys: Option<usize>,
    /// The newest list: revision, fence, run.
    pub list: Option<(u8, u64, bool)>,
    /// Its lease.
    pub lease: Piece<Lease>,
}

/// A guest on the first host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Guest {
    /// What the fencer was told last.
    pub stop_at_ms: u64,
}

/// A moment.
#[derive(Clone, Debug, Hash)]
pub struct World {
    /// Time.
    pub tick: u8,
    /// The newest leader's term.
    pub term: u8,
    /// The newest leader.
    pub leader: usize,
    /// What the log has made.
    pub cell: Cell,
    /// The leader's entries that are not committed.
    pub flight: Vec<Command>,
    /// Both controllers.
    pub controllers: [Controller; 2],
    /// `None`: dead.
    pub agent: Option<Agent>,
    /// On the host's disk.
    pub obeyed_term: u8,
    /// Heartbeats so far.
    pub beats: u8,
    /// Deaths so far.
    pub deaths: u8,
    /// Streams that ended so far.
    pub broken: u8,
    /// The instance's guest on the first host.
    pub guest: Option<Guest>,
    /// There was one.
    pub ran: bool,
}

impl World {
    /// A leader that is ready, and an agent that has been told to run the instance.
    pub(super) fn start(model: &Model) -> Self {
        let mut world = Self {
            tick: 0,
            term: 1,
            leader: 0,
            cell: Cell {
                reachable: true,
                ..Cell::default()
            },
            flight: Vec::new(),
            controllers: Default::default(),
            agent: Some(Agent {
                obeys: Some(0),
                list: Some((0, 0, true)),
                ..Agent::default()
            }),
            obeyed_term: 1,
            beats: 0,
            deaths: 0,
            broken: 0,
            guest: None,
            ran: false,
        };
        world.ready(model);
        world.controllers[0].told = Some((1, 0));
        world
    }

    /// The host's clock.
    #[must_use]
    pub fn host_ms(&self, model: &Model) -> u64 {
        BEGIN_MS + u64::from(self.tick) * model.bounds.host_tick_ms
    }

    /// The controllers' clocks.
    #[must_use]
    pub fn leader_ms(&self, model: &Model) -> u64 {
        BEGIN_MS + u64::from(self.tick) * model.bounds.leader_tick_ms
    }

    /// What a controller knows.
    pub(super) fn view(&self, at: usize) -> Cell {
        self.controllers[at].stale.unwrap_or(self.cell)
    }

    pub(super) fn may_run(&self, model: &Model) -> bool {
        let Some(agent) = &self.agent else {
            return false;
        };
        let (Some((_, fence_epoch, _)), Some(held)) = (agent.list, agent.lease.0.held()) else {
            return false;
        };
        let fence_epoch = match model.rules.same_fence {
            true => fence_epoch,
            false => held.fence_epoch,
        };
        agent.lease.0.may_run(fence_epoch, self.host_ms(model))
    }

    pub(super) fn take(&mut self, model: &Model, step: &Step) {
        match *step {
            Step::Tick => self.tick(model),
            Step::Beat => self.beat(model),
            Step::Dies => {
                self.deaths += 1;
                self.agent = None;
                (0..2).for_each(|at| self.breaks(at));
            }
            Step::Lives => self.agent = Some(Agent::default()),
            Step::Breaks(at) => {
                self.broken += 1;
                self.breaks(at);
            }
            Step::Hears(at) => self.hears(model, at),
            Step::Arrives(at) => self.arrives(at),
            Step::Confirms(at) => self.confirms(at),
            Step::Grants(at, fresh) => self.grants(model, at, fresh),
            Step::Lists(at) => self.lists(at),
            Step::Proposes(command) => self.proposes(model, command),
            Step::Commits => self.commits(model),
            Step::Elects(at, survive) => self.elects(model, at, survive),
        }
    }

    fn tick(&mut self, model: &Model) {
        self.tick += 1;
        let now_ms = self.host_ms(model);
        let cut = |guest: &Guest| now_ms >= guest.stop_at_ms + LEASE_STOP_MARGIN_MS;
        let fencer = model.rules.fencer || self.agent.is_some();
        if fencer && self.guest.as_ref().is_some_and(cut) {
            self.guest = None;
        }
    }

    fn beat(&mut self, model: &Model) {
        let now_ms = self.host_ms(model);
        self.beats += 1;
        let agent = self.agent.as_mut().expect("it beats");
        let leader = agent.obeys.expect("it obeys");
        agent.lease.0.sent(self.beats.into(), now_ms);
        self.controllers[leader].up = Some(self.beats);
    }

    /// The stream between the agent and a controller ends, with all in it.
    fn breaks(&mut self, at: usize) {
        let controller = &mut self.controllers[at];
        controller.up = None;
        controller.confirming = None;
        controller.down.clear();
        controller.told = None;
        if let Some(agent) = self.agent.as_mut().filter(|agent| agent.obeys == Some(at)) {
            agent.obeys = None;
            agent.lease.0.obey_another();
        }
    }

    fn hears(&mut self, model: &Model, at: usize) {
        let now_ms = self.host_ms(model);
        let message = self.controllers[at].down.remove(0);
        let agent = self.agent.as_mut().expect("it hears");
        match message {
            Down::List { term, .. } if term < self.obeyed_term => {}
            Down::List {
                term,
                revision,
                fence_epoch,
                run,
            } => {
                if agent.obeys != Some(at) || term != self.obeyed_term {
                    agent.lease.0.obey_another();
                }
                agent.obeys = Some(at);
                self.obeyed_term = term;
                if agent.list.is_none_or(|(newest, ..)| revision >= newest) {
                    agent.list = Some((revision, fence_epoch, run));
                }
            }
            Down::Grant { beat, fence_epoch } if agent.obeys == Some(at) => {
                if !model.rules.counts_from_sending {
                    agent.lease.0.sent(beat.into(), now_ms);
                }
                let length_ms = u32::try_from(LEASE_MS).expect("seconds");
                agent.lease.0.granted(beat.into(), fence_epoch, length_ms);
            }
            Down::Grant { .. } => {}
        }
        self.act(model);
    }

    /// What a list and a lease together allow happens at once, and is told to the
    /// fencer. What they forbid does not: the agent is slow, and the fencer alone
    /// ends the guest.
    fn act(&mut self, model: &Model) {
        let agent = self.agent.as_ref().expect("it heard something");
        let run = agent.list.is_some_and(|(.., run)| run);
        let held = agent.lease.0.held().filter(|_| self.may_run(model));
        let Some(held) = held.filter(|_| run || self.guest.is_some()) else {
            return;
        };
        let before_ms = self.guest.map_or(0, |guest| guest.stop_at_ms);
        let stop_at_ms = before_ms.max(held.stop_at_ms());
        self.guest = Some(Guest { stop_at_ms });
        self.ran = true;
    }

    fn arrives(&mut self, at: usize) {
        let controller = &mut self.controllers[at];
        let beat = controller.up.take().expect("it was on its way");
        if controller.leads.is_some() && controller.confirming.is_none() {
            controller.confirming = Some((beat, None));
        }
    }

    fn confirms(&mut self, at: usize) {
        let view = self.view(at);
        let controller = &mut self.controllers[at];
        let (beat, _) = controller.confirming.expect("it was asked");
        controller.confirming = Some((beat, Some(view)));
    }

    /// Rests on what is so now, or on what was so when the confirmation came.
    fn grants(&mut self, model: &Model, at: usize, fresh: bool) {
        let now_ms = self.leader_ms(model);
        let newest = self.view(at);
        let controller = &mut self.controllers[at];
        let (beat, then) = controller.confirming.take().expect("it was asked");
        let term = controller.leads.expect("it leads").into();
        let view = then.filter(|_| !fresh).unwrap_or(newest);
        let told = controller
            .told
            .is_some_and(|(_, revision)| revision >= view.revision);
        if (model.rules.list_goes_first && !told)
            || (model.rules.none_while_silent && !view.reachable)
        {
            return;
        }
        let leases = &mut controller.leases.0;
        if let Some(grant) = leases.grant(HOST, term, view.fence_epoch, now_ms) {
            controller.down.push(Down::Grant {
                beat,
                fence_epoch: grant.fence_epoch,
            });
        }
    }

    fn lists(&mut self, at: usize) {
        let view = self.view(at);
        let controller = &mut self.controllers[at];
        let term = controller.leads.expect("it leads");
        controller.told = Some((term, view.revision));
        controller.down.push(Down::List {
            term,
            revision: view.revision,
            fence_epoch: view.fence_epoch,
            run: !view.moved,
        });
    }

    fn proposes(&mut self, model: &Model, command: Command) {
        if matches!(command, Command::Fence(_)) {
            let now_ms = self.leader_ms(model) + model.rules.wait_cut_ms;
            let fence_epoch = self.cell.fence_epoch;
            let leases = &mut self.controllers[self.leader].leases.0;
            let begun = leases.begin_fence(HOST, self.term.into(), fence_epoch, now_ms);
            if begun.is_none() {
                return;
            }
            if !model.rules.pending_blocks {
                leases.fence_settled(HOST, fence_epoch);
            }
        }
        self.flight.push(command);
    }

    fn commits(&mut self, model: &Model) {
        let command = self.flight.remove(0);
        let before = self.cell.fence_epoch;
        self.cell.apply(command);
        if matches!(command, Command::Fence(_)) {
            let known = match model.rules.fence_is_remembered {
                true => self.cell.fence_epoch,
                false => before,
            };
            let leases = &mut self.controllers[self.leader].leases.0;
            leases.fence_settled(HOST, known);
        }
    }

    /// Another leader. Of the entries under way the first
    /// `survive` are in its log.
    fn elects(&mut self, model: &Model, at: usize, survive: usize) {
        let known = self.cell;
        self.flight.truncate(survive);
        for command in std::mem::take(&mut self.flight) {
            self.cell.apply(command);
        }
        self.controllers[self.leader].stale = Some(known);
        (self.term, self.leader) = (self.term + 1, at);
        let winner = &mut self.controllers[at];
        winner.stale = None;
        winner.confirming = None;
        self.ready(model);
    }

    /// At once: a leader that waits from later on only waits longer.
    fn ready(&mut self, model: &Model) {
        let now_ms = self.leader_ms(model);
        let since_ms = match model.rules.new_leader_waits {
            true => now_ms,
            false => now_ms - LEASE_WAIT_MS,
        };
        let term = self.term;
        let winner = &mut self.controllers[self.leader];
        winner.leads = Some(term);
        winner.leases.0.lead(Some(term.into()), since_ms);
    }
}
