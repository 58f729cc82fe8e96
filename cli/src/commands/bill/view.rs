//! Bills as tables and spreadsheets. Summing lines is all the arithmetic here:
//! every amount was rated and rounded by the controllers, once per line.

use std::collections::BTreeMap;

use nube_proto::v1::{
    Bill, BillLine, BillLineExplanation, BillVerification, ListUsageResponse, UsageInterval,
};

use indicatif::BinaryBytes;

use crate::args::bill::By;
use crate::output::table::{Fields, Look, Table, Tone, Value};
use crate::output::text::{escape, hms, money, or_dash, time};

/// The bill for people, with the total to the second at its end.
pub fn bill(look: Look, bill: &Bill, by: By) -> String {
    let rows = match by {
        By::Instance => by_instance(look, bill),
        By::Day => by_day(look, bill),
        By::Line => by_line(look, bill),
    };
    let total = money(bill.total_nanos, 9);
    let currency = escape(&bill.currency);
    let as_of = time(bill.as_of_ms);
    format!("{rows}\ntotal {total} {currency} as of {as_of}\n")
}

const NOTHING: &str = "nothing was used in this time";

fn by_instance(look: Look, bill: &Bill) -> String {
    let header = [
        "NAME",
        "RESOURCE",
        ">PRICE",
        ">USED",
        "+>MINIMUM",
        ">AMOUNT",
        "",
        "ID",
    ];
    let mut table = Table::new(look, &header);
    for sum in sums(bill, thing) {
        table.row([
            sum.last.resource_name.as_str().into(),
            sum.last.resource.as_str().into(),
            price(sum.last).into(),
            used(sum.last, sum.seconds, sum.bytes_out).into(),
            minimum(sum.minimum_seconds),
            money(sum.amount_nanos, 9).into(),
            open(sum.open),
            sum.last.resource_id.as_str().into(),
        ]);
    }
    table.render_or(NOTHING)
}

fn by_day(look: Look, bill: &Bill) -> String {
    let header = ["DAY", ">LINES", ">RUNNING", ">MINIMUM", ">AMOUNT", ""];
    let mut table = Table::new(look, &header);
    for sum in sums(bill, |line| line.day.clone()) {
        table.row([
            sum.last.day.as_str().into(),
            sum.lines.to_string().into(),
            hms(sum.seconds).into(),
            minimum(sum.minimum_seconds),
            money(sum.amount_nanos, 9).into(),
            open(sum.open),
        ]);
    }
    table.render_or(NOTHING)
}

fn by_line(look: Look, bill: &Bill) -> String {
    let header = [
        "LINE",
        "NAME",
        "+>PRICE",
        ">USED",
        "+>MINIMUM",
        ">AMOUNT",
        "+",
    ];
    let mut table = Table::new(look, &header);
    for line in &bill.lines {
        table.row([
            line.id.as_str().into(),
            line.resource_name.as_str().into(),
            price(line).into(),
            used(line, line.seconds, line.bytes_out).into(),
            minimum(line.minimum_seconds),
            money(line.amount_nanos, 9).into(),
            open(line.open),
        ]);
    }
    table.render_or(NOTHING)
}

/// Rows of one thing and one resource of it.
fn thing(line: &BillLine) -> String {
    format!("{}/{}", line.resource_id, line.resource)
}

/// Only traffic has a price per GiB, and nothing but traffic has none per hour.
fn is_traffic(line: &BillLine) -> bool {
    line.price_nanos_per_gib != 0 || line.bytes_out != 0
}

fn price(line: &BillLine) -> String {
    if is_traffic(line) {
        return format!("{}/GiB", money(line.price_nanos_per_gib, 4));
    }
    format!("{}/h", money(line.price_nanos_per_hour, 4))
}

fn used(line: &BillLine, seconds: u64, bytes_out: u64) -> String {
    if is_traffic(line) {
        return BinaryBytes(bytes_out).to_string();
    }
    hms(seconds)
}

/// Time that only the minimum per run adds.
fn minimum(seconds: u64) -> Value {
    match seconds {
        0 => "-".into(),
        _ => format!("+{}", hms(seconds)).into(),
    }
}

fn open(open: bool) -> Value {
    match open {
        true => Value::new("open", Tone::Good),
        false => "".into(),
    }
}

