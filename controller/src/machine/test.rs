//! What ends a replica, with its reason.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nube_state::command::{InitCluster, Tick};
use nube_state::{Command, Envelope, hash_check};
use nube_types::limits::STATE_HASH_EVERY_ENTRIES as EVERY;
use nube_types::{NetworkId, ProjectId};

use super::*;

struct Replica {
    machine: Machine,
    dir: tempfile::TempDir,
}

impl Replica {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, state) =
            crate::store::open(&dir.path().join("store"), [0; 16]).expect("opened");
        let (publisher, _) = crate::view::channel(state.clone());
        let (recorder, _) = crate::watch::channel(&state);
        let clock = Arc::new(Clock::new(1, state.time));
        let mark = dir.path().join("diverged");
        let machine = Machine::new(state, publisher, store, recorder, clock, mark);
        Self { machine, dir }
    }

    fn apply(&mut self, index: u64, command: Command) {
        let envelope = Envelope {
            request: None,
            at: TimestampMs(1_800_000_000_000),
            actor: "controller/1".to_owned(),
            command,
            source: None,
        };
        let entry = codec::encode_envelope(&envelope);
        self.machine.apply(index, 1, &entry);
        self.machine.applied(index);
    }

    /// The reason with which it ends at an entry.
    fn end(&mut self, entry: &[u8]) -> String {
        let applied = catch_unwind(AssertUnwindSafe(|| self.machine.apply(9_999, 1, entry)));
        let reason = applied.expect_err("it must end");
        reason.downcast_ref::<String>().expect("a text").clone()
    }
}

fn init() -> Command {
    Command::InitCluster(InitCluster {
        cluster_id: [7; 16],
        project: ProjectId(1),
        network: NetworkId(1),
        network_prices: false,
    })
}

fn tick() -> Command {
    Command::Tick(Tick { seen: vec![] })
}

#[test]
fn equal_replicas_go_on_and_one_that_differs_ends_and_says_how() {
    let (mut leader, mut same, mut other) = (Replica::new(), Replica::new(), Replica::new());
    for replica in [&mut leader, &mut same, &mut other] {
        replica.apply(2, init());
    }
    other.machine.state.mac_count += 1;
    for replica in [&mut leader, &mut same, &mut other] {
        replica.apply(EVERY, tick());
    }
    let check = hash_check::due(&leader.machine.state).expect("a mark");
    leader.apply(EVERY + 1, check.clone());
    same.apply(EVERY + 1, check.clone());
    let Command::CheckStateHash(said) = check else {
        panic!("{check:?}");
    };
    let entry = codec::encode_envelope(&Envelope {
        request: None,
        at: TimestampMs(0),
        actor: String::new(),
        command: Command::CheckStateHash(said),
        source: None,
    });
    let reason = other.end(&entry);
    for part in [
        "index 1000",
        "entry 9999",
        &hex::encode(said.hash),
        "cloudctl cluster remove",
    ] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    let written = std::fs::read_to_string(other.dir.path().join("diverged"));
    assert_eq!(written.expect("written").trim_end(), reason);
    assert!(!same.dir.path().join("diverged").exists());
}

#[test]
fn an_entry_of_a_newer_version_ends_the_replica_before_it_changes_anything() {
    let mut replica = Replica::new();
    replica.apply(2, init());
    let hash = codec::state_hash(&replica.machine.state);
    // Envelope without request and source, and command 99 with one empty field.
    let newer = [1, 0x84, 0xf6, 0x00, 0x60, 0x82, 0x18, 99, 0x81, 0x80];
    let reason = replica.end(&newer);
    assert!(
        reason.contains("log entry 9999") && reason.contains("command 99 "),
        "{reason}"
    );
    assert!(reason.contains("newer"), "{reason}");
    assert_eq!(codec::state_hash(&replica.machine.state), hash);
    let reason = replica.end(&[codec::FORMAT + 1, 0x80]);
    assert!(
        reason.contains("format 2") && reason.contains("newer"),
        "{reason}"
    );
    let refused = replica.machine.restore(7, &[codec::FORMAT + 1]);
    assert!(refused.expect_err("a newer snapshot").contains("format 2"));
    assert_eq!(codec::state_hash(&replica.machine.state), hash);
}
