//! What clients saw. A1: what was acknowledged is in the history. A2: no operation saw less than
//! one that had ended before it began; the log is the order, so this is all there is to judge
//! about linearizability of whole states. A3: the answer is the first one.

use nube_state::{Outcome, Request};

use super::hold;
use super::reference::Reference;

/// A call that was answered.
struct Done {
    began_ms: u64,
    ended_ms: u64,
    /// For a write where it took effect, for a read what it saw.
    revision: u64,
    write: bool,
}

/// A write that was answered.
struct Write {
    request: Request,
    outcome: Outcome,
    done: Done,
}

/// See above.
#[derive(Default)]
pub struct Calls {
    writes: Vec<Write>,
    reads: Vec<Done>,
    refused: Vec<Request>,
    /// Mutations without an answer.
    pub unknown: u64,
}

impl Calls {
    /// A mutation succeeded.
    pub fn wrote(&mut self, (began_ms, ended_ms): (u64, u64), request: Request, outcome: Outcome) {
        let done = Done {
            began_ms,
            ended_ms,
            revision: 0,
            write: true,
        };
        self.writes.push(Write {
            request,
            outcome,
            done,
        });
    }

    /// A read saw the state at a revision.
    pub fn read(&mut self, (began_ms, ended_ms): (u64, u64), revision: u64) {
        self.reads.push(Done {
            began_ms,
            ended_ms,
            revision,
            write: false,
        });
    }

    /// The last answer to a mutation was that nothing was done.
    pub fn refused(&mut self, request: Request) {
        self.refused.push(request);
    }

    /// Writes that were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.writes.len()
    }

    /// Reads that were answered.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.reads.len()
    }

    /// At the end of a run.
    pub fn judge(&mut self, reference: &Reference) {
        for write in &mut self.writes {
            let Some(index) = reference.effect(&write.request) else {
                super::fail("A1", format!("acknowledged {:?} is lost", write.request.id));
            };
            let first = reference.outcome(index);
            hold("A3", first == Some(&write.outcome), || {
                format!(
                    "{:?} answered {:?}, first {first:?}",
                    write.request.id, write.outcome
                )
            });
            write.done.revision = index;
        }
        for request in &self.refused {
            let effect = reference.effect(request);
            hold("A3", effect.is_none(), || {
                format!("refused {:?} took effect at {effect:?}", request.id)
            });
        }
        self.judge_order();
    }

    fn judge_order(&self) {
        let writes = self.writes.iter().map(|write| &write.done);
        let all: Vec<&Done> = writes.chain(&self.reads).collect();
        let mut ends: Vec<_> = all.iter().map(|d| (d.ended_ms, d.revision)).collect();
        ends.sort_unstable();
        let mut begins = all;
        begins.sort_unstable_by_key(|done| done.began_ms);
        let (mut at, mut newest) = (0, 0);
        for done in begins {
            while at < ends.len() && ends[at].0 < done.began_ms {
                newest = newest.max(ends[at].1);
                at += 1;
            }
            let fine = if done.write {
                done.revision > newest
            } else {
                done.revision >= newest
            };
            hold("A2", fine, || {
                let what = if done.write { "a write" } else { "a read" };
                format!(
                    "{what} that began at {} saw {}, although {newest} was answered before",
                    done.began_ms, done.revision
                )
            });
        }
    }
}
