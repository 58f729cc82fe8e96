//! A4: replicas compare their states through the log.

mod fixture;

use fixture::Cell;
use nube_state::hash_check::{self, CheckStateHash};
use nube_state::{Command, Envelope, State, apply, codec};
use nube_types::NodeId;
use nube_types::limits::STATE_HASH_EVERY_ENTRIES as EVERY;

const NODE: NodeId = NodeId(1);

fn at(state: &State, index: u64, command: Command) -> (u64, Envelope) {
    let envelope = Envelope {
        request: None,
        at: state.time,
        actor: "controller/1".to_owned(),
        command,
        source: None,
    };
    (index, envelope)
}

fn apply_all(state: &mut State, entries: &[(u64, Envelope)]) {
    for (index, envelope) in entries {
        apply(state, *index, envelope);
    }
}

/// Two replicas after a small history, and an entry behind the first mark.
fn pair() -> (State, State) {
    let leader = Cell::with_nodes(&[NODE]).state;
    let mut follower = leader.clone();
    follower.take_changes();
    (leader, follower)
}

fn check_of(state: &State) -> CheckStateHash {
    match hash_check::due(state) {
        Some(Command::CheckStateHash(check)) => check,
        other => panic!("{other:?}"),
    }
}

#[test]
fn equal_replicas_go_on_and_one_check_does_not_cause_the_next() {
    let (mut leader, mut follower) = pair();
    assert_eq!(hash_check::due(&leader), None, "no mark yet");
    let mut index = EVERY - 1;
    let mut checks = 0;
    while index < 10 * EVERY + 5 {
        // A cell in which nothing but ticks happens.
        let command = match hash_check::due(&leader) {
            Some(check) => {
                checks += 1;
                check
            }
            None => fixture::tick(),
        };
        let entry = [at(&leader, index, command)];
        apply_all(&mut leader, &entry);
        apply_all(&mut follower, &entry);
        index += 1;
    }
    assert_eq!(checks, 10);
    assert_eq!(
        (leader.marks.diverged, follower.marks.diverged),
        (None, None)
    );
}

#[test]
fn a_replica_that_differs_is_found_in_whatever_it_differs() {
    type Spoil = fn(&mut State);
    let spoil: [(&str, Spoil); 5] = [
        ("a record", |state| {
            state.nodes.update(&NODE, |node| node.drained = true);
        }),
        ("a singleton", |state| state.mac_count += 1),
        ("time", |state| state.time.0 += 1),
        ("a member", |state| {
            let members = fixture::members(&[1, 2, 3]);
            let (index, envelope) = at(state, state.index + 1, members);
            apply(state, index, &envelope);
        }),
        ("which cell it is", |state| {
            state.cluster.as_mut().expect("initialised").id = [9; 16];
        }),
    ];
    for (what, spoil) in spoil {
        let (mut leader, mut follower) = pair();
        spoil(&mut follower);
        let entries = [at(&leader, EVERY + 3, fixture::tick())];
        apply_all(&mut leader, &entries);
        apply_all(&mut follower, &entries);
        let check = check_of(&leader);
        assert_eq!(check.index, EVERY);
        let entries = [at(&leader, EVERY + 4, Command::CheckStateHash(check))];
        apply_all(&mut leader, &entries);
        apply_all(&mut follower, &entries);
        assert_eq!(leader.marks.diverged, None);
        let found = follower.marks.diverged.expect(what);
        assert_eq!((found.index, found.entry), (EVERY, EVERY + 4));
        assert_eq!(found.leader, check.hash);
        assert_ne!(found.own, found.leader);
    }
}

#[test]
fn what_happened_after_the_mark_does_not_matter() {
    let (mut leader, mut follower) = pair();
    let entries = [at(&leader, EVERY, fixture::tick())];
    apply_all(&mut leader, &entries);
    let check = check_of(&leader);
    let mut entries = entries.to_vec();
    for index in 1..50 {
        entries.push(at(
            &leader,
            EVERY + index,
            fixture::principal(nube_types::PrincipalId(index), &format!("p{index}")),
        ));
    }
    entries.push(at(&leader, EVERY + 60, Command::CheckStateHash(check)));
    apply_all(&mut leader, &entries[1..]);
    apply_all(&mut follower, &entries);
    assert_eq!(leader.marks.diverged, None);
    assert_eq!(follower.marks.diverged, None);
    assert_ne!(codec::replica_hash(&leader), check.hash);
}

#[test]
fn a_replica_that_was_restored_in_between_cannot_compare() {
    let (mut leader, follower) = pair();
    let entry = at(&leader, EVERY, fixture::tick());
    apply_all(&mut leader, &[entry]);
    let check = check_of(&leader);
    // Restored behind the mark: neither its own hash nor the sender's is known.
    let bytes = codec::encode_snapshot(&leader);
    let mut restored = codec::decode_snapshot(&bytes).expect("own bytes");
    assert_eq!(hash_check::due(&restored), None);
    restored.mac_count += 1;
    let entry = at(&leader, EVERY + 1, Command::CheckStateHash(check));
    apply_all(&mut restored, std::slice::from_ref(&entry));
    assert_eq!(restored.marks.diverged, None);
    // At the next mark it is compared again.
    let entries = [
        at(&leader, EVERY + 1, fixture::tick()),
        at(&leader, 2 * EVERY, fixture::tick()),
    ];
    apply_all(&mut leader, &entries);
    apply_all(&mut restored, &entries[1..]);
    let check = check_of(&leader);
    assert_eq!(check.index, 2 * EVERY);
    let entry = at(&leader, 2 * EVERY + 1, Command::CheckStateHash(check));
    apply_all(&mut restored, std::slice::from_ref(&entry));
    assert!(restored.marks.diverged.is_some());
    drop(follower);
}
