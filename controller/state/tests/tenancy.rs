//! Tenants: projects and what they may have, people and what they may do, keys
//! and how long, and the record that each mutation leaves.

mod fixture;

use fixture::{ALICE, Cell, OTHER, PROJECT, launch, new_instance, request};
use nube_state::command::Wish;
use nube_state::{
    AccessRole, Command, InstanceState, Outcome, Quota, Refusal, access_key, project,
};
use nube_types::{AccessKeyId, InstanceId, NodeId, PrincipalId};

const NODE: NodeId = NodeId(1);

fn ten_instances() -> Quota {
    Quota {
        instances: 10,
        ..Quota::UNLIMITED
    }
}

fn refusal(outcome: Outcome) -> Refusal {
    match outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn launch_as(id: u64) -> Command {
    let new = new_instance(InstanceId(id), &format!("vm-{id}"), NODE);
    let mut command = launch(vec![new]);
    command.instance_type = "n1.nano".to_owned();
    Command::LaunchInstances(command)
}

/// A node with room for more than any quota here.
fn roomy() -> Cell {
    let mut cell = Cell::with_nodes(&[]);
    let mut facts = fixture::facts(NODE, 1);
    (facts.vcpus, facts.memory.0, facts.disk.0) = (64, 1 << 20, 1 << 24);
    cell.done(Command::RegisterNode(facts));
    cell
}

fn with_type(cell: &Cell) -> String {
    let smallest = cell.state.instance_types.iter().min_by_key(|t| t.memory);
    smallest.expect("there are types").name.clone()
}

#[test]
fn exactly_as_many_as_the_quota_says() {
    let mut cell = roomy();
    cell.done(Command::SetProjectQuota(PROJECT, ten_instances()));
    let size = with_type(&cell);
    let mut made = 0;
    for id in 1..=100 {
        let Command::LaunchInstances(mut command) = launch_as(id) else {
            unreachable!("it is a launch");
        };
        command.instance_type.clone_from(&size);
        match cell.apply(None, Command::LaunchInstances(command)) {
            Outcome::Instances(_) => made += 1,
            other => assert!(
                matches!(
                    refusal(other.clone()),
                    Refusal::QuotaExceeded {
                        limit: 10,
                        used: 10,
                        asked: 1,
                        ..
                    }
                ),
                "{other:?}"
            ),
        }
    }
    assert_eq!(made, 10);
    // A delete makes room at once: its owner has it no more.
    cell.done(fixture::wish(InstanceId(1), Wish::Delete, false));
    assert_eq!(cell.state.project_use(PROJECT).instances, 10);
    let gone = fixture::observed(InstanceId(1), InstanceState::Deleted, 2);
    cell.report(NODE, vec![gone]);
    assert_eq!(cell.state.project_use(PROJECT).instances, 9);
}

#[test]
fn a_lowered_quota_takes_nothing_away_and_lets_nothing_in() {
    let mut cell = roomy();
    let size = with_type(&cell);
    let place = |cell: &mut Cell, id: u64| {
        let new = new_instance(InstanceId(id), &format!("vm-{id}"), NODE);
        let mut command = launch(vec![new]);
        command.instance_type.clone_from(&size);
        cell.apply(None, Command::LaunchInstances(command))
    };
    place(&mut cell, 1);
    place(&mut cell, 2);
    let one = Quota {
        vcpus: 1,
        ..Quota::UNLIMITED
    };
    cell.done(Command::SetProjectQuota(PROJECT, one));
    assert!(cell.state.instances.len() == 2);
    let refused = refusal(place(&mut cell, 3));
    assert!(matches!(refused, Refusal::QuotaExceeded { ref resource, .. } if resource == "vcpus"));
}

#[test]
fn keys_and_images_are_counted_too() {
    let mut cell = Cell::with_nodes(&[]);
    let none = Quota {
        ssh_keys: 1,
        images: 1,
        ..Quota::UNLIMITED
    };
    cell.done(Command::SetProjectQuota(PROJECT, none));
    let key = fixture::ssh_key(nube_types::SshKeyId(9), "second", "CCCC");
    assert!(matches!(
        refusal(cell.apply(None, key)),
        Refusal::QuotaExceeded { .. }
    ));
    let image = fixture::image(nube_types::ImageId(9), "second");
    let image = cell.apply(None, Command::RegisterImage(image));
    assert!(matches!(refusal(image), Refusal::QuotaExceeded { .. }));
}

#[test]
fn a_project_ends_only_when_it_is_empty_and_takes_its_roles_and_keys_along() {
    let mut cell = roomy();
    cell.done(fixture::project(OTHER, "other", None));
    assert!(matches!(
        refusal(cell.apply(
            None,
            fixture::project(nube_types::ProjectId(3), "other", None)
        )),
        Refusal::NameTaken { .. }
    ));
    cell.done(fixture::principal(ALICE, "alice"));
    cell.done(fixture::role(ALICE, Some(OTHER), Some(AccessRole::Admin)));
    let key = AccessKeyId(1);
    cell.done(fixture::access_key(
        key,
        ALICE,
        Some(OTHER),
        AccessRole::Member,
        None,
    ));
    assert!(matches!(
        refusal(cell.apply(None, Command::DeleteProject(PROJECT))),
        Refusal::Invalid { .. }
    ));
    let mut image = fixture::image(nube_types::ImageId(7), "theirs");
    image.project = OTHER;
    cell.done(Command::RegisterImage(image));
    assert!(matches!(
        refusal(cell.apply(None, Command::DeleteProject(OTHER))),
        Refusal::NotEmpty { count: 1, .. }
    ));
    cell.done(Command::DeleteImage(OTHER, nube_types::ImageId(7)));
    cell.done(Command::DeleteProject(OTHER));
    assert!(project::by_name(&cell.state, &fixture::name("other")).is_none());
    assert!(cell.state.access_keys.is_empty());
    let alice = cell.state.principals.get(&ALICE).expect("she stays");
    assert!(alice.roles.is_empty());
    let numbers: Vec<u32> = cell.state.networks.iter().map(|n| n.number).collect();
    assert_eq!(numbers, [1]);
    cell.done(fixture::project(OTHER, "again", None));
    let number = cell.state.networks.get(&nube_types::NetworkId(2));
    assert_eq!(
        number.expect("its network").number,
        3,
        "numbers are not reused"
    );
}

#[test]
fn a_key_never_does_more_than_its_principal() {
    let mut cell = Cell::with_nodes(&[]);
    cell.done(fixture::project(OTHER, "other", None));
    cell.done(fixture::principal(ALICE, "alice"));
    let key = |role| fixture::access_key(AccessKeyId(1), ALICE, Some(OTHER), role, Some(60_000));
    let refused = refusal(cell.apply(None, key(AccessRole::Viewer)));
    assert!(matches!(refused, Refusal::RoleMissing { .. }));
    cell.done(fixture::role(ALICE, Some(OTHER), Some(AccessRole::Member)));
    assert!(matches!(
        refusal(cell.apply(None, key(AccessRole::Admin))),
        Refusal::RoleMissing { .. }
    ));
    cell.done(key(AccessRole::Member));
    let rights = |cell: &Cell| {
        let key = cell.state.access_keys.get(&AccessKeyId(1));
        access_key::rights(&cell.state, key.expect("it is kept"))
    };
    assert_eq!(rights(&cell), Some(AccessRole::Member));
    // Less for the principal is less for its keys, at once.
    cell.done(fixture::role(ALICE, Some(OTHER), Some(AccessRole::Viewer)));
    assert_eq!(rights(&cell), Some(AccessRole::Viewer));
    cell.done(fixture::role(ALICE, Some(OTHER), None));
    assert_eq!(rights(&cell), None);
    // An admin of the cell is admin everywhere; the key still bounds it.
    cell.done(fixture::role(ALICE, None, Some(AccessRole::Admin)));
    assert_eq!(rights(&cell), Some(AccessRole::Member));
    cell.pass(60_000);
    assert_eq!(rights(&cell), None, "its time is over");
}

#[test]
fn roles_have_their_places() {
    let mut cell = Cell::with_nodes(&[]);
    cell.done(fixture::principal(ALICE, "alice"));
    for (place, role) in [
        (None, AccessRole::Viewer),
        (None, AccessRole::Member),
        (Some(PROJECT), AccessRole::Operator),
    ] {
        let refused = refusal(cell.apply(None, fixture::role(ALICE, place, Some(role))));
        assert!(matches!(refused, Refusal::Invalid { .. }), "{refused:?}");
    }
    let nobody = fixture::role(PrincipalId(9), None, Some(AccessRole::Admin));
    assert!(matches!(
        refusal(cell.apply(None, nobody)),
        Refusal::NotFound { .. }
    ));
}

#[test]
fn a_preview_holds_until_something_it_rests_on_changes() {
    let mut cell = roomy();
    let size = with_type(&cell);
    let seen = cell.state.index;
    let ask = |id: u64, revision| {
        let new = new_instance(InstanceId(id), &format!("vm-{id}"), NODE);
        let mut command = launch(vec![new]);
        command.instance_type.clone_from(&size);
        command.if_revision = Some(revision);
        Command::LaunchInstances(command)
    };
    cell.pass(5_000);
    cell.done(ask(1, seen));
    let refused = refusal(cell.apply(None, ask(2, seen)));
    assert!(
        matches!(refused, Refusal::RevisionChanged { .. }),
        "{refused:?}"
    );
    let seen = cell.state.index;
    cell.done(Command::SetNodeDrained(NODE, true));
    cell.done(Command::SetNodeDrained(NODE, false));
    assert!(matches!(
        refusal(cell.apply(None, ask(3, seen))),
        Refusal::RevisionChanged { .. }
    ));
}

#[test]
fn who_and_why_are_told_in_order() {
    let mut cell = roomy();
    let size = with_type(&cell);
    let new = new_instance(InstanceId(1), "web", NODE);
    let mut command = launch(vec![new]);
    command.instance_type = size;
    cell.apply(Some(request(1, 1)), Command::LaunchInstances(command));
    let mut failed = fixture::observed(InstanceId(1), InstanceState::Failed, 1);
    failed.reason = "no disk".to_owned();
    cell.report(NODE, vec![failed]);
    let told: Vec<String> = cell
        .state
        .events
        .iter()
        .filter(|event| event.name == "web")
        .map(|event| format!("{} {} {}", event.actor, event.action, event.detail))
        .collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[0].starts_with("operator/admin instance.launch 1 ×"),
        "{told:?}"
    );
    assert_eq!(told[1], "operator/admin instance.state placed on n1");
    assert!(told[2].ends_with("pending → failed: no disk"), "{told:?}");
}

#[test]
fn a_projects_instances_are_read_from_any_id_on_and_no_other_projects() {
    let mut cell = roomy();
    cell.done(fixture::project(OTHER, "other", None));
    for id in [5, 1, 3, u64::MAX] {
        let new = new_instance(InstanceId(id), &format!("vm-{}", id % 9), NODE);
        cell.done(Command::LaunchInstances(launch(vec![new])));
    }
    let ids = |project, after: Option<u64>| -> Vec<u64> {
        let of = cell.state.instances_of(project, after.map(InstanceId));
        of.map(|instance| instance.id.0).collect()
    };
    assert_eq!(ids(PROJECT, None), [1, 3, 5, u64::MAX]);
    assert_eq!(ids(PROJECT, Some(3)), [5, u64::MAX]);
    assert_eq!(ids(PROJECT, Some(u64::MAX)), [] as [u64; 0]);
    assert_eq!(ids(OTHER, None), [] as [u64; 0]);
}
