//! Integrates proven runs to lines in the plainest way: every day is asked, for
//! every price version, how many of a run's seconds fall into it. `rate` walks
//! from cut to cut instead; the two must meet.

use std::collections::BTreeMap;

use nube_types::{Nanos, ProjectId};

use super::LineSum;
use super::history::ProvenRun;
use crate::day::UtcDay;
use crate::line::LineId;
use crate::price::PriceBook;

/// Lines by their payer and name.
pub(super) type Cells = BTreeMap<(ProjectId, LineId), LineSum>;

/// The seconds in which one version holds: half-open.
struct Window {
    version: u32,
    from: u64,
    to: u64,
    minimum_seconds: u64,
    nanos_per_hour: u64,
}

/// What the runs add up to. Lines of no seconds do not exist.
pub(super) fn cells(runs: &[ProvenRun], book: &PriceBook) -> Cells {
    let mut cells: BTreeMap<_, (LineSum, u64)> = BTreeMap::new();
    for run in runs {
        let windows = windows(book, &run.resource);
        for window in &windows {
            for day in run.from / 86_400..=run.to / 86_400 {
                let from = run.from.max(window.from).max(day * 86_400);
                let to = run.to.min(window.to).min((day + 1) * 86_400);
                let seconds = to.saturating_sub(from);
                let starts_here =
                    window.from <= run.from && run.from < window.to && day == run.from / 86_400;
                let lacking = window.minimum_seconds.saturating_sub(run.to - run.from);
                let minimum = if starts_here { lacking } else { 0 };
                if seconds + minimum == 0 {
                    continue;
                }
                let line = LineId {
                    subject: run.subject,
                    day: UtcDay(day),
                    resource: run.resource.clone(),
                    price_version: window.version,
                };
                let (sum, price) = cells.entry((run.project, line)).or_default();
                sum.seconds += seconds;
                sum.minimum_seconds_added += minimum;
                *price = window.nanos_per_hour;
            }
        }
    }
    let priced = cells.into_iter().map(|(key, (mut sum, price))| {
        sum.amount = amount(sum.seconds + sum.minimum_seconds_added, price);
        (key, sum)
    });
    priced.collect()
}

/// The windows of every version, and those without a price as version 0.
fn windows(book: &PriceBook, resource: &str) -> Vec<Window> {
    let unpriced = |from, to| Window {
        version: 0,
        from,
        to,
        minimum_seconds: 0,
        nanos_per_hour: 0,
    };
    let starts: Vec<u64> = book
        .versions
        .iter()
        .map(|version| version.effective_from.0.div_ceil(1000))
        .collect();
    let mut windows = vec![unpriced(0, starts.first().copied().unwrap_or(u64::MAX))];
    for (ordinal, version) in book.versions.iter().enumerate() {
        let from = starts[ordinal];
        let to = starts.get(ordinal + 1).copied().unwrap_or(u64::MAX);
        windows.push(match version.entries.get(resource) {
            Some(price) => Window {
                version: version.version,
                from,
                to,
                minimum_seconds: u64::from(version.minimum_seconds),
                nanos_per_hour: *price,
            },
            None => unpriced(from, to),
        });
    }
    windows
}

/// Half to even, by rounding half up and taking odd ties back.
fn amount(seconds: u64, nanos_per_hour: u64) -> Nanos {
    let doubled = 2 * u128::from(seconds) * u128::from(nanos_per_hour) + 3_600;
    let (mut nanos, rest) = (doubled / 7_200, doubled % 7_200);
    if rest == 0 && nanos % 2 == 1 {
        nanos -= 1;
    }
    Nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}
