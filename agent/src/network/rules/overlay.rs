//! What may come from other hosts: each address from the host that its port is
//! placed on, and from no other. A host that lost an instance sends as it in vain.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use nube_types::net::{transit_address, transit_mac};
use serde_json::{Value, json};

use super::{OVERLAY, Policy};
use crate::host::nft::word::{accept, concat, count, drop, mac, matches, payload, text};
use crate::host::nft::{Rules, Table};

/// Name of the table, in the family `netdev`.
pub const TABLE: &str = "nube_overlay";

/// The table; nothing where nothing crosses hosts.
#[must_use]
pub fn table(policy: &Policy<'_>) -> Option<Table> {
    let own = policy.overlay?;
    let mut hosts = BTreeSet::new();
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for port in policy.spec.ports.values() {
        let Some(host) = port.host.filter(|host| *host != own) else {
            continue;
        };
        hosts.insert(host);
        v4.push(pair(host, text(port.address)));
        v6.extend(port.address_v6.map(|address| pair(host, text(address))));
    }
    v4.extend(
        hosts
            .iter()
            .map(|host| pair(*host, text(transit_address(*host)))),
    );
    let mut rules = Rules::replacing("netdev", TABLE);
    rules.counter("fenced");
    rules.set("sources_4", &["ether_addr", "ipv4_addr"], v4);
    rules.set("sources_6", &["ether_addr", "ipv6_addr"], v6);
    rules.ingress_chain("c_in", OVERLAY);
    for (family, set) in [("ip", "@sources_4"), ("ip6", "@sources_6")] {
        let source = concat(vec![payload("ether", "saddr"), payload(family, "saddr")]);
        rules.rule("c_in", vec![matches(source, json!(set)), accept()]);
    }
    rules.rule("c_in", vec![count("fenced"), drop()]);
    Some(rules.finish())
}

fn pair(host: Ipv4Addr, address: Value) -> Value {
    concat(vec![mac(transit_mac(host)), address])
}
