//! Links, addresses, routes and neighbours through rtnetlink, as verbs that
//! may be repeated. Each value works in the namespace of the thread that
//! opened it; open it inside [`super::namespace::Namespace::run_async`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use futures::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

/// A route to a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// Network address.
    pub address: Ipv4Addr,
    /// Leading bits that count.
    pub length: u8,
}

impl Prefix {
    /// The prefix of this length around an address: host bits are cleared.
    #[must_use]
    pub fn around(address: Ipv4Addr, length: u8) -> Self {
        let length = length.min(32);
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Self {
            address: Ipv4Addr::from_bits(address.to_bits() & mask),
            length,
        }
    }

    /// Whether all of `other` lies inside.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.length <= other.length && Self::around(other.address, self.length) == self
    }
}

/// Netlink in one namespace.
#[derive(Debug, Clone)]
pub struct Links {
    handle: Handle,
}

/// As the kernel said it.
pub(crate) fn fault(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

impl Links {
    /// Connects; the connection ends with the runtime that this is called in.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Index of a link, if it exists.
    pub async fn index(&self, name: &str) -> io::Result<Option<u32>> {
        let request = self.handle.link().get().match_name(name.to_owned());
        match request.execute().try_next().await.map_err(fault) {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Index of a link that must exist.
    pub async fn require(&self, name: &str) -> io::Result<u32> {
        let found = self.index(name).await?;
        found.ok_or_else(|| io::Error::other(format!("link {name} is missing")))
    }

    /// Names of all links.
    pub async fn names(&self) -> io::Result<Vec<String>> {
        let links: Vec<_> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(fault)?;
        let name = |attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        };
        Ok(links
            .into_iter()
            .filter_map(|link| link.attributes.into_iter().find_map(name))
            .collect())
    }

    /// A pair whose other end appears directly in another namespace: a crash
    /// leaves both ends or none.
    pub async fn add_veth(
        &self,
        name: &str,
        peer: &str,
        peer_namespace: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer.to_owned())
            .setns_by_fd(peer_namespace.as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name.to_owned())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.handle.link().add(pair).execute().await.map_err(fault)
    }

    /// A bridge; an existing one stays.
    pub async fn ensure_bridge(&self, name: &str) -> io::Result<u32> {
        if let Some(index) = self.index(name).await? {
            return Ok(index);
        }
        let bridge = LinkBridge::new(name).build();
        self.handle
            .link()
            .add(bridge)
            .execute()
            .await
            .map_err(fault)?;
        self.require(name).await
    }

    /// Removes a link. Absent is fine.
    pub async fn delete(&self, name: &str) -> io::Result<()> {
        let Some(index) = self.index(name).await? else {
            return Ok(());
        };
        match self.handle.link().del(index).execute().await.map_err(fault) {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => Err(error),
            _ => Ok(()),
        }
    }

    async fn set(&self, builder: LinkMessageBuilder<LinkUnspec>) -> io::Result<()> {
        let message = builder.build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(fault)
    }

    fn change(index: u32) -> LinkMessageBuilder<LinkUnspec> {
        LinkUnspec::new_with_index(index)
    }

    /// Switches a link on.
    pub async fn up(&self, index: u32) -> io::Result<()> {
        self.set(Self::change(index).up()).await
    }

    /// Gives a link its MAC and MTU.
    pub async fn shape(&self, index: u32, mac: [u8; 6], mtu: u16) -> io::Result<()> {
        let change = Self::change(index).address(mac.to_vec()).mtu(mtu.into());
        self.set(change).await
    }

    /// Plugs a link into a bridge.
    pub async fn plug(&self, index: u32, bridge: u32) -> io::Result<()> {
        self.set(Self::change(index).controller(bridge)).await
    }

    /// Adds an address; the same one again is fine.
    pub async fn address(&self, index: u32, address: Ipv4Addr, length: u8) -> io::Result<()> {
        let add = self
            .handle
            .address()
            .add(index, IpAddr::V4(address), length);
        add.replace().execute().await.map_err(fault)
    }

    /// All IPv4 addresses here: link index, address, prefix length.
    pub async fn addresses(&self) -> io::Result<Vec<(u32, Ipv4Addr, u8)>> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(fault)?;
        let mut found = Vec::new();
        for message in messages {
            let index = message.header.index;
            let length = message.header.prefix_len;
            let local = message
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                    _ => None,
                });
            found.extend(local.map(|address| (index, address, length)));
        }
        Ok(found)
    }

    /// Sends one address to a link.
    pub async fn route_to_link(&self, address: IpAddr, index: u32) -> io::Result<()> {
        let route = match address {
            IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(address, 32)
                .output_interface(index)
                .scope(RouteScope::Link)
                .build(),
            IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(address, 128)
                .output_interface(index)
                .build(),
        };
        self.route_message(route).await
    }

    /// Adds a route, or puts it in the place of one to the same range.
    pub async fn route_message(&self, route: RouteMessage) -> io::Result<()> {
        let add = self.handle.route().add(route);
        add.replace().execute().await.map_err(fault)
    }

    /// Sends a range to a link: its addresses are asked for there by ARP.
    pub async fn route_prefix_to_link(&self, prefix: Prefix, index: u32) -> io::Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(prefix.address, prefix.length)
            .output_interface(index)
            .scope(RouteScope::Link);
        self.route_message(route.build()).await
    }

    /// The way out.
    pub async fn route_default(&self, gateway: Ipv4Addr) -> io::Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
            .gateway(gateway);
        self.route_message(route.build()).await
    }

    /// Adds an address of IPv6 that is this link's without asking others; the same
    /// one again is fine.
    pub async fn address_v6(&self, index: u32, address: Ipv6Addr, length: u8) -> io::Result<()> {
        let mut add = self
            .handle
            .address()
            .add(index, IpAddr::V6(address), length);
        add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        add.replace().execute().await.map_err(fault)
    }

    /// A neighbour that is known for good: it is not asked for.
    pub async fn neighbour(&self, index: u32, address: IpAddr, mac: [u8; 6]) -> io::Result<()> {
        let add = self
            .handle
            .neighbours()
            .add(index, address)
            .link_local_address(&mac);
        add.replace().execute().await.map_err(fault)
    }

    /// For what has no verb here.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Writes a network setting of the namespace of the calling thread. Unchanged
/// values are not written again.
pub fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/{name}");
    if get_sysctl(name)? == value {
        return Ok(());
    }
    std::fs::write(&path, value)
        .map_err(|error| io::Error::other(format!("write {value} to {path}: {error}")))
}

/// Reads a network setting of the namespace of the calling thread.
pub fn get_sysctl(name: &str) -> io::Result<String> {
    let path = format!("/proc/sys/net/{name}");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| io::Error::other(format!("read {path}: {error}")))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn prefixes_clear_host_bits_and_nest() {
        let wide = Prefix::around(Ipv4Addr::new(10, 1, 2, 3), 8);
        assert_eq!(wide.address, Ipv4Addr::new(10, 0, 0, 0));
        assert!(wide.contains(Prefix::around(Ipv4Addr::new(10, 9, 0, 0), 16)));
        assert!(!Prefix::around(Ipv4Addr::new(10, 9, 0, 0), 16).contains(wide));
        let all = Prefix::around(Ipv4Addr::new(1, 2, 3, 4), 0);
        assert_eq!(all.address, Ipv4Addr::UNSPECIFIED);
    }
}
