//! Security groups: who may begin a flow with whom.
//!
//! The first packet of a flow passes the chain of its sender's groups (what may
//! leave) and that of its receiver's (what may enter); packets of the other
//! direction pass the same rules with source and destination swapped. Chains are
//! made per set of groups, not per port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nube_types::SecurityGroupId;
use nube_types::net::{LINK_LOCAL, METADATA, METADATA_V6, RESOLVER, TRANSIT};
use serde_json::{Value, json};

use super::super::spec::{Peer, Protocol, RuleSpec};
use super::{OVERLAY, Policy, TAP_PATTERN, UPLINK, balance};
use crate::host::nft::Rules;
use crate::host::nft::word::{
    accept, any_of, back, concat, count, differs, direction, drop, established, first_destination,
    from_link, goto, invalid, jump, matches, meta, payload, prefix, state, text, to_link,
    translated,
};

/// Counters of what is dropped, for people.
pub fn counters(rules: &mut Rules) {
    for name in ["link_local", "denied_out", "denied_in", "unknown_port"] {
        rules.counter(name);
    }
}

/// What of the host answers guests.
pub fn input(rules: &mut Rules) {
    let chain = "to_host";
    rules.base_chain(chain, "filter", "input", 0, "drop");
    rules.rule(chain, vec![established(), accept()]);
    rules.rule(chain, vec![from_link("lo"), accept()]);
    let mut guests = |mut statements: Vec<Value>| {
        statements.insert(0, from_link(TAP_PATTERN));
        statements.push(accept());
        rules.rule(chain, statements);
    };
    let port = |protocol: &str, number: u16| matches(payload(protocol, "dport"), json!(number));
    let to = |family: &str, address: IpAddr| matches(payload(family, "daddr"), text(address));
    // People ping their gateway.
    guests(vec![matches(
        payload("icmp", "type"),
        json!("echo-request"),
    )]);
    // Echo, and looking for routers and neighbours.
    let asked = any_of([128, 133, 135, 136].map(|kind: u8| json!(kind)).to_vec());
    guests(vec![matches(payload("icmpv6", "type"), asked)]);
    guests(vec![port("udp", 67)]);
    guests(vec![port("udp", 547)]);
    guests(vec![to("ip", METADATA.into()), port("tcp", 80)]);
    guests(vec![to("ip6", METADATA_V6.into()), port("tcp", 80)]);
    guests(vec![to("ip", RESOLVER.into()), port("udp", 53)]);
    guests(vec![to("ip", RESOLVER.into()), port("tcp", 53)]);
}

/// Everything that passes through the network's namespace.
pub fn forward(rules: &mut Rules, policy: &Policy<'_>, generation: u32) {
    let local = policy.local();
    let mut known: Vec<Value> = local.keys().map(|tap| json!(tap)).collect();
    if policy.overlay.is_some() {
        known.push(json!(OVERLAY));
    }
    if policy.spec.internet_gateway {
        known.push(json!(UPLINK));
    }
    rules.set("known", &["ifname"], known);
    members(rules, policy);
    balance::sets(rules, policy);
    elastic_pairs(rules, policy);
    let verdicts = group_chains(rules, policy);
    for (name, elements) in verdicts {
        rules.verdicts(name, &["ifname"], elements);
    }
    let marked = || json!({ "ct": { "key": "mark" } });
    let mark = json!({ "mangle": { "key": marked(), "value": generation } });
    first_packets(rules, &mark);
    answers(rules, &mark);

    let chain = "to_forward";
    rules.base_chain(chain, "filter", "forward", 0, "drop");
    // First, because all but the first packet of a flow ends here.
    let same = matches(marked(), json!(generation));
    rules.rule(chain, vec![same, established(), accept()]);
    for link in ["iifname", "oifname"] {
        let unknown = differs(meta(link), json!("@known"));
        rules.rule(chain, vec![unknown, count("unknown_port"), drop()]);
    }
    // Metadata and the links to the host lead nowhere else.
    let elsewhere = [
        ("ip", prefix(LINK_LOCAL.address(), LINK_LOCAL.length())),
        ("ip6", prefix("fe80::", 10)),
        ("ip6", prefix("fd00:ec2::", 32)),
    ];
    for (family, range) in elsewhere {
        let to = matches(payload(family, "daddr"), range);
        rules.rule(chain, vec![to, count("link_local"), drop()]);
    }
    rules.rule(chain, vec![invalid(), drop()]);
    // Errors about a flow that is judged again wait until it was.
    rules.rule(chain, vec![state(json!("related")), drop()]);
    rules.rule(chain, vec![direction("original"), goto("first")]);
    rules.rule(chain, vec![goto("answer")]);
}

