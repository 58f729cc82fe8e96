//! Packet rules of networks, as data. Pure: from checked values to tables.
//!
//! ```text
//!  guest ─► tap ingress (spoof: own addresses only, per tap)
//!  host  ─► vx0 ingress (overlay: each source from its port's host only)
//!        ─► prerouting (nat: elastic addresses, load balancers)
//!        ─► forward (filter: groups; a flow is looked up once per generation)
//!        ─► forward (meter: bytes to and from the internet)
//!        ─► postrouting (nat: elastic addresses, transit, masquerade)
//! ```
//!
//! All of a network's policy stands in one table, `inet nube`, replaced as one
//! transaction. Flows that it let through carry its generation as their mark:
//! under another policy every flow is judged again, in both directions.

pub mod balance;
pub mod filter;
pub mod meter;
pub mod nat;
pub mod overlay;
pub mod spoof;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nube_types::InstanceId;
use nube_types::net::transit_address;

use super::spec::{ElasticTarget, NetworkPortSpec, NetworkSpec};
use crate::host::network::tap_name;
use crate::host::nft::{Rules, Table};

/// Name of a network's table of rules, in the family `inet`.
pub const TABLE: &str = "nube";
/// Taps in a network namespace begin with this.
pub const TAP_PATTERN: &str = "t*";
/// The way to the host's namespace.
pub const UPLINK: &str = "up0";
/// The way to other hosts.
pub const OVERLAY: &str = "vx0";

/// What rules of one network on one host are made of.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The network.
    pub spec: &'a NetworkSpec,
    /// This host, as other hosts reach it; without it nothing crosses hosts.
    pub overlay: Option<Ipv4Addr>,
    /// Guests whose ports are on this host.
    pub guests: &'a BTreeSet<InstanceId>,
}

impl<'a> Policy<'a> {
    /// Ports on this host that the policy knows, by tap.
    pub(super) fn local(&self) -> BTreeMap<String, &'a NetworkPortSpec> {
        let ports = self.spec.ports.iter();
        ports
            .filter(|(instance, port)| port.local && self.guests.contains(instance))
            .map(|(instance, port)| (tap_name(*instance), port))
            .collect()
    }

    /// This host's name inside of networks.
    pub(super) fn transit(&self) -> Option<Ipv4Addr> {
        self.overlay.map(transit_address)
    }

    /// Elastic addresses of guests: public, private, announced here. None where
    /// there is no way out.
    pub(super) fn elastic(&self) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr, bool)> + 'a {
        let spec = self.spec;
        let open = spec.internet_gateway;
        let all = spec.elastic.iter().filter(move |_| open);
        all.filter_map(|(public, elastic)| match elastic.target {
            ElasticTarget::Instance(instance) => {
                let port = spec.ports.get(&instance)?;
                Some((*public, port.address, elastic.announced))
            }
            ElasticTarget::LoadBalancer(_) => None,
        })
    }
}

/// The policy of a network.
#[must_use]
pub fn table(policy: &Policy<'_>) -> Table {
    // The first draft has no generation and gives its hash to the second.
    let draft = render(policy, 0).digest();
    let generation = (draft as u32).max(1);
    render(policy, generation).finish()
}

fn render(policy: &Policy<'_>, generation: u32) -> Rules {
    let mut rules = Rules::replacing("inet", TABLE);
    filter::counters(&mut rules);
    filter::input(&mut rules);
    filter::forward(&mut rules, policy, generation);
    nat::chains(&mut rules, policy);
    rules
}

/// Before a network's policy has come: the host itself is answered and reached,
/// nothing is forwarded.
#[must_use]
pub fn closed() -> Table {
    let mut rules = Rules::replacing("inet", TABLE);
    filter::counters(&mut rules);
    filter::input(&mut rules);
    rules.base_chain("to_forward", "filter", "forward", 0, "drop");
    rules.finish()
}

#[cfg(test)]
mod test;
