//! One network's namespace, step by step: names, devices, addresses, routes and
//! rules. Each step runs inside the namespace that it changes; `port` calls
//! them in order and decides when a network comes and goes.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use nube_types::net::{GATEWAY_V6, METADATA, METADATA_V6, RESOLVER};
use nube_types::{InstanceId, NodeId};

use super::firewall::{self, HostWish, UPLINK_PREFIX};
use super::link::{Links, Prefix, set_sysctl};
use super::nft::{self, Standing};
use super::{namespace, tap};
use crate::driver::PortSpec;
use crate::network::rules::spoof::{self, GuardedPort};
use crate::network::rules::{self, OVERLAY, UPLINK as UPLINK_INSIDE};

/// The same on every host: a guest that moves keeps its neighbour.
pub const GATEWAY_MAC: [u8; 6] = [0xfe, 0, 0, 0, 0, 1];
/// Links between host and networks: each takes four addresses.
const UPLINKS_MAX: u32 = 1 << (32 - 2 - UPLINK_PREFIX.length);

/// Name of the namespace of a network on a node. Several agents may share
/// `/run/netns`, so the node is part of it.
#[must_use]
pub fn namespace_name(node: NodeId, network_number: u32) -> String {
    format!("{}{network_number}", namespace_prefix(node))
}

/// What names of a node's namespaces begin with.
#[must_use]
pub fn namespace_prefix(node: NodeId) -> String {
    format!("nb{}-", short(node))
}

/// Eight digits that tell the nodes of one machine apart.
#[must_use]
pub fn short(node: NodeId) -> String {
    node.hex()[8..].to_owned()
}

/// Name of a guest's tap: fifteen bytes, as long as the kernel takes.
#[must_use]
pub fn tap_name(instance: InstanceId) -> String {
    format!("t{}", &instance.hex()[2..])
}

/// Name of the link into a network, in the host namespace.
#[must_use]
pub fn uplink_name(network_number: u32) -> String {
    format!("nl-{network_number:x}")
}

/// Name of the rule table in the host namespace.
#[must_use]
pub fn host_table(node: NodeId) -> String {
    format!("nube_{}", short(node))
}

/// In the host namespace: its rules. Those of an earlier agent stay until this one
/// knows what it should let in: they may carry flows.
pub async fn ensure_host_rules(
    mut closed: Vec<Prefix>,
    table: String,
    wish: Option<HostWish>,
) -> io::Result<u64> {
    let standing = Standing::read()?;
    if wish.is_none() && standing.has("inet", &table) {
        return Ok(0);
    }
    let own = Links::open()?.addresses().await?;
    let own = own
        .iter()
        .map(|(_, address, length)| Prefix::around(*address, *length));
    closed.extend(own.filter(|prefix| !UPLINK_PREFIX.contains(*prefix)));
    let rules = firewall::host_rules(&table, &closed, &wish.unwrap_or_default());
    nft::replace(&standing, &[rules], &[])
}

/// In the host namespace: forwarding, and the link into the network. Returns the
/// host's address on that link.
pub async fn ensure_host(number: u32, inside: OwnedFd) -> io::Result<Ipv4Addr> {
    let links = Links::open()?;
    set_sysctl("ipv4/ip_forward", "1")?;
    let addresses = links.addresses().await?;
    let name = uplink_name(number);
    if let Some(index) = links.index(&name).await?
        && let Some((_, address, _)) = addresses.iter().find(|(of, _, _)| *of == index)
        && peer_is_inside(&inside).await?
    {
        return Ok(*address);
    }
    // Half made, or its other end went with an older namespace: again.
    links.delete(&name).await?;
    links.add_veth(&name, UPLINK_INSIDE, inside.as_fd()).await?;
    let index = links.require(&name).await?;
    let address = free_uplink(number, &addresses)?;
    links.address(index, address, 30).await?;
    links.up(index).await?;
    Ok(address)
}

/// In the host namespace: the host's address on the link into a network.
pub async fn uplink_address(number: u32) -> io::Result<Option<Ipv4Addr>> {
    let links = Links::open()?;
    let Some(index) = links.index(&uplink_name(number)).await? else {
        return Ok(None);
    };
    let addresses = links.addresses().await?;
    let own = addresses.iter().find(|(of, _, _)| *of == index);
    Ok(own.map(|(_, address, _)| *address))
}

async fn peer_is_inside(inside: &OwnedFd) -> io::Result<bool> {
    let inside = inside.try_clone()?;
    namespace::run_in(Some(inside), || {
        namespace::block_on(async { Ok(Links::open()?.index(UPLINK_INSIDE).await?.is_some()) })
    })
    .await
}

/// The host's address on a new link: by the network's number, or the next that
/// is free. The kernel's list is the only record.
fn free_uplink(number: u32, addresses: &[(u32, Ipv4Addr, u8)]) -> io::Result<Ipv4Addr> {
    let taken: BTreeSet<Ipv4Addr> = addresses.iter().map(|(_, address, _)| *address).collect();
    (0..UPLINKS_MAX)
        .map(|step| (number.wrapping_add(step)) % UPLINKS_MAX)
        .map(|slot| Ipv4Addr::from_bits(UPLINK_PREFIX.address.to_bits() + slot * 4 + 1))
        .find(|address| !taken.contains(address))
        .ok_or_else(|| io::Error::other("all links into networks are taken"))
}

