//! The verifier is itself verified: a ledger built from a history is clean, and
//! each kind of damage is found, named and nothing else is blamed.

use nube_billing::Subject;
use nube_billing::{
    EndReason, Field, Finding, PriceBook, Transition, TransitionKind, UsageInterval, verify,
};
use nube_types::{ProjectId, TimestampMs};
use proptest::prelude::*;

const MIDNIGHT_MS: u64 = 20_779 * 86_400_000;
const ONE: Subject = Subject(1);

fn ms(offset: u64) -> TimestampMs {
    TimestampMs(MIDNIGHT_MS + offset)
}

fn transition(index: u64, at: u64, subject: u64, kind: TransitionKind) -> Transition {
    Transition {
        index,
        at: ms(at),
        subject: Subject(subject),
        project: ProjectId(9),
        resource: "n1.micro".to_owned(),
        kind,
    }
}

fn book() -> PriceBook {
    PriceBook::default_book(TimestampMs(0))
}

/// A ledger as a careful state machine would write it.
fn ledger_of(history: &[Transition]) -> Vec<UsageInterval> {
    let mut ledger: Vec<UsageInterval> = Vec::new();
    for entry in history {
        let own = |interval: &&mut UsageInterval| interval.subject == entry.subject;
        let run = ledger
            .iter()
            .filter(|interval| interval.subject == entry.subject)
            .count();
        let open = ledger
            .iter_mut()
            .filter(own)
            .find(|interval| interval.is_open());
        let reason = match entry.kind {
            TransitionKind::Started => None,
            TransitionKind::Stopped => Some((entry.at, EndReason::Stopped)),
            TransitionKind::DeleteRequested => Some((entry.at, EndReason::DeleteRequested)),
            TransitionKind::Failed => Some((entry.at, EndReason::Failed)),
            TransitionKind::HostLost { last_proven } => {
                Some((last_proven.min(entry.at), EndReason::HostLost))
            }
        };
        match (open, reason) {
            (Some(interval), Some((end, reason))) => {
                assert!(interval.close(end, entry.index, reason));
            }
            (None, None) => ledger.push(UsageInterval::open(
                entry.subject,
                entry.project,
                u32::try_from(run).expect("few runs") + 1,
                &entry.resource,
                entry.at,
                entry.index,
            )),
            _ => {}
        }
    }
    ledger
}

/// Run 1: 0 s to 100 s. Run 2: 200 s to 300 s. Run 3: from 400 s, open.
fn history() -> Vec<Transition> {
    vec![
        transition(10, 0, 1, TransitionKind::Started),
        transition(11, 100_000, 1, TransitionKind::Stopped),
        transition(12, 200_000, 1, TransitionKind::Started),
        transition(13, 300_000, 1, TransitionKind::DeleteRequested),
        transition(14, 400_000, 1, TransitionKind::Started),
    ]
}

/// Findings other than the lines that follow from them.
fn findings(damage: impl FnOnce(&mut Vec<UsageInterval>)) -> Vec<Finding> {
    let mut ledger = ledger_of(&history());
    damage(&mut ledger);
    let report = verify(&history(), &ledger, &book(), ms(500_000));
    assert!(!report.is_clean());
    let cause = |finding: &Finding| !matches!(finding, Finding::Line { .. });
    report.findings.into_iter().filter(cause).collect()
}

fn second(offset: u64) -> u64 {
    MIDNIGHT_MS / 1000 + offset
}

#[test]
fn a_faithful_ledger_is_clean() {
    let report = verify(&history(), &ledger_of(&history()), &book(), ms(500_000));
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(
        (report.runs, report.intervals, report.lines, report.seconds),
        (3, 3, 1, 300)
    );
}