/// The direction in which the flow began.
fn first_packets(rules: &mut Rules, mark: &Value) {
    let vmap = |link: &str, map: &str| json!({ "vmap": { "key": meta(link), "data": map } });
    let chain = "first";
    rules.chain(chain);
    rules.rule(chain, vec![translated(), jump("balanced_first")]);
    // From the internet only to those that have an address there.
    let there = concat(vec![first_destination(), payload("ip", "daddr")]);
    let there = differs(there, json!("@elastic_pairs"));
    rules.rule(chain, vec![from_link(UPLINK), there, drop()]);
    rules.rule(
        chain,
        vec![
            from_link(UPLINK),
            differs(meta("nfproto"), json!("ipv4")),
            drop(),
        ],
    );
    rules.rule(
        chain,
        vec![
            to_link(UPLINK),
            differs(meta("nfproto"), json!("ipv4")),
            drop(),
        ],
    );
    // Nobody's way to anywhere else: neither other hosts' nor the internet's.
    let outer = || json!({ "set": [OVERLAY, UPLINK] });
    let passing = vec![
        matches(meta("iifname"), outer()),
        matches(meta("oifname"), outer()),
        drop(),
    ];
    rules.rule(chain, passing);
    // Hosts are asked by nobody.
    let to_hosts = matches(
        payload("ip", "daddr"),
        prefix(TRANSIT.address(), TRANSIT.length()),
    );
    rules.rule(chain, vec![to_hosts, count("link_local"), drop()]);
    // Other hosts begin flows under their own name for balancers' sake only.
    let from_host = matches(
        payload("ip", "saddr"),
        prefix(TRANSIT.address(), TRANSIT.length()),
    );
    rules.rule(
        chain,
        vec![from_link(OVERLAY), from_host, goto("transit_first")],
    );
    rules.rule(chain, vec![vmap("iifname", "@leaving")]);
    rules.rule(chain, vec![vmap("oifname", "@entering")]);
    rules.rule(chain, vec![mark.clone(), accept()]);
    rules.chain("transit_first");
    let pair = concat(vec![
        meta("l4proto"),
        payload("ip", "daddr"),
        payload("th", "dport"),
    ]);
    let target = matches(pair, json!("@target_ports"));
    rules.rule("transit_first", vec![target, mark.clone(), accept()]);
    rules.rule("transit_first", vec![count("denied_in"), drop()]);
    balance::first(rules, mark);
}

/// The other direction: the same rules, mirrored.
fn answers(rules: &mut Rules, mark: &Value) {
    let vmap = |link: &str, map: &str| json!({ "vmap": { "key": meta(link), "data": map } });
    let chain = "answer";
    rules.chain(chain);
    rules.rule(chain, vec![translated(), jump("balanced_answer")]);
    let there = concat(vec![first_destination(), payload("ip", "saddr")]);
    let there = differs(there, json!("@elastic_pairs"));
    rules.rule(chain, vec![to_link(UPLINK), there, drop()]);
    let to_host = matches(
        payload("ip", "daddr"),
        prefix(TRANSIT.address(), TRANSIT.length()),
    );
    rules.rule(
        chain,
        vec![to_link(OVERLAY), to_host, goto("transit_answer")],
    );
    rules.rule(chain, vec![vmap("iifname", "@entered")]);
    rules.rule(chain, vec![vmap("oifname", "@left")]);
    rules.rule(chain, vec![mark.clone(), accept()]);
    rules.chain("transit_answer");
    let pair = concat(vec![
        meta("l4proto"),
        payload("ip", "saddr"),
        payload("th", "sport"),
    ]);
    let target = matches(pair, json!("@target_ports"));
    rules.rule("transit_answer", vec![target, mark.clone(), accept()]);
    rules.rule("transit_answer", vec![drop()]);
    balance::answer(rules, mark);
}

fn elastic_pairs(rules: &mut Rules, policy: &Policy<'_>) {
    let pair = |(public, private, _): (Ipv4Addr, Ipv4Addr, bool)| {
        concat(vec![text(public), text(private)])
    };
    let pairs = policy.elastic().map(pair).collect();
    rules.set("elastic_pairs", &["ipv4_addr", "ipv4_addr"], pairs);
}

fn set_name(group: SecurityGroupId, family: u8) -> String {
    format!("g{:016x}_{family}", group.0)
}

/// The addresses of those who carry a group, for each group that rules name.
fn members(rules: &mut Rules, policy: &Policy<'_>) {
    let spec = policy.spec;
    let peer = |rule: &RuleSpec| match rule.peer {
        Peer::Group(group) => Some(group),
        Peer::Range(_) => None,
    };
    let named: BTreeSet<SecurityGroupId> =
        spec.groups.values().flatten().filter_map(peer).collect();
    let mut v4: BTreeMap<SecurityGroupId, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    let mut v6: BTreeMap<SecurityGroupId, BTreeSet<Ipv6Addr>> = BTreeMap::new();
    for port in spec.ports.values() {
        for group in port.groups.iter().filter(|group| named.contains(group)) {
            v4.entry(*group).or_default().insert(port.address);
            v6.entry(*group).or_default().extend(port.address_v6);
        }
    }
    for group in named {
        let elements = v4.remove(&group).unwrap_or_default();
        let elements = elements.into_iter().map(text).collect();
        rules.set(&set_name(group, 4), &["ipv4_addr"], elements);
        let elements = v6.remove(&group).unwrap_or_default();
        let elements = elements.into_iter().map(text).collect();
        rules.set(&set_name(group, 6), &["ipv6_addr"], elements);
    }
}

