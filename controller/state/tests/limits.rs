//! Counts that are bounded in the entry that would exceed them.

mod fixture;

use fixture::{Cell, KEY, PROJECT, launch, launch_one, new_instance, request, ssh_key};
use nube_state::command::Wish;
use nube_state::request::RememberedRequest;
use nube_state::{Command, InstanceState, Outcome, apply, codec};
use nube_types::limits::{
    INSTANCES_PER_LAUNCH_MAX, REQUESTS_REMEMBERED_MAX, SSH_KEYS_PER_INSTANCE_MAX,
    SSH_KEYS_PER_PROJECT_MAX,
};
use nube_types::{InstanceId, Mib, NodeId, RequestId, SshKeyId};

const NODE: NodeId = NodeId(1);

fn large_cell() -> Cell {
    let mut cell = Cell::with_nodes(&[]);
    let mut facts = fixture::facts(NODE, 1);
    (facts.vcpus, facts.memory, facts.disk) = (1_000, Mib(1 << 20), Mib(1 << 20));
    cell.done(Command::RegisterNode(facts));
    cell
}

fn batch(count: u64) -> Command {
    let new = |id: u64| new_instance(InstanceId(id), &format!("web-{id}"), NODE);
    Command::LaunchInstances(launch((1..=count).map(new).collect()))
}

fn is_refused(outcome: &Outcome, text: &str) {
    let Outcome::Refused(refusal) = outcome else {
        panic!("{outcome:?} is no refusal");
    };
    assert!(refusal.to_string().contains(text), "{refusal}");
}

#[test]
fn a_launch_makes_one_to_a_hundred() {
    let mut cell = large_cell();
    let most = u64::from(INSTANCES_PER_LAUNCH_MAX);
    is_refused(&cell.apply(None, batch(0)), "1 to 100");
    is_refused(&cell.apply(None, batch(most + 1)), "1 to 100");
    let Outcome::Instances(ids) = cell.done(batch(most)) else {
        panic!("a launch answers ids");
    };
    assert_eq!(ids.len() as u64, most);
}

#[test]
fn keys_are_counted_per_project_and_per_instance() {
    let mut cell = large_cell();
    let mut state = cell.state.clone();
    let mut import = |id: u64| {
        let command = ssh_key(SshKeyId(id), &format!("k-{id}"), &format!("m{id}"));
        let envelope = nube_state::Envelope {
            source: None,
            request: None,
            at: fixture::at_ms(0),
            actor: String::new(),
            command,
        };
        let index = state.index + 1;
        apply(&mut state, index, &envelope)
    };
    for id in 2..=SSH_KEYS_PER_PROJECT_MAX as u64 {
        assert_eq!(import(id), Outcome::SshKey(SshKeyId(id)));
    }
    is_refused(&import(5_000), "at most 1000 ssh keys per project");

    let mut command = launch(vec![new_instance(InstanceId(1), "web", NODE)]);
    command.ssh_keys = vec![KEY; SSH_KEYS_PER_INSTANCE_MAX + 1];
    is_refused(
        &cell.apply(None, Command::LaunchInstances(command.clone())),
        "at most 16",
    );
    command.ssh_keys.pop();
    cell.done(Command::LaunchInstances(command));
}

#[test]
fn the_oldest_request_is_forgotten_first() {
    let mut cell = large_cell();
    let mut remembered = request(0, 0);
    for index in 0..REQUESTS_REMEMBERED_MAX as u64 {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&index.to_be_bytes());
        remembered.id = RequestId(id);
        let row = RememberedRequest {
            request: remembered,
            outcome: Outcome::Done,
            at: fixture::at_ms(0),
            index: index + 1_000,
        };
        cell.state.requests.put(row);
    }
    // As after a restart: the order is found in the rows.
    let mut state =
        codec::decode_snapshot(&codec::encode_snapshot(&cell.state)).expect("own bytes");
    state.index = 1_000_000;
    let mut first = remembered;
    first.id = RequestId([0; 16]);
    assert!(state.requests.get(&(PROJECT, first.id)).is_some());
    let envelope = nube_state::Envelope {
        source: None,
        request: Some(request(255, 1)),
        at: fixture::at_ms(0),
        actor: String::new(),
        command: fixture::tick(),
    };
    apply(&mut state, 1_000_001, &envelope);
    assert_eq!(state.requests.len(), REQUESTS_REMEMBERED_MAX);
    assert!(
        state.requests.get(&(PROJECT, first.id)).is_none(),
        "the oldest went"
    );
    assert!(
        state.requests.get(&(PROJECT, remembered.id)).is_some(),
        "the newest stayed"
    );
    assert!(
        state
            .requests
            .get(&(PROJECT, RequestId([255; 16])))
            .is_some()
    );
}

#[test]
fn two_answers_about_one_instance_in_one_report_are_one() {
    let mut cell = large_cell();
    let id = InstanceId(1);
    cell.done(launch_one(id, NODE));
    let twice = [InstanceState::Running, InstanceState::Failed];
    cell.report(
        NODE,
        twice.map(|state| fixture::observed(id, state, 1)).to_vec(),
    );
    assert_eq!(cell.instance(id).state, InstanceState::Running);
    assert_eq!(
        (cell.state.transitions.len(), cell.state.usage.len()),
        (1, 1)
    );
}

#[test]
fn an_id_that_was_billed_is_never_used_again() {
    let mut cell = large_cell();
    let id = InstanceId(1);
    cell.done(launch_one(id, NODE));
    cell.report(NODE, vec![fixture::observed(id, InstanceState::Running, 1)]);
    cell.done(fixture::wish(id, Wish::Delete, false));
    cell.report(NODE, vec![fixture::observed(id, InstanceState::Deleted, 2)]);
    cell.pass(2 * 3_600_000);
    assert!(cell.state.instances.is_empty(), "the record is gone");
    let ledger: Vec<_> = cell.state.usage.iter().cloned().collect();
    is_refused(&cell.apply(None, launch_one(id, NODE)), "exists");
    assert_eq!(cell.state.usage.iter().cloned().collect::<Vec<_>>(), ledger);
}

#[test]
fn an_entry_is_never_applied_twice() {
    let cell = large_cell();
    let envelope = nube_state::Envelope {
        source: None,
        request: None,
        at: fixture::at_ms(0),
        actor: String::new(),
        command: fixture::tick(),
    };
    let again = std::panic::catch_unwind(|| {
        let mut state = cell.state.clone();
        let index = state.index;
        apply(&mut state, index, &envelope)
    });
    assert!(again.is_err(), "a caller that lost its place must stop");
}
