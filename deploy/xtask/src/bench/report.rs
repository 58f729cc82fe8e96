//! The figures of all parts: as JSON, whose keys only grow, and as one table
//! that is Markdown and reads well on a terminal.

use super::machine::Machine;
use serde::{Deserialize, Serialize};
use std::fmt::Write;

/// Grows when a key changes its meaning.
pub const SCHEMA: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub schema: u32,
    pub quick: bool,
    pub machine: Machine,
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    pub seconds: u64,
    /// Load average of one and of five minutes.
    pub load_before: [f64; 2],
    pub load_after: [f64; 2],
    /// Milliseconds of 512 bytes appended and synced.
    pub floor_before: Spread,
    pub floor_after: Spread,
    pub figures: Vec<Figure>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub samples: usize,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Peer {
    pub name: String,
    #[serde(flatten)]
    pub spread: Spread,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

/// One line of the table, as the measuring programs write it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    pub ours: Spread,
    #[serde(default)]
    pub peer: Option<Peer>,
    /// Ours over the peer's, pair by pair.
    #[serde(default)]
    pub ratio: Option<Spread>,
    #[serde(default)]
    pub aim: Option<Aim>,
    #[serde(default)]
    pub met: Option<bool>,
    #[serde(default)]
    pub note: String,
}

const HEADS: [&str; 6] = [
    "figure",
    "ours: median (min – max)",
    "beside",
    "its median (min – max)",
    "ratio (min – max)",
    "aim",
];

impl Report {
    /// Medians with min and max.
    pub fn table(&self) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "{} cores of {}, {} MiB, Linux {}{}\n\n",
            machine.cores,
            machine.processor,
            machine.memory_mib,
            machine.kernel,
            if self.quick { "; quick" } else { "" }
        );
        let figures = self.parts.iter().flat_map(|part| &part.figures);
        text += &grid(&figures.map(cells).collect::<Vec<_>>());
        text += "\n";
        for part in &self.parts {
            let [before, after] = [part.load_before[0], part.load_after[0]];
            let (first, last) = (&part.floor_before, &part.floor_after);
            // Writing to a String has no way to fail.
            let _ = writeln!(
                text,
                "- {}: {} s; load {before:.1} to {after:.1}; 512 B fdatasync {} ms before, {} ms after",
                part.name,
                part.seconds,
                spread(first),
                spread(last)
            );
            for figure in part.figures.iter().filter(|f| !f.note.is_empty()) {
                let _ = writeln!(text, "  - {}: {}", figure.name, figure.note);
            }
        }
        text
    }
}

fn cells(figure: &Figure) -> [String; 6] {
    let peer = figure.peer.as_ref();
    let aim = figure.aim.map_or(String::new(), |aim| {
        let (sign, value) = match aim {
            Aim::AtMost(value) => ("≤", value),
            Aim::AtLeast(value) => ("≥", value),
        };
        let verdict = if figure.met == Some(true) {
            "met"
        } else {
            "missed"
        };
        format!("{sign} {}: {verdict}", number(value))
    });
    [
        figure.name.clone(),
        format!("{} {}", spread(&figure.ours), figure.unit),
        peer.map_or(String::new(), |peer| peer.name.clone()),
        peer.map_or(String::new(), |peer| spread(&peer.spread)),
        figure.ratio.as_ref().map_or(String::new(), spread),
        aim,
    ]
}

fn spread(spread: &Spread) -> String {
    let median = number(spread.median);
    match spread.samples {
        1 => median,
        _ => format!("{median} ({} – {})", number(spread.min), number(spread.max)),
    }
}

/// Three digits are more than a shared machine can tell.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn grid(rows: &[[String; 6]]) -> String {
    let heads = HEADS.map(str::to_owned);
    let width = |column: usize| {
        let all = rows.iter().chain([&heads]);
        all.map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths);
        let cells = cells.map(|(cell, width)| format!(" {cell:width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let rule: String = widths
        .iter()
        .map(|width| format!("{}|", "-".repeat(width + 2)))
        .collect();
    let body: String = rows.iter().map(line).collect();
    format!("{}|{rule}\n{body}", line(&heads))
}

#[cfg(test)]
mod test {
    use super::*;

    /// As an earlier version wrote it: every version must read it.
    const SCHEMA_1: &str = r#"{
        "schema": 1, "quick": true,
        "machine": {"processor": "p", "cores": 2, "memory_mib": 64, "kernel": "6.1"},
        "parts": [{
            "name": "failover", "seconds": 9,
            "load_before": [0.5, 0.4], "load_after": [1.5, 0.6],
            "floor_before": {"median": 0.15, "min": 0.1, "max": 4.0, "samples": 9},
            "floor_after": {"median": 4.0, "min": 0.1, "max": 9.0, "samples": 9},
            "figures": [
                {"name": "kill", "unit": "s", "note": "3 kills",
                 "ours": {"median": 0.25, "min": 0.2, "max": 123.4, "samples": 3},
                 "peer": {"name": "etcd", "median": 1.0, "min": 0.9, "max": 12.0, "samples": 3},
                 "ratio": {"median": 0.25, "min": 0.2, "max": 0.3, "samples": 3},
                 "aim": {"at_most": 0.2}, "met": false},
                {"name": "alone", "unit": "B",
                 "ours": {"median": 264.0, "min": 264.0, "max": 264.0, "samples": 1}}
            ]
        }]
    }"#;

    #[test]
    fn the_schema_is_stable_and_the_table_says_all() {
        let report: Report = serde_json::from_str(SCHEMA_1).expect("schema 1");
        let again = serde_json::to_value(&report).expect("encodes");
        let before: serde_json::Value = serde_json::from_str(SCHEMA_1).expect("JSON");
        assert_eq!(
            again["parts"][0]["figures"][0],
            before["parts"][0]["figures"][0]
        );
        assert_eq!(
            again["parts"][0]["floor_after"],
            before["parts"][0]["floor_after"]
        );
        let table = report.table();
        for text in [
            "| kill ",
            "0.25 (0.20 – 123) s",
            "≤ 0.20: missed",
            "| 264 B ",
            "load 0.5 to 1.5",
            "kill: 3 kills",
            "2 cores of p, 64 MiB, Linux 6.1; quick",
        ] {
            assert!(table.contains(text), "{text} is not in\n{table}");
        }
    }
}
