//! The state graph: every state is reached by a story, every transitional one
//! has a deadline and an exit that ticks alone reach, and delete is accepted
//! everywhere.

mod fixture;

use fixture::{Cell, NETWORK, launch_one, observed, wish};
use nube_state::command::Wish;
use nube_state::instance::life;
use nube_state::{InstanceState, Network};
use nube_types::limits::DELETED_KEPT_MS;
use nube_types::{InstanceId, NodeId};

const NODE: NodeId = NodeId(1);
const ID: InstanceId = InstanceId(1);

const ALL: [InstanceState; 8] = [
    InstanceState::Pending,
    InstanceState::Starting,
    InstanceState::Running,
    InstanceState::Stopping,
    InstanceState::Stopped,
    InstanceState::Deleting,
    InstanceState::Deleted,
    InstanceState::Failed,
];

/// A cell whose only instance is in this state. The match is complete: a new
/// state does not compile before it has a story here.
fn cell_in(state: InstanceState) -> Cell {
    cell_in_with(state, launch_one(ID, NODE))
}

fn cell_in_with(state: InstanceState, launch: nube_state::Command) -> Cell {
    let mut cell = Cell::with_nodes(&[NODE]);
    cell.done(launch);
    let mut see = |state, generation| cell.report(NODE, vec![observed(ID, state, generation)]);
    match state {
        InstanceState::Pending => {}
        InstanceState::Starting => see(InstanceState::Starting, 0),
        InstanceState::Running => see(InstanceState::Running, 1),
        InstanceState::Failed => see(InstanceState::Failed, 0),
        InstanceState::Stopping | InstanceState::Stopped => {
            see(InstanceState::Running, 1);
            cell.done(wish(ID, Wish::Stop, false));
            if state == InstanceState::Stopped {
                cell.report(NODE, vec![observed(ID, InstanceState::Stopped, 2)]);
            }
        }
        InstanceState::Deleting | InstanceState::Deleted => {
            cell.done(wish(ID, Wish::Delete, false));
            if state == InstanceState::Deleted {
                cell.report(NODE, vec![observed(ID, InstanceState::Deleted, 2)]);
            }
        }
    }
    assert_eq!(cell.instance(ID).state, state);
    cell
}

#[test]
fn transitional_states_and_no_others_have_a_deadline() {
    for state in ALL {
        assert_eq!(
            state.is_transitional(),
            life::deadline_ms(state).is_some(),
            "{state:?}"
        );
        let cell = cell_in(state);
        assert_eq!(
            cell.state.derived.transitional.contains(&ID),
            state.is_transitional()
        );
    }
}

#[test]
fn ticks_alone_leave_every_transitional_state_at_its_deadline_and_not_before() {
    for state in ALL {
        let Some(deadline) = life::deadline_ms(state) else {
            continue;
        };
        let mut cell = cell_in(state);
        cell.pass(deadline - 1);
        assert_eq!(cell.instance(ID).state, state, "a millisecond early");
        cell.pass(1);
        let exit = cell.instance(ID).state;
        assert!(!exit.is_transitional(), "{state:?} became {exit:?}");
        let told = exit == InstanceState::Deleted || !cell.instance(ID).reason.is_empty();
        assert!(told, "{state:?} became {exit:?} without a word");
    }
}

#[test]
fn ticks_leave_the_other_states_alone() {
    for state in [
        InstanceState::Running,
        InstanceState::Stopped,
        InstanceState::Failed,
    ] {
        let mut cell = cell_in(state);
        let before = cell.instance(ID).clone();
        cell.pass(100 * 24 * 3_600_000);
        assert_eq!(cell.instance(ID), &before);
    }
}

#[test]
fn delete_is_accepted_in_every_state_and_ends_by_ticks_alone() {
    for state in ALL {
        for force in [false, true] {
            let mut cell = cell_in(state);
            cell.done(wish(ID, Wish::Delete, force));
            cell.done(wish(ID, Wish::Delete, force));
            let deadline = life::deadline_ms(InstanceState::Deleting).expect("deletes must end");
            cell.pass(deadline);
            assert_eq!(
                cell.instance(ID).state,
                InstanceState::Deleted,
                "from {state:?}"
            );
            assert!(cell.state.usage.iter().all(|interval| !interval.is_open()));
        }
    }
}

