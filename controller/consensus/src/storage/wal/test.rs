//! The log against cuts, flips, and a model.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::entry::{EntryKind, Membership};

const OWNER: Owner = Owner {
    cluster_id: [5; 16],
    id: 1,
};
const SEGMENT: u64 = 64 << 10;

fn entry(index: u64, term: u64, bytes: usize) -> LogEntry {
    let data = (0..bytes)
        .map(|at| (index as u8).wrapping_mul(31) ^ (at as u8))
        .collect();
    LogEntry {
        index,
        term,
        kind: EntryKind::Normal,
        data,
    }
}

fn create(dir: &Path) -> Wal {
    let empty = SnapshotMeta::default();
    let mut wal = Wal::create(
        &Files::real(),
        dir,
        OWNER,
        SEGMENT,
        Space::default(),
        &empty,
        HardState::default(),
    )
    .expect("create");
    wal.sync().expect("sync");
    wal
}

fn open(dir: &Path, mark: Option<Mark>) -> Result<(Wal, LogState), Error> {
    Wal::open(&Files::real(), dir, OWNER, SEGMENT, Space::default(), mark)
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    segment::list(&Files::real(), dir)
        .expect("list")
        .into_iter()
        .map(|n| segment::path_of(dir, n))
        .collect()
}

#[test]
fn what_was_appended_reads_back_across_segments_and_overwrites() {
    let dir = tempfile::tempdir().expect("dir");
    let mut wal = create(dir.path());
    for index in 1..=300 {
        wal.append(&[entry(index, 1, 900)]).expect("append");
    }
    wal.append(&[entry(250, 2, 10), entry(251, 2, 10)])
        .expect("overwrite");
    wal.set_hard_state(HardState {
        term: 2,
        vote: 3,
        commit: 249,
    })
    .expect("hard state");
    let mark = wal.sync().expect("sync");
    assert!(segment_files(dir.path()).len() > 3);
    drop(wal);
    let (_, state) = open(dir.path(), Some(mark)).expect("open");
    assert_eq!(state.last_index, 251);
    assert_eq!(
        state.hard_state,
        HardState {
            term: 2,
            vote: 3,
            commit: 249
        }
    );
    for (found, index) in state.entries.iter().zip(1..) {
        let expected = if index < 250 {
            entry(index, 1, 900)
        } else {
            entry(index, 2, 10)
        };
        assert_eq!(*found, expected);
    }
}

/// A log with a synced part and an unsynced tail, as bytes of its only segment.
struct Scene {
    dir: tempfile::TempDir,
    path: PathBuf,
    bytes: Vec<u8>,
    synced: Mark,
    end: u64,
}

fn scene() -> Scene {
    let dir = tempfile::tempdir().expect("dir");
    let mut wal = create(dir.path());
    for index in 1..=5 {
        wal.append(&[entry(index, 1, 40)]).expect("append");
        wal.sync().expect("sync");
    }
    let synced = wal.end;
    wal.set_hard_state(HardState {
        term: 1,
        vote: 1,
        commit: 5,
    })
    .expect("hard state");
    wal.append(&[entry(6, 1, 33), entry(7, 1, 64), entry(8, 1, 7)])
        .expect("append");
    wal.flush().expect("flush");
    let end = wal.end.offset;
    drop(wal);
    let path = segment::path_of(dir.path(), 1);
    let bytes = std::fs::read(&path).expect("read");
    Scene {
        dir,
        path,
        bytes,
        synced,
        end,
    }
}

/// Every entry read must be one that was written.
fn assert_true_prefix(state: &LogState, at_least: u64) {
    assert!(
        state.last_index >= at_least && state.last_index <= 8,
        "{}",
        state.last_index
    );
    let sizes = [40, 40, 40, 40, 40, 33, 64, 7];
    for (found, index) in state.entries.iter().zip(1_u64..) {
        assert_eq!(*found, entry(index, 1, sizes[index as usize - 1]));
    }
}

