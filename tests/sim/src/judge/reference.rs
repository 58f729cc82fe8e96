//! The one history: the log as the first replica applied it, replayed on a state of its own.
//! Every replica, in each of its lives, must apply the same entries (A6) with the same answers
//! to the same states (A4); a snapshot must be the state and nothing else (A5); and the state
//! must keep its own laws at every index (C2, C3, D2, H by their numbers in `nube_state`).

use std::collections::BTreeMap;

use nube_controller::watch::{Shown, show};
use nube_proto::v1;
use nube_state::{
    Change, Command, Outcome, Request, State, codec, invariant, project, request, watched,
};
use nube_types::{ProjectId, RequestId, TimestampMs};
use prost::Message;

use super::{fail, hold};
use crate::clock::Clock;

/// Clocks of a majority are right to 100 ms and run at most 0.4 % fast for two minutes; those
/// that are wrong by less than the clock's own tolerance may pull by that.
const AHEAD_MS_MAX: i64 = 1_500;

/// One entry as it was applied first.
struct Entry {
    term: u64,
    data: Vec<u8>,
    outcome: Outcome,
    /// Of the state after it.
    hash: [u8; 32],
}

/// A change as a watcher knows it: kind and id, and whether it is gone.
pub type Seen = (String, bool);

/// What watchers must be told of an entry: the last change of each record, unless only the
/// control plane needs it. Written anew here, beside `nube_controller::watch`.
fn visible(state: &State, index: u64, changes: &[Change]) -> Vec<Seen> {
    let last: BTreeMap<_, _> = changes.iter().map(|change| (&change.key, change)).collect();
    let read = last.into_values().filter_map(watched::read);
    let shown = read.filter(|(record, removed)| *removed || record.revision() == index);
    let mut seen: Vec<_> = shown
        .filter_map(|(record, removed)| told(&show(state, &record, removed)))
        .collect();
    seen.sort_unstable();
    seen
}

/// What is said of a change, decoded as a client would.
pub fn told(shown: &Shown) -> Option<Seen> {
    let change = v1::Change::decode(shown.bytes(true)).ok()?;
    Some((format!("{}/{}", change.kind, change.id), change.removed))
}

/// See above.
#[derive(Default)]
pub struct Reference {
    state: State,
    log: BTreeMap<u64, Entry>,
    /// Where each request had its effect.
    effects: BTreeMap<(ProjectId, RequestId), u64>,
    /// Visible changes, by index: what watchers must see.
    pub visible: BTreeMap<u64, Vec<Seen>>,
    snapshots: BTreeMap<u64, blake3::Hash>,
}

impl Reference {
    /// The newest state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where a request had its effect, if it had one.
    #[must_use]
    pub fn effect(&self, request: &Request) -> Option<u64> {
        self.effects.get(&(request.project, request.id)).copied()
    }

