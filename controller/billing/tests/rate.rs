//! Rating by example: each rule of `rate.rs` as a table row or a short story,
//! and the walk back from each line to what it was made of.

use std::collections::BTreeMap;

use nube_billing::Subject;
use nube_billing::{
    EndReason, ExplainError, LineId, PriceBook, PriceVersion, RatedLine, Rounding, Step,
    UsageInterval, explain, find_line, rate, total, totals_by_instance,
};
use nube_types::{Nanos, ProjectId, TimestampMs};

/// 2026-11-22, 00:00:00 UTC, in seconds.
const MIDNIGHT: u64 = 20_779 * 86_400;
const DAY: u64 = 86_400;

fn at(second: u64) -> TimestampMs {
    TimestampMs(second * 1000)
}

fn book(versions: &[(u64, u64)]) -> PriceBook {
    let version = |(ordinal, (from, price)): (usize, &(u64, u64))| PriceVersion {
        version: u32::try_from(ordinal).expect("few versions") + 1,
        effective_from: TimestampMs(*from),
        minimum_seconds: 60,
        entries: BTreeMap::from([("n1.micro".to_owned(), *price)]),
    };
    PriceBook {
        currency: "EUR".to_owned(),
        versions: versions.iter().enumerate().map(version).collect(),
    }
}

fn run(ordinal: u32, start: u64, end: Option<u64>) -> UsageInterval {
    let (instance, project) = (Subject(0xc0ffee), ProjectId(7));
    let index = u64::from(ordinal) * 10;
    let mut run = UsageInterval::open(instance, project, ordinal, "n1.micro", at(start), index);
    if let Some(end) = end {
        assert!(run.close(at(end), index + 5, EndReason::Stopped));
    }
    run
}

fn rate_all(runs: &[UsageInterval], book: &PriceBook, as_of: u64) -> Vec<RatedLine> {
    let lines = rate(runs, book, at(as_of), at(0)..at(MIDNIGHT * 2));
    for line in &lines {
        let explained = explain(line, book).expect("every rated line explains itself");
        assert_eq!(
            (explained.amount, &explained.line),
            (line.amount, &line.id())
        );
        assert_eq!(line.id().to_string().parse(), Ok(line.id()));
        assert_eq!(
            find_line(&line.id(), runs, book, at(as_of)).as_ref(),
            Some(line)
        );
    }
    lines
}

/// Day (from the story's first midnight), version, seconds, minimum added, nanos.
fn rows(lines: &[RatedLine]) -> Vec<(u64, u32, u64, u64, i64)> {
    lines
        .iter()
        .map(|line| {
            let day = line.day.0 - MIDNIGHT / DAY;
            let (used, added) = (line.seconds, line.minimum_seconds_added);
            (day, line.price_version, used, added, line.amount.0)
        })
        .collect()
}

#[test]
fn one_hour_costs_one_hour() {
    let lines = rate_all(
        &[run(1, MIDNIGHT, Some(MIDNIGHT + 3_600))],
        &book(&[(0, 2_000_000)]),
        MIDNIGHT + DAY,
    );
    assert_eq!(rows(&lines), [(0, 1, 3_600, 0, 2_000_000)]);
    assert_eq!(
        lines[0].id().to_string(),
        "i-0000000000c0ffee/2026-11-22/n1.micro/v1"
    );
}

#[test]
fn the_minimum_charge_is_shown_apart() {
    // Length, as of this long after the start, seconds, added.
    let table = [
        (Some(0), 1_000, 0, 60),
        (Some(1), 1_000, 1, 59),
        (Some(59), 1_000, 59, 1),
        (Some(60), 1_000, 60, 0),
        (Some(61), 1_000, 61, 0),
        (None, 0, 0, 60),
        (None, 10, 10, 50),
        (None, 70, 70, 0),
        // As of a past instant the run was still open.
        (Some(30), 10, 10, 50),
    ];
    for (length, age, seconds, added) in table {
        let runs = [run(1, MIDNIGHT, length.map(|length| MIDNIGHT + length))];
        let lines = rate_all(&runs, &book(&[(0, 3_600)]), MIDNIGHT + age);
        let charged = i64::try_from(seconds + added).expect("small");
        assert_eq!(
            rows(&lines),
            [(0, 1, seconds, added, charged)],
            "{length:?} {age}"
        );
    }
}

