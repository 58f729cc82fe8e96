//! F3: what an older version wrote leads to what it led to then. Each file in
//! `tests/golden/history` is a log of one release, entry by entry in its own bytes,
//! with the hashes on its way and a snapshot from its middle.
//!
//! At a release, once, while its tree is checked out:
//! `NEW_GOLDEN=1.2.0 cargo test -p nube-state --test upgrade`
//! writes `1.2.0.txt` from `story`. An existing file is never written again: where
//! a test here fails, the code is wrong and not the file.

#![expect(
    clippy::disallowed_methods,
    reason = "golden files are read, and written once"
)]

mod fixture;
#[path = "upgrade/story.rs"]
mod story;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use nube_state::{Envelope, State, apply, codec, invariant};

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/history")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).expect("hexadecimal digits");
        u8::from_str_radix(text, 16).expect("hexadecimal digits")
    };
    digits.map(byte).collect()
}

/// The number of an entry's command.
fn number(entry: &[u8]) -> u64 {
    let mut decoder = minicbor::Decoder::new(&entry[1..]);
    decoder.array().expect("an envelope");
    for _ in 0..3 {
        decoder.skip().expect("request, time, actor");
    }
    decoder.array().expect("a command");
    decoder.u64().expect("its number")
}

fn hashes(state: &State) -> String {
    let state_hash = hex(&codec::state_hash(state));
    format!(
        "hash {} {state_hash} {}\n",
        state.index,
        hex(&codec::replica_hash(state))
    )
}

/// A story as a file.
fn written(entries: &[(u64, Envelope)]) -> String {
    const BETWEEN_HASHES: usize = 16;
    let mut text = format!("commands {}\n", codec::COMMAND_MAX + 1);
    let mut state = State::default();
    for (position, (index, envelope)) in entries.iter().enumerate() {
        let _ = writeln!(
            text,
            "entry {index} {}",
            hex(&codec::encode_envelope(envelope))
        );
        apply(&mut state, *index, envelope);
        if position % BETWEEN_HASHES == BETWEEN_HASHES - 1 || position + 1 == entries.len() {
            text.push_str(&hashes(&state));
        }
        if position == entries.len() / 2 {
            let _ = writeln!(text, "snapshot {}", hex(&codec::encode_snapshot(&state)));
        }
    }
    text
}

/// Replays a file; what it led to, and which commands it used.
fn replayed(name: &str, text: &str) -> (State, BTreeSet<u64>) {
    let (mut state, mut restored) = (State::default(), None::<State>);
    let mut used = BTreeSet::new();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').expect("a word and more");
        match word {
            "commands" => {}
            "entry" => {
                let (index, bytes) = rest.split_once(' ').expect("index and bytes");
                let (index, bytes) = (index.parse().expect("an index"), unhex(bytes));
                let envelope = codec::decode_envelope(&bytes);
                let envelope = envelope.unwrap_or_else(|error| panic!("{name}, {index}: {error}"));
                used.insert(number(&bytes));
                apply(&mut state, index, &envelope);
                if let Some(restored) = &mut restored {
                    apply(restored, index, &envelope);
                }
            }
            "hash" => {
                assert_eq!(hashes(&state).trim_end(), line, "{name}: replay differs");
                if let Some(restored) = &restored {
                    assert_eq!(
                        hashes(restored).trim_end(),
                        line,
                        "{name}: from its snapshot"
                    );
                }
            }
            "snapshot" => {
                let read = codec::decode_snapshot(&unhex(rest));
                let read = read.unwrap_or_else(|error| panic!("{name}, snapshot: {error}"));
                // This version's bytes of both: newer tables are written as empty ones.
                assert!(
                    codec::encode_snapshot(&read) == codec::encode_snapshot(&state),
                    "{name}: the snapshot is not what the log leads to (A5)"
                );
                restored = Some(read);
            }
            other => panic!("{name}: `{other}`"),
        }
    }
    assert!(restored.is_some(), "{name}: no snapshot");
    (state, used)
}

#[test]
fn old_logs_and_snapshots_lead_to_their_recorded_hashes() {
    let mut count = 0;
    for file in std::fs::read_dir(dir()).expect("goldens") {
        let path = file.expect("a file").path();
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).expect("a text");
        let (state, used) = replayed(&name, &text);
        let commands = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("commands "));
        let commands: u64 = commands
            .and_then(|n| n.parse().ok())
            .expect("how many commands");
        assert_eq!(
            used,
            (0..commands).collect(),
            "{name}: commands of its version"
        );
        assert_eq!(invariant::broken(&state), Vec::<String>::new(), "{name}");
        assert_eq!(state.marks.diverged, None, "{name}: its own checks hold");
        count += 1;
    }
    assert!(count > 0, "no golden history");
}

#[test]
fn the_story_of_the_next_release_uses_every_command() {
    let text = written(&story::entries());
    let (state, used) = replayed("story", &text);
    assert_eq!(used, (0..=codec::COMMAND_MAX).collect());
    assert!(
        state.evictions.len() == 1
            && state.instances.len() > 3
            && state.usage.len() > 3
            && state.events.len() > 20
            && state.security_groups.len() == 2
            && state.addresses.len() == 2
            && state.target_health.len() == 1
            && state.traffic_usage.len() == 2
    );
    if let Ok(version) = std::env::var("NEW_GOLDEN") {
        let path = dir().join(format!("{version}.txt"));
        assert!(
            !path.exists(),
            "{} is written once and for ever",
            path.display()
        );
        std::fs::create_dir_all(dir()).expect("the directory");
        std::fs::write(&path, text).expect("the source can be written");
    }
}

#[test]
fn a_golden_that_was_changed_is_noticed() {
    let text = written(&story::entries()[..40]);
    let hash = text
        .lines()
        .find(|line| line.starts_with("hash "))
        .expect("a hash");
    let wrong = hash.replace(|c| matches!(c, 'a'..='f'), "0");
    for (old, new) in [(hash, wrong.as_str()), ("snapshot 01", "snapshot 02")] {
        let changed = text.replacen(old, new, 1);
        assert_ne!(changed, text);
        let read = std::panic::catch_unwind(|| replayed("changed", &changed));
        assert!(read.is_err(), "{old}");
    }
}
