//! What the leader is told: each machine as it is, in reports that are ordered,
//! acknowledged and sent again. Pure; the session task owns the [`Outbox`].
//!
//! The outbox compares what is with what the leader has acknowledged, so its
//! memory is bounded by the number of instances however long no leader listens:
//! a newer state of an instance replaces an unsent older one. One report is
//! under way at a time; what changes meanwhile rides in the next.

use std::collections::BTreeMap;

use nube_proto::agent::v1::{ObservedInstance, Report};
use nube_proto::v1::{InstanceStage, InstanceState};
use nube_types::InstanceId;
use nube_types::limits::REASON_BYTES_MAX;

use crate::instance::{Ending, Failure, Machine, Phase, Verb};

/// A report that is not acknowledged for this long is sent again with the same
/// sequence: the leader may have dropped it. Sooner doubles the load of a busy
/// leader; later delays billing.
pub const RESEND_MS: u64 = 3_000;
/// Instances in one partial report: keeps it below the message limit.
const INSTANCES_PER_REPORT_MAX: usize = 1_000;

/// All that there is to tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// Every machine on this host, listed by the leader or not.
    pub instances: BTreeMap<InstanceId, ObservedInstance>,
    /// What nobody can explain, for people.
    pub unknown: Vec<String>,
}

/// One step of a [`View`].
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// An instance is new or differs.
    Instance(InstanceId, Box<ObservedInstance>),
    /// An instance was forgotten.
    Gone(InstanceId),
    /// What nobody can explain, anew.
    Unknown(Vec<String>),
}

impl View {
    /// Follows one step.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Instance(id, seen) => drop(self.instances.insert(id, *seen)),
            Change::Gone(id) => drop(self.instances.remove(&id)),
            Change::Unknown(unknown) => self.unknown = unknown,
        }
    }
}

/// Orders and repeats reports.
#[derive(Debug)]
pub struct Outbox {
    agent_epoch: u64,
    sequence: u64,
    acked: View,
    full_due: bool,
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    report: Report,
    told: View,
    sent_at_ms: u64,
}

impl Outbox {
    /// For this life of the agent.
    #[must_use]
    pub fn new(agent_epoch: u64) -> Self {
        Self {
            agent_epoch,
            sequence: 0,
            acked: View::default(),
            full_due: true,
            under_way: None,
        }
    }

    /// Whether a report waits for its acknowledgement.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Another leader listens, or the same one anew: it is told everything.
    pub fn restart(&mut self) {
        self.full_due = true;
        self.under_way = None;
    }

    /// The report to send now, if any.
    pub fn next(&mut self, view: &View, now_ms: u64) -> Option<Report> {
        if let Some(under_way) = &mut self.under_way {
            if now_ms < under_way.sent_at_ms.saturating_add(RESEND_MS) {
                return None;
            }
            under_way.sent_at_ms = now_ms;
            return Some(under_way.report.clone());
        }
        let full = self.full_due;
        let changed = |(id, seen): &(&InstanceId, &ObservedInstance)| {
            full || self.acked.instances.get(id) != Some(seen)
        };
        let limit = if full {
            usize::MAX
        } else {
            INSTANCES_PER_REPORT_MAX
        };
        let instances: BTreeMap<_, _> = view
            .instances
            .iter()
            .filter(changed)
            .take(limit)
            .map(|(k, v)| (*k, v.clone()))
            .collect();
        if !full && instances.is_empty() && self.acked.unknown == view.unknown {
            return None;
        }
        self.sequence += 1;
        let report = Report {
            agent_epoch: self.agent_epoch,
            sequence: self.sequence,
            full,
            instances: instances.values().cloned().collect(),
            unknown_resources: view.unknown.clone(),
        };
        let told = View {
            instances,
            unknown: view.unknown.clone(),
        };
        self.under_way = Some(UnderWay {
            report: report.clone(),
            told,
            sent_at_ms: now_ms,
        });
        Some(report)
    }

