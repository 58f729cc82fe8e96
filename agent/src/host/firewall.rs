//! Rules of a host's own namespace and of testbeds. Those inside of networks are
//! in `network::rules`.
//!
//! ```text
//!  network ─► veth nl-… ─► forward (own elastic addresses or the link's; not to
//!             the host's networks, not to other networks) ─► masquerade ─► world
//!  world ─► forward (elastic addresses only) ─► veth nl-… ─► network
//!  hosts ─► input (frames of the overlay: of known hosts, with their MACs)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nube_types::net::transit_mac;
use serde_json::{Value, json};

use super::link::Prefix;
use super::nft::word::{
    accept, back, concat, count, differs, drop, established, from_link, jump, masquerade, matches,
    meta, payload, raw, text, to_link,
};
use super::nft::{Rules, Table};

/// Links from the host namespace into networks begin with this.
pub const UPLINK_PATTERN: &str = "nl-*";
/// Where links between the host and its networks have their addresses.
pub const UPLINK_PREFIX: Prefix = Prefix {
    address: Ipv4Addr::new(169, 254, 64, 0),
    length: 18,
};
/// Where hosts send each other frames of networks (IANA's port of VXLAN).
pub const OVERLAY_PORT: u16 = 4789;
const LINK_LOCAL: Prefix = Prefix {
    address: Ipv4Addr::new(169, 254, 0, 0),
    length: 16,
};
const MULTICAST_AND_ABOVE: Prefix = Prefix {
    address: Ipv4Addr::new(224, 0, 0, 0),
    length: 3,
};

/// What a host lets in, as told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostWish {
    /// Elastic addresses that this host answers for, and the link to each.
    pub elastic: BTreeMap<Ipv4Addr, String>,
    /// Overlay addresses of other hosts.
    pub peers: BTreeSet<Ipv4Addr>,
}

/// Rules of the namespace that the agent itself lives in.
#[must_use]
pub fn host_rules(table: &str, closed: &[Prefix], wish: &HostWish) -> Table {
    let mut rules = Rules::replacing("inet", table);
    let pair = |(address, link): (&Ipv4Addr, &String)| concat(vec![json!(link), text(address)]);
    let pairs = wish.elastic.iter().map(pair).collect();
    rules.set("elastic", &["ifname", "ipv4_addr"], pairs);
    rules.counter("foreign");
    rules.base_chain("forward", "filter", "forward", 0, "accept");
    // First, for flows that stand too: an address that moved away is used no more.
    rules.rule(
        "forward",
        vec![
            from_link(UPLINK_PATTERN),
            differs(payload("ip", "saddr"), prefixes(&[UPLINK_PREFIX])),
            differs(
                concat(vec![meta("iifname"), payload("ip", "saddr")]),
                json!("@elastic"),
            ),
            count("foreign"),
            drop(),
        ],
    );
    rules.rule("forward", vec![established(), accept()]);
    let inward = concat(vec![meta("oifname"), payload("ip", "daddr")]);
    rules.rule(
        "forward",
        vec![matches(inward, json!("@elastic")), accept()],
    );
    let mut closed = closed.to_vec();
    closed.extend([LINK_LOCAL, MULTICAST_AND_ABOVE]);
    let closed = outermost(closed);
    rules.rule(
        "forward",
        vec![from_link(UPLINK_PATTERN), to(&closed), drop()],
    );
    // Into a network only as an answer: that covers other networks, too.
    rules.rule("forward", vec![to_link(UPLINK_PATTERN), drop()]);
    rules.base_chain("input", "filter", "input", 0, "accept");
    // No address of this host serves guests.
    rules.rule("input", vec![from_link(UPLINK_PATTERN), drop()]);
    overlay_guard(&mut rules, &wish.peers);
    rules.base_chain("postrouting", "nat", "postrouting", 100, "accept");
    rules.rule("postrouting", vec![from(&[UPLINK_PREFIX]), masquerade()]);
    rules.finish()
}