#[test]
fn delete_of_a_silent_host_ends_at_once_in_every_state() {
    for state in ALL {
        let mut cell = cell_in(state);
        cell.done(fixture::reachable(NODE, false, fixture::at_ms(0)));
        cell.done(wish(ID, Wish::Delete, false));
        let instance = cell.instance(ID);
        assert_eq!(instance.state, InstanceState::Deleted, "from {state:?}");
        // Only a confirmed delete gives the place back.
        assert_eq!(instance.host_owes_cleanup, state != InstanceState::Deleted);
        assert_eq!(instance.holds_place(), state != InstanceState::Deleted);
        cell.pass(2 * DELETED_KEPT_MS);
        assert_eq!(
            cell.state.instances.is_empty(),
            state == InstanceState::Deleted
        );
    }
}

/// Nobody can tell what is so on a silent host: its deadlines wait, and begin
/// anew when it is back. Deletes do not wait (above).
#[test]
fn a_silent_host_stops_deadlines_and_its_return_starts_them_anew() {
    let mut checked = 0;
    for state in ALL {
        let Some(deadline) = life::deadline_ms(state) else {
            continue;
        };
        if state == InstanceState::Deleting {
            continue;
        }
        let mut cell = cell_in(state);
        cell.pass(deadline / 2);
        cell.done(fixture::reachable(NODE, false, fixture::at_ms(0)));
        cell.pass(10 * deadline);
        assert_eq!(cell.instance(ID).state, state, "while it is silent");
        assert!(cell.state.derived.transitional.contains(&ID));
        let now = cell.now_ms;
        cell.done(fixture::reachable(NODE, true, fixture::at_ms(now)));
        cell.pass(deadline - 1);
        assert_eq!(cell.instance(ID).state, state, "a millisecond early");
        cell.pass(1);
        assert!(!cell.instance(ID).state.is_transitional(), "{state:?}");
        checked += 1;
    }
    assert_eq!(checked, 3, "pending, starting, stopping");
}

/// The list of states is the enum's: what any event leads to is in it, and each
/// is told apart by its word.
#[test]
fn no_event_leads_out_of_the_list_of_states() {
    let words: std::collections::BTreeSet<_> = ALL.iter().map(|state| state.word()).collect();
    assert_eq!(words.len(), ALL.len());
    let mut reached = std::collections::BTreeSet::new();
    for state in ALL {
        for seen in ALL {
            let mut cell = cell_in(state);
            let generation = cell.instance(ID).generation;
            cell.report(NODE, vec![observed(ID, seen, generation)]);
            reached.insert(cell.instance(ID).state.word());
        }
        for wished in [Wish::Start, Wish::Stop, Wish::Reboot, Wish::Delete] {
            let mut cell = cell_in(state);
            cell.apply(None, wish(ID, wished, false));
            reached.insert(cell.instance(ID).state.word());
        }
    }
    assert!(reached.is_subset(&words), "{reached:?}");
    assert_eq!(
        reached, words,
        "every state is reached by one event from another"
    );
}

#[test]
fn every_state_but_deleted_has_a_way_back_to_running() {
    for state in ALL {
        let mut cell = cell_in(state);
        let outcome = cell.apply(None, wish(ID, Wish::Start, false));
        let ends = matches!(state, InstanceState::Deleting | InstanceState::Deleted);
        let refused = matches!(outcome, nube_state::Outcome::Refused(_));
        assert_eq!(refused, ends, "{state:?}");
        if !ends {
            let generation = cell.instance(ID).generation;
            cell.report(NODE, vec![observed(ID, InstanceState::Running, generation)]);
            assert_eq!(
                cell.instance(ID).state,
                InstanceState::Running,
                "from {state:?}"
            );
        }
    }
}

