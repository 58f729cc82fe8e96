//! The parts of a data directory against each other.

use super::*;
use crate::entry::{EntryKind, LogEntry};

fn config(dir: &Path) -> Config {
    let mut config = Config::new(1, [1; 16], dir);
    config.initial_voters = vec![1, 2, 3];
    config.segment_bytes = 64 << 10;
    config.max_entry_bytes = 8 << 10;
    config
}

fn open(config: &Config) -> Result<(DiskStorage, Recovered, SnapshotStore), Error> {
    DiskStorage::open(config, || b"empty".to_vec())
}

fn batch(number: u64, from: u64, to: u64) -> PersistBatch {
    let entries = (from..=to)
        .map(|index| LogEntry {
            index,
            term: 1,
            kind: EntryKind::Normal,
            data: vec![3; 500],
        })
        .collect();
    let hard_state = Some(HardState {
        term: 1,
        vote: 1,
        commit: to,
    });
    PersistBatch {
        number,
        hard_state,
        entries,
        must_sync: true,
        snapshot: None,
    }
}

fn write(storage: &mut DiskStorage, batch: &PersistBatch) {
    storage.append(batch).expect("append");
    storage.sync().expect("sync");
}

#[test]
fn a_new_member_has_the_first_membership_and_each_start_its_own_number() {
    let dir = tempfile::tempdir().expect("dir");
    for start in 1..=3 {
        let (_, recovered, snapshots) = open(&config(dir.path())).expect("open");
        assert_eq!(recovered.incarnation, start);
        assert_eq!(recovered.snapshot.membership.voters, vec![1, 2, 3]);
        let path = snapshots.believed_path(&recovered.snapshot);
        assert_eq!(snapshots.load(&path).expect("load").1, b"empty");
    }
}

#[test]
fn a_crash_while_forming_starts_over() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    drop(open(&config).expect("open"));
    // As if it had crashed right before the last step, and with a half-written log.
    let mut superblock = Superblock::open(&Files::real(), &dir.path().join("superblock"))
        .expect("open")
        .expect("there");
    superblock
        .update(|content| content.formed = false)
        .expect("update");
    std::fs::write(dir.path().join("wal/00000000000000000001.wal"), b"half").expect("write");
    let (_, recovered, _) = open(&config).expect("open");
    assert_eq!(recovered.last_index(), GENESIS);
}

#[test]
fn b4_an_older_log_under_the_same_superblock_is_amnesia() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let (mut storage, ..) = open(&config).expect("open");
    write(&mut storage, &batch(1, 2, 5));
    let wal = dir.path().join("wal/00000000000000000001.wal");
    let before_vote = std::fs::read(&wal).expect("read");
    let vote = HardState {
        term: 7,
        vote: 2,
        commit: 5,
    };
    let promise = PersistBatch {
        number: 2,
        hard_state: Some(vote),
        must_sync: true,
        ..PersistBatch::default()
    };
    write(&mut storage, &promise);
    drop(storage);
    let with_vote = std::fs::read(&wal).expect("read");
    // The disk brings back the log from before the vote: two votes in term 7 would be possible.
    std::fs::write(&wal, &before_vote).expect("write");
    assert!(matches!(open(&config), Err(Error::Amnesia { .. })));
    std::fs::write(&wal, &with_vote).expect("write");
    assert_eq!(open(&config).expect("open").1.hard_state, vote);
}

#[test]
fn b1_a_missing_or_damaged_snapshot_under_the_log_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let (storage, recovered, snapshots) = open(&config).expect("open");
    drop(storage);
    let path = snapshots.believed_path(&recovered.snapshot);
    let mut bytes = std::fs::read(&path).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).expect("write");
    assert!(matches!(open(&config), Err(Error::Damaged { .. })));
    std::fs::remove_file(&path).expect("remove");
    assert!(matches!(open(&config), Err(Error::Damaged { .. })));
}

#[test]
fn a5_compaction_gives_up_segments_and_what_is_left_builds_on_the_snapshot() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let (mut storage, recovered, snapshots) = open(&config).expect("open");
    write(&mut storage, &batch(1, 2, 1_000));
    let segments = || {
        Files::real()
            .list(&dir.path().join("wal"), "", ".wal")
            .expect("list")
            .len()
    };
    let before = segments();
    let meta = SnapshotMeta {
        index: 900,
        term: 1,
        ..recovered.snapshot.clone()
    };
    snapshots.write(&meta, b"nine hundred").expect("write");
    // Written, but no log names it: a received one that raft had not accepted, say.
    let stray = SnapshotMeta {
        index: 5_000,
        term: 1,
        ..recovered.snapshot
    };
    snapshots.write(&stray, b"stray").expect("write");
    storage.compact(&meta, 850).expect("compact");
    assert!(
        segments() < before,
        "{before} segments before, {} after",
        segments()
    );
    drop(storage);
    let (_, recovered, snapshots) = open(&config).expect("open");
    assert_eq!(
        (recovered.snapshot.index, recovered.last_index()),
        (900, 1_000)
    );
    assert!(recovered.entries.first().expect("entries").index <= 851);
    assert!(
        snapshots
            .list()
            .expect("list")
            .iter()
            .all(|path| *path <= snapshots.believed_path(&meta))
    );
}

#[test]
fn a_received_snapshot_replaces_the_log_for_good() {
    let dir = tempfile::tempdir().expect("dir");
    let config = config(dir.path());
    let (mut storage, recovered, snapshots) = open(&config).expect("open");
    write(&mut storage, &batch(1, 2, 50));
    let meta = SnapshotMeta {
        index: 400,
        term: 3,
        ..recovered.snapshot
    };
    // As the receiving end leaves it.
    let written = snapshots.write(&meta, b"from the leader").expect("write");
    std::fs::rename(&written.path, snapshots.incoming_path(&meta)).expect("rename");
    let install = PersistBatch {
        number: 2,
        snapshot: Some(meta.clone()),
        hard_state: Some(HardState {
            term: 3,
            vote: 0,
            commit: 400,
        }),
        entries: Vec::new(),
        must_sync: true,
    };
    write(&mut storage, &install);
    drop(storage);
    let (_, recovered, _) = open(&config).expect("open");
    assert_eq!(recovered.snapshot, meta);
    assert!(recovered.entries.is_empty());
}
