//! Whatever is wrong about networks is a refusal that names what is wrong, and
//! changes nothing: one row for each.

mod fixture;

use fixture::networks as net;
use fixture::{Cell, OTHER, PROJECT, at_ms};
use nube_state::command::{CreateLoadBalancer, LaunchInstances};
use nube_state::load_balancer::Listener;
use nube_state::security_group::{Peer, Protocol};
use nube_state::{Command, Outcome, Quota, Refusal, codec};
use nube_types::net::Ipv4Prefix;
use nube_types::{
    AddressId, InstanceId, Labels, NetworkId, NodeId, ProjectId, SecurityGroupId, SubnetId,
};

const NODE: NodeId = NodeId(1);
const WEB: InstanceId = InstanceId(1);
const DB: InstanceId = InstanceId(2);
const SPARE: InstanceId = InstanceId(3);

/// A network `lab` (10.9.0.0/24, 172.16.0.0/28) with `web` at 10.9.0.9 and `db`, a
/// closed network `dark` with `spare`, groups 40 and 41 (named by 40), addresses 50
/// (at `web`), 51 (at load balancer 60) and 52.
fn furnished() -> Cell {
    let mut cell = Cell::with_nodes(&[NODE]);
    cell.done(fixture::project(OTHER, "other", None));
    cell.done(net::network(20, "lab", net::range("10.9.0.0/24")));
    cell.done(net::subnet(20, 30, "far", net::range("172.16.0.0/28")));
    cell.done(net::network(21, "dark", net::range("10.9.0.0/24")));
    cell.done(net::gateway(21, false));
    for id in [40, 41] {
        cell.done(net::group(id, &format!("g{id}")));
    }
    cell.done(rule(40, 7, Protocol::Any, (0, 0), net::from_group(41)));
    cell.done(at(WEB, 20, Some("10.9.0.9")));
    cell.done(net::set_groups(WEB, &[40]));
    cell.done(at(DB, 20, None));
    cell.done(at(SPARE, 21, None));
    cell.done(Command::AddAddressPool(net::range("198.18.7.0/30")));
    for id in 50..53 {
        cell.done(net::address(id, &format!("a{id}")));
    }
    cell.done(net::associate(50, WEB, false));
    cell.done(balancer(60, "front", |lb| {
        lb.elastic_address = Some(AddressId(51))
    }));
    cell
}

fn rule(group: u64, id: u64, protocol: Protocol, ports: (u16, u16), peer: Peer) -> Command {
    net::add_rule(group, net::rule(id, protocol, ports, peer))
}

fn at(id: InstanceId, network: u64, address: Option<&str>) -> Command {
    launch(id, |launch| {
        launch.network = Some(NetworkId(network));
        let address = address.map(|text| text.parse::<std::net::Ipv4Addr>().expect("an address"));
        launch.address = address.map(std::net::Ipv4Addr::to_bits);
    })
}

fn launch(id: InstanceId, change: impl Fn(&mut LaunchInstances)) -> Command {
    let text = ["web", "db", "spare"]
        .get(id.0 as usize - 1)
        .unwrap_or(&"new");
    let mut command = fixture::launch(vec![fixture::new_instance(id, text, NODE)]);
    change(&mut command);
    Command::LaunchInstances(command)
}

fn balancer(id: u64, text: &str, change: impl Fn(&mut CreateLoadBalancer)) -> Command {
    let mut command = net::balancer(id, text);
    command.network = NetworkId(20);
    change(&mut command);
    Command::CreateLoadBalancer(command)
}

/// Not what it says, and not what it does.
fn refused(cell: &mut Cell, rows: Vec<(&str, Command)>) {
    for (says, command) in rows {
        let (hash, text) = (codec::state_hash(&cell.state), format!("{command:?}"));
        let text = text.chars().take(300).collect::<String>();
        match cell.apply(None, command) {
            Outcome::Refused(refusal) => {
                let refusal = refusal.to_string();
                assert!(
                    refusal.contains(says),
                    "{text}\n`{refusal}` without `{says}`"
                );
            }
            other => panic!("{text}\nis {other:?} and not `{says}`"),
        }
        assert_eq!(codec::state_hash(&cell.state), hash, "{text} had an effect");
    }
}