#[test]
fn addresses_go_round_and_wait_before_they_are_given_again() {
    let mut cell = Cell::with_nodes(&[NODE]);
    // Three usable addresses: .4, .5, .6.
    let small = cell
        .state
        .networks
        .get(&NETWORK)
        .expect("made at the start")
        .clone();
    cell.state.networks.put(Network {
        prefix_length: 29,
        ..small.clone()
    });
    let given = |cell: &Cell, id| cell.instance(InstanceId(id)).address - small.base;
    for id in 1..=3 {
        cell.done(launch_one(InstanceId(id), NODE));
        assert_eq!(u64::from(given(&cell, id)), id + 3);
    }
    let full = cell.apply(None, launch_one(InstanceId(4), NODE));
    assert_eq!(full, nube_state::Refusal::NoAddress.into());
    for id in [2, 1] {
        cell.done(wish(InstanceId(id), Wish::Delete, false));
        cell.report(
            NODE,
            vec![observed(InstanceId(id), InstanceState::Deleted, 2)],
        );
    }
    let waiting = cell.apply(None, launch_one(InstanceId(4), NODE));
    assert_eq!(waiting, nube_state::Refusal::NoAddress.into());
    // No tick forgot the quarantine: its end counts, not the sweep.
    cell.now_ms += 60_000;
    let three = [5, 6, 7].map(|id| fixture::new_instance(InstanceId(id), &format!("x-{id}"), NODE));
    let hash = nube_state::codec::state_hash(&cell.state);
    let many = nube_state::Command::LaunchInstances(fixture::launch(three.to_vec()));
    assert_eq!(
        cell.apply(None, many),
        nube_state::Refusal::NoAddress.into()
    );
    assert_eq!(
        nube_state::codec::state_hash(&cell.state),
        hash,
        "none is taken when one lacks"
    );
    cell.done(launch_one(InstanceId(4), NODE));
    cell.done(launch_one(InstanceId(5), NODE));
    assert_eq!(
        (given(&cell, 4), given(&cell, 5)),
        (4, 5),
        "behind the last one given"
    );
}

/// A host is lost in every state of a replaceable instance, and its end is asked
/// for before, between and after the replacement: it always ends, billing too, and
/// the lost host alone gives its place back.
#[test]
fn a_lost_host_leaves_no_state_without_an_end() {
    let other = NodeId(2);
    for state in ALL {
        for delete_at in 0..4 {
            let mut cell = cell_in_with(state, fixture::launch_replaceable(ID, NODE));
            cell.done(fixture::node(other, 1));
            let delete = |cell: &mut Cell, now: u32| {
                if now == delete_at {
                    cell.done(wish(ID, Wish::Delete, false));
                }
            };
            let ended = cell.instance(ID).desired == nube_state::DesiredState::Deleted;
            cell.now_ms += 60_000;
            cell.done(fixture::reachable(NODE, false, fixture::at_ms(1_000)));
            delete(&mut cell, 0);
            cell.done(fixture::fence(NODE, 1));
            assert!(cell.state.usage.iter().all(|interval| !interval.is_open()));
            delete(&mut cell, 1);
            let outcome = cell.apply(None, fixture::replace(ID, NODE, 1, other));
            let stays = ended || delete_at < 2;
            let refused = matches!(outcome, nube_state::Outcome::Refused(_));
            assert_eq!(refused, stays, "{state:?} {delete_at}");
            delete(&mut cell, 2);
            // The host has cleared away what left, or never had it.
            cell.done(fixture::node(NODE, 2));
            let epoch_of_host = 1;
            let mut gone = observed(ID, InstanceState::Deleted, 99);
            gone.epoch = nube_types::PlacementEpoch(epoch_of_host);
            let report = fixture::report(NODE, 2, 1, vec![gone]);
            cell.done(nube_state::Command::ReportInstances(report));
            assert!(cell.state.evictions.is_empty(), "{state:?} {delete_at}");
            assert_eq!(
                cell.state.node_use(NODE),
                nube_state::node::NodeUse::default()
            );
            delete(&mut cell, 3);
            cell.pass(life::deadline_ms(InstanceState::Deleting).expect("deletes must end"));
            assert_eq!(cell.instance(ID).state, InstanceState::Deleted);
            assert!(cell.state.usage.iter().all(|interval| !interval.is_open()));
        }
    }
}

/// It may have waited for room longer than a start may take.
#[test]
fn a_replaced_instance_has_the_whole_time_on_its_new_host() {
    let other = NodeId(2);
    let deadline = life::deadline_ms(InstanceState::Pending).expect("starts must end");
    let running = fixture::launch_replaceable(ID, NODE);
    let mut cell = cell_in_with(InstanceState::Running, running);
    cell.done(fixture::node(other, 1));
    cell.done(fixture::reachable(NODE, false, fixture::at_ms(0)));
    cell.done(fixture::fence(NODE, 1));
    cell.pass(3 * deadline);
    assert!(
        !cell.instance(ID).reason.is_empty(),
        "it says what it waits for"
    );
    cell.done(fixture::replace(ID, NODE, 1, other));
    cell.pass(deadline - 1);
    assert_eq!(cell.instance(ID).state, InstanceState::Pending);
    cell.pass(1);
    assert_eq!(cell.instance(ID).state, InstanceState::Failed);
}
