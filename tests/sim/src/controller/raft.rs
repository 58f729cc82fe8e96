//! What the consensus driver and its log thread do for a real controller, in virtual time.

use bytes::Bytes;
use nube_consensus::{Error, Input, Output, Persist, ProposeError, SnapshotMeta, Ticket};
use nube_controller::agents::talk::{self, Proposed};
use nube_state::{Outcome, codec};
use rand::Rng;

use super::{TICK_MS, Waiter, Work};
use crate::judge::{fail, hold};
use crate::world::{Event, World};

/// A log that waits for space looks again this soon.
const SPACE_RETRY_MS: u64 = 200;

impl World {
    pub(crate) fn tick(&mut self, at: usize, life: u64) {
        if self.controllers[at].life != life || self.controllers[at].core.is_none() {
            return;
        }
        let next = TICK_MS + self.random.random_range(0..3);
        self.after(next, Event::Tick { at, life });
        // The store's writer is behind the state by some batches.
        if self.chance(200) {
            let controller = &mut self.controllers[at];
            controller.stored = controller.state.clone();
        }
        if let Err(error) = self.idle(at) {
            return self.disk_failed(at, &error);
        }
        self.input(at, life, Input::Tick);
    }

    /// The log's postponed bookkeeping, when nothing is queued for a while.
    fn idle(&mut self, at: usize) -> Result<(), Error> {
        let controller = &mut self.controllers[at];
        let quiet = controller.disk_busy_until_ms + 4 * TICK_MS < self.now_ms;
        if !quiet || !controller.queued.is_empty() {
            return Ok(());
        }
        controller.disk.set_now(self.now_ms);
        controller.disk.log().map_or(Ok(()), |log| log.idle())
    }

    /// A peer's message. A paused member finds it when it wakes up, before its first tick.
    pub(crate) fn peer(&mut self, event: Event) {
        let (Event::Peer { at, .. } | Event::PeerSnapshot { at, .. }) = event else {
            return;
        };
        let (life, id) = (self.controllers[at].life, self.controllers[at].id);
        let (Event::Peer { from, .. } | Event::PeerSnapshot { from, .. }) = &event else {
            return;
        };
        if self.refused_as_removed(at, *from) {
            return;
        }
        match event {
            Event::Peer { from, bytes, .. } => {
                self.note("message", id, bytes.len() as u64);
                self.input(at, life, Input::Message { from, bytes });
            }
            Event::PeerSnapshot {
                from,
                bytes,
                meta,
                file,
                ..
            } => self.snapshot_arrived(at, (from, bytes), &meta, &file),
            _ => {}
        }
    }

    fn snapshot_arrived(
        &mut self,
        at: usize,
        (from, bytes): (u64, Bytes),
        meta: &SnapshotMeta,
        file: &Bytes,
    ) {
        let controller = &mut self.controllers[at];
        let life = controller.life;
        let Some(store) = controller.disk.snapshots() else {
            return;
        };
        match store.receive(meta, file) {
            Ok(_) => self.input(at, life, Input::SnapshotArrived { from, bytes }),
            // The leader's timeout does.
            Err(Error::NoSpace { .. } | Error::Damaged { .. }) => {}
            Err(error) => self.disk_failed(at, &error),
        }
    }

    pub(crate) fn snapshot_report(&mut self, at: usize, life: u64, (to, delivered): (u64, bool)) {
        self.input(at, life, Input::SnapshotReport { to, delivered });
    }

    pub(crate) fn ticket(&mut self, at: usize, waiter: Waiter) -> Ticket {
        // Unique over all members: a reused one would be a bug of this simulator.
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.controllers[at].waiting.insert(ticket, waiter);
        ticket
    }

    pub(crate) fn propose(&mut self, at: usize, waiter: Waiter, data: Vec<u8>) {
        let ticket = self.ticket(at, waiter);
        let life = self.controllers[at].life;
        self.input(at, life, Input::Propose(vec![(ticket, Bytes::from(data))]));
    }

    pub(crate) fn read(&mut self, at: usize, waiter: Waiter) {
        let ticket = self.ticket(at, waiter);
        let life = self.controllers[at].life;
        self.input(at, life, Input::Read(vec![ticket]));
    }

    pub(crate) fn input(&mut self, at: usize, life: u64, input: Input) {
        let controller = &mut self.controllers[at];
        if controller.life != life {
            return;
        }
        let Some(core) = &mut controller.core else {
            return;
        };
        core.step(input);
        self.settle(at);
    }