    /// The leader has committed a report. Answers the instances whose
    /// `found_dead` it now knows.
    pub fn acked(&mut self, agent_epoch: u64, sequence: u64) -> Vec<InstanceId> {
        let fits = |under_way: &mut UnderWay| {
            agent_epoch == self.agent_epoch && sequence == under_way.report.sequence
        };
        let Some(under_way) = self.under_way.take_if(fits) else {
            return Vec::new();
        };
        if under_way.report.full {
            self.full_due = false;
            self.acked = View::default();
        }
        let told_dead = under_way
            .told
            .instances
            .iter()
            .filter(|(_, seen)| seen.found_dead);
        let told_dead = told_dead.map(|(id, _)| *id).collect();
        self.acked.instances.extend(under_way.told.instances);
        self.acked.unknown = under_way.told.unknown;
        told_dead
    }

    /// Forgets what was acknowledged of instances that are gone.
    pub fn trim(&mut self, view: &View) {
        self.acked
            .instances
            .retain(|id, _| view.instances.contains_key(id));
    }
}

/// One machine as the leader sees it.
#[must_use]
pub fn observe(machine: &Machine) -> ObservedInstance {
    let (state, stage) = state_and_stage(machine);
    ObservedInstance {
        instance_id: machine.id.to_string(),
        placement_epoch: machine.epoch.0,
        applied_generation: machine.applied_generation(),
        state: state.into(),
        stage: stage.into(),
        reason: shorten(&reason(machine)),
        run_id: machine
            .run
            .as_ref()
            .map(crate::driver::Run::id)
            .unwrap_or_default(),
        // Told or not, an end by lease is nobody's wish: it waits for a lease.
        found_dead: match machine.phase {
            Phase::Stopped(Ending::Fenced { .. }) => true,
            Phase::Stopped(ending) => ending.is_untold(),
            _ => false,
        },
        reboot_count: machine.reboots.unwrap_or(0),
    }
}

fn state_and_stage(machine: &Machine) -> (InstanceState, InstanceStage) {
    use InstanceStage as Stage;
    use InstanceState as State;
    let pair = match &machine.phase {
        Phase::Absent => (State::Pending, Stage::Unspecified),
        Phase::Fetching | Phase::Fetched => (State::Starting, Stage::Image),
        Phase::Preparing | Phase::Prepared { fresh: false } => (State::Starting, Stage::Prepare),
        Phase::Prepared { fresh: true } | Phase::Starting(_) => (State::Starting, Stage::Boot),
        Phase::Running => (State::Running, Stage::Running),
        Phase::Stopping { .. } | Phase::Fencing { .. } => (State::Stopping, Stage::Unspecified),
        Phase::Stopped(_) => (State::Stopped, Stage::Unspecified),
        Phase::Removing { .. } => (State::Deleting, Stage::Unspecified),
        Phase::Removed => (State::Deleted, Stage::Unspecified),
        Phase::Failed(failure) if failure.retry_at_ms.is_some() => {
            (State::Starting, stage_of(failure))
        }
        Phase::Failed(failure) => (State::Failed, stage_of(failure)),
    };
    // A reboot is one stay: it is billed through, as everywhere else, and the
    // run id says when the new life began.
    if machine.rebooting && !matches!(machine.phase, Phase::Failed(_)) {
        return (State::Running, Stage::Boot);
    }
    pair
}

fn stage_of(failure: &Failure) -> InstanceStage {
    match failure.verb {
        Some(Verb::Fetch) => InstanceStage::Image,
        Some(Verb::Prepare) => InstanceStage::Prepare,
        Some(Verb::Start) => InstanceStage::Boot,
        _ => InstanceStage::Unspecified,
    }
}

fn reason(machine: &Machine) -> String {
    match &machine.phase {
        Phase::Failed(failure) => failure.reason.clone(),
        Phase::Stopped(Ending::PoweredOff) => "the guest switched itself off".to_owned(),
        Phase::Stopped(Ending::FoundDead { .. }) => {
            "it was found dead after the host or its agent had been away".to_owned()
        }
        Phase::Fencing { .. } | Phase::Stopped(Ending::Fenced { .. }) => {
            "no leader had prolonged the host's lease in time, so it was cut; it starts again \
             when a leader lets it"
                .to_owned()
        }
        _ if machine.rebooting => "rebooting".to_owned(),
        _ => machine.trouble.clone(),
    }
}

