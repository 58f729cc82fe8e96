//! Commits per second of three members on this disk, beside the disk's own sync rate.
//!
//! `cargo run --release -p nube-consensus --example commit_rate [dir]`. Lives here: a measurement,
//! for the record; not a test, for its figures belong to the machine.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nube_consensus::{Config, Handle, OutgoingSnapshot, Sent, StateMachine, Transport, start};

const RUN: Duration = Duration::from_secs(3);
const ENTRY_BYTES: usize = 512;

/// Counts; what is measured is the log.
#[derive(Default)]
struct Counter {
    applied: u64,
}

impl StateMachine for Counter {
    type Reply = ();

    fn apply(&mut self, index: u64, _term: u64, _data: &[u8]) {
        self.applied = index;
    }

    fn applied(&mut self, _index: u64) {}

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let applied = self.applied;
        Box::new(move || applied.to_le_bytes().to_vec())
    }

    fn restore(&mut self, index: u64, _body: &[u8]) -> Result<(), String> {
        self.applied = index;
        Ok(())
    }

    fn applied_index(&self) -> u64 {
        self.applied
    }
}

type Handles = Arc<Mutex<BTreeMap<u64, Handle<()>>>>;

struct Local {
    id: u64,
    handles: Handles,
}

impl Transport for Local {
    fn send(&self, to: u64, messages: Vec<Bytes>) -> Sent {
        let peer = self.handles.lock().expect("sound").get(&to).cloned();
        match peer.map(|peer| peer.step_peer(self.id, messages)) {
            Some(0) => Sent::Queued,
            _ => Sent::Dropped,
        }
    }

    fn send_snapshot(&self, _to: u64, snapshot: OutgoingSnapshot) {
        snapshot.finish(false);
    }
}

#[tokio::main]
async fn main() {
    let parent = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let dir = tempfile::tempdir_in(parent).expect("a directory");
    println!("fdatasync of one writer: {:.0}/s", sync_rate(dir.path()));

    let handles: Handles = Arc::default();
    for id in 1..=3 {
        let mut config = Config::new(id, [1; 16], dir.path().join(id.to_string()));
        config.initial_voters = vec![1, 2, 3];
        let transport = Arc::new(Local {
            id,
            handles: Arc::clone(&handles),
        });
        let handle = start(config, Counter::default(), transport).expect("starts");
        handles.lock().expect("sound").insert(id, handle);
    }
    let all: Vec<Handle<()>> = handles.lock().expect("sound").values().cloned().collect();
    let leader = loop {
        if let Some(leader) = all.iter().find(|handle| handle.status().leader_ready) {
            break leader.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    for outstanding in [1, 16, 256, 2048] {
        let (rate, median) = commit_rate(&leader, outstanding).await;
        println!("{outstanding:>5} outstanding: {rate:>8.0} commits/s, median {median:?}");
    }
    for outstanding in [1, 256] {
        println!(
            "{outstanding:>5} readers: {:>8.0} reads/s",
            read_rate(&leader, outstanding).await
        );
    }
    for handle in all {
        handle.shutdown().await;
    }
}

async fn commit_rate(leader: &Handle<()>, outstanding: usize) -> (f64, Duration) {
    let data = Bytes::from(vec![7; ENTRY_BYTES]);
    let began = Instant::now();
    let tasks: Vec<_> = (0..outstanding)
        .map(|_| {
            let (leader, data) = (leader.clone(), data.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while began.elapsed() < RUN {
                    let sent = Instant::now();
                    leader.propose(data.clone()).await.expect("applied");
                    times.push(sent.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("no panic"));
    }
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    (rate, times[times.len() / 2])
}

async fn read_rate(leader: &Handle<()>, outstanding: usize) -> f64 {
    let began = Instant::now();
    let tasks: Vec<_> = (0..outstanding)
        .map(|_| {
            let leader = leader.clone();
            tokio::spawn(async move {
                let mut count = 0_u64;
                while began.elapsed() < RUN {
                    leader.read_index().await.expect("confirmed");
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await.expect("no panic");
    }
    count as f64 / began.elapsed().as_secs_f64()
}

/// The floor: overwriting allocated blocks, one sync each, as the log does.
fn sync_rate(dir: &Path) -> f64 {
    let file = std::fs::File::create(dir.join("floor")).expect("create");
    file.write_all_at(&vec![0; 16 << 20], 0).expect("fill");
    file.sync_all().expect("sync");
    let (began, mut count) = (Instant::now(), 0_u64);
    while began.elapsed() < Duration::from_secs(2) {
        file.write_all_at(&[1; ENTRY_BYTES], (count * ENTRY_BYTES as u64) % (16 << 20))
            .expect("write");
        file.sync_data().expect("sync");
        count += 1;
    }
    count as f64 / began.elapsed().as_secs_f64()
}