/// Lines added up under one key.
struct Sum<'a> {
    last: &'a BillLine,
    lines: usize,
    seconds: u64,
    minimum_seconds: u64,
    bytes_out: u64,
    bytes_in: u64,
    amount_nanos: i64,
    open: bool,
}

fn sums(bill: &Bill, key: impl Fn(&BillLine) -> String) -> Vec<Sum<'_>> {
    let mut sums: BTreeMap<String, Sum<'_>> = BTreeMap::new();
    for line in &bill.lines {
        let sum = sums.entry(key(line)).or_insert(Sum {
            last: line,
            lines: 0,
            seconds: 0,
            minimum_seconds: 0,
            bytes_out: 0,
            bytes_in: 0,
            amount_nanos: 0,
            open: false,
        });
        sum.last = line;
        sum.lines += 1;
        sum.seconds = sum.seconds.saturating_add(line.seconds);
        sum.minimum_seconds = sum.minimum_seconds.saturating_add(line.minimum_seconds);
        sum.bytes_out = sum.bytes_out.saturating_add(line.bytes_out);
        sum.bytes_in = sum.bytes_in.saturating_add(line.bytes_in);
        sum.amount_nanos = sum.amount_nanos.saturating_add(line.amount_nanos);
        sum.open |= line.open;
    }
    sums.into_values().collect()
}

/// The bill for a spreadsheet: plain numbers, units in the header.
pub fn bill_csv(bill: &Bill, by: By) -> Vec<Vec<String>> {
    let row = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let tail = [
        "seconds",
        "minimum_seconds",
        "bytes_out",
        "bytes_in",
        "amount_nanos",
        "amount",
        "currency",
        "open",
    ];
    let values = |sum: &Sum<'_>| {
        vec![
            sum.seconds.to_string(),
            sum.minimum_seconds.to_string(),
            sum.bytes_out.to_string(),
            sum.bytes_in.to_string(),
            sum.amount_nanos.to_string(),
            money(sum.amount_nanos, 9),
            bill.currency.clone(),
            sum.open.to_string(),
        ]
    };
    let (head, sums): (&[&str], _) = match by {
        By::Day => (&["day", "lines"], sums(bill, |line| line.day.clone())),
        By::Instance => (
            &["resource_id", "resource_name", "resource"],
            sums(bill, thing),
        ),
        By::Line => (
            &[
                "line",
                "resource_id",
                "resource_name",
                "resource",
                "day",
                "price_version",
                "price_nanos_per_hour",
                "price_nanos_per_gib",
            ],
            sums(bill, |line| line.id.clone()),
        ),
    };
    let mut rows: Vec<Vec<String>> = vec![row(&[head, &tail[..]].concat())];
    for sum in &sums {
        let line = sum.last;
        let key: Vec<String> = match by {
            By::Day => vec![line.day.clone(), sum.lines.to_string()],
            By::Instance => row(&[&line.resource_id, &line.resource_name, &line.resource]),
            By::Line => row(&[
                &line.id,
                &line.resource_id,
                &line.resource_name,
                &line.resource,
                &line.day,
                &line.price_version.to_string(),
                &line.price_nanos_per_hour.to_string(),
                &line.price_nanos_per_gib.to_string(),
            ]),
        };
        rows.push([key, values(sum)].concat());
    }
    rows
}