    /// Drains until nothing is left to do, as the driver does.
    pub(crate) fn settle(&mut self, at: usize) {
        loop {
            let Some(core) = &mut self.controllers[at].core else {
                return;
            };
            let output = core.drain();
            let more = output.more || output.applied_to.is_some();
            self.perform(at, output);
            if !more {
                break;
            }
        }
        self.answer(at);
        self.look_at_sessions(at);
        self.retire_if_removed(at);
    }

    fn perform(&mut self, at: usize, output: Output) {
        if let Some(index) = output.lost {
            return self.forswear(at, index);
        }
        for message in output.messages {
            self.send(at, message);
        }
        for persist in output.persist {
            self.write(at, Work::Persist(persist));
        }
        if let Some((meta, to)) = output.compact {
            self.judge.marks.hit("the log was cut");
            self.write(at, Work::Compact(meta, to));
        }
        if let Some(meta) = output.restore {
            self.restore(at, &meta);
        }
        self.apply(at, output.committed);
        if let Some(to) = output.applied_to
            && let Some(core) = &mut self.controllers[at].core
        {
            core.step(Input::Applied(to));
        }
        for (ticket, error) in output.failed_proposals {
            if let Some(waiter) = self.controllers[at].waiting.remove(&ticket) {
                self.proposal_failed(at, waiter, &error);
            }
        }
        for (ticket, _) in output.changes {
            self.controllers[at].waiting.remove(&ticket);
        }
        if let Some(role) = output.role {
            let id = self.controllers[at].id;
            self.judge.terms.role(id, role.role, role.term);
            self.note("role", id, role.term);
        }
        let reads = output.reads.iter().map(|(ticket, index)| (*index, *ticket));
        self.controllers[at].confirmed.extend(reads);
        for (ticket, _) in output.failed_reads {
            if let Some(waiter) = self.controllers[at].waiting.remove(&ticket) {
                self.read_failed(at, waiter);
            }
        }
        self.snapshot(at, output.snapshot_wanted);
    }

    fn restore(&mut self, at: usize, meta: &SnapshotMeta) {
        let id = self.controllers[at].id;
        self.mark("a follower was restored by snapshot", id);
        let controller = &mut self.controllers[at];
        let body = match controller.disk.load(meta) {
            Ok(body) => body,
            Err(error) => return self.disk_failed(at, &error),
        };
        let mut state = codec::decode_snapshot(&body)
            .unwrap_or_else(|error| fail("A5", format!("{meta:?}: {error}")));
        state.index = state.index.max(meta.index);
        controller.state = state;
        controller.stored = controller.state.clone();
        controller.snapshot_index = meta.index;
        controller.recorder.reset(&controller.state);
        let controller = &self.controllers[at];
        self.judge.reference.restored(id, &controller.state);
    }

    fn apply(&mut self, at: usize, committed: Vec<nube_consensus::Committed>) {
        let mut entries = Vec::new();
        for entry in committed {
            let controller = &mut self.controllers[at];
            let (id, index) = (controller.id, entry.index);
            hold("A6", index > controller.state.index, || {
                format!(
                    "member {id} applies {index} after {}",
                    controller.state.index
                )
            });
            let envelope = codec::decode_envelope(&entry.data)
                .unwrap_or_else(|error| fail("A8", format!("entry {index}: {error}")));
            let outcome = nube_state::apply(&mut controller.state, index, &envelope);
            let changes = controller.state.take_changes();
            if !changes.is_empty() {
                entries.push((index, controller.state.time, changes));
            }
            let place = (id, index, entry.term);
            let seen = (&outcome, &controller.state);
            self.judge
                .reference
                .applied(self.now_ms, place, &entry.data, seen);
            if let Some(waiter) = entry.ticket.and_then(|t| controller.waiting.remove(&t)) {
                controller.answers.push((waiter, index, outcome));
            }
            self.note("apply", id, index);
        }
        let controller = &mut self.controllers[at];
        controller.recorder.record(entries, &controller.state);
        let mono_ms = controller.clock.monotonic_ms(self.now_ms);
        controller
            .cell_clock
            .observe(mono_ms, controller.state.time);
    }

    /// Answers leave once the state stands where they were made.
    fn answer(&mut self, at: usize) {
        for (waiter, index, outcome) in std::mem::take(&mut self.controllers[at].answers) {
            self.committed(at, waiter, index, outcome);
        }
        let applied = self.controllers[at].status().map_or(0, |s| s.applied);
        let confirmed = std::mem::take(&mut self.controllers[at].confirmed);
        for (index, ticket) in confirmed {
            if index > applied {
                self.controllers[at].confirmed.push((index, ticket));
            } else if let Some(waiter) = self.controllers[at].waiting.remove(&ticket) {
                self.read_confirmed(at, waiter);
            }
        }
    }

