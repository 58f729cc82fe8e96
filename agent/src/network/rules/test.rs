//! Tables and plans as values: equal ones from equal wishes, and what each names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nube_types::net::{TRANSIT, transit_address};
use nube_types::{InstanceId, Name, NetworkId, PlacementEpoch, SecurityGroupId, SecurityRuleId};

use super::super::plan::{Way, plan};
use super::super::spec::{
    ElasticSpec, ElasticTarget, NetworkPortSpec, NetworkSpec, Peer, Protocol, RuleSpec, SubnetSpec,
};
use super::{Policy, overlay, table};
use crate::driver::PortSpec;
use crate::host::network::tap_name;

const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const ONE: InstanceId = InstanceId(1);
const TWO: InstanceId = InstanceId(2);
const GROUP: SecurityGroupId = SecurityGroupId(7);

fn port(last: u8, host: Ipv4Addr) -> NetworkPortSpec {
    NetworkPortSpec {
        name: Name::new(&format!("g{last}")).expect("a name"),
        address: Ipv4Addr::new(10, 0, 0, last),
        address_v6: None,
        mac: [2, 0, 0, 0, 0, last],
        host: Some(host),
        epoch: PlacementEpoch(1),
        local: host == OWN,
        groups: vec![GROUP],
    }
}

fn spec() -> NetworkSpec {
    let rule = |number, ingress| RuleSpec {
        id: SecurityRuleId(number),
        ingress,
        protocol: Protocol::Tcp,
        ports: Some((80, 90)),
        peer: Peer::Group(GROUP),
    };
    NetworkSpec {
        id: NetworkId(1),
        number: 1,
        name: Name::new("lab").expect("a name"),
        internet_gateway: true,
        mtu: 1450,
        subnets: vec![SubnetSpec {
            range: "10.0.0.0/24".parse().expect("a range"),
            gateway: Ipv4Addr::new(10, 0, 0, 1),
        }],
        ports: BTreeMap::from([(ONE, port(11, OWN)), (TWO, port(12, FAR))]),
        groups: BTreeMap::from([(GROUP, vec![rule(1, true), rule(2, false)])]),
        elastic: BTreeMap::new(),
        load_balancers: BTreeMap::new(),
    }
}

fn rendered(spec: &NetworkSpec) -> (String, String) {
    let guests = BTreeSet::from([ONE]);
    let policy = Policy {
        spec,
        overlay: Some(OWN),
        guests: &guests,
    };
    let table = table(&policy);
    (table.mark().to_owned(), format!("{:?}", table.commands()))
}

#[test]
fn equal_policies_are_equal_tables_and_others_are_not() {
    let (mark, _) = rendered(&spec());
    assert_eq!(rendered(&spec()).0, mark);
    let changes: [fn(&mut NetworkSpec); 5] = [
        |spec| spec.internet_gateway = false,
        |spec| spec.groups.get_mut(&GROUP).expect("group").truncate(1),
        |spec| spec.ports.get_mut(&TWO).expect("port").address = Ipv4Addr::new(10, 0, 0, 13),
        |spec| spec.ports.get_mut(&ONE).expect("port").local = false,
        |spec| {
            let target = ElasticTarget::Instance(ONE);
            let elastic = ElasticSpec {
                target,
                announced: true,
            };
            spec.elastic.insert(Ipv4Addr::new(203, 0, 113, 5), elastic);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut spec = spec();
        change(&mut spec);
        assert_ne!(rendered(&spec).0, mark, "change {number}");
    }
    // A name is for people: no rule knows it, and no flow is judged again for it.
    let mut renamed = spec();
    renamed.name = Name::new("other").expect("a name");
    assert_eq!(rendered(&renamed).0, mark);
    assert!(!rendered(&spec()).1.contains("lab"));
}

#[test]
fn each_address_comes_from_its_own_host() {
    let spec = spec();
    let guests = BTreeSet::from([ONE]);
    let of = |overlay| {
        let policy = Policy {
            spec: &spec,
            overlay,
            guests: &guests,
        };
        overlay::table(&policy).map(|table| format!("{:?}", table.commands()))
    };
    let text = of(Some(OWN)).expect("a table");
    assert!(text.contains("06:4e:c0:00:02:02") && text.contains("10.0.0.12"));
    assert!(
        !text.contains("10.0.0.11"),
        "what is here comes from nowhere else"
    );
    assert_eq!(of(None), None);
}

#[test]
fn a_plan_has_a_way_to_each_port() {
    let spec = spec();
    let near = PortSpec {
        network: NetworkId(1),
        network_number: 1,
        address: Ipv4Addr::new(10, 0, 0, 11),
        prefix_length: 24,
        gateway: Ipv4Addr::new(10, 0, 0, 1),
        mac: [2, 0, 0, 0, 0, 11],
        mtu: 1450,
        address_v6: None,
        network_name: "lab".to_owned(),
    };
    let guests = BTreeMap::from([(ONE, near)]);
    let uplink = Ipv4Addr::new(169, 254, 64, 1);
    let made = plan(Some(&spec), Some(OWN), &guests, uplink);
    let way = |address: [u8; 4], length| made.routes.get(&(Ipv4Addr::from(address).into(), length));
    assert_eq!(way([10, 0, 0, 11], 32), Some(&Way::Link(tap_name(ONE))));
    let far = Way::Via(transit_address(FAR).into(), "vx0".to_owned());
    assert_eq!(way([10, 0, 0, 12], 32), Some(&far));
    assert_eq!(way([10, 0, 0, 0], 24), Some(&Way::Unreachable));
    assert_eq!(way(TRANSIT.address().octets(), 10), Some(&Way::Unreachable));
    assert_eq!(
        way([0; 4], 0),
        Some(&Way::Via(uplink.into(), "up0".to_owned()))
    );
    assert_eq!(made.forwards.len(), 1);
    // Without a policy: the guest is reached by its host, and that is all.
    let bare = plan(None, Some(OWN), &guests, uplink);
    assert_eq!(bare.routes.len(), 1);
    // It moved away, and its tap is still here: the way leads to where it is.
    let mut moved = spec.clone();
    moved.ports.insert(ONE, port(11, FAR));
    let made = plan(Some(&moved), Some(OWN), &guests, uplink);
    assert_eq!(
        made.routes.get(&(Ipv4Addr::new(10, 0, 0, 11).into(), 32)),
        Some(&far)
    );
}
