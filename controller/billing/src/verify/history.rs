//! From committed transitions to proven runs: one pass, one open run at most per
//! instance. Knows nothing of the ledger.

use std::collections::BTreeMap;

use crate::subject::Subject;
use nube_types::{ProjectId, TimestampMs};

use super::{Finding, Transition, TransitionKind};

/// A run that the history proves.
#[derive(Debug, Clone)]
pub(super) struct ProvenRun {
    pub subject: Subject,
    pub project: ProjectId,
    pub resource: String,
    /// Ordinal from 1.
    pub run: u32,
    pub start: TimestampMs,
    pub start_index: u64,
    /// `None` while it goes on.
    pub end: Option<TimestampMs>,
    pub end_index: Option<u64>,
    /// First billable second.
    pub from: u64,
    /// End of the billable seconds as of the asked instant.
    pub to: u64,
}

/// Runs that began up to `as_of`, in the order of their start.
pub(super) fn runs(
    transitions: &[Transition],
    as_of: TimestampMs,
    findings: &mut Vec<Finding>,
) -> Vec<ProvenRun> {
    let mut runs: Vec<ProvenRun> = Vec::new();
    let mut open: BTreeMap<Subject, usize> = BTreeMap::new();
    let mut ordinals: BTreeMap<Subject, u32> = BTreeMap::new();
    let mut last = (0, TimestampMs(0));
    for transition in transitions {
        if transition.index < last.0 || transition.at < last.1 {
            findings.push(Finding::HistoryOutOfOrder {
                index: transition.index,
            });
        }
        last = (transition.index, transition.at);
        let running = open.get(&transition.subject).copied();
        match (running, transition.kind) {
            // Repeated reports of the same fact change nothing.
            (Some(_), TransitionKind::Started) => {}
            (None, TransitionKind::Started) => {
                let ordinal = ordinals.entry(transition.subject).or_default();
                *ordinal = ordinal.saturating_add(1);
                open.insert(transition.subject, runs.len());
                runs.push(begin(transition, *ordinal));
            }
            (Some(position), _) => {
                open.remove(&transition.subject);
                runs[position].end = Some(end_of(transition, runs[position].start));
                runs[position].end_index = Some(transition.index);
            }
            (None, _) => {}
        }
    }
    runs.retain(|run| run.start <= as_of);
    for run in &mut runs {
        run.from = run.start.0 / 1000;
        let end = run.end.map_or(as_of.0, |end| end.0.min(as_of.0));
        run.to = run.from.max(end / 1000);
    }
    runs
}

fn begin(transition: &Transition, run: u32) -> ProvenRun {
    ProvenRun {
        subject: transition.subject,
        project: transition.project,
        resource: transition.resource.clone(),
        run,
        start: transition.at,
        start_index: transition.index,
        end: None,
        end_index: None,
        from: 0,
        to: 0,
    }
}

fn end_of(transition: &Transition, start: TimestampMs) -> TimestampMs {
    let end = match transition.kind {
        TransitionKind::HostLost { last_proven } => last_proven.min(transition.at),
        _ => transition.at,
    };
    end.max(start)
}
