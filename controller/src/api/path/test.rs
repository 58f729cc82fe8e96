//! Paths as tables: each stage that may say no does so once, and everything that
//! should pass passes.

use nube_state::security_group::{self, Peer};
use nube_state::{Command, InstanceState};
use nube_types::{InstanceId, NodeId};

use super::*;
use crate::fixture::{NETWORK, PROJECT, Town};

fn ask(from: &str, to: &str, what: &str) -> v1::ExplainPathRequest {
    let (protocol, port) = what.split_once(' ').unwrap_or((what, "0"));
    v1::ExplainPathRequest {
        from: from.to_owned(),
        to: to.to_owned(),
        protocol: protocol.to_owned(),
        port: port.parse().expect("a port"),
    }
}

fn explained(town: &Town, from: &str, to: &str, what: &str) -> v1::PathExplanation {
    explain(&town.state, PROJECT, &ask(from, to, what)).expect("an answer")
}

/// `yes`, or `no` with the stage that said it.
fn told(town: &Town, from: &str, to: &str, what: &str) -> String {
    let answer = explained(town, from, to, what);
    let last = answer.steps.last().expect("a step");
    assert_eq!(answer.passes, last.passes, "{answer:?}");
    let before = &answer.steps[..answer.steps.len() - 1];
    assert!(before.iter().all(|step| step.passes), "{answer:?}");
    match answer.passes {
        true => "yes".to_owned(),
        false => format!("no: {}", last.stage),
    }
}

fn everywhere() -> Peer {
    Peer::Range("0.0.0.0/0".parse().expect("a range"))
}

/// Two in the default group on two hosts.
fn pair() -> (Town, InstanceId, InstanceId) {
    let mut town = Town::new();
    let web = town.launch("web", 1, NETWORK, &[]);
    let db = town.launch("db", 2, NETWORK, &[]);
    (town, web, db)
}

#[test]
fn neighbours_of_the_default_group_reach_each_other_and_the_stages_are_named() {
    let (town, _, db) = pair();
    let answer = explained(&town, "web", "db", "tcp 5432");
    let stages: Vec<&str> = answer
        .steps
        .iter()
        .map(|step| step.stage.as_str())
        .collect();
    let expected = [
        "source",
        "egress rules of web",
        "route",
        "ingress rules of db",
        "state",
    ];
    assert_eq!(stages, expected);
    assert!(answer.passes);
    assert!(
        answer.summary.starts_with("tcp 5432 from web reaches db"),
        "{}",
        answer.summary
    );
    assert!(
        answer.steps[1].detail.starts_with("sgr-"),
        "{}",
        answer.steps[1].detail
    );
    for what in ["icmp", "udp 53", "tcp 22"] {
        assert_eq!(told(&town, "db", "web", what), "yes");
    }
    let v6 = nube_types::net::address_v6(NETWORK, town.instance(db).address.into());
    assert_eq!(told(&town, "web", &v6.to_string(), "tcp 22"), "yes");
}

#[test]
fn ingress_rules_decide_by_port_group_and_range() {
    let (mut town, ..) = pair();
    let closed = town.group("closed");
    town.launch("vault", 2, NETWORK, &[closed]);
    assert_eq!(
        told(&town, "web", "vault", "tcp 443"),
        "no: ingress rules of vault"
    );
    let answer = explained(&town, "web", "vault", "tcp 443");
    let advice = "`cloudctl security-group add-rule closed --ingress --protocol tcp --port 443 \
                  --from 10.0.0.4` would let it pass";
    assert!(answer.summary.ends_with(advice), "{}", answer.summary);
    let default = security_group::default_id(PROJECT);
    town.allow(closed, (400, 500), Peer::Group(default));
    assert_eq!(told(&town, "web", "vault", "tcp 443"), "yes");
    assert_eq!(
        told(&town, "web", "vault", "tcp 501"),
        "no: ingress rules of vault"
    );
    assert_eq!(
        told(&town, "web", "vault", "udp 443"),
        "no: ingress rules of vault"
    );
    let refusals = &explained(&town, "web", "vault", "tcp 501").steps[3].detail;
    assert!(refusals.contains("another port"), "{refusals}");
}

#[test]
fn networks_are_apart_and_gateways_lead_out() {
    let (mut town, ..) = pair();
    let island = town.network("island", true);
    town.launch("lone", 1, island, &[]);
    assert_eq!(told(&town, "web", "lone", "tcp 22"), "no: route");
    assert_eq!(told(&town, "web", "internet", "tcp 443"), "yes");
    assert_eq!(told(&town, "web", "192.0.2.7", "udp 53"), "yes");
    assert_eq!(
        told(&town, "lone", "internet", "tcp 443"),
        "no: internet gateway"
    );
    town.done(Command::SetInternetGateway(PROJECT, island, true));
    assert_eq!(told(&town, "lone", "internet", "tcp 443"), "yes");
}