#[test]
fn networks_and_subnets() {
    let raw = |text: &str, length| {
        let address: std::net::Ipv4Addr = text.parse().expect("an address");
        net::raw_range(address.to_bits(), length)
    };
    let ranges: Vec<(&str, Ipv4Prefix)> = vec![
        ("cidr: /0 is not a length", raw("0.0.0.0", 0)),
        ("cidr: /33 is not a length", raw("10.0.0.0", 33)),
        ("cidr: /255 is not a length", raw("10.0.0.0", 255)),
        ("cidr: /15 is not a length", raw("10.0.0.0", 15)),
        ("cidr: /29 is not a length", raw("10.0.0.0", 29)),
        ("has host bits set", raw("10.0.0.1", 24)),
        ("is not private", raw("8.8.8.0", 24)),
        ("is not private", raw("172.32.0.0", 16)),
        ("is not private", raw("169.254.0.0", 16)),
        ("is not private", raw("100.64.0.0", 16)),
    ];
    let mut rows = Vec::new();
    for (says, range) in ranges {
        rows.push((says, net::network(22, "new", range)));
        rows.push((says, net::subnet(20, 31, "new", range)));
    }
    let range = net::range;
    rows.extend([
        (
            "overlaps subnet `default`",
            net::subnet(20, 31, "new", range("10.9.0.0/16")),
        ),
        (
            "overlaps subnet `default`",
            net::subnet(20, 31, "new", range("10.9.0.128/25")),
        ),
        (
            "overlaps subnet `far`",
            net::subnet(20, 31, "new", range("172.16.0.0/16")),
        ),
        (
            "subnet `far` exists",
            net::subnet(20, 31, "far", range("10.8.0.0/24")),
        ),
        (
            "subnet `default` exists",
            net::subnet(20, 31, "default", range("10.8.0.0/24")),
        ),
        ("exists", net::subnet(20, 20, "new", range("10.8.0.0/24"))),
        ("exists", net::subnet(20, 30, "new", range("10.8.0.0/24"))),
        (
            "not found",
            net::subnet(99, 31, "new", range("10.8.0.0/24")),
        ),
        ("not found", net::subnet(2, 31, "new", range("10.8.0.0/24"))),
        (
            "network `lab` exists",
            net::network(22, "lab", range("10.8.0.0/24")),
        ),
        (
            "network `default` exists",
            net::network(22, "default", range("10.8.0.0/24")),
        ),
        ("exists", net::network(20, "new", range("10.8.0.0/24"))),
        ("exists", net::network(30, "new", range("10.8.0.0/24"))),
        ("exists", net::network(0, "new", range("10.8.0.0/24"))),
        ("2 instances", net::delete_network(20)),
        ("default network stays", net::delete_network(1)),
        ("not found", net::delete_network(2)),
        ("not found", net::delete_network(99)),
        ("not found", net::gateway(99, true)),
        ("goes with its network", net::delete_subnet(20)),
        ("not found", net::delete_subnet(99)),
    ]);
    refused(&mut furnished(), rows);
}

