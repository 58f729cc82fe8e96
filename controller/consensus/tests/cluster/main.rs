//! Real drivers, real log directories, a network in memory: the whole crate at once.
//!
//! Lives here: stories of a small cluster, one test each. The cluster itself is `local.rs`.

mod killed;
mod local;
mod seeded;

use bytes::Bytes;
use nube_consensus::{Config, Error, ProposeError, start};

use local::{Cluster, Journal, NoNetwork};

#[tokio::test(flavor = "multi_thread")]
async fn a1_ten_thousand_concurrent_proposals_survive_a_member_that_stops_and_returns() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let leader = cluster.leader().await;
    let follower = cluster.other_than(leader);
    let writer = cluster.handle(leader);
    let mut tasks = Vec::new();
    for task in 0..100 {
        let writer = writer.clone();
        tasks.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0..100 {
                let data = format!("{task}/{number}");
                let applied = writer
                    .propose(Bytes::from(data.clone()))
                    .await
                    .expect("applied");
                assert_eq!(
                    applied.reply, applied.index,
                    "the reply is that of the own entry"
                );
                acknowledged.push((applied.index, data));
            }
            acknowledged
        }));
    }
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    cluster.stop(follower).await;
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.expect("no panic"));
    }
    assert_eq!(acknowledged.len(), 10_000);
    cluster.restart(follower).await;
    let last = writer.read_index().await.expect("read");
    for id in [1, 2, 3] {
        let journal = cluster.journal_at(id, last).await;
        for (index, data) in &acknowledged {
            assert_eq!(journal.get(index).map(Vec::as_slice), Some(data.as_bytes()));
        }
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_a_member_that_missed_the_cut_log_is_restored_by_snapshot() {
    let mut cluster = Cluster::start(3, |config| {
        config.snapshot_every_entries = 400;
        config.keep_entries = 50;
        config.segment_bytes = 64 << 10;
        config.max_entry_bytes = 8 << 10;
    })
    .await;
    let leader = cluster.leader().await;
    let late = cluster.other_than(leader);
    cluster.stop(late).await;
    cluster.write(leader, 3_000).await;
    let cut = cluster
        .handle(leader)
        .snapshot_now()
        .await
        .expect("snapshot");
    assert!(cut > 3_000);
    cluster
        .until(leader, |status| status.first_index > 1_000)
        .await;
    cluster.restart(late).await;
    cluster.write(leader, 100).await;
    let last = cluster.handle(leader).read_index().await.expect("read");
    let journals = [
        cluster.journal_at(leader, last).await,
        cluster.journal_at(late, last).await,
    ];
    assert_eq!(journals[0], journals[1]);
    assert!(cluster.handle(late).status().snapshot_index >= cut);
    // And it stands on its own afterwards.
    cluster.stop(late).await;
    cluster.restart(late).await;
    assert_eq!(cluster.journal_at(late, last).await, journals[0]);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_leadership_moves_on_request_and_reads_on_followers_see_every_write() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let old = cluster.leader().await;
    let next = cluster.other_than(old);
    let index = cluster.write(old, 1).await;
    for id in [1, 2, 3] {
        let read = cluster.handle(id).read_index().await.expect("read");
        assert!(read >= index && cluster.applied(id) >= index);
    }
    let moved = cluster.handle(old).transfer_leader(Some(next)).await;
    assert_eq!(moved, Ok(next));
    let refused = cluster.handle(old).propose(Bytes::from_static(b"x")).await;
    assert_eq!(
        refused.expect_err("not the leader"),
        ProposeError::NotLeader { leader: Some(next) }
    );
    cluster.write(next, 10).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a10_a_stopped_leader_is_replaced_and_its_proposals_end() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let old = cluster.leader().await;
    cluster.write(old, 100).await;
    cluster.cut_off(old);
    // Nobody acknowledges: it ends as unknown when leadership is lost, and must not hang.
    let handle = cluster.handle(old);
    let lost = handle.propose(Bytes::from_static(b"lost")).await;
    assert_eq!(lost.expect_err("no quorum"), ProposeError::UnknownOutcome);
    assert!(
        handle.read_index().await.is_err(),
        "a cut-off member confirms no read"
    );
    let began = std::time::Instant::now();
    let new = cluster.leader_other_than(old).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(3));
    let index = cluster.write(new, 100).await;
    cluster.join_again(old);
    assert!(cluster.journal_at(old, index).await.contains_key(&index));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_a_member_joins_as_learner_becomes_voter_and_another_one_leaves() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    let leader = cluster.leader().await;
    cluster.write(leader, 500).await;
    cluster.add_empty(4).await;
    let handle = cluster.handle(leader);
    assert!(handle.promote(4).await.is_err(), "not a member yet");
    handle.add_learner(4).await.expect("learner");
    cluster
        .until(leader, |s| {
            s.members
                .iter()
                .any(|m| m.id == 4 && m.matched.is_some_and(|matched| matched > 500))
        })
        .await;
    handle.promote(4).await.expect("promote");
    let leaves = cluster.other_than(leader);
    handle.remove(leaves).await.expect("remove");
    assert!(
        handle.remove(leader).await.is_err(),
        "the leader does not remove itself"
    );
    let index = cluster.write(leader, 10).await;
    assert!(cluster.journal_at(4, index).await.contains_key(&index));
    let members: Vec<u64> = handle.status().members.iter().map(|m| m.id).collect();
    assert_eq!(members.len(), 3);
    assert!(!members.contains(&leaves));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_everything_is_there_after_all_members_restarted() {
    let mut cluster = Cluster::start(3, |config| config.snapshot_every_entries = 300).await;
    let leader = cluster.leader().await;
    let index = cluster.write(leader, 1_000).await;
    let before = cluster.journal_at(leader, index).await;
    for round in 0..2 {
        for id in [1, 2, 3] {
            cluster.stop(id).await;
        }
        for id in [1, 2, 3] {
            cluster.restart(id).await;
        }
        let leader = cluster.leader().await;
        assert_eq!(cluster.handle(leader).incarnation(), round + 2);
        let now = cluster.journal_at(leader, index).await;
        assert!(
            before
                .iter()
                .all(|(index, data)| now.get(index) == Some(data))
        );
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_replay_of_a_live_directory_gives_the_live_state() {
    let mut cluster = Cluster::start(1, |config| config.snapshot_every_entries = 200).await;
    let index = cluster.write(1, 1_234).await;
    let expected = cluster.journal_at(1, index).await;
    let background = cluster.handle(1);
    let writing = tokio::spawn(async move {
        while background
            .propose(Bytes::from_static(b"more"))
            .await
            .is_ok()
        {}
    });
    for _ in 0..20 {
        let replay = nube_consensus::replay(cluster.handle(1).dir()).expect("replay");
        let mut journal = Journal::default();
        journal.restore_from(replay.meta.index, &replay.body);
        let mut previous = replay.meta.index;
        for (index, _, data) in replay.entries() {
            assert!(index > previous);
            previous = index;
            journal.entries.insert(index, data.to_vec());
        }
        assert!(expected.iter().all(|(index, data)| {
            *index > replay.commit || journal.entries.get(index) == Some(data)
        }));
    }
    cluster.stop_all().await;
    writing.await.expect("ends with the member");
}

#[tokio::test(flavor = "multi_thread")]
async fn b4_b5_a_directory_that_lost_something_or_belongs_elsewhere_is_refused() {
    let mut cluster = Cluster::start(1, |_| {}).await;
    cluster.write(1, 50).await;
    let config = cluster.config(1);
    let open = |config: Config| start(config, Journal::default(), NoNetwork::new()).err();
    assert!(matches!(open(config.clone()), Some(Error::Locked { .. })));
    cluster.stop_all().await;

    let elsewhere = Config {
        cluster_id: [9; 16],
        ..config.clone()
    };
    assert!(matches!(open(elsewhere), Some(Error::WrongCluster { .. })));
    let other = Config {
        id: 2,
        initial_voters: vec![2],
        ..config.clone()
    };
    assert!(matches!(open(other), Some(Error::WrongMember { .. })));

    let wal = config.dir.join("wal").join("00000000000000000001.wal");
    let good = std::fs::read(&wal).expect("read");
    let mut cut = good.clone();
    cut[4096 + 600..].fill(0);
    std::fs::write(&wal, &cut).expect("write");
    assert!(
        matches!(open(config.clone()), Some(Error::Amnesia { .. })),
        "log cut short"
    );
    std::fs::remove_file(&wal).expect("remove");
    assert!(
        matches!(open(config.clone()), Some(Error::Amnesia { .. })),
        "log gone"
    );
    std::fs::write(&wal, &good).expect("write");

    let superblock = config.dir.join("superblock");
    let good = std::fs::read(&superblock).expect("read");
    std::fs::remove_file(&superblock).expect("remove");
    let error = open(config.clone()).expect("refused");
    assert!(error.identity_is_lost(), "superblock gone: {error}");
    std::fs::write(&superblock, &good).expect("write");
    let handle = start(config, Journal::default(), NoNetwork::new()).expect("whole again");
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_of_a_bad_size_and_those_after_the_end_are_told_apart() {
    let mut cluster = Cluster::start(1, |config| config.max_entry_bytes = 1_000).await;
    let handle = cluster.handle(1);
    for size in [0, 1_001] {
        let refused = handle.propose(Bytes::from(vec![1; size])).await;
        assert_eq!(
            refused,
            Err(ProposeError::BadSize {
                bytes: size,
                limit: 1_000
            })
        );
    }
    cluster.write(1, 1).await;
    cluster.stop_all().await;
    handle.shutdown().await;
    assert_eq!(
        handle.propose(Bytes::from_static(b"x")).await,
        Err(ProposeError::Stopped)
    );
    assert!(handle.status().stopped);
}
