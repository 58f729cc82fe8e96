//! Random commands about networks, and what every host must hear.

use std::collections::BTreeSet;

use nube_state::command::{LaunchInstances, TargetVerdict};
use nube_state::security_group::{self, Peer, Protocol};
use nube_state::{Command, HostFailurePolicy, State, load_balancer, network};
use nube_types::net::Ipv4Prefix;
use nube_types::{AddressId, InstanceId, NetworkId, NodeId, SecurityGroupId, SubnetId};
use proptest::prelude::*;

use crate::fixture::networks as net;
use crate::fixture::{self, Cell, NETWORK, PROJECT};
use crate::{instance, node};

/// Something of everything, so that most commands find what they are about.
pub fn furnish(cell: &mut Cell) {
    cell.done(net::network(20, "lab", net::range("10.9.0.0/28")));
    cell.done(net::subnet(20, 30, "far", net::range("172.16.0.0/28")));
    cell.done(net::group(40, "web"));
    cell.done(Command::AddAddressPool(net::range("198.18.7.0/30")));
    cell.done(net::address(50, "a0"));
    cell.done(Command::CreateLoadBalancer(net::balancer(60, "front")));
    for (id, node, network) in [(1, 1, NETWORK), (2, 2, NETWORK), (3, 1, NetworkId(20))] {
        let new = fixture::new_instance(InstanceId(id), &format!("web-{id}"), NodeId(node));
        let mut launch = fixture::launch(vec![new]);
        launch.network = Some(network);
        if id == 2 {
            launch.on_host_failure = HostFailurePolicy::Replace;
        }
        cell.done(Command::LaunchInstances(launch));
    }
}

fn network_id() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(NETWORK.0), 4 => Just(20_u64), 2 => Just(21), 1 => Just(2), 1 => Just(0)]
}

fn other_network_id() -> impl Strategy<Value = u64> {
    prop_oneof![6 => Just(21_u64), 2 => Just(20), 1 => Just(NETWORK.0), 1 => Just(2)]
}

fn range() -> impl Strategy<Value = Ipv4Prefix> {
    let good = [
        "10.0.1.0/28",
        "10.1.0.0/28",
        "10.9.0.0/28",
        "172.16.0.0/27",
        "10.0.0.0/24",
    ];
    prop_oneof![
        9 => prop::sample::select(good.to_vec()).prop_map(net::range),
        1 => (any::<u32>(), 0..40_u8).prop_map(|(base, length)| net::raw_range(base, length)),
    ]
}

fn subnet_id() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 30..32_u64, 1 => Just(NETWORK.0), 1 => Just(20)]
}

fn group_id() -> impl Strategy<Value = u64> {
    prop_oneof![5 => Just(40_u64), 3 => 41..43_u64, 3 => Just(PROJECT.0), 1 => 2..4_u64]
}

fn balancer_id() -> impl Strategy<Value = u64> {
    60..62_u64
}

/// Sometimes the digits of an instance.
fn address_id() -> impl Strategy<Value = u64> {
    prop_oneof![7 => 50..54_u64, 1 => 1..7_u64]
}

fn networks() -> impl Strategy<Value = Command> {
    let name = prop_oneof![1 => Just("lab"), 4 => Just("dmz"), 1 => Just("default")];
    let subnet = prop_oneof![Just("far"), Just("near"), Just("default")];
    prop_oneof![
        3 => (other_network_id(), name, range()).prop_map(|(id, name, range)| net::network(id, name, range)),
        2 => (network_id(), any::<bool>()).prop_map(|(id, so)| net::gateway(id, so)),
        3 => other_network_id().prop_map(net::delete_network),
        3 => (network_id(), subnet_id(), subnet, range())
            .prop_map(|(network, id, name, range)| net::subnet(network, id, name, range)),
        2 => subnet_id().prop_map(net::delete_subnet),
    ]
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        prop::sample::select(vec!["0.0.0.0/0", "10.0.0.0/8", "::/0"]).prop_map(net::from_range),
        group_id().prop_map(net::from_group),
    ]
}

