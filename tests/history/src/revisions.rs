//! Revisions against real time. Every answer of the cloud carries the log index it
//! rests on, so most of linearizability is a comparison of numbers, for histories
//! of any length: who asks after another answer was there sees at least what that
//! answer saw.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One answer that carried a revision. Of a mutation that was sent several times:
/// from its first attempt to its last answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// Who asked.
    pub client: u64,
    /// When the question left.
    pub called_at: u64,
    /// When the answer was there.
    pub returned_at: u64,
    /// The revision: a mutation's own log index, or that of the state a read saw.
    pub revision: u64,
    /// Whether this question made that revision.
    pub wrote: bool,
}

/// Answers that no single log explains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// A client was shown the past of what it had been shown.
    #[error("a client's revision went back: {earlier:?}, then {later:?}")]
    WentBack {
        /// What it saw first.
        earlier: Sight,
        /// What it saw then.
        later: Sight,
    },
    /// A question asked after an answer was there saw less than that answer.
    #[error("stale: {earlier:?} had ended before {later:?} began")]
    Stale {
        /// The answer that was there.
        earlier: Sight,
        /// The one that missed it.
        later: Sight,
    },
    /// A mutation's entry is no later than one that had been seen before it began.
    #[error("written into the past: {earlier:?} had ended before {later:?} began")]
    WrittenBehind {
        /// The answer that was there.
        earlier: Sight,
        /// The mutation.
        later: Sight,
    },
    /// Two mutations were told the same log index.
    #[error("one revision for two mutations: {first:?} and {second:?}")]
    Twice {
        /// One of them.
        first: Sight,
        /// The other.
        second: Sight,
    },
}

/// Judges the answers of all clients, in any order.
///
/// # Errors
/// The first pair, by the later question's time, that no single log explains.
pub fn check(sights: &[Sight]) -> Result<(), RevisionError> {
    let mut writers: BTreeMap<u64, &Sight> = BTreeMap::new();
    for sight in sights.iter().filter(|sight| sight.wrote) {
        if let Some(first) = writers.insert(sight.revision, sight) {
            return Err(RevisionError::Twice {
                first: first.clone(),
                second: sight.clone(),
            });
        }
    }
    let mut by_call: Vec<&Sight> = sights.iter().collect();
    by_call.sort_by_key(|sight| sight.called_at);
    let mut by_return = by_call.clone();
    by_return.sort_by_key(|sight| sight.returned_at);
    let mut ended = by_return.iter().peekable();
    // The highest revision of all that ended before the question at hand began.
    let mut highest: Option<&Sight> = None;
    // Of one client, also what ended at the same moment came before.
    let mut clients: BTreeMap<u64, Own> = BTreeMap::new();
    for sight in &by_return {
        clients.entry(sight.client).or_default().ended.push(sight);
    }
    for later in by_call {
        while let Some(earlier) = ended.next_if(|ended| ended.returned_at < later.called_at) {
            highest = Some(higher(highest, earlier));
        }
        let own = clients.entry(later.client).or_default();
        own.until(later);
        if let Some(earlier) = own.highest.filter(|own| own.revision > later.revision) {
            return Err(RevisionError::WentBack {
                earlier: earlier.clone(),
                later: later.clone(),
            });
        }
        for earlier in [highest, own.highest].into_iter().flatten() {
            if earlier.revision > later.revision {
                return Err(RevisionError::Stale {
                    earlier: earlier.clone(),
                    later: later.clone(),
                });
            }
            if later.wrote && earlier.revision == later.revision {
                return Err(RevisionError::WrittenBehind {
                    earlier: earlier.clone(),
                    later: later.clone(),
                });
            }
        }
    }
    Ok(())
}

fn higher<'a>(held: Option<&'a Sight>, new: &'a Sight) -> &'a Sight {
    held.filter(|held| held.revision >= new.revision)
        .unwrap_or(new)
}

/// One client's answers in order of time.
#[derive(Default)]
struct Own<'a> {
    ended: Vec<&'a Sight>,
    passed: usize,
    highest: Option<&'a Sight>,
}

impl<'a> Own<'a> {
    fn until(&mut self, later: &Sight) {
        while let Some(earlier) = self.ended.get(self.passed)
            && earlier.returned_at <= later.called_at
            && !std::ptr::eq(*earlier, later)
        {
            self.highest = Some(higher(self.highest, earlier));
            self.passed += 1;
        }
    }
}