#[test]
fn each_run_owes_its_own_minimum() {
    let runs: Vec<_> = (0..3)
        .map(|n| {
            run(
                n + 1,
                MIDNIGHT + u64::from(n) * 20,
                Some(MIDNIGHT + u64::from(n) * 20 + 10),
            )
        })
        .collect();
    let lines = rate_all(&runs, &book(&[(0, 3_600)]), MIDNIGHT + DAY);
    assert_eq!(rows(&lines), [(0, 1, 30, 150, 180)]);
    assert_eq!(lines[0].parts.len(), 3);
}

#[test]
fn midnight_cuts_a_run_and_the_minimum_stays_where_it_began() {
    let price = book(&[(0, 3_600)]);
    let lines = rate_all(
        &[run(1, MIDNIGHT - 10, Some(MIDNIGHT + 20))],
        &price,
        MIDNIGHT + DAY,
    );
    let before = lines[0].day.0;
    assert_eq!(before, MIDNIGHT / DAY - 1);
    let seconds: Vec<_> = lines
        .iter()
        .map(|l| (l.seconds, l.minimum_seconds_added))
        .collect();
    assert_eq!(seconds, [(10, 30), (20, 0)]);
    // Ends exactly at midnight: the next day has no line.
    let lines = rate_all(
        &[run(1, MIDNIGHT - 100, Some(MIDNIGHT))],
        &price,
        MIDNIGHT + DAY,
    );
    assert_eq!(lines.len(), 1);
    // Three days, open.
    let lines = rate_all(&[run(1, MIDNIGHT, None)], &price, MIDNIGHT + 2 * DAY + 5);
    assert_eq!(
        rows(&lines),
        [
            (0, 1, DAY, 0, 86_400),
            (1, 1, DAY, 0, 86_400),
            (2, 1, 5, 0, 5)
        ]
    );
}

#[test]
fn a_price_change_cuts_a_run_at_the_start_of_a_second() {
    let runs = [run(1, MIDNIGHT, Some(MIDNIGHT + 200))];
    // Half a second late: the second that has begun keeps the old price.
    for (change, old_seconds) in [(100_000, 100), (100_500, 101)] {
        let book = book(&[(0, 3_600), (MIDNIGHT * 1000 + change, 7_200)]);
        let lines = rate_all(&runs, &book, MIDNIGHT + DAY);
        let new_seconds = 200 - old_seconds;
        let old_amount = i64::try_from(old_seconds).expect("small");
        let new_amount = i64::try_from(new_seconds).expect("small") * 2;
        assert_eq!(
            rows(&lines),
            [
                (0, 1, old_seconds, 0, old_amount),
                (0, 2, new_seconds, 0, new_amount)
            ]
        );
    }
}

#[test]
fn what_has_no_price_is_shown_and_costs_nothing() {
    let book = book(&[((MIDNIGHT + 30) * 1000, 3_600)]);
    let lines = rate_all(
        &[run(1, MIDNIGHT, Some(MIDNIGHT + 50))],
        &book,
        MIDNIGHT + DAY,
    );
    assert_eq!(rows(&lines), [(0, 0, 30, 0, 0), (0, 1, 20, 0, 20)]);
    assert!(!lines[0].is_priced() && lines[1].is_priced());
    let steps = explain(&lines[0], &book).expect("explains").steps;
    assert!(steps.contains(&Step::Unpriced));
}

