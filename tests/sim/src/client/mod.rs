//! Clients of the API: one call at a time each, repeated under its request id at one controller
//! after the other until it is answered, as `cloudctl` does it. And watchers.

pub mod ops;
pub mod watch;

use nube_state::{Outcome, Quota, Request};
use nube_types::{InstanceId, ProjectId, RequestId};
use rand::Rng;

use crate::judge::fail;
use crate::world::{Event, World};
use ops::{Op, Value};

/// How long one attempt is waited for.
const PATIENCE_MS: u64 = 12_000;
/// Attempts before a client says that it does not know.
const ATTEMPTS: u32 = 6;

/// One client.
pub struct Client {
    id: usize,
    number: u64,
    call: Option<Pending>,
    /// What it knows of.
    pub(crate) known: Known,
}

/// What a client has learned from answers.
#[derive(Default)]
pub struct Known {
    /// Projects that it may use.
    pub projects: Vec<ProjectId>,
    /// Instances that were launched, with their projects.
    pub instances: Vec<(ProjectId, InstanceId)>,
    /// Names that it drew.
    pub names: u64,
}

struct Pending {
    call: Call,
    began_ms: u64,
    /// For the judge of registers.
    stamp: u64,
    maybe: bool,
}

/// A call as it travels.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who.
    pub client: usize,
    /// Which of its calls.
    pub number: u64,
    /// Which try.
    pub attempt: u32,
    /// What.
    pub op: Op,
    request: RequestId,
}

/// What a controller says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Committed; the index counts for reads.
    Done(u64, Outcome),
    /// What a read saw, at which revision.
    Read(u64, Value),
    /// Nothing was done: the request makes no sense in this state.
    Refused,
    /// Nothing was done: nobody leads here.
    Unavailable,
    /// It may have been done.
    Unknown,
}

/// An answer as it travels.
pub struct Reply {
    pub(crate) number: u64,
    pub(crate) attempt: u32,
    pub(crate) answer: Answer,
}

impl Call {
    /// The request as the log knows it.
    #[must_use]
    pub fn request(&self) -> Request {
        Request {
            project: self.op.project(),
            id: self.request,
            parameters: self.op.parameters(),
        }
    }
}

impl Client {
    /// Knows the first project.
    #[must_use]
    pub fn new(id: usize) -> Self {
        let known = Known {
            projects: vec![crate::controller::leader::PROJECT],
            ..Known::default()
        };
        Self {
            id,
            number: 0,
            call: None,
            known,
        }
    }
}

impl World {
    /// A client begins a call, or gives up waiting for an answer.
    pub(crate) fn client_due(&mut self, at: usize, number: u64) {
        match &self.clients[at].call {
            Some(pending) if pending.call.number == number => self.again(at, true),
            Some(_) => {}
            None if number == self.clients[at].number && self.busy => self.begin(at),
            None => {}
        }
    }

    fn begin(&mut self, at: usize) {
        let op = ops::draw(&mut self.random, &mut self.clients[at], &self.judge);
        let client = &mut self.clients[at];
        client.number += 1;
        let call = Call {
            client: client.id,
            number: client.number,
            attempt: 0,
            op,
            request: RequestId(self.random.random()),
        };
        client.call = Some(Pending {
            call,
            began_ms: self.now_ms,
            stamp: self.judge.registers.stamp(),
            maybe: false,
        });
        self.note("call", at as u64, client_number(&self.clients[at]));
        self.launch_attempt(at);
    }

    fn launch_attempt(&mut self, at: usize) {
        let to = self.random.random_range(0..self.controllers.len());
        let Some(pending) = &self.clients[at].call else {
            return;
        };
        let (call, number) = (Box::new(pending.call.clone()), pending.call.number);
        let ms = self.random.random_range(1..5);
        self.after(ms, Event::Call { at: to, call });
        self.after(PATIENCE_MS, Event::Client { client: at, number });
    }

