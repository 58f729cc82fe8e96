//! What hosts are told of networks, on states that came about by commands.

use nube_state::Command;
use nube_state::security_group::Peer;

use super::*;
use crate::fixture::{NETWORK, PROJECT, Town, overlay};

const HERE: NodeId = NodeId(1);
const THERE: NodeId = NodeId(2);

fn told(town: &Town, node: NodeId) -> DesiredNetworks {
    of_node(&town.state, node)
}

fn only(town: &Town, node: NodeId) -> DesiredNetwork {
    let mut networks = told(town, node).networks;
    assert_eq!(networks.len(), 1);
    networks.remove(0)
}

#[test]
fn a_host_hears_of_all_ports_of_its_networks_and_of_no_other_network() {
    let mut town = Town::new();
    assert!(told(&town, HERE).networks.is_empty());
    let island = town.network("island", true);
    town.launch("web", 1, NETWORK, &[]);
    town.launch("db", 2, NETWORK, &[]);
    town.launch("lone", 2, island, &[]);
    let here = only(&town, HERE);
    assert_eq!((here.network_id, here.number), (NETWORK.to_string(), 1));
    assert!(here.internet_gateway);
    let seen: Vec<(&str, bool, String)> = here
        .ports
        .iter()
        .map(|port| (port.name.as_str(), port.local, port.host_address.clone()))
        .collect();
    let (own, other) = (overlay(HERE).to_string(), overlay(THERE).to_string());
    assert_eq!(seen, [("web", true, own), ("db", false, other)]);
    let there = told(&town, THERE);
    let gateways: Vec<(&str, bool)> = there
        .networks
        .iter()
        .map(|network| (network.name.as_str(), network.internet_gateway))
        .collect();
    assert_eq!(gateways, [("default", true), ("island", false)]);
}

#[test]
fn groups_come_with_those_that_their_rules_name() {
    let mut town = Town::new();
    let (front, middle, back, unused) = (
        town.group("front"),
        town.group("middle"),
        town.group("back"),
        town.group("unused"),
    );
    town.allow(front, (80, 80), Peer::Group(middle));
    town.allow(middle, (80, 80), Peer::Group(back));
    town.allow(unused, (80, 80), Peer::Group(front));
    town.launch("web", 1, NETWORK, &[front]);
    let mut known: Vec<String> = only(&town, HERE)
        .security_groups
        .into_iter()
        .map(|group| group.security_group_id)
        .collect();
    known.sort();
    assert_eq!(known, [front, middle, back].map(|id| id.to_string()));
}

#[test]
fn one_host_answers_for_an_elastic_address() {
    let mut town = Town::new();
    let web = town.launch("web", 1, NETWORK, &[]);
    let db = town.launch("db", 2, NETWORK, &[]);
    let (address, id) = town.address();
    assert!(only(&town, HERE).addresses.is_empty(), "it points nowhere");
    town.associate(id, web);
    let (_, front) = town.address();
    let balancer = town.balancer("db", Some(front));
    town.judged(balancer, db, true);
    let announced = |node| -> Vec<(bool, bool)> {
        let addresses = only(&town, node).addresses;
        let mut seen: Vec<(bool, bool)> = addresses
            .iter()
            .map(|one| (one.instance_id.is_empty(), one.announced))
            .collect();
        seen.sort_unstable();
        seen
    };
    assert_eq!(announced(HERE), [(false, true), (true, false)]);
    assert_eq!(announced(THERE), [(false, false), (true, true)]);
    let told = only(&town, HERE).addresses;
    assert!(told.iter().any(|one| one.address == address.to_string()));
    town.done(Command::SetInternetGateway(PROJECT, NETWORK, false));
    let addresses = only(&town, HERE).addresses;
    assert!(addresses.iter().all(|one| !one.announced), "no way in");
}

#[test]
fn targets_take_new_connections_while_they_are_healthy() {
    let mut town = Town::new();
    let web = town.launch("web", 1, NETWORK, &[]);
    let balancer = town.balancer("web", None);
    let takes = |town: &Town| {
        let told = only(town, HERE).load_balancers.remove(0);
        assert_eq!(told.listeners[0].target_port, 8080);
        told.targets.iter().map(|t| t.takes_new).collect::<Vec<_>>()
    };
    assert_eq!(takes(&town), [false]);
    town.judged(balancer, web, true);
    assert_eq!(takes(&town), [true]);
    let port = &only(&town, HERE).ports[0];
    assert_eq!(port.security_group_ids.len(), 1, "the default group");
    assert!(!port.ipv6_address.is_empty());
}
