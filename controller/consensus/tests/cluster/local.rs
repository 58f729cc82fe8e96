//! A cluster in one process: journals as state machines, handles wired to each other.
//!
//! Lives here: the test double of the transport, and verbs for stories. May not: assertions about
//! a story.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use nube_consensus::{
    Config, Handle, OutgoingSnapshot, Sent, StateMachine, Status, Transport, start,
};

/// What readers see: the position of the state, and its entries.
type Published = Arc<Mutex<(u64, BTreeMap<u64, Vec<u8>>)>>;

/// Keeps every entry it was given; the reply is its index.
#[derive(Default)]
pub struct Journal {
    pub entries: BTreeMap<u64, Vec<u8>>,
    applied: u64,
    published: Published,
}

impl Journal {
    pub fn restore_from(&mut self, index: u64, body: &[u8]) {
        self.entries.clear();
        let mut rest = body;
        while let Some((head, tail)) = rest.split_at_checked(16) {
            let number =
                |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight"));
            let (data, after) = tail.split_at(number(8) as usize);
            self.entries.insert(number(0), data.to_vec());
            rest = after;
        }
        self.applied = index;
        let mut published = self.published.lock().expect("sound");
        *published = (index, self.entries.clone());
    }
}

impl StateMachine for Journal {
    type Reply = u64;

    fn apply(&mut self, index: u64, _term: u64, data: &[u8]) -> u64 {
        assert!(index > self.applied, "each index once, in order");
        self.applied = index;
        self.entries.insert(index, data.to_vec());
        self.published
            .lock()
            .expect("sound")
            .1
            .insert(index, data.to_vec());
        index
    }

    fn applied(&mut self, index: u64) {
        assert!(index >= self.applied);
        self.published.lock().expect("sound").0 = index;
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let entries = self.entries.clone();
        Box::new(move || {
            let mut body = Vec::new();
            for (index, data) in entries {
                body.extend_from_slice(&index.to_le_bytes());
                body.extend_from_slice(&(data.len() as u64).to_le_bytes());
                body.extend_from_slice(&data);
            }
            body
        })
    }

    fn restore(&mut self, index: u64, body: &[u8]) -> Result<(), String> {
        self.restore_from(index, body);
        Ok(())
    }

    fn applied_index(&self) -> u64 {
        self.applied
    }
}

/// A transport to nowhere.
pub struct NoNetwork;

impl NoNetwork {
    pub fn new() -> Arc<Self> {
        Arc::new(Self)
    }
}

impl Transport for NoNetwork {
    fn send(&self, _to: u64, _messages: Vec<Bytes>) -> Sent {
        Sent::Dropped
    }

    fn send_snapshot(&self, _to: u64, snapshot: OutgoingSnapshot) {
        snapshot.finish(false);
    }
}

#[derive(Default)]
struct Wires {
    handles: BTreeMap<u64, Handle<u64>>,
    cut_off: BTreeSet<u64>,
}

/// One member's end of the network.
struct Local {
    id: u64,
    wires: Arc<Mutex<Wires>>,
    runtime: tokio::runtime::Handle,
}

impl Local {
    fn peer(&self, to: u64) -> Option<Handle<u64>> {
        let wires = self.wires.lock().expect("sound");
        let cut = wires.cut_off.contains(&self.id) || wires.cut_off.contains(&to);
        wires.handles.get(&to).filter(|_| !cut).cloned()
    }
}

impl Transport for Local {
    fn send(&self, to: u64, messages: Vec<Bytes>) -> Sent {
        let Some(peer) = self.peer(to) else {
            return Sent::Dropped;
        };
        match peer.step_peer(self.id, messages) {
            0 => Sent::Queued,
            _ => Sent::Dropped,
        }
    }

    fn send_snapshot(&self, to: u64, mut snapshot: OutgoingSnapshot) {
        let Some(peer) = self.peer(to) else { return };
        let from = self.id;
        self.runtime.spawn(async move {
            let Ok(mut receiver) = peer.receive_snapshot(from, snapshot.preamble()) else {
                return;
            };
            while let Ok(Some(chunk)) = snapshot.next_chunk() {
                receiver.chunk(&chunk).expect("chunk");
            }
            let delivered = receiver.finish().await.is_ok();
            snapshot.finish(delivered);
        });
    }
}

struct Place {
    config: Config,
    published: Published,
}

pub struct Cluster {
    dir: tempfile::TempDir,
    wires: Arc<Mutex<Wires>>,
    places: BTreeMap<u64, Place>,
    tune: fn(&mut Config),
}

impl Cluster {
    pub async fn start(size: u64, tune: fn(&mut Config)) -> Self {
        Self::start_prepared(size, tune, |_| {}).await
    }