/// In the network's namespace: everything that its ports share. What the network's
/// policy adds comes later (`network::apply`); until then nothing is forwarded.
pub async fn ensure_inside(port: PortSpec, host_end: Ipv4Addr) -> io::Result<()> {
    for (name, value) in [
        ("ipv4/ip_forward", "1"),
        // Sources are pinned per tap, which is stricter than a reverse path check.
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        // Devices get the addresses that they are given, and no others.
        ("ipv6/conf/default/addr_gen_mode", "1"),
        ("ipv6/conf/all/disable_ipv6", "0"),
        ("ipv6/conf/default/disable_ipv6", "0"),
        ("ipv6/conf/all/accept_ra", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/all/forwarding", "1"),
    ] {
        set_sysctl(name, value)?;
    }
    let standing = Standing::read()?;
    if !standing.has("inet", rules::TABLE) {
        nft::replace(&standing, &[rules::closed()], &[])?;
    }
    let links = Links::open()?;
    let lo = links.require("lo").await?;
    links.up(lo).await?;
    for address in [port.gateway, METADATA, RESOLVER] {
        links.address(lo, address, 32).await?;
    }
    links.address_v6(lo, METADATA_V6, 128).await?;
    let own_end = Ipv4Addr::from_bits(host_end.to_bits() + 1);
    let up = links.require(UPLINK_INSIDE).await?;
    links.address(up, own_end, 30).await?;
    links.up(up).await
}

/// In the network's namespace: taps first, silent; then the rules; then the
/// taps are switched on. No frame passes a tap without rules.
pub async fn ensure_ports(ports: Vec<(InstanceId, PortSpec)>) -> io::Result<()> {
    let links = Links::open()?;
    let mut taps = Vec::new();
    let mut tables = Vec::new();
    for (instance, port) in &ports {
        let name = tap_name(*instance);
        let index = match links.index(&name).await? {
            Some(index) => index,
            None => {
                tap::open(&name)?;
                links.require(&name).await?
            }
        };
        links.shape(index, GATEWAY_MAC, port.mtu).await?;
        set_sysctl(&format!("ipv4/conf/{name}/proxy_arp"), "1")?;
        set_sysctl(&format!("ipv4/neigh/{name}/proxy_delay"), "0")?;
        set_sysctl(&format!("ipv6/conf/{name}/disable_ipv6"), "0")?;
        tables.push(spoof::table(&GuardedPort {
            tap: name.clone(),
            mac: port.mac,
            address: port.address,
            address_v6: port.address_v6,
        }));
        taps.push((name, index));
    }
    nft::replace(&Standing::read()?, &tables, &[])?;
    for ((_, index), (_, port)) in taps.into_iter().zip(&ports) {
        links.up(index).await?;
        links.address_v6(index, GATEWAY_V6, 64).await?;
        links.route_to_link(port.address.into(), index).await?;
        links
            .neighbour(index, port.address.into(), port.mac)
            .await?;
        if let Some(address) = port.address_v6 {
            links.route_to_link(address.into(), index).await?;
            links.neighbour(index, address.into(), port.mac).await?;
        }
    }
    Ok(())
}

pub async fn remove_tap(tap: String) -> io::Result<bool> {
    let links = Links::open()?;
    links.delete(&tap).await?;
    nft::apply(&nft::no_table("netdev", &spoof::table_name(&tap)))?;
    has_taps(&links).await
}

/// The overlay's device would go with the namespace some time later, when nothing
/// holds it any more; until then its number is taken on this host.
pub async fn remove_overlay() -> io::Result<()> {
    Links::open()?.delete(OVERLAY).await
}

pub async fn has_taps(links: &Links) -> io::Result<bool> {
    let names = links.names().await?;
    Ok(names.iter().any(|name| name.starts_with('t')))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_hold_ids_only() {
        let instance = InstanceId(0x0123_4567_89ab_cdef);
        assert_eq!(tap_name(instance), "t23456789abcdef");
        assert_eq!(tap_name(instance).len(), 15);
        assert!(uplink_name(u32::MAX).len() <= 15);
        let name = namespace_name(NodeId(0xaa_0000_00bb), 7);
        assert_eq!(name, "nb000000bb-7");
    }

    #[test]
    fn a_taken_link_number_moves_on() {
        let first = free_uplink(3, &[]).expect("free");
        assert_eq!(first, Ipv4Addr::new(169, 254, 64, 13));
        let next = free_uplink(3, &[(9, first, 30)]).expect("free");
        assert_eq!(next, Ipv4Addr::new(169, 254, 64, 17));
        let last = free_uplink(u32::MAX, &[]).expect("free");
        assert!(UPLINK_PREFIX.contains(Prefix::around(last, 30)));
    }
}