/// Frames of networks come from hosts that are known, each under the MAC that
/// follows from its address: inside, that MAC says whose frame it is.
fn overlay_guard(rules: &mut Rules, peers: &BTreeSet<Ipv4Addr>) {
    // Behind the headers of UDP and VXLAN and the inner destination.
    const INNER_SOURCE: u32 = (8 + 8 + 6) * 8;
    rules.counter("overlay");
    let chain = |peer: &Ipv4Addr| format!("peer_{:08x}", peer.to_bits());
    for peer in peers {
        let chain = chain(peer);
        rules.chain(&chain);
        let [a, b, c, d, e, f] = transit_mac(*peer);
        let mac = json!(format!("0x{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}"));
        rules.rule(
            &chain,
            vec![matches(raw("th", INNER_SOURCE, 48), mac), accept()],
        );
        rules.rule(&chain, vec![back()]);
    }
    let verdict = |peer: &Ipv4Addr| json!([peer.to_string(), jump(&chain(peer))]);
    let verdicts = peers.iter().map(verdict).collect();
    rules.verdicts("peers", &["ipv4_addr"], verdicts);
    rules.base_chain("overlay_input", "filter", "input", -10, "accept");
    let port = matches(payload("udp", "dport"), json!(OVERLAY_PORT));
    let source = json!({ "vmap": { "key": payload("ip", "saddr"), "data": "@peers" } });
    rules.rule("overlay_input", vec![port.clone(), source]);
    rules.rule("overlay_input", vec![port, count("overlay"), drop()]);
}

/// Rules of a testbed in the namespace that carries its bridge.
#[must_use]
pub fn testbed_rules(table: &str, bridge: &str, subnet: Prefix, gateway: Ipv4Addr) -> Table {
    let mut rules = Rules::replacing("inet", table);
    rules.base_chain("postrouting", "nat", "postrouting", 100, "accept");
    let elsewhere = differs(meta("oifname"), json!(bridge));
    rules.rule(
        "postrouting",
        vec![from(&[subnet]), elsewhere, masquerade()],
    );
    rules.base_chain("input", "filter", "input", 0, "accept");
    // Guests reach this machine as their host. Its other addresses must not be
    // a way around the hosts' rules, which close the testbed's subnet to them.
    let other_address = differs(payload("ip", "daddr"), json!(gateway.to_string()));
    rules.rule("input", vec![from_link(bridge), established(), accept()]);
    rules.rule("input", vec![from_link(bridge), other_address, drop()]);
    rules.finish()
}

/// Prefixes that no other prefix of the list contains: nft refuses overlaps.
fn outermost(mut prefixes: Vec<Prefix>) -> Vec<Prefix> {
    prefixes.sort_by_key(|prefix| (prefix.length, prefix.address));
    let mut kept: Vec<Prefix> = Vec::new();
    for prefix in prefixes {
        if !kept.iter().any(|outer| outer.contains(prefix)) {
            kept.push(prefix);
        }
    }
    kept
}

fn prefixes(list: &[Prefix]) -> Value {
    let items: Vec<Value> = list
        .iter()
        .map(|prefix| {
            json!({ "prefix": { "addr": prefix.address.to_string(), "len": prefix.length } })
        })
        .collect();
    json!({ "set": items })
}

fn to(list: &[Prefix]) -> Value {
    matches(payload("ip", "daddr"), prefixes(list))
}

fn from(list: &[Prefix]) -> Value {
    matches(payload("ip", "saddr"), prefixes(list))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn nested_prefixes_are_left_out() {
        let lan = Prefix::around(Ipv4Addr::new(10, 0, 0, 0), 8);
        let inside = Prefix::around(Ipv4Addr::new(10, 213, 7, 0), 24);
        let other = Prefix::around(Ipv4Addr::new(192, 0, 2, 0), 24);
        assert_eq!(outermost(vec![inside, other, lan, lan]), vec![lan, other]);
    }
}