fn groups() -> impl Strategy<Value = Command> {
    let protocol = prop::sample::select(vec![Protocol::Any, Protocol::Tcp, Protocol::Udp]);
    let ports = prop::sample::select(vec![(0, 0), (0, 0), (22, 22), (80, 90), (9, 8), (0, 7)]);
    let name = prop::sample::select(vec!["web", "db", "ops", "default"]);
    let rule = (1..12_u64, protocol, ports, peer());
    let rule = rule.prop_map(|(id, protocol, ports, peer)| net::rule(id, protocol, ports, peer));
    prop_oneof![
        3 => (group_id(), name).prop_map(|(id, name)| net::group(id, name)),
        4 => (group_id(), rule).prop_map(|(group, rule)| net::add_rule(group, rule)),
        2 => (group_id(), prop_oneof![1..12_u64, Just(4001), Just(4002)])
            .prop_map(|(group, rule)| net::remove_rule(group, rule)),
        4 => (instance(), prop::collection::vec(group_id(), 0..3))
            .prop_map(|(id, groups)| net::set_groups(id, &groups)),
        2 => group_id().prop_map(net::delete_group),
    ]
}

fn addresses() -> impl Strategy<Value = Command> {
    let pool = prop_oneof![
        6 => Just("203.0.113.6/31"),
        1 => Just("198.18.7.0/30"),
        1 => Just("198.18.7.0/29"),
        1 => Just("127.0.0.0/8"),
    ];
    let pool = pool.prop_map(net::range);
    let again = pool.clone();
    prop_oneof![
        2 => pool.prop_map(Command::AddAddressPool),
        2 => again.prop_map(Command::RemoveAddressPool),
        3 => address_id().prop_map(|id| net::address(id, &format!("a{}", id % 5))),
        6 => (address_id(), instance(), any::<bool>())
            .prop_map(|(id, instance, take)| net::associate(id, instance, take)),
        2 => address_id().prop_map(net::disassociate),
        1 => address_id().prop_map(net::release),
    ]
}

fn balancers() -> impl Strategy<Value = Command> {
    let elastic = prop::option::weighted(0.3, address_id());
    let name = prop_oneof![Just("front"), Just("back")];
    let create = (balancer_id(), name, network_id(), elastic);
    prop_oneof![
        3 => create.prop_map(|(id, name, network, elastic)| {
            let mut command = net::balancer(id, name);
            command.network = NetworkId(network);
            command.elastic_address = elastic.map(AddressId);
            Command::CreateLoadBalancer(command)
        }),
        4 => (balancer_id(), instance(), any::<bool>())
            .prop_map(|(id, instance, so)| net::drain(id, instance, so)),
        1 => balancer_id().prop_map(net::delete_balancer),
    ]
}

fn verdict() -> impl Strategy<Value = TargetVerdict> {
    let epoch = prop_oneof![5 => Just(1_u32), 2 => Just(2), 1 => Just(3)];
    let parts = (balancer_id(), instance(), epoch, any::<bool>());
    parts.prop_map(|(balancer, instance, epoch, healthy)| {
        let mut verdict = net::verdict(balancer, instance, epoch, healthy);
        verdict.reason.push_str(&"ü".repeat(300));
        verdict
    })
}

fn said_by_hosts() -> impl Strategy<Value = Command> {
    let epoch = prop_oneof![5 => Just(1_u32), 2 => Just(2), 1 => Just(3)];
    let bytes = || prop_oneof![8 => 0..3_000_u64, 1 => Just(u64::MAX), 1 => 0..1_u64 << 50];
    let totals = (instance(), epoch, bytes(), bytes());
    let totals = totals.prop_map(|(id, epoch, out, into)| net::totals(id, epoch, out, into));
    prop_oneof![
        (node(), prop::collection::vec(totals, 0..5))
            .prop_map(|(node, all)| net::traffic(node, all)),
        (node(), prop::collection::vec(verdict(), 0..5))
            .prop_map(|(node, all)| net::health(node, all)),
    ]
}

pub fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => networks(),
        4 => groups(),
        4 => addresses(),
        3 => balancers(),
        4 => said_by_hosts(),
    ]
}

/// Where a launch gets its ports; mostly anywhere.
pub fn place() -> impl Strategy<Value = Place> {
    let address = (0..24_u32).prop_map(|offset| 0x0a09_0000 + offset);
    let parts = (
        prop::option::weighted(0.3, network_id()),
        prop::option::weighted(0.1, subnet_id()),
        prop::option::weighted(0.2, address),
        prop_oneof![
            4 => Just(Vec::new()),
            3 => Just(vec![40]),
            2 => prop::collection::vec(group_id(), 0..3),
        ],
    );
    parts.prop_map(Place)
}