    fn snapshot(&mut self, at: usize, wanted: bool) {
        let every = self.scenario.snapshot_every;
        let controller = &mut self.controllers[at];
        let Some(core) = &mut controller.core else {
            return;
        };
        let applied = core.status().applied;
        let due = applied >= controller.snapshot_index + every;
        let wanted = wanted && applied > controller.snapshot_index;
        let may = applied >= controller.snapshot_not_before && controller.state.cluster.is_some();
        if !(due || wanted) || !may {
            return;
        }
        let (Some(meta), Some(store)) =
            (core.snapshot_meta_at(applied), controller.disk.snapshots())
        else {
            return;
        };
        let body = codec::encode_snapshot(&controller.state);
        let (id, index) = (controller.id, controller.state.index);
        match store.write(&meta, &body) {
            Ok(_) => {
                controller.snapshot_index = applied;
                core.step(Input::SnapshotReady(meta));
                self.judge.reference.snapshot(id, index, &body);
                self.note("snapshot", id, applied);
            }
            Err(Error::NoSpace { .. }) => controller.snapshot_not_before = applied + 20,
            Err(error) => self.disk_failed(at, &error),
        }
    }

    fn write(&mut self, at: usize, work: Work) {
        let slow = self.scenario.faults.slow_disks && !self.calm && self.chance(20);
        let latency = self.random.random_range(0..if slow { 400 } else { 4 });
        let now_ms = self.now_ms;
        let controller = &mut self.controllers[at];
        controller.queued.push_back(work);
        // In order: one write is done no earlier than the one before it.
        controller.disk_busy_until_ms = controller.disk_busy_until_ms.max(now_ms) + latency;
        let (wait, life) = (controller.disk_busy_until_ms - now_ms, controller.life);
        self.after(wait, Event::DiskDone { at, life });
    }

    pub(crate) fn disk_done(&mut self, at: usize, life: u64) {
        let controller = &mut self.controllers[at];
        if controller.life != life {
            return;
        }
        controller.disk.set_now(self.now_ms);
        let Some(work) = controller.queued.pop_front() else {
            return;
        };
        let Some(log) = controller.disk.log() else {
            return;
        };
        let done = match &work {
            Work::Persist(Persist { batch, .. }) => {
                log.append(batch).and_then(|()| match batch.must_sync {
                    true => log.sync(),
                    false => log.flush(),
                })
            }
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
                controller.queued.push_front(work);
                self.judge.marks.hit("a log waited for disk space");
                // One wake-up too many for what is queued behind it is harmless.
                self.after(SPACE_RETRY_MS, Event::DiskDone { at, life });
            }
            (Err(error), _) => self.disk_failed(at, &error),
        }
    }

    fn committed(&mut self, at: usize, waiter: Waiter, index: u64, outcome: Outcome) {
        match waiter {
            Waiter::Task(task) => self.task_committed(at, task, index, outcome),
            Waiter::Foreign(to, life, task) => {
                self.answer_forward(at, (to, life, task), Ok((index, outcome)));
            }
            Waiter::Session(number) => self.session_committed(at, number, outcome),
            Waiter::Fence(node) => self.fence_settled(at, node),
            Waiter::Joined(address) => self.joined(address, &outcome),
            Waiter::Confirm(_) | Waiter::Nobody => {}
        }
    }

    fn proposal_failed(&mut self, at: usize, waiter: Waiter, error: &ProposeError) {
        match waiter {
            Waiter::Task(task) => self.task_failed(at, task, error),
            Waiter::Foreign(to, life, task) => {
                self.answer_forward(at, (to, life, task), Err(error.clone()));
            }
            Waiter::Session(number) => self.talk(at, number, talk::Input::Proposed(Proposed::Lost)),
            // Lost on the way it may still take effect, but not in this term.
            Waiter::Fence(_) if *error == ProposeError::UnknownOutcome => {}
            Waiter::Fence(node) => self.fence_settled(at, node),
            Waiter::Joined(_) | Waiter::Confirm(_) | Waiter::Nobody => {}
        }
    }

    fn read_confirmed(&mut self, at: usize, waiter: Waiter) {
        match waiter {
            Waiter::Task(task) => self.task_read(at, task, true),
            Waiter::Confirm(number) => self.confirm(at, number, true),
            _ => {}
        }
    }

    fn read_failed(&mut self, at: usize, waiter: Waiter) {
        match waiter {
            Waiter::Task(task) => self.task_read(at, task, false),
            Waiter::Confirm(number) => self.confirm(at, number, false),
            _ => {}
        }
    }
}
