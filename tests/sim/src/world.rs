//! The world: virtual time, and everything that happens in it, one event after the other. What
//! machines do is in `controller`, `agent` and `client`; what hits them in `fault`.

use std::collections::BTreeMap;

use bytes::Bytes;
use nube_agent::driver::GuestEnded;
use nube_consensus::{Outgoing, SnapshotMeta};
use nube_controller::secret::Secret;
use nube_proto::agent::v1::{AgentMessage, ControllerMessage};
use nube_state::Quota;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::agent::Agent;
use crate::agent::process::Step;
use crate::client::{Call, Client, Reply};
use crate::controller::Controller;
use crate::controller::calls::{Forward, Forwarded};
use crate::controller::leader::PROJECT;
use crate::judge::Judge;
use crate::network::Network;
use crate::pause::{Machine, Waiting};
use crate::queue::Queue;
use crate::scenario::Scenario;
use crate::trace::Trace;

/// Something that happens. `at` is a controller's place in the world's list; `life` tells an
/// event for a process from one for its successor.
pub enum Event {
    /// Raft's tick.
    Tick { at: usize, life: u64 },
    /// The leader's loops look.
    Look { at: usize, life: u64 },
    /// The membership loop looks.
    LookMembers { at: usize, life: u64 },
    /// A raft message arrives.
    Peer { at: usize, from: u64, bytes: Bytes },
    /// A raft snapshot and its body arrive.
    PeerSnapshot {
        at: usize,
        from: u64,
        bytes: Bytes,
        meta: Box<SnapshotMeta>,
        file: Bytes,
    },
    /// A transfer of a snapshot ended.
    SnapshotReport {
        at: usize,
        life: u64,
        to: u64,
        delivered: bool,
    },
    /// The oldest queued write is on disk.
    DiskDone { at: usize, life: u64 },
    /// A dead controller starts.
    Restart { at: usize },
    /// A client's call arrives.
    Call { at: usize, call: Box<Call> },
    /// A task of a controller goes on.
    Task { at: usize, life: u64, task: u64 },
    /// A mutation arrives that another controller carries to its leader.
    Forward { at: usize, forward: Box<Forward> },
    /// Its answer.
    Forwarded { at: usize, answer: Box<Forwarded> },
    /// An answer arrives at a client.
    Reply { client: usize, reply: Box<Reply> },
    /// A client goes on: begins a call, or gives up waiting for `number`.
    Client { client: usize, number: u64 },
    /// A watcher looks.
    Watch { watcher: usize },
    /// An agent's process starts.
    AgentStart { agent: usize },
    /// An agent's regular look.
    AgentTick { agent: usize, life: u64 },
    /// The time that an agent's reconciler named.
    AgentWake { agent: usize, life: u64, at_ms: u64 },
    /// An agent tries to open a session.
    Connect {
        agent: usize,
        life: u64,
        link: usize,
    },
    /// An agent's word arrives at a controller.
    Up {
        at: usize,
        number: u64,
        message: Box<AgentMessage>,
    },
    /// A controller's word arrives at an agent.
    Down {
        agent: usize,
        life: u64,
        link: usize,
        number: u64,
        message: Box<ControllerMessage>,
    },
    /// An agent learns that a session is over.
    LinkLost {
        agent: usize,
        life: u64,
        link: usize,
    },
    /// A controller learns that a session is over.
    SessionLost { at: usize, number: u64 },
    /// A step on a host is done.
    StepDone {
        agent: usize,
        life: u64,
        step: Box<Step>,
    },
    /// A guest ends by itself.
    GuestEnds {
        agent: usize,
        ended: Box<GuestEnded>,
    },
    /// A host that was cut off is reachable again.
    HostBack { agent: usize },
    /// A host's fencer looks.
    Fencer { agent: usize },
    /// A disk that was full has room again.
    Space { at: usize },
    /// A machine that stood still goes on.
    Awake { machine: Machine },
    /// A fault may happen.
    Trouble,
    /// The network is whole again.
    Mend,
}

