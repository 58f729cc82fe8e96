//! Addresses that change on the way: elastic ones, those of load balancers, and
//! the host's for everybody else.

use serde_json::{Value, json};

use super::{OVERLAY, Policy, UPLINK, balance};
use crate::host::nft::Rules;
use crate::host::nft::word::{differs, masquerade, meta, payload, to_link};

/// Translation in both directions.
pub fn chains(rules: &mut Rules, policy: &Policy<'_>) {
    let chain = "to_prerouting";
    rules.base_chain(chain, "nat", "prerouting", -100, "accept");
    balance::translate(rules, chain, policy);
    // For guests of the network, too: they meet whom the address leads to.
    let inward = policy
        .elastic()
        .map(|(public, private, _)| (public, private));
    if let Some(dnat) = translation("dnat", "daddr", inward) {
        let inside = differs(meta("iifname"), json!(OVERLAY));
        rules.rule(chain, vec![inside, dnat]);
    }
    balance::refuse(rules);

    let chain = "to_postrouting";
    rules.base_chain(chain, "nat", "postrouting", 100, "accept");
    balance::hide_asker(rules, chain, policy);
    if policy.spec.internet_gateway {
        let announced = policy.elastic().filter(|(_, _, announced)| *announced);
        let outward = announced.map(|(public, private, _)| (private, public));
        if let Some(snat) = translation("snat", "saddr", outward) {
            rules.rule(chain, vec![to_link(UPLINK), snat]);
        }
        rules.rule(chain, vec![to_link(UPLINK), masquerade()]);
    }
}

fn translation(
    verb: &str,
    field: &str,
    pairs: impl Iterator<Item = (std::net::Ipv4Addr, std::net::Ipv4Addr)>,
) -> Option<Value> {
    let pairs: Vec<Value> = pairs
        .map(|(from, to)| json!([from.to_string(), to.to_string()]))
        .collect();
    let map = json!({ "map": { "key": payload("ip", field), "data": { "set": pairs } } });
    (!pairs.is_empty()).then(|| json!({ verb: { "family": "ip", "addr": map } }))
}
