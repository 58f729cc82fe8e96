//! Rating: cuts runs at midnights and price changes and gives each piece to its
//! line. What lives here is the cutting; rounding is in `round`.
//!
//! Rules, each with a test in `tests/rate.rs`:
//! - A second is priced by the version in force at its start.
//! - Open runs count up to `as_of`; what starts after `as_of` does not exist yet.
//! - A run shorter than the minimum of the version at its start is charged the
//!   missing seconds too, at that version's price, on the day it started. Open
//!   runs as well: the first minute is owed as soon as it begins, and the extra
//!   melts as real seconds replace it.
//! - The extra depends on the whole run and not on the asked range: ranges that
//!   follow each other add up to the range that spans them.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::subject::Subject;
use nube_types::{Nanos, ProjectId, TimestampMs};

use crate::day::UtcDay;
use crate::interval::UsageInterval;
use crate::line::{LinePart, RatedLine, UNPRICED};
use crate::price::PriceBook;
use crate::round::price_of;

/// What makes two pieces of usage the same line, in the order of a bill.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    project: ProjectId,
    subject: Subject,
    day: UtcDay,
    resource: String,
    price_version: u32,
}

/// Rates the seconds of `range` (both ends rounded down to whole seconds) as of
/// an instant. Lines come in the order project, instance, day, resource, price
/// version; the order of the intervals does not matter.
///
/// Amounts of adjacent ranges add up to the whole when they meet at midnight:
/// a line is rounded once per rating, and a day cut in two is two roundings.
#[must_use]
pub fn rate<'a>(
    intervals: impl IntoIterator<Item = &'a UsageInterval>,
    book: &PriceBook,
    as_of: TimestampMs,
    range: Range<TimestampMs>,
) -> Vec<RatedLine> {
    let seconds = range.start.seconds()..range.end.seconds();
    let mut lines = BTreeMap::new();
    for interval in intervals {
        if interval.start <= as_of {
            add_interval(&mut lines, interval, book, as_of, &seconds);
        }
    }
    lines.into_values().map(finish).collect()
}

fn add_interval(
    lines: &mut BTreeMap<Key, RatedLine>,
    interval: &UsageInterval,
    book: &PriceBook,
    as_of: TimestampMs,
    range: &Range<u64>,
) {
    let start = interval.start_second();
    let end = interval.end_second(as_of);
    let mut extra = 0;
    if range.contains(&start) {
        extra = minimum_extra(interval, book, as_of);
    }
    let mut cursor = start.max(range.start);
    let stop = end.min(range.end);
    // A run without a whole second still owes its minimum: one empty piece.
    if start == end && extra > 0 {
        add_piece(lines, interval, book, start..start, extra, as_of);
    }
    while cursor < stop {
        let midnight = UtcDay::of_second(cursor).end_second();
        let change = book.next_change_second(cursor).unwrap_or(u64::MAX);
        let next = stop.min(midnight).min(change);
        let piece_extra = if cursor == start { extra } else { 0 };
        add_piece(lines, interval, book, cursor..next, piece_extra, as_of);
        cursor = next;
    }
}

/// Seconds that the whole run lacks to the minimum in force at its start.
fn minimum_extra(interval: &UsageInterval, book: &PriceBook, as_of: TimestampMs) -> u64 {
    let at = second_start(interval.start_second());
    if book.price_at(&interval.resource, at).is_none() {
        return 0;
    }
    let minimum = book
        .version_at(at)
        .map_or(0, |version| version.minimum_seconds);
    u64::from(minimum).saturating_sub(interval.seconds(as_of))
}

fn add_piece(
    lines: &mut BTreeMap<Key, RatedLine>,
    interval: &UsageInterval,
    book: &PriceBook,
    seconds: Range<u64>,
    extra: u64,
    as_of: TimestampMs,
) {
    let from = second_start(seconds.start);
    let (price_version, price) = book
        .price_at(&interval.resource, from)
        .unwrap_or((UNPRICED, 0));
    let key = Key {
        project: interval.project,
        subject: interval.subject,
        day: UtcDay::of_second(seconds.start),
        resource: interval.resource.clone(),
        price_version,
    };
    let line = lines
        .entry(key)
        .or_insert_with_key(|key| empty_line(key, price));
    line.seconds = line.seconds.saturating_add(seconds.end - seconds.start);
    line.minimum_seconds_added = line.minimum_seconds_added.saturating_add(extra);
    // As of an earlier instant the run was still open: its end is not shown.
    let ended = interval.end.is_some_and(|end| end <= as_of);
    line.parts.push(LinePart {
        run: interval.run,
        from,
        to: second_start(seconds.end),
        start_index: interval.start_index,
        end_index: interval.end_index.filter(|_| ended),
        minimum_seconds_added: extra,
    });
}

fn empty_line(key: &Key, price_nanos_per_hour: u64) -> RatedLine {
    RatedLine {
        project: key.project,
        subject: key.subject,
        resource: key.resource.clone(),
        day: key.day,
        price_version: key.price_version,
        price_nanos_per_hour,
        seconds: 0,
        minimum_seconds_added: 0,
        amount: Nanos(0),
        parts: Vec::new(),
    }
}

fn finish(mut line: RatedLine) -> RatedLine {
    line.parts
        .sort_by_key(|part| (part.run, part.from, part.start_index));
    line.amount = price_of(line.charged_seconds(), line.price_nanos_per_hour).amount;
    line
}

fn second_start(second: u64) -> TimestampMs {
    TimestampMs(second.saturating_mul(1000))
}
