//! The world: virtual time, a lossy network, disks that forget, members that die and pause.
//!
//! Lives here: everything between cores, driven by one seeded generator. May not: real time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use bytes::Bytes;
use nube_consensus::{
    Config, Core, Error, FaultKind, Input, MembershipChange, Outgoing, Output, Persist,
    ProposeError, Role, SnapshotMeta, Ticket,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::checks::Checks;
use crate::store::{Register, Store};

const MEMBERS: [u64; 4] = [1, 2, 3, 4];
const VOTERS: [u64; 3] = [1, 2, 3];
const TICK_MS: u64 = 50;
/// Applied entries between snapshots: small, so that the log is cut all the time.
const SNAPSHOT_EVERY: u64 = 60;
/// As the log thread does: quiet time before bookkeeping, and between attempts on a full disk.
const IDLE_MS: u64 = 200;
const SPACE_RETRY_MS: u64 = 200;

#[derive(Clone, Copy)]
pub struct Faults {
    pub network: bool,
    pub crashes: bool,
    pub membership: bool,
    /// Failed syncs and full disks, anywhere.
    pub disks: bool,
    /// Rot, lost and misdirected writes on the disk of one voter.
    pub damage: bool,
}

impl Faults {
    pub fn all() -> Self {
        Self {
            network: true,
            crashes: true,
            membership: false,
            disks: true,
            damage: false,
        }
    }

    pub fn none() -> Self {
        Self {
            network: false,
            crashes: false,
            membership: false,
            disks: false,
            damage: false,
        }
    }
}

enum Work {
    Persist(Persist),
    Compact(SnapshotMeta, u64),
}

enum Waiting {
    Write { began: u64, data: Vec<u8> },
    Read { began: u64 },
    Change,
}

struct Node {
    id: u64,
    life: u64,
    core: Option<Core>,
    store: Store,
    queue: VecDeque<Work>,
    disk_busy_until: u64,
    /// No own snapshot below this index: the last one found the disk full.
    not_before: u64,
    paused_until: u64,
    register: Register,
    snapshot: u64,
    waiting: BTreeMap<Ticket, Waiting>,
    confirmed: Vec<(u64, Ticket)>,
}

enum Event {
    Tick {
        node: usize,
        life: u64,
    },
    Message {
        node: usize,
        from: u64,
        bytes: Bytes,
    },
    Snapshot {
        node: usize,
        from: u64,
        bytes: Bytes,
        meta: SnapshotMeta,
        file: Vec<u8>,
    },
    Report {
        node: usize,
        life: u64,
        to: u64,
        delivered: bool,
    },
    DiskDone {
        node: usize,
        life: u64,
    },
    Client,
    Trouble,
    Restart {
        node: usize,
    },
    Mend,
    Space {
        node: usize,
    },
}

pub struct World {
    random: StdRng,
    faults: Faults,
    now: u64,
    sequence: u64,
    events: BinaryHeap<Reverse<(u64, u64, usize)>>,
    payloads: BTreeMap<usize, Event>,
    nodes: Vec<Node>,
    /// Side of the partition each member is on.
    side: Vec<u8>,
    quiet: bool,
    next_ticket: u64,
    trace: blake3::Hasher,
    pub checks: Checks,
    pub crashes: u64,
    pub snapshots_installed: u64,
    pub changes_done: u64,
    pub failed_syncs: u64,
    pub waits_for_space: u64,
    /// The voter whose disk lies, when one does.
    liar: usize,
}

impl World {
    pub fn new(seed: u64, faults: Faults) -> Self {
        let mut world = Self {
            random: StdRng::seed_from_u64(seed),
            faults,
            now: 0,
            sequence: 0,
            events: BinaryHeap::new(),
            payloads: BTreeMap::new(),
            nodes: MEMBERS.iter().map(|id| Node::new(*id)).collect(),
            side: vec![0; MEMBERS.len()],
            quiet: false,
            next_ticket: 0,
            trace: blake3::Hasher::new(),
            checks: Checks::default(),
            crashes: 0,
            snapshots_installed: 0,
            changes_done: 0,
            failed_syncs: 0,
            waits_for_space: 0,
            liar: seed as usize % VOTERS.len(),
        };
        for node in 0..world.nodes.len() {
            world.start(node);
        }
        world.after(10, Event::Client);
        world.after(500, Event::Trouble);
        world
    }

    pub fn run_for(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some(Reverse((at, _, key))) = self.events.peek().copied() {
            if at > until {
                break;
            }
            self.events.pop();
            self.now = at;
            if let Some(event) = self.payloads.remove(&key) {
                self.happen(event);
            }
        }
        self.now = until;
    }

    pub fn trace(&self) -> String {
        self.trace.finalize().to_hex().to_string()
    }

    /// The member that leads in the highest term, and that term.
    pub fn leader(&self) -> Option<(u64, u64)> {
        let running = self.nodes.iter().filter_map(|node| node.core.as_ref());
        let leads = running
            .map(Core::status)
            .filter(|s| s.role == Role::Leader && s.leader_ready);
        leads
            .max_by_key(|status| status.term)
            .map(|status| (status.id, status.term))
    }

    /// Ends all faults: everybody runs and hears everybody.
    pub fn heal(&mut self) {
        self.quiet = true;
        self.mend();
        for node in 0..self.nodes.len() {
            self.nodes[node].paused_until = self.now;
            self.nodes[node].store.disk.set_budget_bytes(None);
            if self.nodes[node].core.is_none() {
                self.start(node);
            }
        }
    }

    pub fn lost_members(&self) -> usize {
        let lost = |node: &&Node| node.store.lost.is_some();
        self.nodes.iter().filter(lost).count()
    }

    pub fn damaged_disks(&self) -> usize {
        let liar = &self.nodes[self.liar].store.disk;
        let rot = |fault: &nube_consensus::Fault| fault.kind != FaultKind::FailedSync;
        usize::from(liar.atlas().iter().any(rot))
    }

    /// Kills a follower, puts a copy of its disk from an earlier life back, and starts it.
    pub fn turn_back(&mut self, id: u64, copy: nube_consensus::SimulatedDisk) {
        let at = self.index_of(id);
        self.kill(at);
        self.nodes[at].store.disk = copy;
        self.nodes[at].store.turned_back = true;
        self.nodes[at].register = Register::default();
        self.liar = at;
        self.start(at);
    }

    pub fn copy_of_disk(&self, id: u64) -> nube_consensus::SimulatedDisk {
        self.nodes[self.index_of(id)].store.disk.copy()
    }

    pub fn isolate(&mut self, id: u64) {
        for (node, side) in self.nodes.iter().zip(&mut self.side) {
            *side = u8::from(node.id == id);
        }
    }

    pub fn crash(&mut self, id: u64) {
        let at = self.index_of(id);
        self.kill(at);
    }

    /// A1, A2, A10 after the quiet phase: every voter stands at the same place and lost nothing.
    pub fn check_end(&mut self) {
        self.checks.check_linearizable();
        if !self.quiet {
            return;
        }
        let (leader, _) = self.leader().expect("a10: a leader after the faults");
        let leader = self.index_of(leader);
        let log = self.nodes[leader].register.log.clone();
        let core = self.nodes[leader].core.as_ref().expect("it leads");
        let members = core.membership().clone();
        let commit = core.status().commit;
        assert!(commit > 20, "a10: nothing was committed");
        self.checks.check_log(&log);
        for id in members.voters {
            let node = &self.nodes[self.index_of(id)];
            if node.store.lost.is_some() {
                assert_eq!(node.id, VOTERS[self.liar], "only damaged disks lose memory");
                continue;
            }
            // Clients go on writing: the others may be a few entries behind.
            assert!(
                node.register.applied + 30 >= commit,
                "a10: voter {id} is far behind"
            );
            for (index, data) in &node.register.log {
                assert_eq!(log.get(index).unwrap_or(data), data);
            }
        }
    }

    fn index_of(&self, id: u64) -> usize {
        self.nodes
            .iter()
            .position(|node| node.id == id)
            .expect("a member")
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.sequence += 1;
        let key = self.sequence as usize;
        self.payloads.insert(key, event);
        self.events
            .push(Reverse((self.now + ms, self.sequence, key)));
    }

    fn note(&mut self, what: &str, a: u64, b: u64) {
        self.trace.update(what.as_bytes());
        for number in [self.now, a, b] {
            self.trace.update(&number.to_le_bytes());
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { node, life } => self.tick(node, life),
            Event::Message { node, from, bytes } => {
                self.when_awake(node, |event| event, Event::Message { node, from, bytes });
            }
            event @ Event::Snapshot { node, .. } => self.when_awake(node, |event| event, event),
            Event::Report {
                node,
                life,
                to,
                delivered,
            } => {
                self.input(node, life, Input::SnapshotReport { to, delivered });
            }
            Event::DiskDone { node, life } => self.disk_done(node, life),
            Event::Client => self.client(),
            Event::Trouble => self.trouble(),
            Event::Restart { node } => {
                if self.nodes[node].core.is_none() {
                    self.start(node);
                }
            }
            Event::Mend => self.mend(),
            Event::Space { node } => self.nodes[node].store.disk.set_budget_bytes(None),
        }
    }

    /// A paused member finds its messages when it wakes up, before its first tick.
    fn when_awake(&mut self, node: usize, again: impl Fn(Event) -> Event, event: Event) {
        let until = self.nodes[node].paused_until;
        if until > self.now {
            return self.after(until - self.now, again(event));
        }
        let life = self.nodes[node].life;
        match event {
            Event::Message { from, bytes, .. } => {
                self.note("message", self.nodes[node].id, bytes.len() as u64);
                self.input(node, life, Input::Message { from, bytes });
            }
            Event::Snapshot {
                from,
                bytes,
                meta,
                file,
                ..
            } => {
                if self.nodes[node].core.is_none() {
                    return;
                }
                match self.nodes[node].store.snapshots().receive(&meta, &file) {
                    Ok(_) => self.input(node, life, Input::SnapshotArrived { from, bytes }),
                    // The leader's timeout does.
                    Err(Error::NoSpace { .. } | Error::Damaged { .. }) => {}
                    Err(error) => self.fail(node, &error),
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life || self.nodes[node].core.is_none() {
            return;
        }
        // Clocks drift a little.
        let next = TICK_MS + self.random.random_range(0..3);
        let paused = self.nodes[node].paused_until.saturating_sub(self.now);
        self.after(next.max(paused + 1), Event::Tick { node, life });
        if paused == 0 {
            let idle = self.nodes[node].disk_busy_until + IDLE_MS < self.now;
            if idle
                && self.nodes[node].queue.is_empty()
                && let Err(error) = self.nodes[node].store.log().idle()
            {
                return self.fail(node, &error);
            }
            self.input(node, life, Input::Tick);
        }
    }

    fn start(&mut self, at: usize) {
        let seed = self.random.random();
        let node = &mut self.nodes[at];
        let config = config(node.id);
        node.store.set_now(self.now);
        let Some(recovered) = node.store.start(&config) else {
            let lost = node.store.lost.is_some();
            self.note("stays out", at as u64, u64::from(lost));
            if !lost {
                self.after(300, Event::Restart { node: at });
            }
            return;
        };
        node.life += 1;
        // The state's own copy may have survived, or the snapshot must do.
        if node.register.applied < recovered.snapshot.index {
            node.register = node.store.load(&recovered.snapshot).expect("verified");
        }
        node.snapshot = recovered.snapshot.index;
        node.not_before = 0;
        let applied = node.register.applied;
        let core = Core::new(&config, recovered, applied, seed).expect("recovers");
        node.core = Some(core);
        let life = node.life;
        self.note("start", at as u64, applied);
        let first = self.random.random_range(1..=TICK_MS);
        self.after(first, Event::Tick { node: at, life });
        self.settle(at);
    }

    fn kill(&mut self, at: usize) {
        let keep_state = self.random.random_bool(0.5);
        let power = self.random.random_bool(0.5);
        let node = &mut self.nodes[at];
        if node.core.take().is_none() {
            return;
        }
        node.life += 1;
        node.queue.clear();
        node.disk_busy_until = 0;
        node.waiting.clear();
        node.confirmed.clear();
        let random = &mut || self.random.random();
        node.store.end(if power { Some(random) } else { None });
        if !keep_state {
            node.register = Register::default();
        }
        self.crashes += 1;
        self.note("crash", at as u64, 0);
    }

    fn mend(&mut self) {
        self.side.fill(0);
    }

    fn trouble(&mut self) {
        let pause = self.random.random_range(100..900);
        self.after(pause, Event::Trouble);
        let node = self.random.random_range(0..self.nodes.len());
        let kind = self.random.random_range(0..9);
        if self.quiet {
            return;
        }
        let id = self.nodes[node].id;
        let leader = self.leader().map(|(id, _)| self.index_of(id));
        match kind {
            0 if self.faults.crashes => self.kill_for_a_while(node),
            1 if self.faults.crashes => self.kill_for_a_while(leader.unwrap_or(node)),
            2 if self.faults.crashes => {
                let ms = self.random.random_range(100..2_000);
                self.nodes[node].paused_until = self.now + ms;
            }
            3 if self.faults.network => {
                for at in 0..self.side.len() {
                    self.side[at] = self.random.random_range(0..2);
                }
                let ms = self.random.random_range(300..3_000);
                self.after(ms, Event::Mend);
            }
            4 if self.faults.network => {
                if let Some(at) = leader {
                    let life = self.nodes[at].life;
                    self.input(at, life, Input::TransferLeader(id));
                }
            }
            5 if self.faults.membership => self.change_membership(leader),
            6 if self.faults.disks => self.nodes[node].store.disk.fail_next_sync(),
            7 if self.faults.disks => {
                let disk = &self.nodes[node].store.disk;
                let room = self.random.random_range(0..40_000);
                disk.set_budget_bytes(Some(disk.used_bytes() + room));
                let ms = self.random.random_range(200..3_000);
                self.after(ms, Event::Space { node });
            }
            8 if self.faults.damage => self.damage(),
            _ => {}
        }
    }

    fn damage(&mut self) {
        let disk = self.nodes[self.liar].store.disk.clone();
        match self.random.random_range(0..3) {
            0 => drop(disk.rot(&mut || self.random.random())),
            1 => disk.lose_write(self.random.random()),
            _ => disk.misdirect_write(self.random.random()),
        }
    }

    /// A member whose disk failed ends at once (B2) and is started again later.
    fn fail(&mut self, at: usize, error: &Error) {
        assert!(
            !self.nodes[at].store.disk.atlas().is_empty(),
            "a sound disk failed: {error}"
        );
        self.failed_syncs += 1;
        self.kill_for_a_while(at);
    }

    fn kill_for_a_while(&mut self, node: usize) {
        self.kill(node);
        let ms = self.random.random_range(10..2_500);
        self.after(ms, Event::Restart { node });
    }

    fn change_membership(&mut self, leader: Option<usize>) {
        let Some(at) = leader else { return };
        let id = MEMBERS[self.random.random_range(0..MEMBERS.len())];
        let core = self.nodes[at].core.as_ref().expect("it leads");
        let change = if !core.membership().contains(id) {
            MembershipChange::AddLearner(id)
        } else if core.membership().learners.contains(&id) {
            MembershipChange::Promote(id)
        } else {
            MembershipChange::Remove(id)
        };
        let ticket = self.ticket();
        let node = &mut self.nodes[at];
        node.waiting.insert(ticket, Waiting::Change);
        let life = node.life;
        self.input(at, life, Input::Change { ticket, change });
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn client(&mut self) {
        let pause = self.random.random_range(2..40);
        self.after(pause, Event::Client);
        let at = self.random.random_range(0..self.nodes.len());
        let leader = self.leader().map(|(id, _)| self.index_of(id));
        // Most writes go to the leader, some to whoever: those must be refused.
        let at = if self.random.random_bool(0.8) {
            leader.unwrap_or(at)
        } else {
            at
        };
        let write = self.random.random_bool(0.6);
        let count = self.random.random_range(1..4);
        if self.nodes[at].core.is_none() || self.nodes[at].paused_until > self.now {
            return;
        }
        let tickets: Vec<Ticket> = (0..count).map(|_| self.ticket()).collect();
        let began = self.now;
        let node = &mut self.nodes[at];
        let life = node.life;
        if write {
            let mut proposals = Vec::new();
            for ticket in tickets {
                let data = format!("write {}", ticket.0).into_bytes();
                node.waiting.insert(
                    ticket,
                    Waiting::Write {
                        began,
                        data: data.clone(),
                    },
                );
                proposals.push((ticket, Bytes::from(data)));
            }
            self.input(at, life, Input::Propose(proposals));
        } else {
            for ticket in &tickets {
                node.waiting.insert(*ticket, Waiting::Read { began });
            }
            self.input(at, life, Input::Read(tickets));
        }
    }

    fn input(&mut self, at: usize, life: u64, input: Input) {
        let node = &mut self.nodes[at];
        if node.life != life {
            return;
        }
        let Some(core) = &mut node.core else { return };
        core.step(input);
        self.settle(at);
    }

    /// Drains until nothing is left to do, as the driver would.
    fn settle(&mut self, at: usize) {
        loop {
            let Some(core) = &mut self.nodes[at].core else {
                return;
            };
            let output = core.drain();
            let more = output.more || output.applied_to.is_some();
            self.perform(at, output);
            if !more {
                return;
            }
        }
    }

    fn perform(&mut self, at: usize, output: Output) {
        if let Some(index) = output.lost {
            self.note("forswears", at as u64, index);
            let forsworn = self.nodes[at].store.log().forswear(index);
            self.kill_for_a_while(at);
            // A disk that fails just then leaves it to the next heartbeat after the next start.
            return drop(forsworn);
        }
        for message in output.messages {
            self.send(at, message);
        }
        for persist in output.persist {
            self.write(at, Work::Persist(persist));
        }
        if let Some((meta, to)) = output.compact {
            self.write(at, Work::Compact(meta, to));
        }
        if let Some(meta) = output.restore {
            self.snapshots_installed += 1;
            let node = &mut self.nodes[at];
            match node.store.load(&meta) {
                Ok(register) => node.register = register,
                Err(error) => return self.fail(at, &error),
            }
            node.register.applied = meta.index;
            node.snapshot = meta.index;
        }
        let id = self.nodes[at].id;
        let mut written = Vec::new();
        for entry in output.committed {
            self.checks
                .applied(id, entry.index, entry.term, &entry.data);
            self.note("apply", id, entry.index);
            let register = &mut self.nodes[at].register;
            assert!(
                entry.index > register.applied,
                "applied twice or out of order"
            );
            register.applied = entry.index;
            register.revision = entry.index;
            register.log.insert(entry.index, entry.data);
            written.extend(entry.ticket.map(|ticket| (ticket, entry.index)));
        }
        if let Some(to) = output.applied_to {
            let node = &mut self.nodes[at];
            node.register.applied = node.register.applied.max(to);
            if let Some(core) = &mut node.core {
                core.step(Input::Applied(to));
            }
        }
        for (ticket, index) in written {
            if let Some(Waiting::Write { began, data }) = self.nodes[at].waiting.remove(&ticket) {
                self.checks.wrote(began, self.now, index, data);
            }
        }
        for (ticket, error) in output.failed_proposals {
            let waiting = self.nodes[at].waiting.remove(&ticket);
            if let Some(Waiting::Write { data, .. }) = waiting
                && error != ProposeError::UnknownOutcome
            {
                self.checks.refused(data);
            }
        }
        for (ticket, result) in output.changes {
            self.nodes[at].waiting.remove(&ticket);
            self.changes_done += u64::from(result.is_ok());
        }
        if let Some(role) = output.role {
            self.checks.role(id, role.role, role.term);
            self.note("role", id, role.term);
        }
        self.nodes[at]
            .confirmed
            .extend(output.reads.iter().map(|(ticket, index)| (*index, *ticket)));
        for (ticket, _) in output.failed_reads {
            self.nodes[at].waiting.remove(&ticket);
        }
        self.serve_reads(at);
        self.snapshot(at, output.snapshot_wanted);
    }

    fn serve_reads(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let applied = node.register.applied;
        let confirmed = std::mem::take(&mut node.confirmed);
        for (index, ticket) in confirmed {
            if index > applied {
                node.confirmed.push((index, ticket));
            } else if let Some(Waiting::Read { began }) = node.waiting.remove(&ticket) {
                self.checks.read(began, self.now, node.register.revision);
            }
        }
    }

    fn snapshot(&mut self, at: usize, wanted: bool) {
        let node = &mut self.nodes[at];
        let applied = node.register.applied;
        let Some(core) = &mut node.core else { return };
        let caught_up = core.status().applied >= applied && applied >= node.not_before;
        let due = applied >= node.snapshot + SNAPSHOT_EVERY;
        if !caught_up || !(due || (wanted && applied > node.snapshot)) {
            return;
        }
        let Some(meta) = core.snapshot_meta_at(applied) else {
            return;
        };
        match node.store.snapshots().write(&meta, &node.register.encode()) {
            Ok(_) => {
                node.snapshot = applied;
                core.step(Input::SnapshotReady(meta));
            }
            Err(Error::NoSpace { .. }) => node.not_before = applied + 20,
            Err(error) => self.fail(at, &error),
        }
    }

    fn write(&mut self, at: usize, work: Work) {
        let latency = if self.random.random_bool(0.02) { 60 } else { 4 };
        let latency = self.random.random_range(0..latency);
        let now = self.now;
        let node = &mut self.nodes[at];
        node.queue.push_back(work);
        // In order: one write is done no earlier than the one before it.
        node.disk_busy_until = node.disk_busy_until.max(now) + latency;
        let (wait, life) = (node.disk_busy_until - now, node.life);
        self.after(wait, Event::DiskDone { node: at, life });
    }

    fn disk_done(&mut self, at: usize, life: u64) {
        let node = &mut self.nodes[at];
        if node.life != life {
            return;
        }
        let Some(work) = node.queue.pop_front() else {
            return;
        };
        node.store.set_now(self.now);
        let log = node.store.log();
        let done = match &work {
            Work::Persist(Persist { batch, .. }) => log.append(batch).and_then(|()| {
                if batch.must_sync {
                    log.sync()
                } else {
                    log.flush()
                }
            }),
            Work::Compact(meta, to) => log.compact(meta, *to),
        };
        match (done, work) {
            (Ok(()), Work::Persist(Persist { batch, messages })) => {
                for message in messages {
                    self.send(at, message);
                }
                self.input(at, life, Input::Persisted(batch.number));
            }
            (Ok(()), Work::Compact(..)) => {}
            (Err(Error::NoSpace { .. }), work) => {
                self.waits_for_space += 1;
                node.queue.push_front(work);
                // Whatever is queued behind it waits as well: one wake-up too many is harmless.
                self.after(SPACE_RETRY_MS, Event::DiskDone { node: at, life });
            }
            (Err(error), _) => self.fail(at, &error),
        }
    }

    fn send(&mut self, at: usize, message: Outgoing) {
        let from = self.nodes[at].id;
        let life = self.nodes[at].life;
        let to = self.index_of(message.to);
        let lost = self.side[at] != self.side[to]
            || (self.faults.network && !self.quiet && self.random.random_bool(0.03));
        if let Some(meta) = message.snapshot {
            let ms = self.random.random_range(5..400);
            let store = self.nodes[at].store.snapshots();
            let file = store.bytes(&store.believed_path(&meta)).ok();
            let delivered = !lost && file.is_some() && self.nodes[to].core.is_some();
            if let Some(file) = file.filter(|_| delivered) {
                let bytes = message.bytes;
                self.after(
                    ms,
                    Event::Snapshot {
                        node: to,
                        from,
                        bytes,
                        meta,
                        file,
                    },
                );
            }
            // One report in ten is lost, and the timeout must do.
            if self.random.random_bool(0.9) {
                let report = Event::Report {
                    node: at,
                    life,
                    to: message.to,
                    delivered,
                };
                self.after(ms + 1, report);
            }
            return;
        }
        if lost {
            return;
        }
        let wild = self.faults.network && !self.quiet;
        let copies = if wild && self.random.random_bool(0.03) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let slow = wild && self.random.random_bool(0.05);
            let ms = self.random.random_range(1..if slow { 400 } else { 6 });
            self.after(
                ms,
                Event::Message {
                    node: to,
                    from,
                    bytes: message.bytes.clone(),
                },
            );
        }
    }
}

impl Node {
    fn new(id: u64) -> Self {
        Self {
            id,
            life: 0,
            core: None,
            store: Store::new(),
            queue: VecDeque::new(),
            disk_busy_until: 0,
            not_before: 0,
            paused_until: 0,
            register: Register::default(),
            snapshot: 0,
            waiting: BTreeMap::new(),
            confirmed: Vec::new(),
        }
    }
}

fn config(id: u64) -> Config {
    let mut config = Config::new(id, [1; 16], "/member");
    if VOTERS.contains(&id) {
        config.initial_voters = VOTERS.to_vec();
    }
    config.max_entry_bytes = 2 << 10;
    config.segment_bytes = 8 << 10;
    config.tick_ms = TICK_MS;
    config.keep_entries = 15;
    config.snapshot_timeout_ticks = 40;
    config
}
