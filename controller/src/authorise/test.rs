//! The table against the contract, and the decision case by case.

use std::collections::BTreeSet;

use nube_state::command::{CreateAccessKey, CreatePrincipal, CreateProject, InitCluster, SetRole};
use nube_state::{Command, Envelope, Outcome, apply};
use nube_types::{NetworkId, TimestampMs};
use prost::Message;

use super::*;

const DEFAULT: ProjectId = ProjectId(1);
const OTHER: ProjectId = ProjectId(2);

/// Two projects; for each role somebody with a key, as (role, project, key).
fn cell() -> State {
    let mut state = State::default();
    let name = |text: &str| Name::new(text).expect("a name");
    let mut commands = vec![
        Command::InitCluster(InitCluster {
            cluster_id: [1; 16],
            project: DEFAULT,
            network: NetworkId(1),
            network_prices: false,
        }),
        Command::CreateProject(CreateProject {
            id: OTHER,
            name: name("other"),
            network: NetworkId(2),
            quota: None,
        }),
    ];
    let people = [
        (1, None, AccessRole::Admin),
        (2, None, AccessRole::Operator),
        (3, Some(OTHER), AccessRole::Admin),
        (4, Some(OTHER), AccessRole::Member),
        (5, Some(OTHER), AccessRole::Viewer),
    ];
    for (number, project, role) in people {
        let principal = PrincipalId(number);
        commands.push(Command::CreatePrincipal(CreatePrincipal {
            id: principal,
            name: name(&format!("u{number}")),
            kind: PrincipalKind::User,
        }));
        commands.push(Command::SetRole(SetRole {
            principal,
            project,
            role: Some(role),
        }));
        commands.push(Command::CreateAccessKey(CreateAccessKey {
            id: AccessKeyId(number),
            principal,
            project,
            role,
            secret_hash: hash(&format!("secret-{number}")),
            ttl_ms: Some(60_000),
        }));
    }
    for (index, command) in (1..).zip(commands) {
        let envelope = Envelope {
            request: None,
            at: TimestampMs(1_000),
            actor: String::new(),
            source: None,
            command,
        };
        let outcome = apply(&mut state, index, &envelope);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    state
}

fn key(number: u64) -> Credentials {
    let id = AccessKeyId(number);
    Credentials::from_header(&format!("Bearer nube1.{id}.secret-{number}"))
}

fn certificate(role: Role) -> Credentials {
    let name = "x".to_owned();
    Credentials::Certificate(Identity { role, name })
}

fn ask(rule: Rule, credentials: &Credentials, wanted: Option<&str>) -> Result<Caller, Denied> {
    judge(&cell(), rule, credentials, wanted, None)
}

#[test]
fn every_method_of_the_contract_has_one_row_and_no_row_is_left_over() {
    let files = prost_types::FileDescriptorSet::decode(nube_proto::DESCRIPTORS);
    let files = files.expect("built with the contract").file;
    let mut methods = BTreeSet::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                methods.insert(format!("/{package}.{service}/{}", method.name()));
            }
        }
    }
    let rows = RULES.iter().map(|(path, _)| (*path).to_owned());
    let rows: Vec<String> = rows.filter(|path| path.starts_with("/nube.")).collect();
    assert!(
        RULES.is_sorted_by(|(a, _), (b, _)| a < b),
        "in order, once each"
    );
    let missing: Vec<_> = methods.iter().filter(|path| !rows.contains(path)).collect();
    let extra: Vec<_> = rows
        .iter()
        .filter(|path| !methods.contains(*path))
        .collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:?}, extra {extra:?}"
    );
}

#[test]
fn each_role_may_do_exactly_what_its_row_says() {
    use AccessRole::{Admin, Member, Operator, Viewer};
    let rules = [
        Rule::SignedIn,
        Rule::Project(Viewer),
        Rule::Project(Member),
        Rule::Project(Admin),
        Rule::Cell(Operator),
        Rule::Cell(Admin),
    ];
    let table = [
        (certificate(Role::Operator), "yyyyyy"),
        (key(1), "yyyyyy"),
        (key(2), "yynnyn"),
        (key(3), "yyyynn"),
        (key(4), "yyynnn"),
        (key(5), "yynnnn"),
        (certificate(Role::Agent), "nnnnnn"),
        (certificate(Role::Controller), "nnnnnn"),
        (Credentials::None, "nnnnnn"),
        (Credentials::Malformed, "nnnnnn"),
    ];
    for (credentials, row) in table {
        for (rule, wanted) in rules.iter().zip(row.chars()) {
            let allowed = ask(*rule, &credentials, None).is_ok();
            assert_eq!(allowed, wanted == 'y', "{credentials:?} {rule:?}");
        }
    }
}

#[test]
fn bad_keys_look_alike() {
    let id = AccessKeyId(3);
    for header in [
        String::new(),
        "Basic YTpi".to_owned(),
        format!("Bearer nube1.{id}"),
        format!("Bearer nube1.{id}.secret-4"),
        format!("Bearer nube1.{}.secret-3", AccessKeyId(99)),
        format!("Bearer nube2.{id}.secret-3"),
    ] {
        let denied = ask(Rule::SignedIn, &Credentials::from_header(&header), None);
        assert_eq!(denied, Err(Denied::Unauthenticated(BAD_KEY)), "{header}");
    }
    let mut late = cell();
    late.time = TimestampMs(61_000);
    let denied = judge(&late, Rule::SignedIn, &key(3), None, None);
    assert_eq!(denied, Err(Denied::Unauthenticated(BAD_KEY)));
}

#[test]
fn projects_of_others_are_as_absent_as_those_that_never_were() {
    let tenant = key(4);
    let own = ask(Rule::SignedIn, &tenant, Some("other")).expect("its own");
    assert_eq!(own.project, OTHER);
    let foreign = ask(Rule::SignedIn, &tenant, Some("default"));
    let never = ask(Rule::SignedIn, &tenant, Some("nowhere"));
    let text = |denied: Result<Caller, Denied>| {
        let status = denied.expect_err("not for it").status();
        (
            status.code(),
            status.message().replace("nowhere", "default"),
        )
    };
    assert_eq!(text(foreign), text(never));
    let operator = ask(Rule::Project(AccessRole::Viewer), &key(2), Some("other"));
    assert_eq!(operator.expect("reads all").project, OTHER);
}

#[test]
fn rights_that_end_end_open_streams() {
    let mut state = cell();
    let caller = judge(&state, Rule::SignedIn, &key(4), None, None).expect("a member");
    assert!(caller.still_holds(&state));
    let take = |role| {
        Command::SetRole(SetRole {
            principal: PrincipalId(4),
            project: Some(OTHER),
            role,
        })
    };
    let envelope = |command| Envelope {
        request: None,
        at: TimestampMs(1_000),
        actor: String::new(),
        source: None,
        command,
    };
    apply(&mut state, 90, &envelope(take(Some(AccessRole::Viewer))));
    assert!(!caller.still_holds(&state));
    apply(&mut state, 91, &envelope(take(None)));
    assert!(!caller.still_holds(&state));
}
