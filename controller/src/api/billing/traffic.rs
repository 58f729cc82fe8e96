//! Lines about traffic to the internet: rated from the ledger's rows, and checked
//! against the totals that hosts reported.

use std::collections::BTreeMap;
use std::ops::Range;

use nube_billing::traffic::amount_again;
use nube_billing::{INTERNET_OUT, LineId, Subject, TrafficLine, TrafficRow, UtcDay, rate_traffic};
use nube_proto::v1;
use nube_state::{State, TrafficUsage};
use nube_types::{InstanceId, Nanos, ProjectId, TimestampMs};

use super::{named, nanos};

fn row(usage: &TrafficUsage) -> TrafficRow {
    TrafficRow {
        instance: usage.instance,
        project: usage.project,
        day: UtcDay(usage.day.into()),
        price_version: usage.price_version,
        bytes_out: usage.bytes_out,
        bytes_in: usage.bytes_in,
        first_index: usage.first_index,
        last_index: usage.last_index,
    }
}

/// The lines of a project, or of one instance in it.
pub fn rated(
    state: &State,
    project: ProjectId,
    only: Option<Subject>,
    range: Range<TimestampMs>,
) -> Vec<TrafficLine> {
    let rows = state.traffic_usage.iter().filter(|usage| {
        usage.project == project && only.is_none_or(|only| only == usage.instance.into())
    });
    rate_traffic(rows.map(row), &state.prices, range)
}

/// The plain sum of what is on the lines.
pub fn total(lines: &[TrafficLine]) -> Nanos {
    lines.iter().map(TrafficLine::amount).sum()
}

/// A line for people.
pub fn line(state: &State, line: &TrafficLine) -> v1::BillLine {
    let subject = line.row.instance.into();
    let (id, name) = named(state, subject, INTERNET_OUT);
    v1::BillLine {
        id: line.id().to_string(),
        instance_id: id.clone(),
        instance_name: name.clone(),
        resource: INTERNET_OUT.to_owned(),
        day: line.row.day.to_string(),
        price_version: line.row.price_version,
        amount_nanos: line.amount().0,
        resource_id: id,
        resource_name: name,
        bytes_out: line.row.bytes_out,
        bytes_in: line.row.bytes_in,
        price_nanos_per_gib: nanos(line.price_nanos_per_gib),
        ..v1::BillLine::default()
    }
}

/// From a line to its bytes, price and rounding.
pub fn explanation(
    state: &State,
    project: ProjectId,
    id: &LineId,
) -> Option<v1::BillLineExplanation> {
    let range = id.day.start()..id.day.end();
    let lines = rated(state, project, Some(id.subject), range);
    let found = lines.iter().find(|line| line.id() == *id)?;
    let version = state.prices.version(found.row.price_version);
    Some(v1::BillLineExplanation {
        line: Some(line(state, found)),
        parts: Vec::new(),
        price_effective_from_ms: version.map_or(0, |version| version.effective_from.0),
        numerator: found.rounded.numerator.to_string(),
        denominator: found.rounded.denominator.to_string(),
        steps: found.steps(),
    })
}

/// What was compared.
pub struct Verified {
    /// Summed over the ledger's rows.
    pub bytes_ledger: u64,
    /// Summed over what hosts reported.
    pub bytes_recomputed: u64,
    /// What differs.
    pub findings: Vec<String>,
}

/// The rows of each instance must add up to its reported totals, and each amount
/// must come out again by other arithmetic.
pub fn verify(state: &State, only: Option<ProjectId>) -> Verified {
    let mut sums: BTreeMap<InstanceId, (u64, u64)> = BTreeMap::new();
    let mine = |usage: &&TrafficUsage| only.is_none_or(|only| only == usage.project);
    for usage in state.traffic_usage.iter().filter(mine) {
        let sum = sums.entry(usage.instance).or_default();
        sum.0 = sum.0.saturating_add(usage.bytes_out);
        sum.1 = sum.1.saturating_add(usage.bytes_in);
    }
    let mut verified = Verified {
        bytes_ledger: 0,
        bytes_recomputed: 0,
        findings: Vec::new(),
    };
    for (instance, (out, received)) in &sums {
        let counter = state.traffic_counters.get(instance);
        // Forgotten with its instance: what is left of it is the ledger.
        let totals = counter.map_or((*out, *received), |counter| {
            (counter.bytes_out, counter.bytes_in)
        });
        verified.bytes_ledger = verified.bytes_ledger.saturating_add(*out);
        verified.bytes_recomputed = verified.bytes_recomputed.saturating_add(totals.0);
        if totals != (*out, *received) {
            let text = format!(
                "traffic of {instance}: {totals:?} reported, {out} and {received} in the ledger"
            );
            verified.findings.push(text);
        }
    }
    let all = TimestampMs(0)..TimestampMs(u64::MAX);
    let rows = state.traffic_usage.iter().filter(mine).map(row);
    for line in rate_traffic(rows, &state.prices, all) {
        if line.amount() != amount_again(line.row.bytes_out, line.price_nanos_per_gib) {
            verified
                .findings
                .push(format!("amount of {} differs", line.id()));
        }
    }
    verified
}