#[test]
fn b1_b4_cut_at_every_byte_above_the_mark_is_a_torn_tail_and_below_it_is_amnesia() {
    let scene = scene();
    for cut in RECORDS_AT..scene.end {
        let mut torn = scene.bytes.clone();
        torn[cut as usize..].fill(0);
        std::fs::write(&scene.path, &torn).expect("write");
        match open(scene.dir.path(), Some(scene.synced)) {
            Ok((_, state)) => {
                // A zeroed byte at the very end of the synced part may have been zero before.
                assert!(cut >= scene.synced.offset || torn == zero_tail_of(&scene, cut));
                assert_true_prefix(&state, 5);
            }
            Err(Error::Amnesia { .. }) => assert!(cut < scene.synced.offset, "cut {cut}"),
            Err(error) => panic!("cut {cut}: {error}"),
        }
    }
}

/// The bytes with everything from the mark on zeroed: equal to a cut below it only where the
/// bytes in between are zeros anyway (padding).
fn zero_tail_of(scene: &Scene, cut: u64) -> Vec<u8> {
    let mut bytes = scene.bytes.clone();
    bytes[(scene.synced.offset.max(cut)) as usize..].fill(0);
    bytes
}

#[test]
fn b1_every_flipped_bit_is_cut_as_tail_or_refused_and_never_a_wrong_entry() {
    let scene = scene();
    let (mut cut_off, mut refused) = (0, 0);
    for at in RECORDS_AT as usize..scene.end as usize {
        for bit in [0, 3, 7] {
            let mut bad = scene.bytes.clone();
            bad[at] ^= 1 << bit;
            std::fs::write(&scene.path, &bad).expect("write");
            match open(scene.dir.path(), Some(scene.synced)) {
                Ok((_, state)) => {
                    assert!(
                        at as u64 >= scene.synced.offset,
                        "flip at {at} went unnoticed"
                    );
                    assert_true_prefix(&state, 5);
                    cut_off += 1;
                }
                Err(Error::Amnesia { .. } | Error::Damaged { .. }) => {
                    assert!((at as u64) < scene.synced.offset);
                    refused += 1;
                }
                Err(error) => panic!("flip at {at}: {error}"),
            }
        }
    }
    assert!(cut_off > 0 && refused > 0);
}

#[test]
fn b1_without_a_mark_a_later_sync_group_still_proves_damage() {
    let scene = scene();
    // Group of entry 3 lies before those of 4 and 5: flip in the middle of the synced part.
    let middle = RECORDS_AT as usize + (scene.synced.offset - RECORDS_AT) as usize / 2;
    let mut bad = scene.bytes.clone();
    bad[middle] ^= 1;
    std::fs::write(&scene.path, &bad).expect("write");
    assert!(matches!(
        open(scene.dir.path(), None),
        Err(Error::Damaged { .. })
    ));
}

#[test]
fn b1_damage_in_any_but_the_last_segment_is_never_cut() {
    let dir = tempfile::tempdir().expect("dir");
    let mut wal = create(dir.path());
    for index in 1..=200 {
        wal.append(&[entry(index, 1, 900)]).expect("append");
    }
    wal.sync().expect("sync");
    drop(wal);
    let first = &segment_files(dir.path())[0];
    let good = std::fs::read(first).expect("read");
    for at in (RECORDS_AT as usize..60_000)
        .step_by(997)
        .chain([0, 20, 50])
    {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(first, &bad).expect("write");
        assert!(
            matches!(open(dir.path(), None), Err(Error::Damaged { .. })),
            "flip at {at}"
        );
    }
    std::fs::write(first, &good).expect("write");
    std::fs::remove_file(&segment_files(dir.path())[1]).expect("remove");
    assert!(
        matches!(open(dir.path(), None), Err(Error::Damaged { .. })),
        "missing segment"
    );
}

#[test]
fn b5_a_log_of_another_member_or_cluster_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    drop(create(dir.path()));
    let open_as = |owner| {
        Wal::open(
            &Files::real(),
            dir.path(),
            owner,
            SEGMENT,
            Space::default(),
            None,
        )
        .err()
    };
    let other_member = Owner { id: 2, ..OWNER };
    assert!(matches!(
        open_as(other_member),
        Some(Error::WrongMember { .. })
    ));
    let other_cluster = Owner {
        cluster_id: [6; 16],
        ..OWNER
    };
    assert!(matches!(
        open_as(other_cluster),
        Some(Error::WrongCluster { .. })
    ));
}

