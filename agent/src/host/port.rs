//! Ports of guests: one network namespace per network on this host, one routed
//! tap per guest in it.
//!
//! ```text
//!  guest ── tap t… ─┐ network namespace nb<node>-<number>
//!  guest ── tap t… ─┤ lo: gateway, 169.254.169.254; proxy ARP; routes per guest
//!                   └ up0 ══ veth ══ nl-<number> │ host namespace ── the world
//! ```
//!
//! There is no bridge and no learning: a guest's frames end at its tap, so
//! tenants neither see nor reach each other's broadcast, and networks may use
//! the same addresses. Everything is named by ids and numbers alone, found
//! again after a crash, and repaired by doing it again. The namespace goes with
//! its last tap.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use nube_types::{InstanceId, NodeId};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::sync::Mutex;

use super::firewall::{self, GuardedPort, UPLINK_INSIDE, UPLINK_PREFIX};
use super::link::{Links, Prefix, set_sysctl};
use super::namespace::{self, Namespace};
use super::tap;
use crate::driver::{DriverError, PortSpec};

/// The same on every host: a guest that moves keeps its neighbour.
const GATEWAY_MAC: [u8; 6] = [0xfe, 0, 0, 0, 0, 1];
/// Answered locally, some day by the metadata service.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Links between host and networks: each takes four addresses.
const UPLINKS_MAX: u32 = 1 << (32 - 2 - UPLINK_PREFIX.length);

/// Networks of one node.
#[derive(Debug)]
pub struct Networks {
    node: NodeId,
    /// The agent's own emulated host; its own namespace when `None`.
    host: Namespace,
    /// Where guests may not go besides the host's own networks.
    closed: Vec<Prefix>,
    /// Ports with rules, by network number. One lock: changes of taps and
    /// rules are short, and links are numbered by looking at what is there.
    guarded: Mutex<HashMap<u32, BTreeMap<InstanceId, GuardedPort>>>,
}

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

fn uplink_name(network_number: u32) -> String {
    format!("nl-{network_number:x}")
}

/// Name of the rule table in the host namespace.
#[must_use]
pub fn host_table(node: NodeId) -> String {
    format!("nube_{}", short(node))
}

impl Networks {
    /// Networks of a node whose host is a named namespace, or the agent's own.
    #[must_use]
    pub fn new(node: NodeId, host_namespace: Option<&str>, closed: Vec<Prefix>) -> Self {
        Self {
            node,
            host: Namespace::of(host_namespace),
            closed,
            guarded: Mutex::default(),
        }
    }

    fn namespace(&self, network_number: u32) -> Namespace {
        Namespace::named(namespace_name(self.node, network_number))
    }

    /// Makes or repairs the ports of these guests, all of one network.
    pub async fn ensure(&self, ports: &[(InstanceId, PortSpec)]) -> Result<(), DriverError> {
        let Some((_, first)) = ports.first() else {
            return Ok(());
        };
        let number = first.network_number;
        let mut guarded = self.guarded.lock().await;
        self.ensure_network(first)
            .await
            .map_err(|error| DriverError::host("create network", error))?;

        let mut rules = guarded.get(&number).cloned().unwrap_or_default();
        for (instance, port) in ports {
            let guard = GuardedPort {
                tap: tap_name(*instance),
                mac: port.mac,
                address: port.address,
            };
            rules.insert(*instance, guard);
        }
        let all: Vec<GuardedPort> = rules.values().cloned().collect();
        let ports = ports.to_vec();
        self.namespace(number)
            .run_async(move || ensure_ports(ports, all))
            .await
            .map_err(|error| DriverError::host("create port", error))?;
        guarded.insert(number, rules);
        Ok(())
    }

    /// Namespace, the link to the host, gateway and routes.
    async fn ensure_network(&self, port: &PortSpec) -> io::Result<()> {
        let number = port.network_number;
        let namespace = self.namespace(number);
        namespace.create()?;
        let inside = namespace.open()?;
        let closed = self.closed.clone();
        let table = host_table(self.node);
        let host_end = self
            .host
            .run_async(move || ensure_host(number, inside, closed, table))
            .await?;
        let port = port.clone();
        namespace
            .run_async(move || ensure_inside(port, host_end))
            .await
    }

    /// Removes a guest's port, and its network here when it was the last.
    /// Absent is fine.
    pub async fn remove(&self, instance: InstanceId, port: &PortSpec) -> Result<(), DriverError> {
        let number = port.network_number;
        let mut guarded = self.guarded.lock().await;
        if let Some(ports) = guarded.get_mut(&number) {
            ports.remove(&instance);
        }
        let namespace = self.namespace(number);
        if namespace.exists() {
            let tap = tap_name(instance);
            let taps_left = namespace
                .run_async(move || remove_tap(tap))
                .await
                .map_err(|error| DriverError::host("remove port", error))?;
            if taps_left {
                return Ok(());
            }
        }
        guarded.remove(&number);
        self.remove_network(number)
            .await
            .map_err(|error| DriverError::host("remove network", error))
    }

    async fn remove_network(&self, number: u32) -> io::Result<()> {
        // The veth would go with the namespace, but some time later: a network
        // that comes back at once must not meet its old link.
        self.host
            .run_async(move || async move { Links::open()?.delete(&uplink_name(number)).await })
            .await?;
        self.namespace(number).delete()
    }