#[test]
fn networks_in_use() {
    let mut cell = furnished();
    cell.done(launch(InstanceId(4), |launch| {
        (launch.network, launch.subnet) = (Some(NetworkId(20)), Some(SubnetId(30)));
    }));
    refused(
        &mut cell,
        vec![("1 addresses in use", net::delete_subnet(30))],
    );
    let mut cell = Cell::with_nodes(&[NODE]);
    cell.done(net::network(20, "lab", net::range("10.9.0.0/24")));
    cell.done(net::subnet(20, 30, "far", net::range("172.16.0.0/28")));
    refused(
        &mut cell,
        vec![("1 further subnets", net::delete_network(20))],
    );
    cell.done(balancer(60, "front", |_| ()));
    refused(
        &mut cell,
        vec![("1 load balancers", net::delete_network(20))],
    );
    for id in 31..46 {
        let range = format!("10.{id}.0.0/24");
        let command = net::subnet(20, id, &format!("s{id}"), net::range(&range));
        match id {
            45 => refused(&mut cell, vec![("at most 16 subnets", command)]),
            _ => drop(cell.done(command)),
        }
    }
    for id in 100..200 {
        let command = net::network(id, &format!("n{id}"), net::range("10.0.0.0/24"));
        match id {
            198.. => refused(&mut cell, vec![("at most 100 networks", command)]),
            _ => drop(cell.done(command)),
        }
    }
}

#[test]
fn chosen_addresses() {
    let new = InstanceId(4);
    let mut cell = furnished();
    let in_far = launch(new, |launch| {
        (launch.network, launch.subnet) = (Some(NetworkId(20)), Some(SubnetId(30)));
        launch.address = Some(0x0a09_0014);
    });
    let two = || {
        let new = |id| fixture::new_instance(InstanceId(id), &format!("n{id}"), NODE);
        let mut command = fixture::launch(vec![new(4), new(5)]);
        (command.network, command.address) = (Some(NetworkId(20)), Some(0x0a09_0014));
        Command::LaunchInstances(command)
    };
    let rows = vec![
        (
            "is not in 10.9.0.0/24, 172.16.0.0/28",
            at(new, 20, Some("10.8.0.9")),
        ),
        ("is not in 172.16.0.0/28", in_far),
        ("names the subnet itself", at(new, 20, Some("10.9.0.0"))),
        ("is the gateway", at(new, 20, Some("10.9.0.1"))),
        ("is kept for services", at(new, 20, Some("10.9.0.2"))),
        ("is kept for services", at(new, 20, Some("10.9.0.3"))),
        ("is the broadcast address", at(new, 20, Some("10.9.0.255"))),
        ("is the gateway", at(new, 20, Some("172.16.0.1"))),
        (
            "10.9.0.9 is held by instance `web`",
            at(new, 20, Some("10.9.0.9")),
        ),
        (
            "10.9.0.5 is held by load balancer `front`",
            at(new, 20, Some("10.9.0.5")),
        ),
        ("one instance at a time", two()),
        ("not found", at(new, 99, None)),
        ("not found", at(new, 2, None)),
        (
            "not found",
            launch(new, |launch| launch.subnet = Some(SubnetId(30))),
        ),
        (
            "not found",
            launch(new, |launch| {
                launch.security_groups = vec![SecurityGroupId(99)]
            }),
        ),
        (
            "not found",
            launch(new, |launch| {
                launch.security_groups = vec![SecurityGroupId(2)]
            }),
        ),
        (
            "at most 5",
            launch(new, |launch| {
                launch.security_groups = vec![SecurityGroupId(40); 6]
            }),
        ),
    ];
    refused(&mut cell, rows);
    cell.done(fixture::wish(WEB, nube_state::command::Wish::Delete, false));
    let gone = fixture::observed(WEB, nube_state::InstanceState::Deleted, 2);
    cell.report(NODE, vec![gone]);
    cell.now_ms += 10_000;
    let waits = vec![("may be given again in 50 s", at(new, 20, Some("10.9.0.9")))];
    refused(&mut cell, waits);
    cell.now_ms += 50_000;
    cell.done(at(new, 20, Some("10.9.0.9")));
}