    /// Applied entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.log.len()
    }

    /// The answer at an index.
    #[must_use]
    pub fn outcome(&self, index: u64) -> Option<&Outcome> {
        self.log.get(&index).map(|entry| &entry.outcome)
    }

    /// The last applied index up to and including this one.
    fn floor(&self, index: u64) -> Option<(u64, &Entry)> {
        let (at, entry) = self.log.range(..=index).next_back()?;
        Some((*at, entry))
    }

    /// A replica applied an entry.
    pub fn applied(
        &mut self,
        now_ms: u64,
        (member, index, term): (u64, u64, u64),
        data: &[u8],
        (outcome, replica): (&Outcome, &State),
    ) {
        if index > self.state.index {
            self.advance(now_ms, index, term, data);
        }
        let Some(known) = self.log.get(&index) else {
            fail(
                "A6",
                format!("member {member} applied {index}, where others have no entry"),
            );
        };
        hold("A6", (known.term, &known.data[..]) == (term, data), || {
            format!("member {member} applied another entry at {index}")
        });
        hold("A4", known.outcome == *outcome, || {
            format!(
                "member {member} answered {outcome:?} at {index}, others {:?}",
                known.outcome
            )
        });
        hold("A4", known.hash == codec::state_hash(replica), || {
            format!("member {member} has another state after {index}")
        });
    }

    fn advance(&mut self, now_ms: u64, index: u64, term: u64, data: &[u8]) {
        let Ok(envelope) = codec::decode_envelope(data) else {
            fail("A8", format!("entry {index} cannot be decoded"));
        };
        let recalled = envelope
            .request
            .and_then(|asked| request::recall(&self.state, &asked));
        let before = self.state.time;
        let outcome = nube_state::apply(&mut self.state, index, &envelope);
        self.judge_time(now_ms, before, index);
        if let Some(asked) = envelope.request
            && recalled.is_none()
            && !matches!(outcome, Outcome::Refused(_))
        {
            let first = self.effects.insert((asked.project, asked.id), index);
            hold("A3", first.is_none(), || {
                format!(
                    "request {:?} took effect at {first:?} and at {index}",
                    asked.id
                )
            });
        }
        self.judge_quota(index, &envelope.command, &outcome);
        let changes = self.state.take_changes();
        let seen = visible(&self.state, index, &changes);
        if !seen.is_empty() {
            self.visible.insert(index, seen);
        }
        self.judge_state(index, &envelope.command);
        let hash = codec::state_hash(&self.state);
        let data = data.to_vec();
        self.log.insert(
            index,
            Entry {
                term,
                data,
                outcome,
                hash,
            },
        );
    }

    /// A walk over everything costs more the more there is: large cells are looked at less often.
    fn judge_state(&self, index: u64, command: &Command) {
        let rare = matches!(command, Command::Tick(_) | Command::ReportInstances(_));
        let every = match self.state.instances.len() + self.state.nodes.len() {
            0..=60 if !rare => 1,
            0..=60 => 4,
            _ => 32,
        };
        if index.is_multiple_of(every) {
            self.judge_laws();
        }
    }

    /// C2: what was let in is within the owner's quota. A limit may be lowered below what is there.
    fn judge_quota(&self, index: u64, command: &Command, outcome: &Outcome) {
        let (Command::LaunchInstances(launch), Outcome::Instances(_)) = (command, outcome) else {
            return;
        };
        let Some(size) = self.state.instance_types.get(&launch.instance_type) else {
            return;
        };
        let rows = project::quota_rows(&self.state, launch.project, size, 0);
        if let Some(row) = rows.iter().find(|row| row.used > row.limit) {
            let (resource, used, limit) = (row.resource, row.used, row.limit);
            fail(
                "C2",
                format!("{used} {resource} of {limit} after a launch at {index}"),
            );
        }
    }

    /// The state's own laws.
    pub fn judge_laws(&self) {
        if let Some(broken) = invariant::broken(&self.state).first() {
            let law = ["A5", "A7", "C1", "C2", "C3", "D2", "E5", "H"];
            let law = law.into_iter().find(|law| broken.starts_with(law));
            fail(
                law.unwrap_or("state"),
                format!("{broken} (index {})", self.state.index),
            );
        }
    }

    /// D4: time never goes back, and wrong clocks of a minority do not carry it away.
    fn judge_time(&self, now_ms: u64, before: TimestampMs, index: u64) {
        let now = self.state.time;
        hold("D4", now >= before, || format!("time went back at {index}"));
        let ahead_ms = self.ahead_ms(now_ms);
        hold("D4", ahead_ms <= AHEAD_MS_MAX, || {
            format!("replicated time is {ahead_ms} ms ahead of true time at {index}")
        });
    }

    /// By how much replicated time is ahead of true time; negative when behind.
    #[must_use]
    pub fn ahead_ms(&self, now_ms: u64) -> i64 {
        let (truth, ours) = (Clock::truth(now_ms).0, self.state.time.0);
        i64::try_from(ours).unwrap_or(i64::MAX) - i64::try_from(truth).unwrap_or(i64::MAX)
    }

    /// A replica wrote a snapshot of the state at an index.
    pub fn snapshot(&mut self, member: u64, index: u64, body: &[u8]) {
        let hash = blake3::hash(body);
        let first = *self.snapshots.entry(index).or_insert(hash);
        hold("A5", first == hash, || {
            format!("the snapshot of member {member} at {index} has other bytes")
        });
        let Ok(read) = codec::decode_snapshot(body) else {
            fail(
                "A5",
                format!("the snapshot of member {member} at {index} cannot be read"),
            );
        };
        self.restored(member, &read);
    }

    /// A replica stands at a state it did not come to entry by entry.
    pub fn restored(&self, member: u64, state: &State) {
        let Some((at, known)) = self.floor(state.index) else {
            return;
        };
        hold("A5", codec::state_hash(state) == known.hash, || {
            format!(
                "member {member} restored another state for {} than after {at}",
                state.index
            )
        });
    }

    /// D1: the ledger is the integral of the committed history, recomputed by `nube_billing`'s
    /// second implementation; D2 and D5 are among what it looks for.
    pub fn judge_bill(&self) {
        let transitions: Vec<_> = self.state.transitions.iter().cloned().collect();
        let ledger: Vec<_> = self.state.usage.iter().cloned().collect();
        let report =
            nube_billing::verify(&transitions, &ledger, &self.state.prices, self.state.time);
        hold("D1", report.findings.is_empty(), || {
            format!(
                "the ledger is not what happened: {:?}",
                report.findings.first()
            )
        });
    }
}
