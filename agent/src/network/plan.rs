//! What a network's namespace on this host should hold: addresses, routes,
//! neighbours, forwarding entries. Pure; `apply` makes it so.
//!
//! ```text
//!  lo   gateways, metadata, resolver, this host's transit address
//!  t…   <guest>/32 and /128 by link; fe80::1 is every guest's gateway
//!  vx0  <guest elsewhere> via <its host's transit address>, whose MAC and
//!       overlay address are known for good: nothing is asked for or learned
//!  up0  default, where the network has an internet gateway
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nube_types::InstanceId;
use nube_types::net::{
    GATEWAY_V6, METADATA, METADATA_V6, RESOLVER, TRANSIT, network_prefix_v6, transit_address,
    transit_mac,
};

use super::rules::{OVERLAY, UPLINK};
use super::spec::NetworkSpec;
use crate::driver::PortSpec;
use crate::host::network::tap_name;

/// Of a network's own range of IPv6.
const NETWORK_V6_LENGTH: u8 = 48;

/// Where a range leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Out of a device, to whoever is there.
    Link(String),
    /// By way of a neighbour on a device, whose own range does not matter.
    Via(IpAddr, String),
    /// Nowhere, and the sender is told.
    Unreachable,
}

/// All of it. Devices are named as in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Device, address, prefix length.
    pub addresses: BTreeSet<(String, IpAddr, u8)>,
    /// By range: first address and length.
    pub routes: BTreeMap<(IpAddr, u8), Way>,
    /// Device and address to MAC.
    pub neighbours: BTreeMap<(String, IpAddr), [u8; 6]>,
    /// MACs behind the overlay, and the host to send to.
    pub forwards: BTreeSet<([u8; 6], Ipv4Addr)>,
}

/// A host's IPv6 name inside of networks, on the link between hosts.
#[must_use]
pub fn transit_v6(overlay: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfe80_u128 << 112 | u128::from(overlay.to_bits()))
}

/// What the namespace of a network should hold. `guests` have their taps there,
/// whether or not `spec` knows them yet; without `spec` that is all. `uplink` is
/// the host's end of the link between both.
#[must_use]
pub fn plan(
    spec: Option<&NetworkSpec>,
    overlay: Option<Ipv4Addr>,
    guests: &BTreeMap<InstanceId, PortSpec>,
    uplink: Ipv4Addr,
) -> Plan {
    let mut plan = Plan::default();
    plan.services();
    for (instance, port) in guests {
        plan.guest(*instance, port);
    }
    let Some(spec) = spec else {
        return plan;
    };
    for subnet in &spec.subnets {
        plan.own(subnet.gateway.into(), 32);
        let range = (subnet.range.address().into(), subnet.range.length());
        plan.routes.insert(range, Way::Unreachable);
    }
    // Names of hosts mean nothing outside.
    let hosts = (TRANSIT.address().into(), TRANSIT.length());
    plan.routes.insert(hosts, Way::Unreachable);
    // Guests ask for it by ARP. What is sent there is translated, or refused,
    // before it could be taken for the host's own.
    for balancer in spec.load_balancers.values() {
        plan.own(balancer.address.into(), 32);
    }
    let own_range = (network_prefix_v6(spec.id).into(), NETWORK_V6_LENGTH);
    plan.routes.insert(own_range, Way::Unreachable);
    if spec.internet_gateway {
        let all = (Ipv4Addr::UNSPECIFIED.into(), 0);
        plan.routes
            .insert(all, Way::Via(uplink.into(), UPLINK.to_owned()));
    }
    if let Some(overlay) = overlay {
        plan.elsewhere(spec, overlay, guests);
    }
    plan
}

impl Plan {
    fn own(&mut self, address: IpAddr, length: u8) {
        self.addresses.insert(("lo".to_owned(), address, length));
    }

    fn services(&mut self) {
        self.own(METADATA.into(), 32);
        self.own(RESOLVER.into(), 32);
        self.own(METADATA_V6.into(), 128);
    }

    fn guest(&mut self, instance: InstanceId, port: &PortSpec) {
        let tap = tap_name(instance);
        self.own(port.gateway.into(), 32);
        self.addresses.insert((tap.clone(), GATEWAY_V6.into(), 64));
        let v4 = (IpAddr::from(port.address), 32);
        let v6 = port.address_v6.map(|address| (IpAddr::from(address), 128));
        for (address, length) in [Some(v4), v6].into_iter().flatten() {
            self.routes
                .insert((address, length), Way::Link(tap.clone()));
            self.neighbours.insert((tap.clone(), address), port.mac);
        }
    }

    /// Guests on other hosts.
    fn elsewhere(
        &mut self,
        spec: &NetworkSpec,
        overlay: Ipv4Addr,
        guests: &BTreeMap<InstanceId, PortSpec>,
    ) {
        let device = || OVERLAY.to_owned();
        self.own(transit_address(overlay).into(), 32);
        self.addresses
            .insert((device(), transit_v6(overlay).into(), 64));
        for (instance, port) in &spec.ports {
            let Some(host) = port.host.filter(|host| *host != overlay) else {
                continue;
            };
            if guests.contains_key(instance) {
                // It was here and is being cleared away: it is there now.
                self.forget_guest(*instance);
            }
            let (v4, v6) = (transit_address(host).into(), transit_v6(host).into());
            let mac = transit_mac(host);
            self.routes
                .insert((port.address.into(), 32), Way::Via(v4, device()));
            if let Some(address) = port.address_v6 {
                self.routes
                    .insert((address.into(), 128), Way::Via(v6, device()));
            }
            // Targets of balancers answer hosts by name.
            self.routes.insert((v4, 32), Way::Via(v4, device()));
            for address in [v4, v6] {
                self.neighbours.insert((device(), address), mac);
            }
            self.forwards.insert((mac, host));
        }
    }

    fn forget_guest(&mut self, instance: InstanceId) {
        let tap = tap_name(instance);
        self.routes.retain(|_, way| *way != Way::Link(tap.clone()));
    }
}