/// Everything.
pub struct World {
    /// What is played.
    pub scenario: Scenario,
    /// True time.
    pub now_ms: u64,
    /// Whether faults are over.
    pub calm: bool,
    /// Whether clients still begin calls.
    pub busy: bool,
    pub(crate) random: StdRng,
    pub(crate) queue: Queue<Event>,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) agents: Vec<Agent>,
    pub(crate) clients: Vec<Client>,
    /// Where each watcher looked last.
    pub(crate) watched_at: BTreeMap<usize, usize>,
    pub(crate) network: Network,
    /// For machines that stand still.
    pub(crate) waiting: BTreeMap<Machine, Waiting>,
    /// Tickets and tasks that were drawn; never one twice.
    pub(crate) tickets: u64,
    pub(crate) tasks: u64,
    pub(crate) sessions: u64,
    pub(crate) newcomers: u64,
    /// Guests whose power button was pressed and that have not ended yet.
    pub(crate) ends_due: u64,
    pub(crate) secret: Secret,
    /// The oracles.
    pub judge: Judge,
    /// The fingerprint.
    pub trace: Trace,
}

impl World {
    /// A cell at its first moment.
    #[must_use]
    pub fn new(scenario: Scenario, tell: bool) -> Self {
        let mut world = Self {
            now_ms: 0,
            calm: false,
            busy: true,
            random: StdRng::seed_from_u64(scenario.seed),
            queue: Queue::default(),
            controllers: Vec::new(),
            agents: Vec::new(),
            clients: Vec::new(),
            watched_at: BTreeMap::new(),
            network: Network::default(),
            waiting: BTreeMap::new(),
            tickets: 0,
            tasks: 0,
            sessions: 0,
            newcomers: 0,
            ends_due: 0,
            secret: Secret::new([7; 32]),
            judge: Judge::default(),
            trace: Trace::new(tell),
            scenario,
        };
        let first = world.judge.registers.stamp();
        let unlimited = Some(Quota::UNLIMITED.instances);
        world
            .judge
            .registers
            .wrote((0, first), PROJECT, unlimited, true);
        world.form();
        world.form_hosts();
        for client in 0..world.scenario.clients {
            world.clients.push(Client::new(client));
            let ms = world.random.random_range(1_000..2_000);
            world.after(ms, Event::Client { client, number: 0 });
        }
        for watcher in 0..world.scenario.watchers {
            world.after(2_000, Event::Watch { watcher });
        }
        world.after(1_500, Event::Trouble);
        world
    }

    /// Lets time pass.
    pub fn run_for(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while let Some((at_ms, event)) = self.queue.pop_until(until_ms) {
            self.now_ms = at_ms;
            if let Some(event) = self.unless_paused(event) {
                self.happen(event);
            }
        }
        self.now_ms = until_ms;
    }

