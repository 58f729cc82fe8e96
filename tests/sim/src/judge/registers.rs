//! A2, once more and by another judge: the limit on a project's instances is a register, and
//! `nube_history` looks for one order that explains every answer. It knows nothing of logs and
//! revisions, so it would also see what those hide.

use nube_history::Event;
use nube_history::check;
use nube_history::model::register::{Op, Outcome, Register};
use nube_types::ProjectId;

use super::fail;

/// What clients saw of limits.
#[derive(Default)]
pub struct Registers {
    events: Vec<Event<Op<ProjectId, u64>, Outcome<u64>>>,
    stamp: u64,
}

impl Registers {
    /// The next moment: no two are equal.
    pub fn stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    /// A limit was set; `None`: its project is gone. `done`: it was acknowledged.
    pub fn wrote(
        &mut self,
        (client, called): (u64, u64),
        project: ProjectId,
        limit: Option<u64>,
        done: bool,
    ) {
        let op = Op::Write(project, limit);
        let now = self.stamp();
        self.events.push(match done {
            true => Event::done(client, op, called, now, Outcome::Done),
            false => Event::unknown(client, op, called),
        });
    }

    /// A limit was read.
    pub fn read(&mut self, (client, called): (u64, u64), project: ProjectId, limit: Option<u64>) {
        let now = self.stamp();
        let outcome = Outcome::Value(limit);
        let event = Event::done(client, Op::Read(project), called, now, outcome);
        self.events.push(event);
    }

    /// At the end of a run.
    pub fn judge(&self) {
        if let Err(violation) = check::linear(&Register::new(), &self.events) {
            fail(
                "A2",
                format!("no order explains the limits that were read: {violation}"),
            );
        }
    }
}
