//! What may enter from a guest: frames that name its own addresses, and asking
//! for the way. Each tap has a table of its own, made with the port and replaced
//! only when the port changes; what it drops is counted by reason.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::host::nft::word::{
    accept, any_of, count, drop, goto, mac, matches, meta, payload, prefix, raw, text,
};
use crate::host::nft::{Rules, Table};

/// Why frames of guests are dropped: names of counters.
pub const REASONS: [&str; 9] = [
    "mac",
    "arp",
    "ip4",
    "ip6",
    "nd",
    "ra",
    "dhcp",
    "vlan",
    "ethertype",
];
/// The gateway as 128 bits of a packet.
const GATEWAY: &str = "0xfe800000000000000000000000000001";
/// The upper half of link-local addresses.
const LINK_LOCAL_HALF: &str = "0xfe80000000000000";

/// A guest's port as far as its tap's rules care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardedPort {
    /// Name of the tap.
    pub tap: String,
    /// The only source MAC.
    pub mac: [u8; 6],
    /// The only source address.
    pub address: Ipv4Addr,
    /// The only source address of IPv6 beside those of its own link.
    pub address_v6: Option<Ipv6Addr>,
}

/// Name of the table of a tap, in the family `netdev`.
#[must_use]
pub fn table_name(tap: &str) -> String {
    format!("nube_{tap}")
}

/// The table of a tap.
#[must_use]
pub fn table(port: &GuardedPort) -> Table {
    let mut rules = Rules::replacing("netdev", &table_name(&port.tap));
    for reason in REASONS {
        rules.counter(reason);
    }
    for chain in ["c_arp", "c_ip4", "c_ip6", "c_nd"] {
        rules.chain(chain);
    }
    arp(&mut rules, port);
    ip4(&mut rules, port);
    ip6(&mut rules, port);
    neighbours(&mut rules, port);
    rules.ingress_chain("c_in", &port.tap);
    // The kernel takes the tag off before it looks: its bytes are asked for.
    let tags = any_of(vec![json!("0x8100"), json!("0x88a8")]);
    refuse(
        &mut rules,
        "c_in",
        "vlan",
        vec![matches(raw("ll", 96, 16), tags)],
    );
    let foreign = json!({ "match": {
        "op": "!=", "left": payload("ether", "saddr"), "right": mac(port.mac),
    }});
    refuse(&mut rules, "c_in", "mac", vec![foreign]);
    for (protocol, chain) in [("arp", "c_arp"), ("ip", "c_ip4"), ("ip6", "c_ip6")] {
        let is = matches(meta("protocol"), json!(protocol));
        rules.rule("c_in", vec![is, goto(chain)]);
    }
    refuse(&mut rules, "c_in", "ethertype", Vec::new());
    rules.finish()
}

fn refuse(rules: &mut Rules, chain: &str, reason: &str, mut statements: Vec<Value>) {
    statements.extend([count(reason), drop()]);
    rules.rule(chain, statements);
}

fn udp(source: u16, target: u16) -> [Value; 2] {
    [
        matches(payload("udp", "sport"), json!(source)),
        matches(payload("udp", "dport"), json!(target)),
    ]
}

fn arp(rules: &mut Rules, port: &GuardedPort) {
    // 0.0.0.0 is how a guest asks whether its address is taken.
    let own = any_of(vec![text(port.address), json!("0.0.0.0")]);
    let statements = vec![
        matches(payload("arp", "saddr ether"), mac(port.mac)),
        matches(payload("arp", "saddr ip"), own),
        accept(),
    ];
    rules.rule("c_arp", statements);
    refuse(rules, "c_arp", "arp", Vec::new());
}

fn ip4(rules: &mut Rules, port: &GuardedPort) {
    let server = matches(payload("udp", "sport"), json!(67));
    refuse(rules, "c_ip4", "dhcp", vec![server]);
    let own = matches(payload("ip", "saddr"), text(port.address));
    rules.rule("c_ip4", vec![own, accept()]);
    let mut asks = vec![
        matches(payload("ip", "saddr"), json!("0.0.0.0")),
        matches(payload("ip", "daddr"), json!("255.255.255.255")),
    ];
    asks.extend(udp(68, 67));
    asks.push(accept());
    rules.rule("c_ip4", asks);
    refuse(rules, "c_ip4", "ip4", Vec::new());
}

fn ip6(rules: &mut Rules, port: &GuardedPort) {
    let kind = |types: &[u8]| {
        let types = types.iter().map(|number| json!(number)).collect();
        matches(payload("icmpv6", "type"), any_of(types))
    };
    // Router advertisements and redirects.
    refuse(rules, "c_ip6", "ra", vec![kind(&[134, 137])]);
    let server = matches(payload("udp", "sport"), json!(547));
    refuse(rules, "c_ip6", "dhcp", vec![server]);
    rules.rule("c_ip6", vec![kind(&[133, 135, 136]), goto("c_nd")]);
    if let Some(own) = port.address_v6 {
        let own = matches(payload("ip6", "saddr"), text(own));
        rules.rule("c_ip6", vec![own, accept()]);
    }
    let servers = any_of(vec![json!("fe80::1"), json!("ff02::1:2")]);
    let mut asks = vec![
        matches(payload("ip6", "saddr"), prefix("fe80::", 64)),
        matches(payload("ip6", "daddr"), servers),
    ];
    asks.extend(udp(546, 547));
    asks.push(accept());
    rules.rule("c_ip6", asks);
    // Who listens to which multicast: every guest says so, nobody wants to know.
    rules.rule("c_ip6", vec![kind(&[130, 131, 132, 143]), drop()]);
    refuse(rules, "c_ip6", "ip6", Vec::new());
}

/// Solicitations and advertisements about the guest's own addresses.
fn neighbours(rules: &mut Rules, port: &GuardedPort) {
    let source = || payload("ip6", "saddr");
    let kind = |number: u8| matches(payload("icmpv6", "type"), json!(number));
    let as_gateway = matches(source(), json!("fe80::1"));
    refuse(rules, "c_nd", "nd", vec![as_gateway]);
    let about_gateway = matches(raw("th", 64, 128), json!(GATEWAY));
    refuse(rules, "c_nd", "nd", vec![kind(136), about_gateway.clone()]);
    // Whether an address is taken may not be asked of the gateway's.
    let nobody = matches(source(), json!("::"));
    refuse(
        rules,
        "c_nd",
        "nd",
        vec![nobody.clone(), kind(135), about_gateway],
    );
    let mut sources = vec![json!("::"), prefix("fe80::", 64)];
    sources.extend(port.address_v6.map(text));
    for number in [133, 135] {
        let known = matches(source(), any_of(sources.clone()));
        rules.rule("c_nd", vec![kind(number), known, accept()]);
    }
    // An advertisement names the guest's MAC as the target's.
    let [a, b, c, d, e, f] = port.mac;
    let option = format!("0x0201{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}");
    let option = matches(raw("th", 192, 64), json!(option));
    let mut targets = vec![matches(raw("th", 64, 64), json!(LINK_LOCAL_HALF))];
    if let Some(own) = port.address_v6 {
        let own = json!(format!("{:#034x}", own.to_bits()));
        targets.push(matches(raw("th", 64, 128), own));
    }
    for target in targets {
        let known = matches(source(), any_of(sources[1..].to_vec()));
        let statements = vec![kind(136), known, target, option.clone(), accept()];
        rules.rule("c_nd", statements);
    }
    refuse(rules, "c_nd", "nd", Vec::new());
}
