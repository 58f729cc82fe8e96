//! Words that pure rooms must not use, each with what to use instead. Scans
//! production code only: tests may read golden files and draw numbers.

use crate::finding::Finding;
use crate::rust_text::{RustText, is_test_file, production_lines};
use crate::tree::TextFile;

/// Rooms whose result depends on their arguments alone.
pub const PURE_ROOMS: &[&str] = &[
    "proto/types/src/",
    "scheduler/src/",
    "controller/billing/src/",
    "controller/state/src/",
];
/// The same of single files in rooms that are not pure: a simulator runs them.
pub const PURE_FILES: &[&str] = &["controller/src/clock/cluster.rs"];
/// Consensus writes files and owns a task; what it must not do is ask the world
/// for time of day or luck: a seed has to replay.
pub const SEEDED_ROOMS: &[&str] = &["controller/consensus/src/"];

const CLOCK: &str = "time comes in with the command: take a `TimestampMs` argument";
const LUCK: &str = "ids and entropy come in with the command; a simulator must replay from a seed";
const ORDER: &str =
    "its order differs between replicas: use `BTreeMap`, `BTreeSet` or a sorted `Vec`";
const FLOAT: &str = "rounding differs between machines: use integers (`Nanos`, `Mib`, permille)";
const WORLD: &str =
    "pure rooms do no I/O and start nothing: pass the value in, or move it to a shell";

/// Words banned in pure rooms, and what to do instead.
const PURE_BANNED: &[(&str, &str)] = &[
    ("SystemTime", CLOCK),
    ("Instant", CLOCK),
    ("UNIX_EPOCH", CLOCK),
    ("thread_rng", LUCK),
    ("OsRng", LUCK),
    ("rand", LUCK),
    ("getrandom", LUCK),
    ("RandomState", LUCK),
    ("HashMap", ORDER),
    ("HashSet", ORDER),
    ("f32", FLOAT),
    ("f64", FLOAT),
    ("std::fs", WORLD),
    ("std::env", WORLD),
    ("TcpStream", WORLD),
    ("TcpListener", WORLD),
    ("UdpSocket", WORLD),
    ("ToSocketAddrs", WORLD),
    ("std::process", WORLD),
    ("std::thread", WORLD),
    ("tokio", WORLD),
    ("println", WORLD),
    ("eprintln", WORLD),
];
/// Words banned in seeded rooms.
const SEEDED_BANNED: &[(&str, &str)] = &[
    (
        "SystemTime",
        "time comes in with the input: the shell has the clock",
    ),
    (
        "UNIX_EPOCH",
        "time comes in with the input: the shell has the clock",
    ),
    ("thread_rng", LUCK),
    ("OsRng", LUCK),
    ("rand", LUCK),
    ("getrandom", LUCK),
];

/// Checks one Rust file against the list of its room.
#[must_use]
pub fn check(file: &TextFile) -> Vec<Finding> {
    let within = |rooms: &[&str]| rooms.iter().any(|room| file.path.starts_with(room));
    let banned = match (
        within(PURE_ROOMS) || within(PURE_FILES),
        within(SEEDED_ROOMS),
    ) {
        (true, _) => PURE_BANNED,
        (_, true) => SEEDED_BANNED,
        _ => return Vec::new(),
    };
    if is_test_file(&file.path) {
        return Vec::new();
    }
    let code = RustText::of(&file.text).code;
    let mut findings = Vec::new();
    for (at, line) in code.lines().take(production_lines(&file.text)).enumerate() {
        for (word, advice) in banned.iter().filter(|(word, _)| has_word(line, word)) {
            let what = format!("`{word}` in a pure room");
            findings.push(Finding::new(&file.path, at + 1, "word", what, *advice));
        }
    }
    findings
}

/// Whether a line of code holds a word as a whole. A path also counts when it is
/// written as a group: `std::{fs, io}`.
fn has_word(line: &str, word: &str) -> bool {
    let whole = |text: &str, word: &str| {
        let goes_on = |c: char| c.is_alphanumeric() || c == '_';
        text.match_indices(word).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            !before.is_some_and(goes_on) && !after.is_some_and(goes_on)
        })
    };
    let grouped = word.split_once("::").is_some_and(|(first, last)| {
        let group = format!("use {first}::{{");
        line.trim_start().starts_with(&group) && whole(line, last)
    });
    whole(line, word) || grouped
}

#[cfg(test)]
mod test {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&TextFile {
            path: path.to_owned(),
            text: text.to_owned(),
        })
        .len()
    }

    #[test]
    fn each_banned_word_is_found_in_code() {
        for (word, _) in PURE_BANNED {
            let text = format!("fn f() {{ let x = {word}::new(); }}\n");
            assert_eq!(found("scheduler/src/a.rs", &text), 1, "{word}");
        }
        for (word, _) in SEEDED_BANNED {
            let text = format!("fn f() {{ let x = {word}::new(); }}\n");
            assert_eq!(found("controller/consensus/src/a.rs", &text), 1, "{word}");
        }
    }

    #[test]
    fn types_suffixes_and_groups_are_found() {
        assert_eq!(
            found("scheduler/src/a.rs", "fn f(x: f64) -> Vec<f32> {}\n"),
            2
        );
        assert_eq!(found("scheduler/src/a.rs", "use std::{fs, io};\n"), 1);
        assert_eq!(
            found(
                "scheduler/src/a.rs",
                "use std::time::{Duration, Instant};\n"
            ),
            1
        );
    }

    #[test]
    fn comments_literals_tests_longer_words_and_other_rooms_are_free() {
        for text in [
            "// HashMap\nlet x = \"HashMap\";\n",
            "let operand = FxHashMapLike;\n",
            "#[cfg(test)]\nmod test {\n    use std::fs;\n}\n",
        ] {
            assert_eq!(found("scheduler/src/a.rs", text), 0, "{text}");
        }
        assert_eq!(found("scheduler/tests/a.rs", "use std::fs;\n"), 0);
        assert_eq!(found("agent/src/a.rs", "use std::fs;\n"), 0);
        assert_eq!(found("controller/consensus/src/a.rs", "use std::fs;\n"), 0);
    }
}