#[test]
fn a_lost_host_is_billed_to_the_last_proof() {
    for (last_proven, seconds) in [(30_000, 10), (0, 0), (99_000, 50)] {
        let last_proven = ms(last_proven);
        let history = [
            transition(10, 20_000, 1, TransitionKind::Started),
            transition(11, 70_000, 1, TransitionKind::HostLost { last_proven }),
        ];
        let report = verify(&history, &ledger_of(&history), &book(), ms(500_000));
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(report.seconds, seconds);
    }
}

#[test]
fn a_missing_run_is_found() {
    let (from, to) = (second(200), second(300));
    let missing = Finding::Missing {
        subject: ONE,
        start_index: 12,
        from,
        to,
    };
    assert_eq!(findings(|ledger| drop(ledger.remove(1))), [missing]);
}

#[test]
fn a_double_and_its_overlap_are_found() {
    let double = Finding::Double {
        subject: ONE,
        run: 1,
        start_index: 10,
    };
    assert_eq!(findings(|ledger| ledger.push(ledger[0].clone())), [double]);
}

#[test]
fn gaps_and_excess_are_found_at_each_edge() {
    let gap = |from, to| Finding::Gap {
        subject: ONE,
        run: 1,
        from: second(from),
        to: second(to),
    };
    let excess = |from, to| Finding::Excess {
        subject: ONE,
        run: 1,
        from: second(from),
        to: second(to),
    };
    assert_eq!(
        findings(|ledger| ledger[0].end = Some(ms(99_000))),
        [gap(99, 100)]
    );
    assert_eq!(
        findings(|ledger| ledger[0].end = Some(ms(101_000))),
        [excess(100, 101)]
    );
    assert_eq!(findings(|ledger| ledger[0].start = ms(5_000)), [gap(0, 5)]);
    let early = TimestampMs(MIDNIGHT_MS - 5_000);
    let (from, to) = (second(0) - 5, second(0));
    let excess = Finding::Excess {
        subject: ONE,
        run: 1,
        from,
        to,
    };
    assert_eq!(findings(|ledger| ledger[0].start = early), [excess]);
}

#[test]
fn an_overlap_is_found() {
    let found = findings(|ledger| ledger[0].end = Some(ms(250_000)));
    let (from, to) = (second(200), second(250));
    let overlap = Finding::Overlap {
        subject: ONE,
        run: 1,
        other_run: 2,
        from,
        to,
    };
    let (from, to) = (second(100), second(250));
    assert_eq!(
        found,
        [
            overlap,
            Finding::Excess {
                subject: ONE,
                run: 1,
                from,
                to
            }
        ]
    );
}

#[test]
fn a_run_without_history_is_found() {
    let found = findings(|ledger| {
        let mut invented = ledger[1].clone();
        (invented.run, invented.start_index) = (7, 99);
        (invented.start, invented.end) = (ms(310_000), Some(ms(320_000)));
        invented.end_index = Some(100);
        ledger.push(invented);
    });
    assert_eq!(
        found,
        [Finding::Unproven {
            subject: ONE,
            run: 7,
            start_index: 99
        }]
    );
}

#[test]
fn wrong_values_and_broken_shapes_are_found() {
    let differs = |field| {
        vec![Finding::Differs {
            subject: ONE,
            run: 1,
            field,
        }]
    };
    assert_eq!(
        findings(|ledger| ledger[0].project = ProjectId(1)),
        differs(Field::Project)
    );
    assert_eq!(
        findings(|ledger| ledger[0].resource = "n1.large".into()),
        differs(Field::Resource)
    );
    let report = |change: fn(&mut UsageInterval)| {
        let mut ledger = ledger_of(&history());
        change(&mut ledger[0]);
        verify(&history(), &ledger, &book(), ms(500_000)).findings
    };
    assert_eq!(report(|run| run.start = ms(7)), differs(Field::Start));
    assert_eq!(
        report(|run| run.end = Some(ms(100_007))),
        differs(Field::End)
    );
    assert_eq!(
        report(|run| run.end_index = Some(77)),
        differs(Field::EndIndex)
    );
    let shape = Finding::Malformed {
        subject: ONE,
        run: 1,
    };
    assert_eq!(
        report(|run| run.end_reason = None),
        std::slice::from_ref(&shape)
    );
    assert!(report(|run| run.end = Some(TimestampMs(5))).contains(&shape));
    let renumbered = Finding::Differs {
        subject: ONE,
        run: 8,
        field: Field::Run,
    };
    assert!(report(|run| run.run = 8).contains(&renumbered));
}

