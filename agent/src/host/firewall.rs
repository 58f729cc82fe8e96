//! Packet rules as data, and the one call that puts them into the kernel.
//!
//! All rules of a namespace stand in one inet table and one netdev table, both
//! replaced in one transaction: at no moment is a port without its rules. The
//! functions that make rules are pure; names and addresses come from ids and
//! typed values, never from a user's text.
//!
//! ```text
//!  guest ─► tap ingress (netdev: MAC, ARP and source address pinned)
//!        ─► forward (inet: conntrack; guests of one network may talk; out
//!           only through up0) ─► masquerade ─► veth ─► host namespace
//!        ─► forward (inet: not to the host's networks, not to other
//!           networks) ─► masquerade ─► the world
//! ```

use std::io;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::link::Prefix;

const NFT: &str = "/usr/sbin/nft";
/// Taps in a network namespace begin with this.
pub const TAP_PATTERN: &str = "t*";
/// Links from the host namespace into networks begin with this.
pub const UPLINK_PATTERN: &str = "nl-*";
/// The end of such a link in the network namespace.
pub const UPLINK_INSIDE: &str = "up0";
/// Where links between the host and its networks have their addresses.
pub const UPLINK_PREFIX: Prefix = Prefix {
    address: Ipv4Addr::new(169, 254, 64, 0),
    length: 18,
};
const LINK_LOCAL: Prefix = Prefix {
    address: Ipv4Addr::new(169, 254, 0, 0),
    length: 16,
};
const MULTICAST_AND_ABOVE: Prefix = Prefix {
    address: Ipv4Addr::new(224, 0, 0, 0),
    length: 3,
};

/// A guest's port as far as rules care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardedPort {
    /// Name of the tap.
    pub tap: String,
    /// The only source MAC.
    pub mac: [u8; 6],
    /// The only source address.
    pub address: Ipv4Addr,
}

/// Rules of one network's namespace on this host.
#[must_use]
pub fn network_rules(ports: &[GuardedPort]) -> Value {
    let mut rules = Rules::replacing("inet", "nube");
    rules.base_chain("forward", "filter", "forward", 0, "drop");
    // First, because all but the first packet of a flow ends here.
    rules.rule("forward", vec![established(), accept()]);
    rules.rule("forward", vec![invalid(), drop()]);
    // Metadata and the links to the host lead nowhere else.
    rules.rule("forward", vec![to(&[LINK_LOCAL]), drop()]);
    rules.rule(
        "forward",
        vec![from_link(TAP_PATTERN), to_link(TAP_PATTERN), accept()],
    );
    rules.rule(
        "forward",
        vec![from_link(TAP_PATTERN), to_link(UPLINK_INSIDE), accept()],
    );
    rules.base_chain("input", "filter", "input", 0, "drop");
    rules.rule("input", vec![established(), accept()]);
    rules.rule("input", vec![from_link("lo"), accept()]);
    // People ping their gateway; nothing else of the host answers.
    rules.rule(
        "input",
        vec![
            from_link(TAP_PATTERN),
            matches(payload("icmp", "type"), json!("echo-request")),
            accept(),
        ],
    );
    rules.base_chain("postrouting", "nat", "postrouting", 100, "accept");
    rules.rule("postrouting", vec![to_link(UPLINK_INSIDE), masquerade()]);

    rules.switch_to("netdev", "nube");
    for port in ports {
        rules.port(port);
    }
    rules.finish()
}

/// Rules of the namespace that the agent itself lives in.
#[must_use]
pub fn host_rules(table: &str, closed: &[Prefix]) -> Value {
    let mut rules = Rules::replacing("inet", table);
    rules.base_chain("forward", "filter", "forward", 0, "accept");
    rules.rule("forward", vec![established(), accept()]);
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
    rules.base_chain("postrouting", "nat", "postrouting", 100, "accept");
    rules.rule("postrouting", vec![from(&[UPLINK_PREFIX]), masquerade()]);
    rules.finish()
}