    /// Plans an event.
    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.queue.push(self.now_ms + ms, event);
    }

    pub(crate) fn note(&mut self, what: &'static str, a: u64, b: u64) {
        self.trace.note(self.now_ms, what, a, b);
    }

    /// A fault or something remarkable: counted and noted.
    pub(crate) fn mark(&mut self, name: &'static str, a: u64) {
        self.judge.marks.hit(name);
        self.note(name, a, 0);
    }

    /// True once in a thousand times `permille`.
    pub(crate) fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.random.random_range(0..1_000) < permille
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { at, life } => self.tick(at, life),
            Event::Look { at, life } => self.look(at, life),
            Event::LookMembers { at, life } => self.look_members(at, life),
            event @ (Event::Peer { .. } | Event::PeerSnapshot { .. }) => self.peer(event),
            Event::SnapshotReport {
                at,
                life,
                to,
                delivered,
            } => self.snapshot_report(at, life, (to, delivered)),
            Event::DiskDone { at, life } => self.disk_done(at, life),
            Event::Restart { at } => self.restart(at),
            Event::Call { at, call } => self.called(at, *call),
            Event::Task { at, life, task } => self.task_due(at, life, task),
            Event::Forward { at, forward } => self.forward_arrived(at, *forward),
            Event::Forwarded { at, answer } => self.forward_answered(at, *answer),
            Event::Reply { client, reply } => self.replied(client, *reply),
            Event::Client { client, number } => self.client_due(client, number),
            Event::Watch { watcher } => self.watch(watcher),
            event => self.happen_on_host(event),
        }
    }

    fn happen_on_host(&mut self, event: Event) {
        match event {
            Event::AgentStart { agent } => self.agent_start(agent),
            Event::AgentTick { agent, life } => self.agent_tick(agent, life),
            Event::AgentWake { agent, life, at_ms } => self.agent_wake(agent, life, at_ms),
            Event::Connect { agent, life, link } => self.connect(agent, life, link),
            Event::Up {
                at,
                number,
                message,
            } => self.up_arrived(at, number, message),
            Event::Down {
                agent,
                life,
                link,
                number,
                message,
            } => self.down_arrived((agent, life, link, number), *message),
            Event::LinkLost { agent, life, link } => self.link_lost(agent, life, link),
            Event::SessionLost { at, number } => self.session_lost(at, number),
            Event::StepDone { agent, life, step } => self.step_done(agent, life, *step),
            Event::GuestEnds { agent, ended } => self.guest_ends(agent, *ended),
            Event::HostBack { agent } => self.host_back(agent),
            Event::Fencer { agent } => self.fencer(agent),
            Event::Space { at } => self.space(at),
            Event::Awake { machine } => self.awake(machine),
            Event::Trouble => self.trouble(),
            Event::Mend => self.mend(),
            _ => {}
        }
    }

    /// Sends a raft message through the network.
    pub(crate) fn send(&mut self, at: usize, message: Outgoing) {
        let from = self.controllers[at].id;
        let Some(to) = self.place_of(message.to) else {
            return;
        };
        let faults = &self.scenario.faults;
        let (loss, twice, late) = match self.calm {
            true => (0, 0, 0),
            false => (
                faults.loss_permille,
                faults.twice_permille,
                faults.late_permille,
            ),
        };
        let lost = self.network.is_cut(from, message.to) || self.chance(loss);
        if message.snapshot.is_some() {
            return self.send_snapshot(at, to, message, lost);
        }
        if lost {
            return;
        }
        let copies = 1 + u32::from(self.chance(twice));
        for _ in 0..copies {
            let most = if self.chance(late) { 500 } else { 6 };
            let ms = self.random.random_range(1..most);
            let bytes = message.bytes.clone();
            self.after(
                ms,
                Event::Peer {
                    at: to,
                    from,
                    bytes,
                },
            );
        }
    }

    fn send_snapshot(&mut self, at: usize, to: usize, message: Outgoing, lost: bool) {
        let Some(meta) = message.snapshot else { return };
        let ms = self.random.random_range(5..400);
        let (from, life) = (self.controllers[at].id, self.controllers[at].life);
        let file = self.controllers[at].disk.file(&meta);
        let delivered = !lost && file.is_some() && self.controllers[to].core.is_some();
        if let Some(file) = file.filter(|_| delivered) {
            let event = Event::PeerSnapshot {
                at: to,
                from,
                bytes: message.bytes,
                meta: Box::new(meta),
                file,
            };
            self.after(ms, event);
        }
        // One report in ten is lost, and the timeout must do.
        if !self.chance(100) || self.calm {
            let report = Event::SnapshotReport {
                at,
                life,
                to: message.to,
                delivered,
            };
            self.after(ms + 1, report);
        }
    }

    /// Where a member is in the list.
    pub(crate) fn place_of(&self, id: u64) -> Option<usize> {
        self.controllers.iter().position(|c| c.id == id)
    }

    /// The member that leads in the highest term and can.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let ready = |(at, c): (usize, &Controller)| {
            let status = c.core.as_ref()?.status();
            status.leader_ready.then_some((status.term, at))
        };
        let leading = self.controllers.iter().enumerate().filter_map(ready);
        leading.max().map(|(_, at)| at)
    }
}
