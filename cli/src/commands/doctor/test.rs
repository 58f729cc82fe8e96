//! Whole answers over fakes, as a user reads them.

use std::collections::BTreeMap;
use std::time::Duration;

use nube_proto::v1::{InstanceState, MemberRole, NodeState};

use super::cell::{Answer, Said};
use super::check::{Check, Verdict, json, view, worst};
use super::host::{Cgroups, Disk, Facts};
use super::load::Load;
use super::{cell, credentials, host, load};
use crate::commands::{cluster, instance, node};
use crate::output::table::Look;

const NOW_MS: u64 = 1_790_000_000_000;

/// Controller `id` of three, the second leads; all are at one entry.
fn answer(id: u64) -> Answer {
    let mut cluster = cluster::test::sample();
    cluster.answered_by = id;
    cluster.version = env!("CARGO_PKG_VERSION").to_owned();
    for member in &mut cluster.members {
        member.reachable = true;
    }
    let hashes = BTreeMap::from([(43, cluster.state_hash.clone())]);
    Answer {
        address: format!("127.0.0.1:710{id}"),
        said: Ok(Said {
            cluster,
            hashes,
            skew_ms: Some(-200),
            took_ms: 4,
        }),
    }
}

fn said(answer: &mut Answer) -> &mut Said {
    answer.said.as_mut().expect("it answered")
}

fn silent(mut answer: Answer) -> Answer {
    answer.said = Err("Connection refused (os error 111)".to_owned());
    answer
}

fn facts() -> Facts {
    Facts {
        root: true,
        missing: vec![],
        qemu: Some("QEMU emulator version 7.2.22 (Debian 1:7.2)".to_owned()),
        nftables: Some(("nftables v1.0.6 (Lester Gooch #5)".to_owned(), true)),
        kvm: Some(true),
        cgroups: Cgroups::V2,
        namespaces_max: Some(31_000),
        modules_missing: vec![],
        files_max: 1_048_576,
        memory_free_mib: 16_000,
        disks: vec![Disk {
            name: "controller-1".to_owned(),
            free_mib: 50_000,
            size_mib: 100_000,
            sync: Some((Duration::from_micros(1_234), Duration::from_micros(5_678))),
        }],
    }
}

fn load_of(nodes: Vec<nube_proto::v1::Node>) -> Load {
    let mut web = instance::test::sample("web", InstanceState::Running);
    web.state_changed_at_ms = NOW_MS - 3_600_000;
    Load {
        now_ms: NOW_MS,
        nodes,
        instances: vec![web],
    }
}

fn well() -> Vec<Check> {
    let days = |n: i64| 1_790_000_000 + n * 86_400;
    let mut checks = vec![
        credentials::expiry("CA certificate", 0, days(3_650), days(0)),
        credentials::expiry("client certificate", 0, days(396), days(0)),
    ];
    checks.extend(cell::check(&[answer(1), answer(2), answer(3)]));
    let mut kvm = node::test::sample("node-1", NodeState::Ready);
    kvm.isolation = nube_proto::v1::IsolationClassOffered::Hardware as i32;
    checks.extend(load::check(&load_of(vec![kvm])));
    checks.extend(host::check(&facts()));
    checks
}

fn ill() -> Vec<Check> {
    let days = |n: i64| 1_790_000_000 + n * 86_400;
    let mut checks = vec![
        credentials::expiry("CA certificate", 0, days(-1), days(0)),
        credentials::expiry("client certificate", 0, days(12), days(0)),
    ];
    let (mut one, mut two) = (answer(1), answer(2));
    said(&mut one).skew_ms = Some(90_000);
    said(&mut one).cluster.applied_index = 3;
    said(&mut one).hashes = BTreeMap::from([(43, "cd".repeat(32))]);
    said(&mut two).cluster.commit_index = 9_000;
    said(&mut two).cluster.applied_index = 9_000;
    said(&mut two).cluster.members[2].reachable = false;
    checks.extend(cell::check(&[one, two, silent(answer(3))]));
    let mut lost = node::test::sample("node-1", NodeState::Unreachable);
    lost.last_seen_at_ms = NOW_MS - 125_000;
    let mut over = node::test::sample("node-2", NodeState::Ready);
    over.memory_mib_used = 5_000;
    over.unknown_resources = vec!["process 4711 of nobody\u{1b}[2J".to_owned()];
    let mut load = load_of(vec![lost, over]);
    let mut stuck = instance::test::sample("db", InstanceState::Stopping);
    stuck.state_changed_at_ms = NOW_MS - 400_000;
    stuck.node_reachable = false;
    load.instances.push(stuck);
    checks.extend(load::check(&load));
    checks.extend(host::check(&Facts {
        missing: vec![("qemu-img".to_owned(), "qemu-utils".to_owned())],
        nftables: Some(("nftables v1.0.6".to_owned(), false)),
        kvm: Some(false),
        cgroups: Cgroups::Missing,
        namespaces_max: Some(0),
        modules_missing: vec!["tun"],
        files_max: 1_024,
        memory_free_mib: 100,
        disks: vec![Disk {
            name: "controller-1".to_owned(),
            free_mib: 300,
            size_mib: 100_000,
            sync: Some((Duration::from_millis(250), Duration::from_millis(900))),
        }],
        ..facts()
    }));
    checks
}