#[test]
fn a_damaged_interval_shows_in_its_line_too() {
    let mut ledger = ledger_of(&history());
    ledger[0].end = Some(ms(90_000));
    let report = verify(&history(), &ledger, &book(), ms(500_000));
    let lines = report
        .findings
        .iter()
        .filter(|finding| matches!(finding, Finding::Line { .. }));
    assert_eq!(lines.count(), 1);
}

#[test]
fn a_history_that_goes_back_is_no_proof() {
    for (index, at) in [(10, 5_000), (12, 4_000), (13, 5_000), (13, 1)] {
        let mut history = vec![
            transition(12, 4_000, 1, TransitionKind::Started),
            transition(index, at, 2, TransitionKind::Started),
        ];
        let wrong = index < 12 || at < 4_000;
        let report = verify(&history, &ledger_of(&history), &book(), ms(9_000));
        let expected = Finding::HistoryOutOfOrder { index };
        assert_eq!(report.findings.contains(&expected), wrong, "{index} {at}");
        history.pop();
        assert!(verify(&history, &ledger_of(&history), &book(), ms(9_000)).is_clean());
    }
}

#[test]
fn a_transition_reads_back_as_written() {
    let last_proven = ms(7);
    for kind in [
        TransitionKind::Started,
        TransitionKind::Stopped,
        TransitionKind::DeleteRequested,
        TransitionKind::HostLost { last_proven },
        TransitionKind::Failed,
    ] {
        let written = transition(1, 2, 3, kind);
        let bytes = minicbor::to_vec(&written).expect("a Vec takes every write");
        assert_eq!(minicbor::decode(&bytes).ok(), Some(written));
    }
}

fn kinds() -> impl Strategy<Value = TransitionKind> {
    prop_oneof![
        4 => Just(TransitionKind::Started),
        2 => Just(TransitionKind::Stopped),
        1 => Just(TransitionKind::DeleteRequested),
        1 => Just(TransitionKind::Failed),
        1 => (0..90_000_000u64)
            .prop_map(|at| TransitionKind::HostLost { last_proven: ms(at) }),
    ]
}

proptest! {
    /// INV D1, D2: two implementations, one bill. Days and price changes are
    /// crossed, starts are repeated, hosts are lost.
    #[test]
    fn the_bill_is_what_happened(
        steps in prop::collection::vec((0..4_000_000u64, 1..4u64, kinds()), 0..40),
        change in 1..80_000_000u64,
        age in 0..90_000_000u64,
    ) {
        let mut book = book();
        let mut entries = book.versions[0].entries.clone();
        entries.insert("n1.micro".to_owned(), 1_234_567);
        prop_assert_eq!(book.add_version(ms(0), ms(change), 90, entries), Ok(2));
        let mut now = 0;
        let mut history = Vec::new();
        for (index, (pause, instance, kind)) in steps.into_iter().enumerate() {
            now += pause;
            history.push(transition(index as u64 + 1, now, instance, kind));
        }
        let ledger = ledger_of(&history);
        let report = verify(&history, &ledger, &book, ms(age));
        prop_assert!(report.is_clean(), "{:?}", report.findings);
        // A second more or less anywhere is seen.
        for position in 0..ledger.len() {
            let mut damaged = ledger.clone();
            let run = &mut damaged[position];
            let Some(end) = run.end.filter(|end| end.0 + 1_000 <= ms(age).0) else {
                continue;
            };
            run.end = Some(TimestampMs(end.0 + 1_000));
            prop_assert!(!verify(&history, &damaged, &book, ms(age)).is_clean());
        }
    }
}