#[test]
fn rules_and_groups() {
    use Protocol::{Any, Icmp, Tcp, Udp};
    let all = || net::from_range("0.0.0.0/0");
    let mut cell = furnished();
    let rows = vec![
        ("80 is below port_min 90", rule(40, 8, Tcp, (90, 80), all())),
        (
            "80 is below port_min 65535",
            rule(40, 8, Udp, (65_535, 80), all()),
        ),
        ("port_min: 1 to 65535", rule(40, 8, Tcp, (0, 80), all())),
        (
            "only tcp and udp have ports",
            rule(40, 8, Icmp, (8, 8), all()),
        ),
        (
            "only tcp and udp have ports",
            rule(40, 8, Any, (0, 80), all()),
        ),
        ("not found", rule(40, 8, Any, (0, 0), net::from_group(99))),
        // Another project's default group.
        ("not found", rule(40, 8, Any, (0, 0), net::from_group(2))),
        ("not found", rule(99, 8, Any, (0, 0), all())),
        ("not found", rule(2, 8, Any, (0, 0), all())),
        ("exists", rule(40, 7, Tcp, (22, 22), all())),
        ("not found", net::remove_rule(40, 99)),
        ("not found", net::remove_rule(99, 7)),
        ("1 instances that carry it", net::delete_group(40)),
        ("1 other groups whose rules name it", net::delete_group(41)),
        ("default group stays", net::delete_group(PROJECT.0)),
        ("not found", net::delete_group(99)),
        ("`g40` exists", net::group(42, "g40")),
        ("`default` exists", net::group(42, "default")),
        ("exists", net::group(40, "new")),
        ("exists", net::group(OTHER.0, "new")),
        ("not found", net::set_groups(WEB, &[99])),
        ("not found", net::set_groups(InstanceId(99), &[])),
        ("at most 5", net::set_groups(WEB, &[40, 41, 40, 41, 40, 41])),
    ];
    refused(&mut cell, rows);
    // A rule that is there already changes nothing, whatever its id.
    let hash = codec::state_hash(&cell.state);
    cell.done(rule(40, 77, Any, (0, 0), net::from_group(41)));
    assert_eq!(codec::state_hash(&cell.state), hash);
}

#[test]
fn ten_thousand_rules() {
    let mut cell = furnished();
    let mut count = 0;
    for port in 1..=10_000_u16 {
        let one = rule(
            41,
            u64::from(port) + 100_000,
            Protocol::Tcp,
            (port, port),
            net::from_range("::/0"),
        );
        if cell
            .state
            .security_groups
            .get(&SecurityGroupId(41))
            .is_some_and(|g| g.rules.len() == 120)
        {
            // Without the walk over the whole state after each.
            let envelope = nube_state::Envelope {
                request: None,
                at: at_ms(0),
                actor: String::new(),
                command: one,
                source: None,
            };
            let (hash, index) = (codec::state_hash(&cell.state), cell.state.index + 1);
            let outcome = nube_state::apply(&mut cell.state, index, &envelope);
            let limit = |refusal| matches!(refusal, Refusal::LimitReached { limit: 120, .. });
            assert!(matches!(outcome, Outcome::Refused(refusal) if limit(refusal.clone())));
            assert_eq!(codec::state_hash(&cell.state), hash);
        } else {
            cell.done(one);
            count += 1;
        }
    }
    assert_eq!(count, 118, "beside the two that let all out");
}