    /// The next attempt, or the end of patience.
    fn again(&mut self, at: usize, maybe: bool) {
        let Some(pending) = &mut self.clients[at].call else {
            return;
        };
        pending.maybe |= maybe;
        pending.call.attempt += 1;
        if pending.call.attempt < ATTEMPTS || (self.calm && pending.call.attempt < 100) {
            return self.launch_attempt(at);
        }
        let maybe = pending.maybe && !pending.call.op.is_read();
        if maybe {
            self.judge.calls.unknown += 1;
            self.judge.marks.hit("a mutation had an unknown outcome");
            self.note_limit(at, None);
        }
        self.next(at);
    }

    fn next(&mut self, at: usize) {
        self.clients[at].call = None;
        let ms = self.random.random_range(5..800);
        let number = self.clients[at].number;
        self.after(ms, Event::Client { client: at, number });
    }

    /// An answer arrives; one to an attempt that was given up counts as well.
    pub(crate) fn replied(&mut self, at: usize, reply: Reply) {
        let Some(pending) = &self.clients[at].call else {
            return;
        };
        if pending.call.number != reply.number {
            return;
        }
        let (began_ms, call, maybe) = (pending.began_ms, pending.call.clone(), pending.maybe);
        let span = (began_ms, self.now_ms);
        match reply.answer {
            Answer::Unavailable if reply.attempt == call.attempt => return self.again(at, false),
            Answer::Unknown if reply.attempt == call.attempt => return self.again(at, true),
            Answer::Unavailable | Answer::Unknown => return,
            Answer::Read(revision, value) => {
                self.judge.calls.read(span, revision);
                if let Value::Quota(project, limit) = value {
                    let who = self.asking(at);
                    self.judge.registers.read(who, project, limit);
                }
                self.clients[at].known.learn(&value);
            }
            // An earlier attempt may still take effect, or has.
            Answer::Refused | Answer::Done(_, Outcome::Refused(_)) if maybe => {
                self.note_limit(at, None);
            }
            Answer::Refused => self.judge.calls.refused(call.request()),
            Answer::Done(_, Outcome::Refused(refusal)) => {
                if refusal == nube_state::Refusal::RequestIdReused {
                    fail(
                        "A3",
                        format!("{:?} was never used before", call.request().id),
                    );
                }
                self.judge.calls.refused(call.request());
            }
            Answer::Done(_, outcome) => {
                self.clients[at].known.made(&call.op, &outcome);
                self.note_limit(at, Some(&outcome));
                self.judge.calls.wrote(span, call.request(), outcome);
            }
        }
        self.note("answered", at as u64, reply.number);
        self.next(at);
    }

    fn asking(&self, at: usize) -> (u64, u64) {
        let stamp = self.clients[at].call.as_ref().map_or(0, |call| call.stamp);
        (at as u64, stamp)
    }

    /// A limit was set or its project came or went; without an outcome: perhaps.
    fn note_limit(&mut self, at: usize, outcome: Option<&Outcome>) {
        let Some(op) = self.clients[at].call.as_ref().map(|p| p.call.op.clone()) else {
            return;
        };
        let (project, limit) = match (op, outcome) {
            (Op::SetQuota { project, instances }, _) => (project, Some(instances)),
            (Op::DeleteProject { project }, _) => (project, None),
            (Op::CreateProject { .. }, Some(Outcome::Project(project))) => {
                (*project, Some(Quota::DEFAULT.instances))
            }
            _ => return,
        };
        let who = self.asking(at);
        let done = outcome.is_some();
        self.judge.registers.wrote(who, project, limit, done);
    }

    /// Calls that are not answered yet.
    #[must_use]
    pub fn open_calls(&self) -> usize {
        self.clients.iter().filter(|c| c.call.is_some()).count()
    }
}

fn client_number(client: &Client) -> u64 {
    client.number
}
