//! Calls of the API on a simulated controller: a linearizable read, the checks, one proposal,
//! the answer; and the way to the leader when this controller is not it. As
//! `nube_controller::propose` and its handlers do it, one step per event.

use nube_consensus::ProposeError;
use nube_state::{Command, Envelope, Outcome, Refusal, Request, codec, request};
use nube_types::TimestampMs;

use super::Waiter;
use crate::client::ops::Made;
use crate::client::{Answer, Call, Reply};
use crate::world::{Event, World};

/// As `nube_controller::propose` waits for an outcome.
const DEADLINE_MS: u64 = 10_000;
/// As it pauses between two attempts.
const PAUSE_MS: u64 = 30;
/// As a contended launch is tried.
const LAUNCH_ATTEMPTS: u32 = 20;

/// What a task waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// A linearizable view.
    Reading,
    /// Its proposal here, or at the leader.
    Proposing,
    /// The next attempt.
    Pausing,
    /// Until what was committed at the leader is applied here.
    ReadingBack(u64, Outcome),
}

/// A call under way.
pub struct Task {
    call: Call,
    stage: Stage,
    envelope: Option<Envelope>,
    deadline_ms: u64,
    contended: u32,
}

/// A mutation on its way to the leader.
pub struct Forward {
    from: usize,
    life: u64,
    task: u64,
    envelope: Envelope,
}

/// The leader's answer.
pub struct Forwarded {
    life: u64,
    task: u64,
    result: Result<(u64, Outcome), ProposeError>,
}

impl World {
    /// A call arrives.
    pub(crate) fn called(&mut self, at: usize, call: Call) {
        if self.controllers[at].core.is_none() {
            return self.reply(&call, Answer::Unavailable);
        }
        if call.attempt > 0 {
            self.mark("a call was repeated under its request id", call.number);
        }
        self.tasks += 1;
        let id = self.tasks;
        let task = Task {
            call,
            stage: Stage::Reading,
            envelope: None,
            deadline_ms: self.now_ms + DEADLINE_MS,
            contended: 0,
        };
        self.controllers[at].tasks.insert(id, task);
        let life = self.controllers[at].life;
        self.after(DEADLINE_MS, Event::Task { at, life, task: id });
        if self.is_deposed(at) {
            self.judge.marks.hit("a deposed leader was asked to read");
        }
        self.read(at, Waiter::Task(id));
    }

    /// It believes to lead, and somebody else does.
    fn is_deposed(&self, at: usize) -> bool {
        let status = self.controllers[at].status();
        let believes = status.is_some_and(|status| status.is_leader());
        believes && self.leader().is_some_and(|leader| leader != at)
    }

    fn reply(&mut self, call: &Call, answer: Answer) {
        let ms = 1 + call.number % 3;
        let (client, number, attempt) = (call.client, call.number, call.attempt);
        let reply = Box::new(Reply {
            number,
            attempt,
            answer,
        });
        self.after(ms, Event::Reply { client, reply });
    }

    fn finish(&mut self, at: usize, id: u64, answer: Answer) {
        if let Some(task) = self.controllers[at].tasks.remove(&id) {
            self.reply(&task.call, answer);
        }
    }

    /// A read was confirmed, or gave up.
    pub(crate) fn task_read(&mut self, at: usize, id: u64, confirmed: bool) {
        let Some(task) = self.controllers[at].tasks.get(&id) else {
            return;
        };
        match &task.stage {
            Stage::ReadingBack(index, outcome) => {
                let answer = Answer::Done(*index, outcome.clone());
                self.finish(at, id, answer);
            }
            Stage::Reading if confirmed => self.resolve(at, id),
            Stage::Reading => self.finish(at, id, Answer::Unavailable),
            Stage::Proposing | Stage::Pausing => {}
        }
    }

    /// The view is here: a read is answered, a mutation becomes a command.
    fn resolve(&mut self, at: usize, id: u64) {
        let controller = &mut self.controllers[at];
        let Some(task) = controller.tasks.get_mut(&id) else {
            return;
        };
        let state = &controller.state;
        if let Some(value) = task.call.op.read(state) {
            let revision = state.index;
            return self.finish(at, id, Answer::Read(revision, value));
        }
        let asked = task.call.request();
        if let Some(outcome) = request::recall(state, &asked) {
            self.judge
                .marks
                .hit("a repeated request got its first answer");
            let index = state.index;
            return self.finish(at, id, Answer::Done(index, outcome));
        }
        let made = task
            .call
            .op
            .command(state, &controller.hosts, &mut self.random);
        let command = match made {
            Made::Command(command) => *command,
            Made::Refused(mark) => {
                self.judge.marks.hit(mark);
                return self.finish(at, id, Answer::Refused);
            }
        };
        let at_ms = controller.clock.wall(self.now_ms);
        task.envelope = Some(envelope(at_ms, asked, command));
        self.attempt(at, id);
    }

