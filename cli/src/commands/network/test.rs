//! A small project drawn: tables, tree and picture.

use nube_proto::v1::{MappedLoadBalancer, MappedNetwork, MappedPort, NetworkMap, Subnet};

use super::*;

fn network(name: &str, internet_gateway: bool) -> Network {
    Network {
        id: "net-0000000000000001".into(),
        name: name.into(),
        number: 7,
        subnets: vec![Subnet {
            id: "subnet-0000000000000001".into(),
            network_id: "net-0000000000000001".into(),
            name: "default".into(),
            cidr: "10.0.0.0/16".into(),
            gateway: "10.0.0.1".into(),
            addresses_free: 65_529,
            created_at_ms: 1_790_000_000_000,
            ..Subnet::default()
        }],
        internet_gateway,
        instances: 2,
        ipv6_cidr: "fd00:1:2::/64".into(),
        mtu: 1450,
        created_at_ms: 1_790_000_000_000,
        ..Network::default()
    }
}

fn port(name: &str, last: u8, elastic: &str) -> MappedPort {
    MappedPort {
        instance_id: format!("i-{last:016x}"),
        instance_name: name.into(),
        state: "running".into(),
        subnet_id: "subnet-0000000000000001".into(),
        private_ip: format!("10.0.0.{last}"),
        ipv6: format!("fd00:1:2::{last:x}"),
        elastic_address: elastic.into(),
        security_groups: vec!["default".into()],
        host: "node-1".into(),
    }
}

fn sample() -> NetworkMap {
    let lab = MappedNetwork {
        network: Some(network("default", true)),
        ports: vec![port("web", 4, "198.18.0.1"), port("db", 5, "")],
        load_balancers: vec![MappedLoadBalancer {
            id: "lb-0000000000000001".into(),
            name: "front".into(),
            listeners: vec!["tcp 10.0.0.6:80".into(), "tcp 198.18.0.2:80".into()],
            targets: vec!["i-0000000000000004".into()],
        }],
    };
    let island = MappedNetwork {
        network: Some(network("island", false)),
        ..MappedNetwork::default()
    };
    NetworkMap {
        networks: vec![lab, island],
        revision: 42,
    }
}

#[test]
fn networks_are_golden() {
    let all = [network("default", true), network("island", false)];
    let text = table(Look::default(), &all) + "\n" + &details(Look::default(), &all[0]);
    crate::golden::check_narrow("network", &text);
}

#[test]
fn maps_are_golden_and_well_formed() {
    crate::golden::check_narrow("network_map", &tree::text(&sample()));
    crate::golden::check("network_map_svg", &picture::svg(&sample()));
}

#[test]
fn texts_of_others_stay_texts() {
    let mut map = sample();
    map.networks[0].ports[0].instance_name = "<script>\"&\u{1b}[2J\n</svg>".into();
    let drawn = picture::svg(&map);
    assert!(
        !drawn.contains("<script>") && !drawn.contains('\u{1b}'),
        "{drawn}"
    );
    assert!(drawn.contains("&lt;script&gt;"), "{drawn}");
    assert_eq!(drawn.matches("</svg>").count(), 1);
    assert!(!tree::text(&map).contains('\u{1b}'));
}