    /// The same, after `prepare` was there for each member's settings.
    pub async fn start_prepared(
        size: u64,
        tune: fn(&mut Config),
        prepare: impl Fn(&Config),
    ) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let wires = Arc::default();
        let mut cluster = Self {
            dir,
            wires,
            places: BTreeMap::new(),
            tune,
        };
        for id in 1..=size {
            cluster.place(id, (1..=size).collect());
            prepare(&cluster.places[&id].config);
        }
        for id in 1..=size {
            cluster.restart(id).await;
        }
        cluster.leader().await;
        cluster
    }

    fn place(&mut self, id: u64, voters: Vec<u64>) {
        let mut config = Config::new(id, [7; 16], self.dir.path().join(id.to_string()));
        config.initial_voters = voters;
        config.segment_bytes = 4 << 20;
        (self.tune)(&mut config);
        self.places.insert(
            id,
            Place {
                config,
                published: Arc::default(),
            },
        );
    }

    pub async fn add_empty(&mut self, id: u64) {
        self.place(id, Vec::new());
        self.restart(id).await;
    }

    pub fn config(&self, id: u64) -> Config {
        self.places[&id].config.clone()
    }

    pub async fn restart(&mut self, id: u64) {
        let place = &self.places[&id];
        let journal = Journal {
            published: Arc::clone(&place.published),
            ..Journal::default()
        };
        let runtime = tokio::runtime::Handle::current();
        let transport = Arc::new(Local {
            id,
            wires: Arc::clone(&self.wires),
            runtime,
        });
        let config = place.config.clone();
        let started = tokio::task::spawn_blocking(move || start(config, journal, transport));
        let handle = started.await.expect("no panic").expect("starts");
        self.wires.lock().expect("sound").handles.insert(id, handle);
    }

    pub async fn stop(&mut self, id: u64) {
        let handle = self.wires.lock().expect("sound").handles.remove(&id);
        handle.expect("runs").shutdown().await;
    }

    pub async fn stop_all(&mut self) {
        let ids: Vec<u64> = self
            .wires
            .lock()
            .expect("sound")
            .handles
            .keys()
            .copied()
            .collect();
        for id in ids {
            self.stop(id).await;
        }
    }

    pub fn cut_off(&self, id: u64) {
        self.wires.lock().expect("sound").cut_off.insert(id);
    }

    pub fn join_again(&self, id: u64) {
        self.wires.lock().expect("sound").cut_off.remove(&id);
    }

    pub fn handle(&self, id: u64) -> Handle<u64> {
        self.wires.lock().expect("sound").handles[&id].clone()
    }

    pub fn other_than(&self, id: u64) -> u64 {
        *self
            .places
            .keys()
            .find(|other| **other != id)
            .expect("another member")
    }

    pub async fn leader(&self) -> u64 {
        self.leader_other_than(0).await
    }

    pub async fn leader_other_than(&self, not: u64) -> u64 {
        for _ in 0..1_000 {
            let handles: Vec<_> = self
                .wires
                .lock()
                .expect("sound")
                .handles
                .values()
                .cloned()
                .collect();
            let leads = handles
                .iter()
                .map(Handle::status)
                .find(|s| s.leader_ready && s.id != not);
            if let Some(status) = leads {
                return status.id;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no leader within ten seconds");
    }

    pub async fn until(&self, id: u64, holds: impl Fn(&Status) -> bool) {
        let mut watch = self.handle(id).watch_status();
        let seen =
            tokio::time::timeout(Duration::from_secs(20), watch.wait_for(|s| holds(s))).await;
        seen.expect("in time").expect("the member runs");
    }

    pub fn applied(&self, id: u64) -> u64 {
        self.places[&id].published.lock().expect("sound").0
    }

    /// The member's journal once it stands at `index`.
    pub async fn journal_at(&self, id: u64, index: u64) -> BTreeMap<u64, Vec<u8>> {
        for _ in 0..2_000 {
            let (applied, entries) = self.places[&id].published.lock().expect("sound").clone();
            if applied >= index {
                return entries.into_iter().filter(|(at, _)| *at <= index).collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "member {id} does not reach {index}: {:?}",
            self.handle(id).status()
        );
    }

    /// Writes `count` entries through the leader, all at once; returns the highest index.
    pub async fn write(&self, leader: u64, count: u64) -> u64 {
        let mut tasks = Vec::new();
        for number in 0..count {
            let handle = self.handle(leader);
            let data = Bytes::from(format!("{number} {}", "x".repeat(100)));
            tasks.push(tokio::spawn(async move { handle.propose(data).await }));
        }
        let mut last = 0;
        for task in tasks {
            last = last.max(task.await.expect("no panic").expect("applied").index);
        }
        last
    }
}