#[test]
fn what_comes_from_outside_needs_an_address_and_a_rule() {
    let (mut town, web, _) = pair();
    assert_eq!(
        told(&town, "internet", "web", "tcp 80"),
        "no: elastic address"
    );
    let (public, id) = town.address();
    let public = public.to_string();
    assert_eq!(
        told(&town, "internet", &public, "tcp 80"),
        "no: elastic address"
    );
    town.associate(id, web);
    for to in ["web", public.as_str()] {
        assert_eq!(
            told(&town, "internet", to, "tcp 80"),
            "no: ingress rules of web"
        );
    }
    let open = security_group::default_id(PROJECT);
    town.allow(open, (80, 80), everywhere());
    for to in ["web", public.as_str()] {
        assert_eq!(told(&town, "internet", to, "tcp 80"), "yes");
        assert_eq!(told(&town, "192.0.2.7", to, "tcp 80"), "yes");
    }
    assert_eq!(told(&town, "db", &public, "tcp 80"), "yes");
    town.done(Command::SetInternetGateway(PROJECT, NETWORK, false));
    assert_eq!(
        told(&town, "internet", "web", "tcp 80"),
        "no: internet gateway"
    );
}

#[test]
fn a_load_balancer_needs_a_listener_and_a_healthy_target() {
    let (mut town, web, _) = pair();
    let (public, id) = town.address();
    let balancer = town.balancer("web", Some(id));
    let private = town
        .state
        .load_balancers
        .get(&balancer)
        .expect("made")
        .address;
    let private = std::net::Ipv4Addr::from_bits(private).to_string();
    let ends = [("internet", public.to_string()), ("db", private)];
    for (from, to) in &ends {
        assert_eq!(told(&town, from, to, "tcp 80"), "no: load balancer");
    }
    town.judged(balancer, web, true);
    for (from, to) in &ends {
        assert_eq!(told(&town, from, to, "tcp 80"), "yes");
        assert_eq!(told(&town, from, to, "tcp 8080"), "no: load balancer");
        assert_eq!(told(&town, from, to, "udp 80"), "no: load balancer");
    }
    town.judged(balancer, web, false);
    for (from, to) in &ends {
        assert_eq!(told(&town, from, to, "tcp 80"), "no: load balancer");
    }
}

#[test]
fn what_does_not_run_neither_sends_nor_answers() {
    let (mut town, web, _) = pair();
    town.seen(web, InstanceState::Failed);
    assert_eq!(told(&town, "web", "db", "icmp"), "no: source");
    assert_eq!(told(&town, "db", "web", "icmp"), "no: state");
    let (mut town, ..) = pair();
    town.state
        .nodes
        .update(&NodeId(2), |node| node.reachable = false);
    assert_eq!(told(&town, "web", "db", "icmp"), "no: state");
    town.state
        .nodes
        .update(&NodeId(2), |node| node.facts.overlay_address = None);
    assert_eq!(told(&town, "web", "db", "icmp"), "no: route");
}

#[test]
fn addresses_that_are_the_clouds_or_nobodys_are_told_apart() {
    let (town, ..) = pair();
    for (to, answer) in [
        ("169.254.169.254", "yes"),
        ("169.254.169.253", "yes"),
        ("fd00:ec2::254", "yes"),
        ("169.254.1.1", "no: route"),
        ("100.64.0.9", "no: route"),
        ("10.0.0.99", "no: route"),
        ("2001:db8::1", "no: route"),
    ] {
        assert_eq!(told(&town, "web", to, "tcp 80"), answer, "{to}");
    }
    assert_eq!(
        told(&town, "internet", "192.0.2.1", "tcp 80"),
        "no: elastic address"
    );
}

#[test]
fn questions_that_make_no_sense_are_refused_by_field() {
    let (town, ..) = pair();
    for (from, to, what, field) in [
        ("web", "web", "tcp 80", "to: the same"),
        ("internet", "internet", "tcp 80", "to: `from` is"),
        ("web", "db", "tcp 0", "port: 0 is not"),
        ("web", "db", "tcp 65536", "port: 65536 is not"),
        ("web", "db", "icmp 8", "port: icmp has no"),
        ("web", "db", "any", "protocol: tcp"),
        ("", "db", "icmp", "from: an instance"),
        ("web", "", "icmp", "to: an instance"),
        ("web", "d\"b';\n", "icmp", "to: an instance"),
        ("nobody", "db", "icmp", "instance `nobody` not found"),
        ("10.0.0.77", "db", "icmp", "instance `10.0.0.77` not found"),
    ] {
        let error = explain(&town.state, PROJECT, &ask(from, to, what));
        let text = error.expect_err(field).message().to_owned();
        assert!(text.starts_with(field), "{field} | {text}");
    }
}