    /// The guest's end of its port, for one machine process.
    pub async fn open_tap(&self, instance: InstanceId, port: &PortSpec) -> io::Result<OwnedFd> {
        let name = tap_name(instance);
        self.namespace(port.network_number)
            .run(move || tap::open(&name))
            .await
    }

    /// A TCP socket that speaks from the network's gateway. A socket stays in
    /// the namespace that it was made in.
    pub async fn socket(&self, port: &PortSpec) -> io::Result<OwnedFd> {
        let make = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let kind = SocketType::STREAM;
            Ok(rustix::net::socket_with(
                AddressFamily::INET,
                kind,
                flags,
                None,
            )?)
        };
        self.namespace(port.network_number).run(make).await
    }

    /// Namespaces of this node that hold no tap and no guest's network: what a
    /// crash in the middle of a removal leaves. Returns those that do hold
    /// taps, for people.
    pub async fn sweep(&self, wanted: &BTreeSet<u32>) -> io::Result<Vec<String>> {
        let mut unexplained = Vec::new();
        let prefix = namespace_prefix(self.node);
        for name in namespace::list(&prefix)? {
            let number = name[prefix.len()..].parse::<u32>();
            if number.as_ref().is_ok_and(|number| wanted.contains(number)) {
                continue;
            }
            let namespace = Namespace::named(name.clone());
            let taps_left = namespace.exists()
                && namespace
                    .run_async(|| async { has_taps(&Links::open()?).await })
                    .await?;
            match number {
                Ok(number) if !taps_left => self.remove_network(number).await?,
                _ => unexplained.push(format!("network namespace {name}")),
            }
        }
        Ok(unexplained)
    }
}

/// In the host namespace: forwarding, rules, and the link into the network.
/// Returns the host's address on that link.
async fn ensure_host(
    number: u32,
    inside: OwnedFd,
    mut closed: Vec<Prefix>,
    table: String,
) -> io::Result<Ipv4Addr> {
    let links = Links::open()?;
    set_sysctl("ipv4/ip_forward", "1")?;
    let addresses = links.addresses().await?;
    let own = addresses
        .iter()
        .map(|(_, address, length)| Prefix::around(*address, *length))
        .filter(|prefix| !UPLINK_PREFIX.contains(*prefix));
    closed.extend(own);
    firewall::apply(&firewall::host_rules(&table, &closed))?;

    let name = uplink_name(number);
    if let Some(index) = links.index(&name).await?
        && let Some((_, address, _)) = addresses.iter().find(|(of, _, _)| *of == index)
        && peer_is_inside(&inside).await?
    {
        return Ok(*address);
    }
    // Half made, or its other end went with an older namespace: again.
    links.delete(&name).await?;
    links
        .add_veth(&name, UPLINK_INSIDE, inside.as_fd())
        .await?;
    let index = links.require(&name).await?;
    let address = free_uplink(number, &addresses)?;
    links.address(index, address, 30).await?;
    links.up(index).await?;
    Ok(address)
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

/// In the network's namespace: everything that its ports share.
async fn ensure_inside(port: PortSpec, host_end: Ipv4Addr) -> io::Result<()> {
    set_sysctl("ipv6/conf/all/disable_ipv6", "1")?;
    set_sysctl("ipv6/conf/default/disable_ipv6", "1")?;
    set_sysctl("ipv4/ip_forward", "1")?;
    // Sources are pinned per tap, which is stricter than a reverse path check.
    set_sysctl("ipv4/conf/all/rp_filter", "0")?;
    set_sysctl("ipv4/conf/default/rp_filter", "0")?;
    let links = Links::open()?;
    let lo = links.require("lo").await?;
    links.up(lo).await?;
    links.address(lo, port.gateway, 32).await?;
    links.address(lo, METADATA, 32).await?;
    let own_end = Ipv4Addr::from_bits(host_end.to_bits() + 1);
    let up = links.require(UPLINK_INSIDE).await?;
    links.address(up, own_end, 30).await?;
    links.up(up).await?;
    links.route_default(host_end).await?;
    let subnet = Prefix::around(port.address, port.prefix_length);
    links.route_unreachable(subnet).await
}

/// In the network's namespace: taps first, silent; then the rules; then the
/// taps are switched on. No frame passes a tap without rules.
async fn ensure_ports(
    ports: Vec<(InstanceId, PortSpec)>,
    all: Vec<GuardedPort>,
) -> io::Result<()> {
    let links = Links::open()?;
    let mut indexes = Vec::new();
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
        indexes.push(index);
    }
    firewall::apply(&firewall::network_rules(&all))?;
    for (index, (_, port)) in indexes.into_iter().zip(&ports) {
        links.up(index).await?;
        links.route_to_link(port.address, index).await?;
        links.neighbour(index, port.address, port.mac).await?;
    }
    Ok(())
}

async fn remove_tap(tap: String) -> io::Result<bool> {
    let links = Links::open()?;
    links.delete(&tap).await?;
    has_taps(&links).await
}

async fn has_taps(links: &Links) -> io::Result<bool> {
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