#[test]
fn a_cloud_that_is_well_is_told_so() {
    let checks = well();
    assert_eq!(worst(&checks), Verdict::Ok);
    crate::golden::check("doctor_well", &view(Look::default(), &checks));
}

#[test]
fn everything_wrong_is_found_and_says_what_to_do() {
    let checks = ill();
    let text = view(Look::default(), &checks);
    crate::golden::check("doctor_ill", &text);
    assert_eq!(worst(&checks), Verdict::Fail);
    for check in &checks {
        let fine = check.verdict == Verdict::Ok;
        assert_eq!(check.todo.is_empty(), fine, "{check:?}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    let json = json(&checks);
    assert_eq!(json["verdict"], "fail");
    assert_eq!(json["checks"][0]["area"], "client");
    assert_eq!(json["checks"][0]["verdict"], "fail");
}

#[test]
fn the_margin_of_the_quorum_is_counted() {
    let cases = [
        (3, 3, Verdict::Ok, "survives 1 failure"),
        (3, 2, Verdict::Warn, "one more failure stops writes"),
        (3, 1, Verdict::Fail, "writes have stopped"),
        (1, 1, Verdict::Warn, "any failure stops it"),
        (5, 5, Verdict::Ok, "survives 2 failures"),
        (5, 4, Verdict::Ok, "survives 1 failure"),
        (5, 3, Verdict::Warn, "one more failure"),
        // An even number survives no more than one fewer.
        (4, 4, Verdict::Ok, "survives 1 failure"),
        (2, 2, Verdict::Warn, "one more failure"),
    ];
    for (voters, good, verdict, words) in cases {
        let check = cell::margin(voters, good);
        let text = format!("{} {}", check.found, check.todo);
        assert_eq!(check.verdict, verdict, "{voters} {good}");
        assert!(text.contains(words), "{voters} {good}: {text}");
    }
}

#[test]
fn learners_do_not_count_and_nobody_is_no_leader() {
    let mut answers = [answer(1), answer(2), silent(answer(3))];
    for one in &mut answers[..2] {
        said(one).cluster.members[2].role = MemberRole::Learner as i32;
    }
    let checks = cell::check(&answers);
    let quorum = checks.iter().find(|check| check.name == "quorum");
    let found = &quorum.expect("a check").found;
    assert!(found.starts_with("2 of 2 controllers"), "{found}");
    let nobody = [silent(answer(1)), silent(answer(2))];
    assert!(!cell::can_read(&nobody));
    let checks = cell::check(&nobody);
    let leader = checks.iter().find(|check| check.name == "leader");
    assert_eq!(leader.expect("a check").verdict, Verdict::Fail);
}

#[test]
fn hashes_count_at_one_entry_only() {
    let verdict = |first: &[(u64, &str)], second: &[(u64, &str)]| {
        let map = |of: &[(u64, &str)]| of.iter().map(|(i, h)| (*i, (*h).to_owned())).collect();
        let (mut one, mut two) = (answer(1), answer(2));
        said(&mut one).hashes = map(first);
        said(&mut two).hashes = map(second);
        let checks = cell::check(&[one, two]);
        let hash = checks.iter().find(|check| check.name == "state hash");
        hash.expect("a check").verdict
    };
    assert_eq!(verdict(&[(7, "a")], &[(7, "a")]), Verdict::Ok);
    assert_eq!(
        verdict(&[(7, "a"), (8, "b")], &[(8, "b"), (9, "c")]),
        Verdict::Ok
    );
    assert_eq!(verdict(&[(7, "a")], &[(8, "b")]), Verdict::Warn);
    assert_eq!(
        verdict(&[(7, "a"), (8, "b")], &[(7, "x"), (8, "b")]),
        Verdict::Fail
    );
}
