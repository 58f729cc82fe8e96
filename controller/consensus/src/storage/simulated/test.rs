//! The simulated disk keeps its own rules, and a member recovers on it.

use super::*;
use crate::config::Config;
use crate::entry::{EntryKind, HardState, LogEntry};
use crate::storage::{DiskStorage, LogStorage, PersistBatch, Recovered, SnapshotStore};
use rand::{Rng, SeedableRng, rngs::SmallRng};

const DIR: &str = "/member";

fn config() -> Config {
    let mut config = Config::new(1, [7; 16], DIR);
    config.initial_voters = vec![1, 2, 3];
    config.max_entry_bytes = 2 << 10;
    config.segment_bytes = 16 << 10;
    config
}

fn open(disk: &SimulatedDisk) -> Result<(DiskStorage, Recovered, SnapshotStore), crate::Error> {
    DiskStorage::open_on(Arc::new(disk.clone()), &config(), || b"empty".to_vec())
}

fn batch(first: u64, count: u64, commit: u64) -> PersistBatch {
    let entries = (first..first + count).map(|index| LogEntry {
        index,
        term: 2,
        kind: EntryKind::Normal,
        data: vec![index as u8; 300],
    });
    PersistBatch {
        number: first,
        hard_state: Some(HardState {
            term: 2,
            vote: 1,
            commit,
        }),
        entries: entries.collect(),
        must_sync: true,
        ..PersistBatch::default()
    }
}

#[test]
fn a1_synced_entries_survive_every_power_cut_and_unsynced_ones_only_as_a_beginning() {
    for seed in 0..300_u64 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let disk = SimulatedDisk::new();
        let (mut synced, mut written) = (1, 1);
        for _ in 0..6 {
            let (mut storage, recovered, _) =
                open(&disk).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let last = recovered.last_index();
            assert!(
                (synced..=written).contains(&last),
                "seed {seed}: {last} not in {synced}..={written}"
            );
            (synced, written) = (last, last);
            for _ in 0..rng.random_range(0..8_u32) {
                let count = rng.random_range(1..6);
                storage
                    .append(&batch(written + 1, count, synced))
                    .expect("append");
                written += count;
                if rng.random_bool(0.6) {
                    storage.sync().expect("sync");
                    synced = written;
                } else {
                    storage.flush().expect("flush");
                }
            }
            drop(storage);
            disk.power_cut(&mut || rng.random());
        }
    }
}

#[test]
fn b4_forming_is_whole_or_starts_over_wherever_the_power_fails() {
    // The first sync that fails stands for the moment of the cut.
    for seed in 0..200_u64 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let disk = SimulatedDisk::new();
        disk.set_budget_bytes(Some(rng.random_range(0..60_000)));
        let first = open(&disk).map(|opened| opened.1);
        disk.power_cut(&mut || rng.random());
        disk.set_budget_bytes(None);
        let (_, recovered, _) = open(&disk).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        if first.is_ok() {
            assert_eq!(recovered.incarnation, 2, "seed {seed}");
        }
        assert_eq!(recovered.last_index(), 1, "seed {seed}");
    }
}

#[test]
fn b2_a_failed_sync_is_an_error_and_the_next_start_has_what_was_promised() {
    let disk = SimulatedDisk::new();
    let (mut storage, ..) = open(&disk).expect("forms");
    storage.append(&batch(2, 3, 1)).expect("append");
    storage.sync().expect("sync");
    storage.append(&batch(5, 3, 4)).expect("append");
    disk.fail_next_sync();
    let failed = storage.sync();
    assert!(matches!(
        failed,
        Err(crate::Error::Io {
            step: "fdatasync",
            ..
        })
    ));
    drop(storage);
    disk.power_cut(&mut || 0);
    assert_eq!(open(&disk).expect("recovers").1.last_index(), 4);
    assert!(disk.atlas().iter().all(|f| f.kind == FaultKind::FailedSync));
}

#[test]
fn b3_a_full_disk_refuses_and_the_same_call_succeeds_once_there_is_space() {
    let disk = SimulatedDisk::new();
    let (mut storage, ..) = open(&disk).expect("forms");
    disk.set_budget_bytes(Some(disk.used_bytes()));
    let (mut next, mut refused) = (2, None);
    while refused.is_none() {
        let wanted = batch(next, 5, next - 1);
        match storage.append(&wanted).and_then(|()| storage.sync()) {
            Ok(()) => next += 5,
            Err(crate::Error::NoSpace { .. }) => refused = Some(wanted),
            Err(other) => panic!("{other}"),
        }
    }
    disk.set_budget_bytes(None);
    let refused = refused.expect("the loop ends with one");
    storage.append(&refused).expect("there is space again");
    storage.sync().expect("sync");
    drop(storage);
    disk.power_cut(&mut || 0);
    let recovered = open(&disk).expect("recovers").1;
    assert_eq!(recovered.last_index(), next + 4);
}

#[test]
fn b1_rot_lost_and_misdirected_writes_are_never_served() {
    let (mut refused, mut unharmed) = (0, 0);
    for seed in 0..600_u64 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let disk = SimulatedDisk::new();
        let (mut storage, ..) = open(&disk).expect("forms");
        let at = rng.random_range(0..30_u64);
        for turn in 0..30 {
            match (turn == at, seed % 3) {
                (true, 0) => disk.lose_write(rng.random()),
                (true, 1) => disk.misdirect_write(rng.random()),
                (true, _) => drop(disk.rot(&mut || rng.random())),
                _ => {}
            }
            storage
                .append(&batch(2 + turn, 1, 1 + turn))
                .expect("append");
            storage.sync().expect("sync");
        }
        storage.idle().expect("settles the mark");
        drop(storage);
        disk.power_cut(&mut || rng.random());
        match open(&disk) {
            Ok((_, recovered, _)) => {
                unharmed += 1;
                assert_eq!(
                    recovered.last_index(),
                    31,
                    "seed {seed}: {:?}",
                    disk.atlas()
                );
                for entry in recovered.entries.iter().filter(|e| e.index > 1) {
                    assert_eq!(entry.data, vec![entry.index as u8; 300], "seed {seed}");
                }
            }
            Err(_) => {
                refused += 1;
                assert!(
                    !disk.damage().is_empty(),
                    "seed {seed}: refused a sound disk"
                );
            }
        }
    }
    println!("{refused} refused, {unharmed} unharmed");
    assert!(
        refused > 100 && unharmed > 20,
        "{refused} refused, {unharmed} unharmed"
    );
}
