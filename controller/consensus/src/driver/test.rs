//! The driver on a disk that is full.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::transport::{OutgoingSnapshot, Sent};

#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Reply = ();
    fn apply(&mut self, index: u64, _term: u64, _data: &[u8]) {
        self.0 = index;
    }
    fn applied(&mut self, _index: u64) {}
    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        Box::new(Vec::new)
    }
    fn restore(&mut self, index: u64, _body: &[u8]) -> Result<(), String> {
        self.0 = index;
        Ok(())
    }
    fn applied_index(&self) -> u64 {
        self.0
    }
}

#[derive(Clone, Default)]
struct Wires(Arc<Mutex<BTreeMap<u64, Handle<()>>>>);

struct Wire(u64, Wires);

impl Transport for Wire {
    fn send(&self, to: u64, messages: Vec<Bytes>) -> Sent {
        let peer = self.1.0.lock().expect("sound").get(&to).cloned();
        match peer.map(|peer| peer.step_peer(self.0, messages)) {
            Some(0) => Sent::Queued,
            _ => Sent::Dropped,
        }
    }
    fn send_snapshot(&self, _to: u64, snapshot: OutgoingSnapshot) {
        snapshot.finish(false);
    }
}

async fn cluster(
    dir: &std::path::Path,
    size: u64,
) -> (Wires, BTreeMap<u64, Space>, BTreeMap<u64, Handle<()>>) {
    let wires = Wires::default();
    let mut spaces = BTreeMap::new();
    for id in 1..=size {
        let mut config = Config::new(id, [1; 16], dir.join(id.to_string()));
        config.initial_voters = (1..=size).collect();
        config.segment_bytes = 64 << 10;
        config.max_entry_bytes = 8 << 10;
        let space = Space::default();
        spaces.insert(id, space.clone());
        let wire = Arc::new(Wire(id, wires.clone()));
        let handle = start_with(config, Counter::default(), wire, space).expect("starts");
        wires.0.lock().expect("sound").insert(id, handle);
    }
    let handles = wires.0.lock().expect("sound").clone();
    (wires, spaces, handles)
}

async fn leader_other_than(handles: &BTreeMap<u64, Handle<()>>, not: u64) -> u64 {
    for _ in 0..1_000 {
        let leads = |handle: &&Handle<()>| handle.status().leader_ready && handle.id() != not;
        if let Some(leader) = handles.values().find(leads) {
            return leader.id();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no leader within ten seconds");
}

fn large() -> Bytes {
    Bytes::from(vec![5; 8 << 10])
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_a_full_disk_refuses_writes_serves_reads_and_recovers_without_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let (_, spaces, handles) = cluster(dir.path(), 1).await;
    let member = handles[&1].clone();
    leader_other_than(&handles, 0).await;
    let seen = member.propose(large()).await.expect("applied").index;
    spaces[&1].pretend_full.store(true, Ordering::Relaxed);
    // The segment fills up; the proposal that needs the next one waits.
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let member = member.clone();
            tokio::spawn(async move { member.propose(large()).await })
        })
        .collect();
    while !spaces[&1].full.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        member.propose(large()).await,
        Err(ProposeError::StorageFull)
    );
    assert!(member.read_index().await.expect("reads go on") >= seen);
    spaces[&1].pretend_full.store(false, Ordering::Relaxed);
    for write in waiting {
        // Those that came late were refused; none is lost or hangs.
        let result = write.await.expect("no panic");
        assert!(
            matches!(result, Ok(_) | Err(ProposeError::StorageFull)),
            "{result:?}"
        );
    }
    while spaces[&1].full.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    member.propose(large()).await.expect("writes again");
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_a_leader_with_a_full_disk_hands_over_and_catches_up_later() {
    let dir = tempfile::tempdir().expect("dir");
    let (wires, spaces, handles) = cluster(dir.path(), 3).await;
    let old = leader_other_than(&handles, 0).await;
    spaces[&old].pretend_full.store(true, Ordering::Relaxed);
    let member = handles[&old].clone();
    let filling = tokio::spawn(async move { while member.propose(large()).await.is_ok() {} });
    let new = leader_other_than(&handles, old).await;
    filling.await.expect("ends");
    let mut last = 0;
    for _ in 0..20 {
        last = handles[&new]
            .propose(large())
            .await
            .expect("a healthy majority goes on")
            .index;
    }
    spaces[&old].pretend_full.store(false, Ordering::Relaxed);
    let mut status = handles[&old].watch_status();
    let caught_up = status.wait_for(|status| status.applied >= last);
    tokio::time::timeout(Duration::from_secs(10), caught_up)
        .await
        .expect("in time")
        .expect("it runs");
    wires.0.lock().expect("sound").clear();
    for handle in handles.values() {
        handle.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_a_member_stops_though_its_disk_is_full() {
    let dir = tempfile::tempdir().expect("dir");
    let (_, spaces, handles) = cluster(dir.path(), 1).await;
    let member = handles[&1].clone();
    leader_other_than(&handles, 0).await;
    spaces[&1].pretend_full.store(true, Ordering::Relaxed);
    let waits = member.clone();
    let waiting = tokio::spawn(async move {
        let mut result = Ok(());
        while result.is_ok() {
            result = waits.propose(large()).await.map(|_| ());
        }
        result
    });
    while !spaces[&1].full.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::timeout(Duration::from_secs(5), member.shutdown())
        .await
        .expect("stops in time");
    assert_eq!(
        waiting.await.expect("no panic"),
        Err(ProposeError::UnknownOutcome)
    );
}
