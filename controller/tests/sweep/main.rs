//! Every file of a controller, damaged in every way a disk knows: a start either
//! refuses and says why, or knows exactly what was known before (B1, B4, B5).
//!
//! `directory` makes a real directory with real code; `damage` is what is done to
//! it. Nothing here may end in a third way: a start that serves something else.

mod damage;
mod directory;

use std::collections::BTreeMap;

use damage::{Damage, Kind, damages};
use directory::{Directory, Known};

/// By kind of file and damage: how often a start refused, and how often it knew
/// all that was known.
#[derive(Default)]
struct Outcomes(BTreeMap<(Kind, &'static str), [u32; 2]>);

impl Outcomes {
    fn judge(&mut self, sound: &Known, damage: &Damage, found: Result<Known, String>) {
        let outcome = match found {
            Err(reason) => {
                let name = damage.path.file_name().unwrap_or_default();
                let named =
                    reason.contains(&*name.to_string_lossy()) || damage.names_itself(&reason);
                assert!(named, "{damage:?} is refused without its name: {reason}");
                0
            }
            Ok(known) => {
                assert!(
                    known.is(sound),
                    "{damage:?} is served: {known:?}, not {sound:?}"
                );
                1
            }
        };
        let key = (damage.kind, damage.how.word());
        self.0.entry(key).or_default()[outcome] += 1;
    }

    fn print(&self) {
        for ((kind, how), [refused, same]) in &self.0 {
            println!("{kind:?}, {how}: {refused} refused, {same} harmless or repaired, 0 wrong");
        }
    }
}

fn sweep(kinds: &[Kind]) {
    let directory = Directory::make();
    let mut outcomes = Outcomes::default();
    for kind in kinds {
        let sound = directory.recover(&Damage::none());
        let sound = sound.expect("it is sound");
        assert_eq!(sound.index, directory.last_index);
        for damage in damages(&directory, *kind) {
            outcomes.judge(&sound, &damage, directory.recover(&damage));
        }
    }
    outcomes.print();
}

#[test]
fn b1_b4_b5_no_damaged_log_superblock_or_snapshot_is_served() {
    sweep(&[Kind::Segment, Kind::Superblock, Kind::Snapshot, Kind::Spare]);
}

#[test]
fn b1_b5_no_damaged_store_is_served() {
    sweep(&[Kind::Store]);
}

#[test]
fn b1_no_damaged_identity_is_used() {
    sweep(&[Kind::Identity]);
}

#[test]
fn b4_a_directory_that_lost_its_log_is_not_a_new_member() {
    let directory = Directory::make();
    let lost = directory.recover(&Damage::whole_log());
    assert!(lost.is_err(), "{lost:?}");
    let older = directory.recover(&Damage::older_log());
    let reason = older.expect_err("the store knows more");
    assert!(reason.contains("the log ends at"), "{reason}");
}

#[test]
fn b5_a_store_of_another_cluster_is_rebuilt_and_not_served() {
    let directory = Directory::make();
    let sound = directory.recover(&Damage::none());
    let sound = sound.expect("it is sound");
    let found = directory.recover(&Damage::foreign_store());
    assert_eq!(found.expect("log and snapshot are there"), sound);
}
