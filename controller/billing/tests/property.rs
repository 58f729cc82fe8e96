//! Properties of rating over random runs, price books and ranges. The oracle is
//! the plainest one: every second looked at alone.

use std::collections::BTreeMap;

use nube_billing::Subject;
use nube_billing::price::{MINIMUM_SECONDS_MAX, PRICE_NANOS_PER_HOUR_MAX};
use nube_billing::{
    EndReason, InstanceTotal, LineId, PriceBook, PriceVersion, UsageInterval, UtcDay, rate, total,
    totals_by_instance,
};
use nube_types::{Nanos, ProjectId, TimestampMs};
use proptest::prelude::*;

/// Stories play around this midnight, in milliseconds.
const MIDNIGHT_MS: u64 = 20_779 * 86_400_000;
/// Long enough for every kind of cut, short enough to look at each second.
const SPAN_MS: u64 = 600_000;

fn everything() -> std::ops::Range<TimestampMs> {
    TimestampMs(0)..TimestampMs(u64::MAX)
}

/// Up to four versions; the resource `b` is missing from some, as an old or
/// foreign book could have it.
fn books() -> impl Strategy<Value = PriceBook> {
    let version = (
        0..8 * SPAN_MS,
        0..200u32,
        0..10_000u64,
        prop::option::of(0..10_000u64),
    );
    prop::collection::vec(version, 0..4).prop_map(|mut versions| {
        versions.sort_by_key(|version| version.0);
        versions.dedup_by_key(|version| version.0);
        let numbered = versions
            .into_iter()
            .zip(1..)
            .map(|((from, minimum, a, b), version)| {
                let mut entries = BTreeMap::from([("a".to_owned(), a)]);
                entries.extend(b.map(|price| ("b".to_owned(), price)));
                let effective_from = TimestampMs(MIDNIGHT_MS - 4 * SPAN_MS + from);
                PriceVersion {
                    version,
                    effective_from,
                    minimum_seconds: minimum,
                    entries,
                }
            });
        PriceBook {
            currency: "EUR".to_owned(),
            versions: numbered.collect(),
        }
    })
}

/// Disjoint runs of two instances; the last one of each may be open.
fn ledgers() -> impl Strategy<Value = Vec<UsageInterval>> {
    let pieces = prop::collection::vec((0..150_000u64, 0..150_000u64, any::<bool>()), 0..8);
    (pieces.clone(), pieces, any::<bool>()).prop_map(|(first, second, open)| {
        let mut ledger = story(1, &first);
        ledger.extend(story(2, &second));
        if open && let Some(last) = ledger.last_mut() {
            (last.end, last.end_index, last.end_reason) = (None, None, None);
        }
        ledger
    })
}

fn story(subject: u64, pieces: &[(u64, u64, bool)]) -> Vec<UsageInterval> {
    let mut now = MIDNIGHT_MS - SPAN_MS;
    let mut runs = Vec::new();
    for ((pause, length, large), ordinal) in pieces.iter().zip(1..) {
        let start = now + pause;
        now = start + length;
        let resource = if *large { "b" } else { "a" };
        let index = u64::from(ordinal) * 2;
        let (id, project) = (Subject(subject), ProjectId(subject % 2));
        let mut run =
            UsageInterval::open(id, project, ordinal, resource, TimestampMs(start), index);
        assert!(run.close(TimestampMs(now), index + 1, EndReason::Stopped));
        runs.push(run);
    }
    runs
}

/// Seconds and minimum per line, one second at a time.
fn naive(
    ledger: &[UsageInterval],
    book: &PriceBook,
    as_of: TimestampMs,
) -> BTreeMap<LineId, (u64, u64)> {
    let mut lines: BTreeMap<LineId, (u64, u64)> = BTreeMap::new();
    let version = |second: u64| {
        let in_force = |version: &&PriceVersion| version.effective_from.0 <= second * 1000;
        book.versions.iter().rfind(in_force)
    };
    for run in ledger.iter().filter(|run| run.start <= as_of) {
        let line = |second: u64| LineId {
            subject: run.subject,
            day: UtcDay(second / 86_400),
            resource: run.resource.clone(),
            price_version: version(second)
                .filter(|version| version.entries.contains_key(&run.resource))
                .map_or(0, |version| version.version),
        };
        let start = run.start.0 / 1000;
        let end = run.end.unwrap_or(as_of).min(as_of).0 / 1000;
        for second in start..end {
            lines.entry(line(second)).or_default().0 += 1;
        }
        let first = line(start);
        let minimum = version(start).map_or(0, |version| u64::from(version.minimum_seconds));
        let lacking = minimum.saturating_sub(end.saturating_sub(start));
        if first.price_version != 0 && lacking > 0 {
            lines.entry(first).or_default().1 += lacking;
        }
    }
    lines
}