#[test]
fn totals_are_sums_of_rounded_lines() {
    // 1800 nanos an hour for a second: one half per day, to even, so zero.
    let runs = [
        run(1, MIDNIGHT - 60, Some(MIDNIGHT + 61)),
        run(2, MIDNIGHT + 300, Some(MIDNIGHT + 360)),
    ];
    let lines = rate_all(&runs, &book(&[(0, 1_800)]), MIDNIGHT + DAY);
    let amounts: Vec<_> = lines.iter().map(|line| line.amount.0).collect();
    assert_eq!(
        amounts,
        [30, 60],
        "121 s at half a nano: 60.5 goes to the even 60"
    );
    assert_eq!(total(&lines), Nanos(90));
    let totals = totals_by_instance(&lines);
    let sum = totals[&(ProjectId(7), Subject(0xc0ffee))];
    assert_eq!(
        (sum.seconds, sum.minimum_seconds_added, sum.amount),
        (181, 0, Nanos(90))
    );
}

#[test]
fn an_explanation_walks_from_the_amount_to_the_log() {
    let runs = [run(3, MIDNIGHT, Some(MIDNIGHT + 50))];
    let book = book(&[(5_000, 1_801)]);
    let lines = rate_all(&runs, &book, MIDNIGHT + DAY);
    let steps = explain(&lines[0], &book).expect("explains").steps;
    let (from, to) = (at(MIDNIGHT), at(MIDNIGHT + 50));
    assert_eq!(
        steps[..4],
        [
            Step::Run {
                run: 3,
                from,
                to,
                seconds: 50,
                start_index: 30,
                end_index: Some(35)
            },
            Step::Minimum {
                run: 3,
                minimum_seconds: 60,
                added: 10
            },
            Step::Charged {
                seconds: 50,
                minimum_seconds_added: 10,
                charged_seconds: 60
            },
            Step::Price {
                version: 1,
                effective_from: TimestampMs(5_000),
                nanos_per_hour: 1_801
            },
        ]
    );
    let Step::Round(rounded) = steps[4] else {
        panic!("the last step is the rounding: {steps:?}");
    };
    assert_eq!(
        (rounded.numerator, rounded.denominator),
        (60 * 1_801, 3_600)
    );
    assert_eq!((rounded.quotient, rounded.remainder), (30, 60));
    assert_eq!(
        (rounded.rounding, rounded.amount),
        (Rounding::Down, Nanos(30))
    );
}

#[test]
fn a_line_that_does_not_add_up_is_not_explained() {
    let book = book(&[(0, 3_600)]);
    let lines = rate_all(
        &[run(1, MIDNIGHT, Some(MIDNIGHT + 90))],
        &book,
        MIDNIGHT + DAY,
    );
    let broken = |change: fn(&mut RatedLine)| {
        let mut line = lines[0].clone();
        change(&mut line);
        explain(&line, &book).expect_err("does not add up")
    };
    assert!(matches!(
        broken(|l| l.amount.0 += 1),
        ExplainError::AmountDiffers { .. }
    ));
    assert!(matches!(
        broken(|l| l.seconds += 1),
        ExplainError::SecondsDiffer { .. }
    ));
    assert!(matches!(
        broken(|l| l.price_nanos_per_hour += 1),
        ExplainError::PriceDiffers { .. }
    ));
    assert!(matches!(
        broken(|l| l.price_version = 9),
        ExplainError::PriceDiffers { .. }
    ));
    assert!(matches!(
        broken(|l| l.price_version = 0),
        ExplainError::PriceDiffers { .. }
    ));
}

#[test]
fn an_id_of_no_line_finds_nothing() {
    let runs = [run(1, MIDNIGHT, Some(MIDNIGHT + 90))];
    let id: LineId = "i-0000000000c0ffee/2026-11-23/n1.micro/v1"
        .parse()
        .expect("well-formed");
    assert_eq!(
        find_line(&id, &runs, &book(&[(0, 1)]), at(MIDNIGHT * 2)),
        None
    );
}
