//! A member killed with -9 again and again, from outside.
//!
//! Lives here: the child that writes and the parent that kills. May not: power loss; the page
//! cache survives a kill (lost caches are in the simulation and in the log's own tests).

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use nube_consensus::{Config, replay, start};

use crate::local::{Journal, NoNetwork};

const CHILD_DIR: &str = "NUBE_TEST_KILLED_DIR";
const ROUNDS: u64 = 5;

fn config(dir: &std::path::Path) -> Config {
    let mut config = Config::new(1, [4; 16], dir);
    config.initial_voters = vec![1];
    config.segment_bytes = 64 << 10;
    config.max_entry_bytes = 8 << 10;
    config.snapshot_every_entries = 300;
    config.keep_entries = 20;
    config
}

/// Writes until it is killed, and prints what was acknowledged. Only does so as a child.
#[tokio::test(flavor = "multi_thread")]
async fn child_writes_until_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let handle = start(config(dir.as_ref()), Journal::default(), NoNetwork::new()).expect("starts");
    let mut status = handle.watch_status();
    status
        .wait_for(|status| status.leader_ready)
        .await
        .expect("leads");
    let mut writers = Vec::new();
    for writer in 0..8 {
        let handle = handle.clone();
        writers.push(tokio::spawn(async move {
            for number in 0.. {
                let data = format!("{}-{writer}-{number}", handle.incarnation());
                let applied = handle
                    .propose(Bytes::from(data.clone()))
                    .await
                    .expect("applied");
                // One write per line: a killed process leaves no half of two.
                let line = format!("ack {} {data}\n", applied.index);
                std::io::stdout()
                    .lock()
                    .write_all(line.as_bytes())
                    .expect("printed");
            }
        }));
    }
    for writer in writers {
        writer.await.expect("no panic");
    }
}

#[test]
fn a1_a_member_killed_at_any_moment_has_all_it_acknowledged() {
    let dir = tempfile::tempdir().expect("dir");
    let mut acknowledged: Vec<(u64, Vec<u8>)> = Vec::new();
    for round in 0..ROUNDS {
        let exe = std::env::current_exe().expect("own path");
        let mut child = Command::new(exe)
            .args([
                "--exact",
                "killed::child_writes_until_killed",
                "--nocapture",
            ])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs");
        let out = child.stdout.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines
                .filter_map(|line| acknowledgement(&line))
                .collect::<Vec<_>>()
        });
        std::thread::sleep(Duration::from_millis(1_500 + 137 * round));
        child.kill().expect("killed");
        child.wait().expect("ended");
        let new = reader.join().expect("read");
        assert!(!new.is_empty(), "round {round} acknowledged nothing");
        acknowledged.extend(new);
        check(dir.path(), &acknowledged);
    }
}

/// `None` also for the last line when the kill cut it.
fn acknowledgement(line: &str) -> Option<(u64, Vec<u8>)> {
    let mut words = line.split(' ');
    if words.next() != Some("ack") {
        return None;
    }
    Some((
        words.next()?.parse().ok()?,
        words.next()?.as_bytes().to_vec(),
    ))
}

fn check(dir: &std::path::Path, acknowledged: &[(u64, Vec<u8>)]) {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    let handle = start(config(dir), Journal::default(), NoNetwork::new()).expect("recovers");
    runtime.block_on(async {
        // Its first own entry commits all before it.
        let mut status = handle.watch_status();
        status
            .wait_for(|status| status.leader_ready)
            .await
            .expect("leads");
        handle.read_index().await.expect("read");
        handle.snapshot_now().await.expect("snapshot");
        handle.shutdown().await;
    });
    let replay = replay(dir).expect("replay");
    let mut journal = Journal::default();
    journal.restore_from(replay.meta.index, &replay.body);
    let cut_line = acknowledged.len().saturating_sub(1);
    for (at, (index, data)) in acknowledged.iter().enumerate() {
        let found = journal
            .entries
            .get(index)
            .map(Vec::as_slice)
            .unwrap_or_default();
        // The very last line may have lost its end.
        let same = found == data || (at == cut_line && found.starts_with(data));
        assert!(same, "acknowledged at {index}, but not there");
    }
}