proptest! {
    #[test]
    fn rating_equals_the_second_by_second_reference(
        ledger in ledgers(), book in books(), age in 0..4 * SPAN_MS,
    ) {
        let as_of = TimestampMs(MIDNIGHT_MS - SPAN_MS + age);
        let lines = rate(&ledger, &book, as_of, everything());
        let seconds: BTreeMap<_, _> = lines
            .iter()
            .map(|line| (line.id(), (line.seconds, line.minimum_seconds_added)))
            .collect();
        prop_assert_eq!(seconds, naive(&ledger, &book, as_of));
        for line in &lines {
            prop_assert!(nube_billing::explain(line, &book).is_ok());
            // The nearest amount: off by half a nano at most.
            let exact = i128::from(line.charged_seconds()) * i128::from(line.price_nanos_per_hour);
            prop_assert!((i128::from(line.amount.0) * 3_600 - exact).abs() <= 1_800);
        }
    }

    #[test]
    fn any_partition_of_a_range_adds_up_to_it(
        ledger in ledgers(), book in books(), mut cuts in prop::collection::vec(0..4 * SPAN_MS, 0..6),
    ) {
        let as_of = TimestampMs(MIDNIGHT_MS + 2 * SPAN_MS);
        cuts.sort_unstable();
        let mut ends: Vec<_> =
            cuts.iter().map(|cut| TimestampMs(MIDNIGHT_MS - SPAN_MS + cut)).collect();
        ends.push(TimestampMs(u64::MAX));
        let mut parts: BTreeMap<LineId, (u64, u64)> = BTreeMap::new();
        let mut from = TimestampMs(0);
        for to in ends {
            for line in rate(&ledger, &book, as_of, from..to) {
                let sum = parts.entry(line.id()).or_default();
                sum.0 += line.seconds;
                sum.1 += line.minimum_seconds_added;
            }
            from = to;
        }
        prop_assert_eq!(parts, naive(&ledger, &book, as_of));
    }

    #[test]
    fn days_add_up_to_the_whole_to_the_nano(ledger in ledgers(), book in books()) {
        let as_of = TimestampMs(MIDNIGHT_MS + 2 * SPAN_MS);
        let midnight = TimestampMs(MIDNIGHT_MS);
        let mut days = rate(&ledger, &book, as_of, TimestampMs(0)..midnight);
        days.extend(rate(&ledger, &book, as_of, midnight..TimestampMs(u64::MAX)));
        let whole = rate(&ledger, &book, as_of, everything());
        prop_assert_eq!(total(&days), total(&whole));
        let totals = totals_by_instance(&whole);
        prop_assert_eq!(totals, totals_by_instance(&days));
        let sum: Nanos = totals_by_instance(&whole).values().map(|t: &InstanceTotal| t.amount).sum();
        prop_assert_eq!(sum, total(&whole));
    }

    #[test]
    fn a_line_only_grows_with_use_and_the_order_of_runs_does_not_matter(
        ledger in ledgers(), book in books(), age in 0..4 * SPAN_MS, later in 0..SPAN_MS,
    ) {
        let as_of = TimestampMs(MIDNIGHT_MS - SPAN_MS + age);
        let now = rate(&ledger, &book, as_of, everything());
        let then = rate(&ledger, &book, TimestampMs(as_of.0 + later), everything());
        let seconds = |lines: &[nube_billing::RatedLine]| {
            lines.iter().map(nube_billing::RatedLine::charged_seconds).sum::<u64>()
        };
        prop_assert!(seconds(&now) <= seconds(&then));
        for line in &now {
            // The minimum may melt into later lines; use itself never shrinks.
            let same = then.iter().find(|other| other.id() == line.id());
            prop_assert!(same.map_or(0, |other| other.seconds) >= line.seconds);
        }
        let reversed: Vec<_> = ledger.iter().rev().cloned().collect();
        prop_assert_eq!(rate(&reversed, &book, as_of, everything()), now);
    }

    #[test]
    fn amounts_are_monotone_in_use_at_one_price(
        price in 0..=PRICE_NANOS_PER_HOUR_MAX, seconds in 0..86_400u64, more in 0..86_400u64,
    ) {
        let amount = |seconds| nube_billing::round::price_of(seconds, price).amount;
        prop_assert!(amount(seconds) <= amount(seconds + more));
    }

}

proptest! {
    // Each case makes 36,525 lines.
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn a_hundred_years_at_the_highest_price_do_not_overflow(
        start in 0..MIDNIGHT_MS * 2, price in PRICE_NANOS_PER_HOUR_MAX - 5..=PRICE_NANOS_PER_HOUR_MAX,
    ) {
        const CENTURY_SECONDS: u64 = 36_525 * 86_400;
        let mut book = PriceBook::default_book(TimestampMs(0));
        book.versions[0].minimum_seconds = MINIMUM_SECONDS_MAX;
        book.versions[0].entries.insert("max".to_owned(), price);
        let (instance, project) = (Subject(1), ProjectId(1));
        let run = UsageInterval::open(instance, project, 1, "max", TimestampMs(start), 1);
        let as_of = TimestampMs(start + CENTURY_SECONDS * 1000);
        let lines = rate([&run], &book, as_of, everything());
        let exact = i128::from(CENTURY_SECONDS) * i128::from(price) / 3_600;
        let off = (i128::from(total(&lines).0) - exact).unsigned_abs();
        prop_assert!(off <= lines.len() as u128, "off by {off}");
    }
}