#[test]
fn elastic_addresses() {
    let mut cell = furnished();
    let pool = |text| Command::AddAddressPool(net::range(text));
    let rows = vec![
        ("has link-local addresses", pool("169.254.0.0/16")),
        ("has addresses between hosts", pool("100.64.0.0/24")),
        ("has loopback addresses", pool("127.0.0.0/24")),
        ("has multicast addresses", pool("239.0.0.0/24")),
        ("has reserved addresses", pool("255.255.255.255/32")),
        ("RFC 1122", pool("0.0.0.0/8")),
        ("/0 is not a length", pool("0.0.0.0/0")),
        (
            "/7 is not a length",
            Command::AddAddressPool(net::raw_range(0, 7)),
        ),
        (
            "/33 is not a length",
            Command::AddAddressPool(net::raw_range(0xc612_0700, 33)),
        ),
        (
            "host bits",
            Command::AddAddressPool(net::raw_range(0xc612_0701, 24)),
        ),
        ("overlaps the pool 198.18.7.0/30", pool("198.18.0.0/16")),
        ("overlaps the pool 198.18.7.0/30", pool("198.18.7.2/31")),
        (
            "not found",
            Command::RemoveAddressPool(net::range("198.18.7.0/29")),
        ),
        (
            "has 3 addresses that are held",
            Command::RemoveAddressPool(net::range("198.18.7.0/30")),
        ),
        ("address `a50` exists", net::address(53, "a50")),
        ("exists", net::address(50, "new")),
        ("exists", net::address(WEB.0, "new")),
        // Twice, in each way.
        (
            "198.18.7.0 points at instance `web` already",
            net::associate(50, WEB, false),
        ),
        (
            "198.18.7.0 points at instance `web` already",
            net::associate(50, DB, false),
        ),
        (
            "198.18.7.0 points at instance `web`",
            net::associate(52, WEB, true),
        ),
        (
            "load balancer `front` listens on",
            net::associate(51, DB, true),
        ),
        ("load balancer `front` listens on", net::disassociate(51)),
        (
            "without an internet gateway",
            net::associate(52, SPARE, false),
        ),
        ("not found", net::associate(52, InstanceId(99), false)),
        ("not found", net::associate(99, DB, false)),
        (
            "points at instance `web`; disassociate it",
            net::release(50),
        ),
        ("points at load balancer `front`", net::release(51)),
        ("not found", net::release(99)),
        ("not found", net::disassociate(99)),
    ];
    refused(&mut cell, rows);
    cell.done(net::address(53, "last"));
    refused(
        &mut cell,
        vec![("no free elastic address", net::address(54, "new"))],
    );
    // It waits before it is given again.
    cell.done(net::release(53));
    refused(
        &mut cell,
        vec![("no free elastic address", net::address(54, "new"))],
    );
    // An id that was billed is never used again.
    cell.now_ms += 60_000;
    refused(&mut cell, vec![("exists", net::address(53, "new"))]);
    cell.done(net::address(54, "new"));
    let quota = Quota {
        addresses: Some(4),
        ..Quota::UNLIMITED
    };
    cell.done(Command::SetProjectQuota(PROJECT, quota));
    cell.done(pool("203.0.113.0/24"));
    refused(
        &mut cell,
        vec![("quota of addresses exceeded", net::address(55, "more"))],
    );
    // The same pool again is no change.
    let hash = codec::state_hash(&cell.state);
    cell.done(pool("203.0.113.0/24"));
    assert_eq!(codec::state_hash(&cell.state), hash);
}

