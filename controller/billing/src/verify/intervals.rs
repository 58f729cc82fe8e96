//! Interval algebra over the ledger: shape, doubles, overlaps, and each interval
//! against the proven run of the same start index.

use std::collections::{BTreeMap, BTreeSet};

use crate::subject::Subject;
use nube_types::TimestampMs;

use super::history::ProvenRun;
use super::{Field, Finding};
use crate::interval::UsageInterval;

/// Appends every disagreement between proven runs and the ledger.
pub(super) fn compare(
    runs: &[ProvenRun],
    ledger: &[&UsageInterval],
    as_of: TimestampMs,
    findings: &mut Vec<Finding>,
) {
    let single = without_doubles(ledger, findings);
    findings.extend(single.iter().filter_map(|interval| malformed(interval)));
    overlaps(&single, as_of, findings);
    let mut by_start: BTreeMap<(Subject, u64), &UsageInterval> = single
        .iter()
        .map(|interval| ((interval.subject, interval.start_index), *interval))
        .collect();
    for run in runs {
        match by_start.remove(&(run.subject, run.start_index)) {
            Some(interval) => compare_one(run, interval, as_of, findings),
            None => findings.push(Finding::Missing {
                subject: run.subject,
                start_index: run.start_index,
                from: run.from,
                to: run.to,
            }),
        }
    }
    findings.extend(by_start.into_values().map(|interval| Finding::Unproven {
        subject: interval.subject,
        run: interval.run,
        start_index: interval.start_index,
    }));
}

fn without_doubles<'a>(
    ledger: &[&'a UsageInterval],
    findings: &mut Vec<Finding>,
) -> Vec<&'a UsageInterval> {
    let mut seen_runs = BTreeSet::new();
    let mut seen_starts = BTreeSet::new();
    let mut single = Vec::new();
    for interval in ledger {
        let (subject, run, start_index) = (interval.subject, interval.run, interval.start_index);
        let new_run = seen_runs.insert((subject, run));
        let new_start = seen_starts.insert((subject, start_index));
        if new_run && new_start {
            single.push(*interval);
        } else {
            findings.push(Finding::Double {
                subject,
                run,
                start_index,
            });
        }
    }
    single
}

fn malformed(interval: &UsageInterval) -> Option<Finding> {
    let set = [
        interval.end.is_some(),
        interval.end_index.is_some(),
        interval.end_reason.is_some(),
    ];
    let together = set.iter().all(|value| *value == set[0]);
    let half_open = interval.end.is_none_or(|end| end >= interval.start);
    let later = interval
        .end_index
        .is_none_or(|index| index >= interval.start_index);
    (!together || !half_open || !later).then_some(Finding::Malformed {
        subject: interval.subject,
        run: interval.run,
    })
}

fn overlaps(single: &[&UsageInterval], as_of: TimestampMs, findings: &mut Vec<Finding>) {
    let mut sorted = single.to_vec();
    sorted.sort_by_key(|interval| (interval.subject, interval.start, interval.start_index));
    let mut longest: Option<&UsageInterval> = None;
    for interval in sorted {
        let before = longest.filter(|before| before.subject == interval.subject);
        let end = interval.end_second(as_of);
        let covered = before.map_or(0, |before| before.end_second(as_of));
        if let Some(before) = before
            && interval.start_second() < covered.min(end)
        {
            findings.push(Finding::Overlap {
                subject: interval.subject,
                run: before.run,
                other_run: interval.run,
                from: interval.start_second(),
                to: covered.min(end),
            });
        }
        // The one that reaches furthest stays: later ones may overlap it too.
        if before.is_none() || end >= covered {
            longest = Some(interval);
        }
    }
}

fn compare_one(
    run: &ProvenRun,
    interval: &UsageInterval,
    as_of: TimestampMs,
    findings: &mut Vec<Finding>,
) {
    let (subject, ordinal) = (run.subject, interval.run);
    let (from, to) = (interval.start_second(), interval.end_second(as_of));
    let mut edges = |billed_from: u64, proven_from: u64, billed_to: u64, proven_to: u64| {
        if billed_from > proven_from {
            findings.push(Finding::Gap {
                subject,
                run: ordinal,
                from: proven_from,
                to: billed_from,
            });
        }
        if billed_from < proven_from {
            let (from, to) = (billed_from, proven_from);
            findings.push(Finding::Excess {
                subject,
                run: ordinal,
                from,
                to,
            });
        }
        if billed_to < proven_to {
            findings.push(Finding::Gap {
                subject,
                run: ordinal,
                from: billed_to,
                to: proven_to,
            });
        }
        if billed_to > proven_to {
            let (from, to) = (proven_to, billed_to);
            findings.push(Finding::Excess {
                subject,
                run: ordinal,
                from,
                to,
            });
        }
    };
    edges(from, run.from, to, run.to);
    let checks = [
        (Field::Project, interval.project == run.project),
        (Field::Resource, interval.resource == run.resource),
        (Field::Run, interval.run == run.run),
        (
            Field::Start,
            interval.start == run.start || from != run.from,
        ),
        (Field::End, interval.end == run.end || to != run.to),
        (Field::EndIndex, interval.end_index == run.end_index),
    ];
    let wrong = checks.into_iter().filter(|(_, equal)| !equal);
    findings.extend(wrong.map(|(field, _)| Finding::Differs {
        subject,
        run: ordinal,
        field,
    }));
}