/// From a line to its intervals, price and rounding.
pub fn explanation(look: Look, explanation: &BillLineExplanation) -> String {
    let mut text = String::new();
    if let Some(line) = &explanation.line {
        let mut fields = Fields::default();
        fields.add("line", &line.id);
        let of = if line.instance_id.is_empty() {
            "address"
        } else {
            "instance"
        };
        let name = format!("{} ({})", line.resource_name, line.resource_id);
        fields.add(of, name);
        fields.add("resource", &line.resource);
        fields.add(
            "price",
            format!(
                "{}, version {} in effect since {}",
                price(line),
                line.price_version,
                time(explanation.price_effective_from_ms)
            ),
        );
        fields.add("amount", money(line.amount_nanos, 9));
        text.push_str(&fields.render());
        text.push('\n');
    }
    let header = [
        ">RUN", "FROM", "TO", ">SECONDS", ">MINIMUM", ">OPENED", ">CLOSED",
    ];
    let mut table = Table::new(look, &header);
    for part in &explanation.parts {
        table.row([
            part.run.to_string().into(),
            time(part.from_ms).into(),
            time(part.to_ms).into(),
            part.seconds.to_string().into(),
            part.minimum_seconds.to_string().into(),
            format!("#{}", part.start_index).into(),
            match part.end_index {
                0 => Value::new("open", Tone::Good),
                index => format!("#{index}").into(),
            },
        ]);
    }
    let traffic = explanation.line.as_ref().is_some_and(is_traffic);
    if !traffic {
        text.push_str(&table.render_or("no usage fell on this line"));
        text.push('\n');
    }
    for (n, step) in (1..).zip(&explanation.steps) {
        text.push_str(&format!("{n}. {}\n", escape(step)));
    }
    let (top, bottom) = (
        escape(&explanation.numerator),
        escape(&explanation.denominator),
    );
    text.push_str(&format!(
        "amount = round_half_even({top} / {bottom}) nano-units\n"
    ));
    text
}

/// What was compared, and the verdict.
pub fn verification(v: &BillVerification) -> String {
    let mut fields = Fields::default();
    fields.add("compared at", format!("log index {}", v.index));
    let replayed = format!(
        "{} entries from snapshot {}",
        v.entries_replayed, v.snapshot_index
    );
    fields.add("replayed", replayed);
    fields.add("intervals", v.intervals.to_string());
    fields.add("transitions", v.transitions.to_string());
    let (ledger, again) = (v.seconds_ledger, v.seconds_recomputed);
    fields.add(
        "seconds",
        format!("{ledger} in the ledger, {again} recomputed"),
    );
    let (ledger, again) = (v.bytes_ledger, v.bytes_recomputed);
    fields.add(
        "bytes out",
        format!("{ledger} in the ledger, {again} as hosts counted"),
    );
    fields.add("live state", &v.state_hash);
    fields.add("rebuilt", &v.replayed_state_hash);
    let mut text = fields.render();
    for finding in &v.findings {
        text.push_str(&format!("differs: {}\n", escape(finding)));
    }
    text.push_str(if v.exact { "exact\n" } else { "NOT exact\n" });
    text
}

/// The ledger for people.
pub fn usage(look: Look, usage: &ListUsageResponse) -> String {
    let header = [
        "ID", ">RUN", "RESOURCE", "FROM", ">SECONDS", "END", "+TO", "+>OPENED", "+>CLOSED",
    ];
    let mut table = Table::new(look, &header);
    for interval in &usage.intervals {
        let open = interval.end_index == 0;
        table.row([
            interval.resource_id.as_str().into(),
            interval.run.to_string().into(),
            interval.resource.as_str().into(),
            time(interval.started_at_ms).into(),
            interval.seconds.to_string().into(),
            match open {
                true => Value::new("open", Tone::Good),
                false => or_dash(&interval.end_reason).into(),
            },
            time(interval.ended_at_ms).into(),
            interval.start_index.to_string().into(),
            interval.end_index.to_string().into(),
        ]);
    }
    let rows = table.render_or("nothing was used yet");
    format!("{rows}\nas of {}\n", time(usage.as_of_ms))
}

/// The ledger for a spreadsheet.
pub fn usage_csv(usage: &ListUsageResponse) -> Vec<Vec<String>> {
    let header = [
        "resource_id",
        "project_id",
        "run",
        "resource",
        "started_at_ms",
        "start_index",
        "ended_at_ms",
        "end_index",
        "end_reason",
        "seconds",
    ];
    let row = |i: &UsageInterval| {
        vec![
            i.resource_id.clone(),
            i.project_id.clone(),
            i.run.to_string(),
            i.resource.clone(),
            i.started_at_ms.to_string(),
            i.start_index.to_string(),
            i.ended_at_ms.to_string(),
            i.end_index.to_string(),
            i.end_reason.clone(),
            i.seconds.to_string(),
        ]
    };
    let header = header.map(str::to_owned).to_vec();
    std::iter::once(header)
        .chain(usage.intervals.iter().map(row))
        .collect()
}

#[cfg(test)]
#[path = "test.rs"]
mod test;
