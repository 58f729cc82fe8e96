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

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use nube_types::{InstanceId, NodeId};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::sync::{Mutex, MutexGuard};

use super::firewall::HostWish;
use super::link::{Links, Prefix};
use super::namespace::{self, Namespace};
use super::network::{
    ensure_host, ensure_host_rules, ensure_inside, ensure_ports, has_taps, host_table,
    namespace_name, namespace_prefix, remove_overlay, remove_tap, tap_name, uplink_address,
    uplink_name,
};
use super::tap;
use crate::driver::{DriverError, PortSpec};
use crate::network::meter::Meter;

/// Networks of one node.
#[derive(Debug)]
pub struct Networks {
    node: NodeId,
    /// The agent's own emulated host; its own namespace when `None`.
    host: Namespace,
    /// Where guests may not go besides the host's own networks.
    closed: Vec<Prefix>,
    /// Bytes of guests, read a last time before their port goes.
    meter: Meter,
    /// What the host's own rules let in, once it is known. One lock: changes of
    /// devices and rules are short, and links are numbered by looking at what is
    /// there.
    host_wish: Mutex<Option<HostWish>>,
}

impl Networks {
    /// Networks of a node whose host is a named namespace, or the agent's own.
    #[must_use]
    pub fn new(
        node: NodeId,
        host_namespace: Option<&str>,
        closed: Vec<Prefix>,
        meter: Meter,
    ) -> Self {
        Self {
            node,
            host: Namespace::of(host_namespace),
            closed,
            meter,
            host_wish: Mutex::default(),
        }
    }

    /// What guests sent and received.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The host's own namespace.
    #[must_use]
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// The turn to change networks; see [`Networks::host_rules`].
    pub async fn turn(&self) -> MutexGuard<'_, Option<HostWish>> {
        self.host_wish.lock().await
    }

    /// The host's rules, with what is let in as far as that is known.
    pub async fn host_rules(&self, wish: Option<HostWish>) -> io::Result<u64> {
        let closed = self.closed.clone();
        let table = host_table(self.node);
        self.host
            .run_async(move || ensure_host_rules(closed, table, wish))
            .await
    }

    /// The host's address on its link into a network, if the network is here.
    pub async fn uplink(&self, number: u32) -> io::Result<Option<Ipv4Addr>> {
        self.host.run_async(move || uplink_address(number)).await
    }

    /// Where a network is on this host.
    #[must_use]
    pub fn namespace(&self, network_number: u32) -> Namespace {
        Namespace::named(namespace_name(self.node, network_number))
    }

    /// Makes or repairs the ports of these guests, all of one network.
    pub async fn ensure(&self, ports: &[(InstanceId, PortSpec)]) -> Result<(), DriverError> {
        let Some((_, first)) = ports.first() else {
            return Ok(());
        };
        let number = first.network_number;
        let wish = self.turn().await;
        self.host_rules(wish.clone())
            .await
            .map_err(|error| DriverError::host("guard host", error))?;
        self.ensure_network(first)
            .await
            .map_err(|error| DriverError::host("create network", error))?;
        let ports = ports.to_vec();
        self.namespace(number)
            .run_async(move || ensure_ports(ports))
            .await
            .map_err(|error| DriverError::host("create port", error))
    }

    /// Namespace, the link to the host, gateway and routes.
    async fn ensure_network(&self, port: &PortSpec) -> io::Result<()> {
        let number = port.network_number;
        let namespace = self.namespace(number);
        namespace.create()?;
        let inside = namespace.open()?;
        let host_end = self
            .host
            .run_async(move || ensure_host(number, inside))
            .await?;
        let port = port.clone();
        namespace
            .run_async(move || ensure_inside(port, host_end))
            .await
    }

    /// Removes a guest's port, and its network here when it was the last.
    /// Absent is fine.
    pub async fn remove(&self, instance: InstanceId, port: &PortSpec) -> Result<(), DriverError> {
        self.remove_from(instance, port.network_number).await
    }

    async fn remove_from(&self, instance: InstanceId, number: u32) -> Result<(), DriverError> {
        let _turn = self.turn().await;
        let namespace = self.namespace(number);
        if namespace.exists() {
            self.meter.read_last(&namespace, number, instance).await;
            let tap = tap_name(instance);
            let taps_left = namespace
                .run_async(move || remove_tap(tap))
                .await
                .map_err(|error| DriverError::host("remove port", error))?;
            if taps_left {
                return Ok(());
            }
        }
        self.remove_network(number)
            .await
            .map_err(|error| DriverError::host("remove network", error))
    }

    /// Removes a guest's port when nobody knows any more where it is.
    pub async fn remove_anywhere(&self, instance: InstanceId) -> Result<(), DriverError> {
        let fault = |error| DriverError::host("remove port", error);
        let prefix = namespace_prefix(self.node);
        for name in namespace::list(&prefix).map_err(fault)? {
            let Ok(number) = name[prefix.len()..].parse() else {
                continue;
            };
            self.remove_from(instance, number).await?;
        }
        Ok(())
    }

    async fn remove_network(&self, number: u32) -> io::Result<()> {
        // The veth would go with the namespace, but some time later: a network
        // that comes back at once must not meet its old link.
        self.host
            .run_async(move || async move { Links::open()?.delete(&uplink_name(number)).await })
            .await?;
        let namespace = self.namespace(number);
        if namespace.exists() {
            namespace.run_async(remove_overlay).await?;
        }
        namespace.delete()
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

#[cfg(test)]
mod traffic;
