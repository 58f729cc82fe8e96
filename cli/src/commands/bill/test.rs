//! Bills as people and spreadsheets see them.

use super::*;
use nube_proto::v1::BillLinePart;

fn line(instance: u32, day: u32, seconds: u64, open: bool) -> BillLine {
    BillLine {
        id: format!("i-{instance:016x}/2026-11-{day:02}/v1"),
        instance_id: format!("i-{instance:016x}"),
        instance_name: format!("web-{instance}"),
        resource: "n1.micro".into(),
        day: format!("2026-11-{day:02}"),
        price_version: 1,
        price_nanos_per_hour: 2_000_000,
        seconds,
        minimum_seconds: 60_u64.saturating_sub(seconds),
        amount_nanos: i64::try_from(seconds.max(60) * 2_000_000 / 3600).unwrap_or(0),
        open,
        resource_id: format!("i-{instance:016x}"),
        resource_name: format!("web-{instance}"),
        ..BillLine::default()
    }
}

/// What network things add to a bill.
fn network_lines() -> Vec<BillLine> {
    let traffic = BillLine {
        id: "i-0000000000000001/2026-11-22/internet-out/v1".into(),
        instance_id: "i-0000000000000001".into(),
        instance_name: "web-1".into(),
        resource: "internet-out".into(),
        day: "2026-11-22".into(),
        price_version: 1,
        amount_nanos: 30_000_000,
        resource_id: "i-0000000000000001".into(),
        resource_name: "web-1".into(),
        bytes_out: 3 << 29,
        bytes_in: 7,
        price_nanos_per_gib: 20_000_000,
        ..BillLine::default()
    };
    let address = BillLine {
        id: "addr-0000000000000003/2026-11-22/address/v1".into(),
        resource: "address".into(),
        day: "2026-11-22".into(),
        price_version: 1,
        price_nanos_per_hour: 5_000_000,
        seconds: 3_600,
        amount_nanos: 5_000_000,
        open: true,
        resource_id: "addr-0000000000000003".into(),
        resource_name: "www".into(),
        ..BillLine::default()
    };
    vec![traffic, address]
}

fn sample() -> Bill {
    let lines = vec![
        line(1, 21, 86_400, false),
        line(1, 22, 3_723, true),
        line(2, 22, 5, false),
    ];
    let lines = [lines, network_lines()].concat();
    Bill {
        currency: "USD".into(),
        as_of_ms: 1_790_000_000_000,
        total_nanos: lines.iter().map(|line| line.amount_nanos).sum(),
        lines,
        revision: 9,
    }
}

#[test]
fn bills_are_golden() {
    let mut text = String::new();
    for by in [By::Instance, By::Day, By::Line] {
        let table = bill(Look::default(), &sample(), by);
        assert!(
            table.lines().all(|line| line.chars().count() <= 92),
            "{table}"
        );
        text.push_str(&format!("--by {by:?}\n{table}\n"));
    }
    text.push_str(&bill(Look::default(), &Bill::default(), By::Instance));
    crate::golden::check("bill", &text);
}

#[test]
fn every_grouping_adds_up_to_the_total() {
    let bill = sample();
    for by in [By::Instance, By::Day, By::Line] {
        let rows = bill_csv(&bill, by);
        let column = rows[0].iter().position(|name| name == "amount_nanos");
        let column = column.expect("a column of amounts");
        let amounts = rows[1..].iter().map(|row| row[column].parse::<i64>());
        assert_eq!(
            amounts.sum::<Result<i64, _>>(),
            Ok(bill.total_nanos),
            "{by:?}"
        );
        assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{by:?}");
    }
}

#[test]
fn explanations_and_verdicts_are_golden() {
    let explained = BillLineExplanation {
        line: Some(line(2, 22, 5, false)),
        parts: vec![BillLinePart {
            run: 1,
            from_ms: 1_790_000_000_000,
            to_ms: 1_790_000_005_000,
            seconds: 5,
            minimum_seconds: 55,
            start_index: 12,
            end_index: 15,
        }],
        price_effective_from_ms: 1_700_000_000_000,
        numerator: "120000000".into(),
        denominator: "3600".into(),
        steps: vec!["ran 5 s".into(), "the minimum per run adds 55 s".into()],
    };
    let mut verdict = BillVerification {
        exact: true,
        index: 40,
        snapshot_index: 10,
        entries_replayed: 30,
        intervals: 3,
        transitions: 8,
        seconds_ledger: 90_128,
        seconds_recomputed: 90_128,
        bytes_ledger: 7,
        bytes_recomputed: 7,
        state_hash: "ab".repeat(32),
        replayed_state_hash: "ab".repeat(32),
        findings: Vec::new(),
    };
    let mut text = explanation(Look::default(), &explained) + "\n" + &verification(&verdict);
    verdict.exact = false;
    verdict.findings.push("run 1 of i-…: 5 s and 6 s".into());
    text.push_str(&verification(&verdict));
    crate::golden::check("bill_explain_verify", &text);
}

#[test]
fn usage_is_golden() {
    let interval = |run: u32, end_index: u64| UsageInterval {
        instance_id: "i-0000000000000001".into(),
        resource_id: "i-0000000000000001".into(),
        project_id: "p-0000000000000001".into(),
        run,
        resource: "n1.micro".into(),
        started_at_ms: 1_790_000_000_000,
        start_index: 12,
        ended_at_ms: if end_index == 0 { 0 } else { 1_790_000_005_000 },
        end_index,
        end_reason: if end_index == 0 {
            String::new()
        } else {
            "stop".into()
        },
        seconds: 5,
    };
    let all = ListUsageResponse {
        intervals: vec![interval(1, 15), interval(2, 0)],
        as_of_ms: 1_790_000_100_000,
        ..ListUsageResponse::default()
    };
    let text = usage(Look::default(), &all);
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    crate::golden::check("bill_usage", &text);
    assert_eq!(usage_csv(&all).len(), 3);
}