    /// Appends here, or carries it to the leader.
    fn attempt(&mut self, at: usize, id: u64) {
        let Some(status) = self.controllers[at].status() else {
            return;
        };
        let Some(task) = self.controllers[at].tasks.get_mut(&id) else {
            return;
        };
        let Some(mut envelope) = task.envelope.clone() else {
            return;
        };
        task.stage = Stage::Proposing;
        if status.is_leader() {
            envelope.at = self.stamp(at);
            let data = codec::encode_envelope(&envelope);
            return self.propose(at, Waiter::Task(id), data);
        }
        let leader = status.leader.and_then(|leader| self.place_of(leader));
        let Some(to) = leader else {
            return self.pause(at, id);
        };
        self.judge.marks.hit("a call was carried to the leader");
        let (from_id, to_id) = (self.controllers[at].id, self.controllers[to].id);
        let life = self.controllers[at].life;
        if !self.network.is_open(from_id, to_id) {
            return self.pause(at, id);
        }
        let forward = Box::new(Forward {
            from: at,
            life,
            task: id,
            envelope,
        });
        self.after(2, Event::Forward { at: to, forward });
    }

    fn pause(&mut self, at: usize, id: u64) {
        if let Some(task) = self.controllers[at].tasks.get_mut(&id) {
            task.stage = Stage::Pausing;
        }
        let life = self.controllers[at].life;
        self.after(PAUSE_MS, Event::Task { at, life, task: id });
    }

    /// The pause or the patience of a task is over.
    pub(crate) fn task_due(&mut self, at: usize, life: u64, id: u64) {
        if self.controllers[at].life != life {
            return;
        }
        let Some(task) = self.controllers[at].tasks.get(&id) else {
            return;
        };
        if self.now_ms >= task.deadline_ms {
            self.finish(at, id, Answer::Unknown);
        } else if task.stage == Stage::Pausing {
            self.attempt(at, id);
        }
    }

    /// A mutation arrives at the leader, or at one that was it.
    pub(crate) fn forward_arrived(&mut self, at: usize, forward: Forward) {
        let to = (forward.from, forward.life, forward.task);
        let leads = self.controllers[at].status().is_some_and(|s| s.is_leader());
        if !leads {
            let leader = None;
            return self.answer_forward(at, to, Err(ProposeError::NotLeader { leader }));
        }
        let mut envelope = forward.envelope;
        envelope.at = self.stamp(at);
        let data = codec::encode_envelope(&envelope);
        self.propose(at, Waiter::Foreign(to.0, to.1, to.2), data);
    }

    pub(crate) fn answer_forward(
        &mut self,
        at: usize,
        (to, life, task): (usize, u64, u64),
        result: Result<(u64, Outcome), ProposeError>,
    ) {
        let (from_id, to_id) = (self.controllers[at].id, self.controllers[to].id);
        let result = match self.network.is_open(from_id, to_id) {
            true => result,
            false => Err(ProposeError::UnknownOutcome),
        };
        let answer = Box::new(Forwarded { life, task, result });
        self.after(2, Event::Forwarded { at: to, answer });
    }

    /// The leader's answer is back at the controller that was called.
    pub(crate) fn forward_answered(&mut self, at: usize, answer: Forwarded) {
        let controller = &mut self.controllers[at];
        if controller.life != answer.life {
            return;
        }
        let Some(task) = controller.tasks.get_mut(&answer.task) else {
            return;
        };
        match answer.result {
            Ok((_, outcome)) if is_contended(&outcome) => {
                self.task_committed(at, answer.task, 0, outcome);
            }
            Ok((index, outcome)) => {
                task.stage = Stage::ReadingBack(index, outcome);
                self.read(at, Waiter::Task(answer.task));
            }
            Err(error) => self.task_failed(at, answer.task, &error),
        }
    }

    /// A task's command was committed and applied.
    pub(crate) fn task_committed(&mut self, at: usize, id: u64, index: u64, outcome: Outcome) {
        let Some(task) = self.controllers[at].tasks.get_mut(&id) else {
            return;
        };
        if is_contended(&outcome) && task.contended < LAUNCH_ATTEMPTS {
            task.contended += 1;
            task.stage = Stage::Reading;
            self.judge
                .marks
                .hit("a placement was stale and chosen again");
            return self.read(at, Waiter::Task(id));
        }
        self.finish(at, id, Answer::Done(index, outcome));
    }

    /// A task's proposal came to nothing, or nobody knows.
    pub(crate) fn task_failed(&mut self, at: usize, id: u64, error: &ProposeError) {
        let last = matches!(
            error,
            ProposeError::StorageFull | ProposeError::Overloaded | ProposeError::BadSize { .. }
        );
        match last {
            true => self.finish(at, id, Answer::Unknown),
            false => self.pause(at, id),
        }
    }
}

fn is_contended(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(Refusal::StalePlacement { .. }))
}

fn envelope(at: TimestampMs, asked: Request, command: Command) -> Envelope {
    Envelope {
        request: Some(asked),
        at,
        actor: "operator/sim".to_owned(),
        command,
        source: None,
    }
}