/// A way past the rules: whose, and whether as they are written or mirrored.
struct Way {
    map: &'static str,
    chain: &'static str,
    ingress: bool,
    mirrored: bool,
    counter: &'static str,
}

const WAYS: [Way; 4] = [
    Way {
        map: "leaving",
        chain: "out",
        ingress: false,
        mirrored: false,
        counter: "denied_out",
    },
    Way {
        map: "entering",
        chain: "in",
        ingress: true,
        mirrored: false,
        counter: "denied_in",
    },
    Way {
        map: "left",
        chain: "out_back",
        ingress: false,
        mirrored: true,
        counter: "denied_out",
    },
    Way {
        map: "entered",
        chain: "in_back",
        ingress: true,
        mirrored: true,
        counter: "denied_in",
    },
];

/// Chains for each set of groups on this host, and which tap has which.
fn group_chains(rules: &mut Rules, policy: &Policy<'_>) -> Vec<(&'static str, Vec<Value>)> {
    let local = policy.local();
    let sets: BTreeSet<&[SecurityGroupId]> =
        local.values().map(|port| port.groups.as_slice()).collect();
    let numbers: BTreeMap<&[SecurityGroupId], usize> = sets.into_iter().zip(0..).collect();
    let mut verdicts = Vec::new();
    for way in &WAYS {
        for (groups, number) in &numbers {
            let chain = format!("{}_{number}", way.chain);
            rules.chain(&chain);
            let all = groups
                .iter()
                .filter_map(|group| policy.spec.groups.get(group));
            for rule in all.flatten().filter(|rule| rule.ingress == way.ingress) {
                for statements in statements(rule, way.mirrored) {
                    rules.rule(&chain, statements);
                }
            }
            rules.rule(&chain, vec![count(way.counter), drop()]);
        }
        let of_tap = |(tap, port): (&String, &&super::NetworkPortSpec)| {
            let number = numbers[port.groups.as_slice()];
            json!([tap, jump(&format!("{}_{number}", way.chain))])
        };
        verdicts.push((way.map, local.iter().map(of_tap).collect()));
    }
    verdicts
}

/// A rule as statements that let a packet go on; one per family that it is about.
fn statements(rule: &RuleSpec, mirrored: bool) -> Vec<Vec<Value>> {
    // The far side is the source of what enters; mirrored, it is where it goes.
    let field = if rule.ingress == mirrored {
        "daddr"
    } else {
        "saddr"
    };
    let port = if mirrored { "sport" } else { "dport" };
    let peers: Vec<(u8, Value)> = match rule.peer {
        Peer::Range(range) => vec![range_of(range.address(), range.length(), field)],
        Peer::Group(group) => [(4, "ip"), (6, "ip6")]
            .map(|(number, family)| {
                let set = json!(format!("@{}", set_name(group, number)));
                (number, matches(payload(family, field), set))
            })
            .to_vec(),
    };
    let of_peer = |(family, peer): (u8, Value)| {
        let mut statements = vec![peer];
        let protocol = match (rule.protocol, family) {
            (Protocol::Any, _) => None,
            (Protocol::Tcp, _) => Some("tcp"),
            (Protocol::Udp, _) => Some("udp"),
            (Protocol::Icmp, 4) => Some("icmp"),
            (Protocol::Icmp, _) => Some("ipv6-icmp"),
        };
        statements.extend(protocol.map(|word| matches(meta("l4proto"), json!(word))));
        if let (Some((first, last)), Some(word)) = (rule.ports, protocol) {
            let ports = match first == last {
                true => json!(first),
                false => json!({ "range": [first, last] }),
            };
            statements.push(matches(payload(word, port), ports));
        }
        statements.push(back());
        statements
    };
    peers.into_iter().map(of_peer).collect()
}

fn range_of(address: IpAddr, length: u8, field: &str) -> (u8, Value) {
    let (number, family, word) = match address {
        IpAddr::V4(_) => (4, "ip", "ipv4"),
        IpAddr::V6(_) => (6, "ip6", "ipv6"),
    };
    let peer = match length {
        // The packet filter has no range of all addresses.
        0 => matches(meta("nfproto"), json!(word)),
        32 if number == 4 => matches(payload(family, field), text(address)),
        128 => matches(payload(family, field), text(address)),
        length => matches(payload(family, field), prefix(address, length)),
    };
    (number, peer)
}