#[test]
fn stale_bytes_behind_a_cut_tail_never_come_back() {
    let scene = scene();
    // The first record of the tail is torn; intact records of the same write lie behind it.
    let mut torn = scene.bytes.clone();
    torn[scene.synced.offset as usize + 20] ^= 1;
    std::fs::write(&scene.path, &torn).expect("write");
    let (mut wal, state) = open(scene.dir.path(), Some(scene.synced)).expect("torn tail");
    assert_eq!(state.last_index, 5);
    wal.begin_life(2).expect("life");
    // The very same records again, but only the first two of them.
    wal.set_hard_state(HardState {
        term: 1,
        vote: 1,
        commit: 5,
    })
    .expect("hard state");
    wal.append(&[entry(6, 1, 33)]).expect("append");
    let mark = wal.sync().expect("sync");
    drop(wal);
    let (_, state) = open(scene.dir.path(), Some(mark)).expect("open");
    assert_eq!((state.last_index, state.incarnation), (6, 2));
}

#[test]
fn a_torn_batch_keeps_its_commit_index_inside_the_log() {
    let dir = tempfile::tempdir().expect("dir");
    let mut wal = create(dir.path());
    wal.append(&[entry(1, 1, 8)]).expect("append");
    let mark = wal.sync().expect("sync");
    wal.set_hard_state(HardState {
        term: 4,
        vote: 2,
        commit: 3,
    })
    .expect("hard state");
    let kept = wal.end.offset;
    wal.append(&[entry(2, 4, 8), entry(3, 4, 8)])
        .expect("append");
    wal.flush().expect("flush");
    drop(wal);
    let path = segment::path_of(dir.path(), 1);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[kept as usize..].fill(0);
    std::fs::write(&path, &bytes).expect("write");
    let (_, state) = open(dir.path(), Some(mark)).expect("open");
    assert_eq!(
        state.hard_state,
        HardState {
            term: 4,
            vote: 2,
            commit: 1
        }
    );
}

#[test]
fn b3_on_a_full_disk_the_log_waits_says_so_and_goes_on_when_there_is_space() {
    let dir = tempfile::tempdir().expect("dir");
    let space = Space::default();
    let empty = SnapshotMeta::default();
    let hard_state = HardState::default();
    let mut wal = Wal::create(
        &Files::real(),
        dir.path(),
        OWNER,
        SEGMENT,
        space.clone(),
        &empty,
        hard_state,
    )
    .expect("create");
    space.pretend_full.store(true, Ordering::Relaxed);
    let writer = std::thread::spawn(move || {
        for index in 1..=200 {
            wal.append(&[entry(index, 1, 900)]).expect("append");
        }
        wal.sync().expect("sync")
    });
    while !space.full.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!writer.is_finished());
    space.pretend_full.store(false, Ordering::Relaxed);
    let mark = writer.join().expect("no panic");
    assert!(!space.full.load(Ordering::Relaxed));
    assert_eq!(
        open(dir.path(), Some(mark)).expect("open").1.last_index,
        200
    );
}

#[derive(Clone, Debug)]
enum Step {
    Append {
        entries: u64,
        bytes: usize,
    },
    Overwrite {
        back: u64,
        bytes: usize,
    },
    HardState,
    Snapshot {
        back: u64,
    },
    Install {
        ahead: u64,
    },
    Reopen,
    /// Reopen after losing what was written since the last sync.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..40_u64, 0..3000_usize).prop_map(|(entries, bytes)| Step::Append { entries, bytes }),
        2 => (1..30_u64, 0..500_usize).prop_map(|(back, bytes)| Step::Overwrite { back, bytes }),
        2 => Just(Step::HardState),
        2 => (0..20_u64).prop_map(|back| Step::Snapshot { back }),
        1 => (0..50_u64).prop_map(|ahead| Step::Install { ahead }),
        2 => Just(Step::Reopen),
        2 => Just(Step::Crash),
    ]
}

/// What the log must say: the whole truth without files.
#[derive(Clone, Default)]
struct Model {
    entries: Vec<LogEntry>,
    hard_state: HardState,
    snapshot: SnapshotMeta,
    last: u64,
    term: u64,
}

impl Model {
    fn push(&mut self, entries: &[LogEntry]) {
        self.entries.retain(|e| e.index < entries[0].index);
        self.entries.extend_from_slice(entries);
        self.last = entries[entries.len() - 1].index;
    }