/// Cuts a text for people to its limit, at a character, controls escaped.
#[must_use]
pub fn shorten(text: &str) -> String {
    let mut short = String::new();
    for c in text.chars() {
        let piece: String = if c.is_control() {
            c.escape_default().collect()
        } else {
            c.to_string()
        };
        if short.len() + piece.len() > REASON_BYTES_MAX {
            break;
        }
        short.push_str(&piece);
    }
    short
}

#[cfg(test)]
mod test {
    use super::*;

    fn view(states: &[(u64, InstanceState)]) -> View {
        let entry = |(n, state): &(u64, InstanceState)| {
            let id = InstanceId(*n);
            let seen = ObservedInstance {
                instance_id: id.to_string(),
                state: (*state).into(),
                found_dead: *state == InstanceState::Stopped,
                ..Default::default()
            };
            (id, seen)
        };
        View {
            instances: states.iter().map(entry).collect(),
            unknown: vec![],
        }
    }

    #[test]
    fn the_first_report_is_full_even_when_empty() {
        let mut outbox = Outbox::new(7);
        let report = outbox.next(&View::default(), 0).expect("full");
        assert!(report.full && report.sequence == 1 && report.agent_epoch == 7);
        assert_eq!(outbox.next(&View::default(), 1), None);
        outbox.acked(7, 1);
        assert_eq!(
            outbox.next(&View::default(), 2),
            None,
            "nothing changed: silence"
        );
    }

    #[test]
    fn a_newer_state_replaces_an_unsent_older_one() {
        let mut outbox = Outbox::new(1);
        outbox.next(&view(&[]), 0);
        let starting = view(&[(1, InstanceState::Starting)]);
        assert_eq!(outbox.next(&starting, 1), None, "one report at a time");
        outbox.acked(1, 1);
        let running = view(&[(1, InstanceState::Running)]);
        let report = outbox.next(&running, 2).expect("changed");
        assert!(!report.full);
        assert_eq!(
            report.instances,
            running.instances.into_values().collect::<Vec<_>>()
        );
    }

    #[test]
    fn an_unacknowledged_report_is_repeated_with_its_sequence() {
        let mut outbox = Outbox::new(1);
        let first = outbox.next(&view(&[]), 0).expect("full");
        assert_eq!(outbox.next(&view(&[]), RESEND_MS - 1), None);
        assert_eq!(outbox.next(&view(&[]), RESEND_MS), Some(first));
    }

    #[test]
    fn a_new_leader_hears_everything_and_old_acks_do_not_count() {
        let mut outbox = Outbox::new(1);
        let now = view(&[(1, InstanceState::Running)]);
        outbox.next(&now, 0);
        outbox.acked(1, 1);
        outbox.restart();
        let report = outbox.next(&now, 1).expect("full");
        assert!(report.full && report.sequence == 2 && report.instances.len() == 1);
        for (epoch, sequence) in [(1, 1), (0, 2), (1, 3)] {
            assert!(outbox.acked(epoch, sequence).is_empty());
            assert_eq!(outbox.next(&now, 2), None, "still under way");
        }
        outbox.acked(1, 2);
        assert_eq!(outbox.next(&now, 3), None);
    }

    #[test]
    fn an_acknowledged_death_is_told_back() {
        let mut outbox = Outbox::new(1);
        outbox.next(
            &view(&[(1, InstanceState::Running), (2, InstanceState::Stopped)]),
            0,
        );
        assert_eq!(outbox.acked(1, 1), [InstanceId(2)]);
    }

    #[test]
    fn reasons_are_short_and_printable() {
        let text = shorten(&format!("a\u{1b}[31m\n{}", "ä".repeat(600)));
        assert!(text.len() <= REASON_BYTES_MAX && text.starts_with("a\\u{1b}[31m\\n"));
    }
}