/// Rules of a testbed in the namespace that carries its bridge.
#[must_use]
pub fn testbed_rules(table: &str, bridge: &str, subnet: Prefix, gateway: Ipv4Addr) -> Value {
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

/// Removes a table; absent is fine.
#[must_use]
pub fn no_rules(family: &'static str, table: &str) -> Value {
    let mut rules = Rules::replacing(family, table);
    let name = json!({ "family": family, "name": table });
    rules.commands.push(json!({ "delete": { "table": name } }));
    rules.finish()
}

/// Puts rules into the namespace of the calling thread, all or nothing.
/// Blocks for the run of `nft`.
pub fn apply(rules: &Value) -> io::Result<()> {
    let text = rules.to_string();
    // By its full name where it has one: nothing in the agent's PATH counts.
    let nft = std::path::Path::new(NFT);
    nftables::helper::apply_ruleset_raw(
        &text,
        nft.exists().then_some(nft),
        nftables::helper::DEFAULT_ARGS,
    )
    .map(|_| ())
    .map_err(io::Error::other)
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

/// A transaction under construction.
struct Rules {
    family: &'static str,
    table: String,
    commands: Vec<Value>,
}

impl Rules {
    fn replacing(family: &'static str, table: &str) -> Self {
        let mut rules = Self {
            family,
            table: String::new(),
            commands: Vec::new(),
        };
        rules.switch_to(family, table);
        rules
    }

    /// `add` before `delete`, so that the deletion cannot fail for absence.
    fn switch_to(&mut self, family: &'static str, table: &str) {
        self.family = family;
        table.clone_into(&mut self.table);
        let name = json!({ "family": family, "name": table });
        self.commands.push(json!({ "add": { "table": name } }));
        self.commands.push(json!({ "delete": { "table": name } }));
        self.commands.push(json!({ "add": { "table": name } }));
    }

    fn base_chain(&mut self, name: &str, kind: &str, hook: &str, priority: i32, policy: &str) {
        let chain = json!({
            "family": self.family, "table": self.table, "name": name,
            "type": kind, "hook": hook, "prio": priority, "policy": policy,
        });
        self.commands.push(json!({ "add": { "chain": chain } }));
    }

    fn rule(&mut self, chain: &str, statements: Vec<Value>) {
        let rule = json!({
            "family": self.family, "table": self.table, "chain": chain, "expr": statements,
        });
        self.commands.push(json!({ "add": { "rule": rule } }));
    }

    /// What may enter from a guest: IPv4 and ARP that name its own addresses.
    /// All else falls to the policy: IPv6, VLAN tags, foreign sources.
    fn port(&mut self, port: &GuardedPort) {
        let chain = json!({
            "family": self.family, "table": self.table, "name": port.tap,
            "type": "filter", "hook": "ingress", "dev": port.tap, "prio": -300, "policy": "drop",
        });
        self.commands.push(json!({ "add": { "chain": chain } }));
        let [a, b, c, d, e, f] = port.mac;
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        let address = port.address.to_string();
        let source = matches(payload("ether", "saddr"), json!(mac));
        let protocol = |name| matches(meta("protocol"), json!(name));
        self.rule(
            &port.tap,
            vec![
                source.clone(),
                protocol("ip"),
                matches(payload("ip", "saddr"), json!(address)),
                accept(),
            ],
        );
        // 0.0.0.0 is how a guest asks whether its address is taken.
        self.rule(
            &port.tap,
            vec![
                source,
                protocol("arp"),
                matches(payload("arp", "saddr ether"), json!(mac)),
                matches(
                    payload("arp", "saddr ip"),
                    json!({ "set": [address, "0.0.0.0"] }),
                ),
                accept(),
            ],
        );
    }

    fn finish(self) -> Value {
        json!({ "nftables": self.commands })
    }
}

fn accept() -> Value {
    json!({ "accept": null })
}

fn drop() -> Value {
    json!({ "drop": null })
}

fn masquerade() -> Value {
    json!({ "masquerade": null })
}

fn matches(left: Value, right: Value) -> Value {
    json!({ "match": { "op": "==", "left": left, "right": right } })
}

fn differs(left: Value, right: Value) -> Value {
    json!({ "match": { "op": "!=", "left": left, "right": right } })
}

fn meta(key: &str) -> Value {
    json!({ "meta": { "key": key } })
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({ "payload": { "protocol": protocol, "field": field } })
}

fn from_link(pattern: &str) -> Value {
    matches(meta("iifname"), json!(pattern))
}

fn to_link(pattern: &str) -> Value {
    matches(meta("oifname"), json!(pattern))
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

fn established() -> Value {
    let state = json!({ "ct": { "key": "state" } });
    json!({ "match": { "op": "in", "left": state, "right": ["established", "related"] } })
}

fn invalid() -> Value {
    let state = json!({ "ct": { "key": "state" } });
    json!({ "match": { "op": "in", "left": state, "right": "invalid" } })
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