    fn check(&self, state: &LogState) {
        assert_eq!(state.hard_state, self.hard_state);
        assert_eq!(state.snapshot, self.snapshot);
        assert_eq!(state.last_index, self.last);
        // Compaction drops whole segments: more than the model's entries may still be there.
        let found: Vec<_> = state
            .entries
            .iter()
            .filter(|e| e.index > self.snapshot.index)
            .cloned()
            .collect();
        let expected: Vec<_> = self
            .entries
            .iter()
            .filter(|e| e.index > self.snapshot.index)
            .cloned()
            .collect();
        assert_eq!(found, expected);
    }
}

fn meta(index: u64, term: u64) -> SnapshotMeta {
    SnapshotMeta {
        index,
        term,
        membership: Membership::of_voters([1, 2, 3]),
    }
}

fn take(step: &Step, wal: &mut Wal, model: &mut Model) {
    match *step {
        Step::Append { entries, bytes } => {
            let new: Vec<_> = (model.last + 1..=model.last + entries)
                .map(|index| entry(index, model.term, bytes))
                .collect();
            wal.append(&new).expect("append");
            model.push(&new);
        }
        Step::Overwrite { back, bytes } => {
            let from = (model.last + 1)
                .saturating_sub(back)
                .max(model.hard_state.commit + 1);
            model.term += 1;
            let new = [entry(from, model.term, bytes)];
            wal.append(&new).expect("append");
            model.push(&new);
        }
        Step::HardState => {
            model.hard_state = HardState {
                term: model.term,
                vote: model.last % 3,
                commit: model.last,
            };
            wal.set_hard_state(model.hard_state).expect("hard state");
        }
        Step::Snapshot { back } => {
            let index = model.hard_state.commit.saturating_sub(back);
            if index > model.snapshot.index {
                model.snapshot = meta(index, model.term);
                wal.mark_snapshot(&model.snapshot).expect("mark");
                wal.sync().expect("sync");
                wal.compact(index).expect("compact");
            }
        }
        Step::Install { ahead } => {
            let index = model.last + ahead;
            model.snapshot = meta(index, model.term);
            model.entries.clear();
            model.last = index;
            wal.install_snapshot(&model.snapshot).expect("install");
            model.hard_state.commit = index;
            model.hard_state.term = model.term;
            wal.set_hard_state(model.hard_state).expect("hard state");
        }
        Step::Reopen | Step::Crash => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn b1_a5_the_log_equals_its_model_over_any_sequence_of_steps(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let dir = tempfile::tempdir().expect("dir");
        let mut wal = create(dir.path());
        let mut model = Model { term: 1, ..Model::default() };
        let (mut durable, mut mark) = (model.clone(), wal.end);
        let mut life = 0;
        for (at, step) in steps.iter().enumerate() {
            take(step, &mut wal, &mut model);
            let crash = matches!(step, Step::Crash);
            if crash {
                // Nothing after the last sync reaches the disk.
                wal.flush().expect("flush");
                let end = wal.end;
                drop(wal);
                if end.segment == mark.segment {
                    let path = segment::path_of(dir.path(), end.segment);
                    let mut bytes = std::fs::read(&path).expect("read");
                    bytes[mark.offset as usize..end.offset as usize].fill(0);
                    std::fs::write(&path, &bytes).expect("write");
                    model = durable.clone();
                }
            } else if matches!(step, Step::Reopen) {
                mark = wal.sync().expect("sync");
                drop(wal);
            } else {
                if at % 2 == 0 || matches!(step, Step::Snapshot { .. }) {
                    mark = wal.sync().expect("sync");
                    durable = model.clone();
                }
                continue;
            }
            let (reopened, state) = open(dir.path(), Some(mark)).expect("open");
            // After a crash in a newer segment all of the unsynced part survived.
            model.hard_state.commit = model.hard_state.commit.clamp(model.snapshot.index, model.last);
            let last_term = model.entries.last().map_or(model.snapshot.term, |e| e.term);
            if model.hard_state.term < last_term {
                model.hard_state.term = last_term;
                model.hard_state.vote = 0;
            }
            model.check(&state);
            wal = reopened;
            life += 1;
            wal.begin_life(life).expect("life");
            wal.set_hard_state(model.hard_state).expect("hard state");
            mark = wal.sync().expect("sync");
            durable = model.clone();
        }
    }
}