/// What it may have to hear of one network.
#[derive(Debug, PartialEq)]
struct Picture {
    hosts: Vec<String>,
    network: String,
    ports: Vec<String>,
    groups: Vec<String>,
    balancers: Vec<String>,
    addresses: Vec<String>,
}

fn pictures(state: &State, node: NodeId) -> Vec<Picture> {
    let networks: BTreeSet<_> = state.instances_on(node).map(|i| i.network).collect();
    networks.into_iter().map(|id| picture(state, id)).collect()
}

fn picture(state: &State, id: NetworkId) -> Picture {
    let (mut hosts, mut groups) = (BTreeSet::new(), BTreeSet::new());
    let (mut ports, mut addresses) = (Vec::new(), Vec::new());
    for i in network::instances(state, id) {
        hosts.insert(i.node);
        let groups_of = security_group::of_instance(state, i);
        let ids: Vec<_> = groups_of.iter().map(|group| group.id).collect();
        ports.push(format!(
            "{} {} {} {:?} {ids:?}",
            i.id, i.address, i.node, i.epoch
        ));
        groups.extend(groups_of.iter().map(|group| format!("{:?}", group.rules)));
        let elastic = nube_state::address::of_instance(state, i.id);
        addresses.extend(elastic.map(|a| format!("{} {}", a.address, i.id)));
    }
    let balancers = load_balancer::of_network(state, id).map(|lb| {
        let elastic = nube_state::address::of_load_balancer(state, lb.id);
        let (targets, announcer) = (
            load_balancer::targets(state, lb),
            load_balancer::announcer(state, lb),
        );
        let takes: Vec<_> = targets.iter().map(|t| (t.instance, t.takes_new)).collect();
        format!(
            "{} {takes:?} {announcer:?} {:?}",
            lb.id,
            elastic.map(|a| a.address)
        )
    });
    let host = |id: NodeId| {
        let node = state.nodes.get(&id);
        format!(
            "{:?}",
            node.map(|n| (id, n.reachable, n.facts.overlay_address))
        )
    };
    let subnets: Vec<_> = network::subnets(state, id)
        .iter()
        .map(|s| (s.id, s.range))
        .collect();
    let isolated = state.networks.get(&id).map(|network| network.isolated);
    Picture {
        hosts: hosts.into_iter().map(host).collect(),
        network: format!("{isolated:?} {subnets:?}"),
        ports,
        groups: groups.into_iter().collect(),
        balancers: balancers.collect(),
        addresses,
    }
}

/// A host whose networks changed is marked by this very entry.
pub fn every_host_hears(before: &State, after: &State) -> Result<(), TestCaseError> {
    for node in after.nodes.iter().map(|node| node.facts.id) {
        let heard = after.derived.node_networks.get(&node);
        let (was, is) = (pictures(before, node), pictures(after, node));
        if was != is {
            prop_assert_eq!(heard, Some(&after.index), "{:#?} became {:#?}", was, is);
        }
    }
    Ok(())
}

/// Ledger rows and totals only grow, and never by more than one report may.
pub fn traffic_only_grows(before: &State, after: &State) -> Result<(), TestCaseError> {
    for row in before.traffic_usage.iter() {
        let now = after
            .traffic_usage
            .get(&(row.instance, (row.day, row.price_version)));
        let grew = now.is_some_and(|now| {
            now.bytes_out >= row.bytes_out && now.bytes_out - row.bytes_out <= 1 << 40
        });
        prop_assert!(grew, "{:?} became {:?}", row, now);
    }
    Ok(())
}

/// The number of a command.
pub fn number(command: &Command) -> u64 {
    let bytes = minicbor::to_vec(command).expect("a Vec takes every write");
    let mut decoder = minicbor::Decoder::new(&bytes);
    decoder.array().expect("a command");
    decoder.u64().expect("its number")
}

type Parts = (Option<u64>, Option<u64>, Option<u32>, Vec<u64>);

/// See [`place`].
#[derive(Debug, Clone)]
pub struct Place(Parts);

impl Place {
    pub fn apply(&self, launch: &mut LaunchInstances) {
        let (network, subnet, address, groups) = &self.0;
        launch.network = network.map(NetworkId);
        launch.subnet = subnet.map(SubnetId);
        launch.address = *address;
        launch.security_groups = groups.iter().copied().map(SecurityGroupId).collect();
        if launch.address.is_some() {
            launch.network = Some(NetworkId(20));
            launch.instances.truncate(1);
        }
    }
}
