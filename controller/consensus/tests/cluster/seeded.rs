//! Clusters that begin with the state of another one: the way back from a backup.

use bytes::Bytes;
use nube_consensus::{Config, Error, StateMachine, replay, seed, start};

use super::local::{Cluster, Journal, NoNetwork};

const INDEX: u64 = 4_711;
const TERM: u64 = 1_009;

/// What a journal that saw three entries says of itself.
fn body() -> Vec<u8> {
    let mut journal = Journal::default();
    for (index, data) in [(7, "a"), (9, "b"), (INDEX, "c")] {
        journal.apply(index, 3, data.as_bytes());
    }
    journal.snapshot()()
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_seeded_members_are_equal_and_go_on_from_the_seed() {
    let plant = |config: &Config| seed(config, INDEX, TERM, body()).expect("an empty directory");
    let mut cluster = Cluster::start_prepared(3, |_| {}, plant).await;
    let leader = cluster.leader().await;
    assert!(cluster.handle(leader).status().term > TERM);
    let index = cluster.write(leader, 100).await;
    assert!(index > INDEX);
    let journals = [
        cluster.journal_at(1, index).await,
        cluster.journal_at(2, index).await,
        cluster.journal_at(3, index).await,
    ];
    assert_eq!(journals[0].len(), 103);
    assert_eq!(journals[0][&INDEX], b"c");
    assert!(journals.iter().all(|journal| *journal == journals[0]));
    // It survives on its own: by its disk after a stop, and on a member without one by snapshot.
    cluster.stop(leader).await;
    cluster.restart(leader).await;
    let leader = cluster.leader().await;
    cluster.add_empty(4).await;
    cluster.handle(leader).add_learner(4).await.expect("added");
    assert_eq!(cluster.journal_at(4, index).await, journals[0]);
    cluster.stop_all().await;
}

#[test]
fn a_directory_that_held_a_member_is_never_seeded_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = Config::new(1, [7; 16], dir.path());
    let plant = |config: &Config| seed(config, INDEX, TERM, body());
    assert!(matches!(plant(&config), Err(Error::Config(_))), "no voters");
    config.initial_voters = vec![1];
    assert!(seed(&config, 0, TERM, body()).is_err());
    assert!(seed(&config, INDEX, 0, body()).is_err());
    plant(&config).expect("the first time");
    let before = replay(dir.path()).expect("readable");
    assert_eq!((before.meta.index, before.last), (INDEX, (TERM, INDEX)));
    assert!(matches!(plant(&config), Err(Error::Config(_))), "twice");
    std::fs::remove_file(dir.path().join("superblock")).expect("removed");
    assert!(matches!(plant(&config), Err(Error::Amnesia { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn b5_a_seed_belongs_to_one_member_of_one_cluster() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = Config::new(1, [7; 16], dir.path());
    config.initial_voters = vec![1];
    seed(&config, INDEX, TERM, body()).expect("an empty directory");
    let open = |config: Config| start(config, Journal::default(), NoNetwork::new());
    let old = Config {
        cluster_id: [6; 16],
        ..config.clone()
    };
    assert!(matches!(open(old).err(), Some(Error::WrongCluster { .. })));
    let other = Config {
        id: 2,
        initial_voters: vec![2],
        ..config.clone()
    };
    assert!(matches!(open(other).err(), Some(Error::WrongMember { .. })));
    open(config).expect("its own").shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_what_a_majority_acknowledged_is_in_the_whole_log_of_the_survivor() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let leader = cluster.leader().await;
    let handle = cluster.handle(leader);
    for number in 0..50 {
        let data = Bytes::from(format!("{number}"));
        handle.propose(data).await.expect("acknowledged");
    }
    let dir = handle.dir().to_owned();
    // All at once: the last commit index is in no file yet.
    cluster.stop_all().await;
    let replay = replay(&dir).expect("readable");
    let (whole, committed) = (replay.all().count(), replay.entries().count());
    assert_eq!(whole, 50);
    assert!(committed <= whole && replay.last.1 >= replay.commit);
}