#[test]
fn load_balancers() {
    let listener = |protocol, port, target_port| Listener {
        protocol,
        port,
        target_port,
    };
    let with = |listeners: &[Listener]| {
        let listeners = listeners.to_vec();
        balancer(61, "new", move |lb| lb.listeners.clone_from(&listeners))
    };
    let tcp = listener(Protocol::Tcp, 80, 8080);
    let elastic = |id| {
        balancer(61, "new", move |lb| {
            lb.elastic_address = Some(AddressId(id))
        })
    };
    let many: Vec<_> = (1..=11)
        .map(|port| listener(Protocol::Udp, port, 1))
        .collect();
    let rows = vec![
        ("listeners: 1 to 10", with(&[])),
        ("listeners: 1 to 10", with(&many)),
        ("port 80 is given twice", with(&[tcp, tcp])),
        ("tcp or udp", with(&[listener(Protocol::Icmp, 80, 80)])),
        ("tcp or udp", with(&[listener(Protocol::Any, 80, 80)])),
        ("1 to 65535", with(&[listener(Protocol::Tcp, 0, 80)])),
        ("1 to 65535", with(&[listener(Protocol::Tcp, 80, 0)])),
        (
            "target_labels: at least one",
            balancer(61, "new", |lb| lb.target_labels.clear()),
        ),
        (
            "target_labels",
            balancer(61, "new", |lb| {
                lb.target_labels = Labels::from([("bad key".to_owned(), "\"\n".to_owned())]);
            }),
        ),
        (
            "health_check.port",
            balancer(61, "new", |lb| lb.health_check.port = 0),
        ),
        (
            "1 to 300 seconds",
            balancer(61, "new", |lb| lb.health_check.interval_ms = 999),
        ),
        (
            "1 to 300 seconds",
            balancer(61, "new", |lb| lb.health_check.interval_ms = 300_001),
        ),
        (
            "health_check.threshold",
            balancer(61, "new", |lb| lb.health_check.threshold = 0),
        ),
        (
            "health_check.threshold",
            balancer(61, "new", |lb| lb.health_check.threshold = 11),
        ),
        ("`front` exists", balancer(61, "front", |_| ())),
        ("exists", balancer(60, "new", |_| ())),
        (
            "not found",
            balancer(61, "new", |lb| lb.network = NetworkId(99)),
        ),
        (
            "not found",
            balancer(61, "new", |lb| lb.network = NetworkId(2)),
        ),
        ("points at instance `web`", elastic(50)),
        ("points at load balancer `front`", elastic(51)),
        ("not found", elastic(99)),
        (
            "no internet gateway",
            balancer(61, "new", |lb| {
                (lb.network, lb.elastic_address) = (NetworkId(21), Some(AddressId(52)));
            }),
        ),
        (
            "`spare` is no target of `front`",
            net::drain(60, SPARE, true),
        ),
        ("not found", net::drain(60, InstanceId(99), true)),
        ("not found", net::drain(99, WEB, true)),
        ("not found", net::delete_balancer(99)),
    ];
    refused(&mut furnished(), rows);
}

#[test]
fn reports_of_unknown_hosts_and_projects_in_use() {
    let mut cell = furnished();
    let foreign = |command: Command| match command {
        Command::CreateNetwork(mut c) => {
            c.project = OTHER;
            Command::CreateNetwork(c)
        }
        Command::CreateSecurityGroup(mut c) => {
            c.project = OTHER;
            Command::CreateSecurityGroup(c)
        }
        Command::AllocateAddress(mut c) => {
            c.project = OTHER;
            Command::AllocateAddress(c)
        }
        other => other,
    };
    let rows = vec![
        (
            "not found",
            net::traffic(NodeId(9), vec![net::totals(WEB, 1, 1, 1)]),
        ),
        (
            "not found",
            net::health(NodeId(9), vec![net::verdict(60, WEB, 1, true)]),
        ),
        // Ids of another project's things are as absent as those that never were.
        ("not found", Command::DeleteNetwork(OTHER, NetworkId(20))),
        ("not found", Command::DeleteSubnet(OTHER, SubnetId(30))),
        (
            "not found",
            Command::DeleteSecurityGroup(OTHER, SecurityGroupId(40)),
        ),
        ("not found", Command::ReleaseAddress(OTHER, AddressId(52))),
        (
            "not found",
            Command::SetInstanceSecurityGroups(OTHER, WEB, Vec::new()),
        ),
        (
            "not found",
            Command::DeleteNetwork(ProjectId(9), NetworkId(20)),
        ),
    ];
    refused(&mut cell, rows);
    cell.done(foreign(net::network(22, "lab", net::range("10.9.0.0/24"))));
    refused(
        &mut cell,
        vec![("1 networks", Command::DeleteProject(OTHER))],
    );
    cell.done(Command::DeleteNetwork(OTHER, NetworkId(22)));
    cell.done(foreign(net::group(45, "g")));
    refused(
        &mut cell,
        vec![("1 security groups", Command::DeleteProject(OTHER))],
    );
    cell.done(Command::DeleteSecurityGroup(OTHER, SecurityGroupId(45)));
    cell.done(foreign(net::address(55, "a")));
    refused(
        &mut cell,
        vec![("1 elastic addresses", Command::DeleteProject(OTHER))],
    );
    cell.done(Command::ReleaseAddress(OTHER, AddressId(55)));
    cell.done(Command::DeleteProject(OTHER));
}
