//! Load balancers: which translated flows are theirs, and that targets take them.
//! Whoever is a target has agreed to it: its groups need no rule for that.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::super::spec::{ElasticTarget, ListenerSpec, LoadBalancerSpec, Protocol};
use super::{Policy, TAP_PATTERN};
use crate::host::nft::Rules;
use crate::host::nft::word::{
    accept, back, concat, differs, drop, first_destination, from_link, matches, meta, payload,
    text, to_link, translated,
};

/// A balancer with every address that leads to it.
pub(super) fn all<'a>(
    policy: &Policy<'a>,
) -> impl Iterator<Item = (Vec<Ipv4Addr>, &'a LoadBalancerSpec)> {
    let spec = policy.spec;
    spec.load_balancers.iter().map(move |(id, balancer)| {
        let leads = |target| target == ElasticTarget::LoadBalancer(*id);
        let public = spec.elastic.iter().filter(|(_, to)| leads(to.target));
        let public = public.filter(|_| spec.internet_gateway);
        let mut addresses = vec![balancer.address];
        addresses.extend(public.map(|(address, _)| *address));
        (addresses, balancer)
    })
}

/// The word of rules.
pub(super) fn word(listener: &ListenerSpec) -> &'static str {
    match listener.protocol {
        Protocol::Udp => "udp",
        _ => "tcp",
    }
}

/// Targets, also those that take no new flows.
pub(super) fn sets(rules: &mut Rules, policy: &Policy<'_>) {
    let spec = policy.spec;
    let mut flows = Vec::new();
    let mut ports = Vec::new();
    let mut addresses = Vec::new();
    for (leading, balancer) in all(policy) {
        addresses.extend(leading.iter().map(text));
        for target in balancer.targets.keys().filter_map(|id| spec.ports.get(id)) {
            for listener in &balancer.listeners {
                let word = word(listener);
                let port = concat(vec![
                    json!(word),
                    text(target.address),
                    json!(listener.target_port),
                ]);
                if !ports.contains(&port) {
                    ports.push(port);
                }
                for address in &leading {
                    let flow = vec![
                        json!(word),
                        text(address),
                        text(target.address),
                        json!(listener.target_port),
                    ];
                    flows.push(concat(flow));
                }
            }
        }
    }
    flows.dedup();
    let kinds = ["inet_proto", "ipv4_addr", "ipv4_addr", "inet_service"];
    rules.set("balanced", &kinds, flows);
    let kinds = ["inet_proto", "ipv4_addr", "inet_service"];
    rules.set("target_ports", &kinds, ports);
    rules.set("balancers", &["ipv4_addr"], addresses);
}

pub(super) fn first(rules: &mut Rules, mark: &Value) {
    let chain = "balanced_first";
    rules.chain(chain);
    let flow = flow("daddr", "dport");
    rules.rule(chain, vec![differs(flow, json!("@balanced")), back()]);
    // Who asks may only ask whom its own groups let it ask.
    let asks = json!({ "vmap": { "key": meta("iifname"), "data": "@leaving" } });
    rules.rule(chain, vec![from_link(TAP_PATTERN), asks]);
    rules.rule(chain, vec![mark.clone(), accept()]);
}

pub(super) fn answer(rules: &mut Rules, mark: &Value) {
    let chain = "balanced_answer";
    rules.chain(chain);
    let flow = flow("saddr", "sport");
    rules.rule(chain, vec![differs(flow, json!("@balanced")), back()]);
    let asked = json!({ "vmap": { "key": meta("oifname"), "data": "@left" } });
    rules.rule(chain, vec![to_link(TAP_PATTERN), asked]);
    rules.rule(chain, vec![mark.clone(), accept()]);
}

fn flow(target: &str, port: &str) -> Value {
    concat(vec![
        meta("l4proto"),
        first_destination(),
        payload("ip", target),
        payload("th", port),
    ])
}

/// What reaches a balancer's address and was not translated found no target.
pub(super) fn refuse(rules: &mut Rules) {
    let chain = "no_target";
    rules.base_chain(chain, "filter", "prerouting", -90, "accept");
    let theirs = || matches(payload("ip", "daddr"), json!("@balancers"));
    let reset = json!({ "reject": { "type": "tcp reset" } });
    rules.rule(
        chain,
        vec![theirs(), matches(meta("l4proto"), json!("tcp")), reset],
    );
    let unreachable = json!({ "reject": { "type": "icmp", "expr": "port-unreachable" } });
    rules.rule(
        chain,
        vec![
            theirs(),
            matches(meta("l4proto"), json!("udp")),
            unreachable,
        ],
    );
    rules.rule(chain, vec![theirs(), drop()]);
}

/// New flows go to one of the targets that take them, by chance.
pub(super) fn translate(rules: &mut Rules, chain: &str, policy: &Policy<'_>) {
    for (addresses, balancer) in all(policy) {
        let taking = balancer.targets.iter().filter(|(_, takes_new)| **takes_new);
        let taking = taking.filter_map(|(id, _)| policy.spec.ports.get(id));
        let targets: Vec<Value> = (0..)
            .zip(taking)
            .map(|(number, port): (u32, _)| json!([number, port.address.to_string()]))
            .collect();
        if targets.is_empty() {
            continue;
        }
        let random = json!({ "numgen": { "mode": "random", "mod": targets.len(), "offset": 0 } });
        let target = json!({ "map": { "key": random, "data": { "set": targets } } });
        for listener in &balancer.listeners {
            for address in &addresses {
                let port = listener.target_port;
                rules.rule(
                    chain,
                    vec![
                        differs(meta("iifname"), json!(super::OVERLAY)),
                        matches(payload("ip", "daddr"), text(address)),
                        matches(payload(word(listener), "dport"), json!(listener.port)),
                        json!({ "dnat": { "family": "ip", "addr": target, "port": port } }),
                    ],
                );
            }
        }
    }
}

/// Targets answer this host, which knows whom they answer.
pub(super) fn hide_asker(rules: &mut Rules, chain: &str, policy: &Policy<'_>) {
    let gateway = policy.spec.subnets.first().map(|subnet| subnet.gateway);
    if let Some(own) = policy.transit().or(gateway) {
        let theirs = matches(first_destination(), json!("@balancers"));
        let snat = json!({ "snat": { "family": "ip", "addr": own.to_string() } });
        rules.rule(chain, vec![translated(), theirs, snat]);
    }
}
