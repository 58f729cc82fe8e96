//! A network's namespace as the kernel has it, and the steps from there to a
//! plan: only differences are changed, so that a look at what is right changes
//! nothing and cuts nothing. All of it runs inside of the namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::plan::{Plan, Way};
use super::rules::{OVERLAY, UPLINK};
use crate::host::link::{Links, fault};

/// Changes that were made, by kind: a word for metrics.
pub type Changes = BTreeMap<&'static str, u64>;

/// What there is, and what is needed to take it away.
struct Found {
    links: BTreeMap<String, u32>,
    addresses: BTreeMap<(String, IpAddr, u8), AddressMessage>,
    routes: BTreeMap<(IpAddr, u8), (Way, RouteMessage)>,
    neighbours: BTreeMap<(String, IpAddr), ([u8; 6], NeighbourMessage)>,
    forwards: BTreeMap<([u8; 6], Ipv4Addr), NeighbourMessage>,
}

/// Makes the namespace of the calling thread hold what the plan says.
pub async fn apply(plan: &Plan) -> io::Result<Changes> {
    let links = Links::open()?;
    let found = Found::read(&links).await?;
    let mut changes = Changes::new();
    let mut count = |kind: &'static str| *changes.entry(kind).or_default() += 1;
    found.add_addresses(plan, &links, &mut count).await?;
    found.add_neighbours(plan, &links, &mut count).await?;
    found.add_routes(plan, &links, &mut count).await?;
    found.remove(plan, &links, &mut count).await?;
    Ok(changes)
}

impl Found {
    async fn read(links: &Links) -> io::Result<Self> {
        let by_index = names(links).await?;
        let mut found = Self {
            links: by_index
                .iter()
                .map(|(index, name)| (name.clone(), *index))
                .collect(),
            addresses: BTreeMap::new(),
            routes: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            forwards: BTreeMap::new(),
        };
        let handle = links.handle();
        let messages: Vec<_> = handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(fault)?;
        for message in messages {
            if let Some(key) = address_of(&message, &by_index) {
                found.addresses.insert(key, message);
            }
        }
        for empty in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let get = handle.route().get(empty).execute();
            let messages: Vec<_> = get.try_collect().await.map_err(fault)?;
            for message in messages {
                if let Some((range, way)) = route_of(&message, &by_index) {
                    found.routes.insert(range, (way, message));
                }
            }
        }
        for version in [IpVersion::V4, IpVersion::V6] {
            let get = handle.neighbours().get().set_family(version).execute();
            let messages: Vec<_> = get.try_collect().await.map_err(fault)?;
            for message in messages {
                if let Some((key, mac)) = neighbour_of(&message, &by_index) {
                    found.neighbours.insert(key, (mac, message));
                }
            }
        }
        let mut get = handle.neighbours().get();
        get.message_mut().header.family = AddressFamily::Bridge;
        let messages: Vec<_> = get.execute().try_collect().await.map_err(fault)?;
        let overlay = found.links.get(OVERLAY).copied();
        for message in messages {
            if Some(message.header.ifindex) == overlay
                && let Some(key) = forward_of(&message)
            {
                found.forwards.insert(key, message);
            }
        }
        Ok(found)
    }

    fn index(&self, device: &str) -> io::Result<u32> {
        let missing = || io::Error::other(format!("link {device} is missing"));
        self.links.get(device).copied().ok_or_else(missing)
    }

    async fn add_addresses(
        &self,
        plan: &Plan,
        links: &Links,
        count: &mut impl FnMut(&'static str),
    ) -> io::Result<()> {
        for key in &plan.addresses {
            if self.addresses.contains_key(key) {
                continue;
            }
            let (device, address, length) = key;
            let index = self.index(device)?;
            match address {
                IpAddr::V4(address) => links.address(index, *address, *length).await?,
                IpAddr::V6(address) => links.address_v6(index, *address, *length).await?,
            }
            count("address");
        }
        Ok(())
    }

    async fn add_neighbours(
        &self,
        plan: &Plan,
        links: &Links,
        count: &mut impl FnMut(&'static str),
    ) -> io::Result<()> {
        for (key, mac) in &plan.neighbours {
            if self
                .neighbours
                .get(key)
                .is_some_and(|(known, _)| known == mac)
            {
                continue;
            }
            let (device, address) = key;
            links.neighbour(self.index(device)?, *address, *mac).await?;
            count("neighbour");
        }
        for (mac, host) in &plan.forwards {
            if self.forwards.contains_key(&(*mac, *host)) {
                continue;
            }
            let add = links
                .handle()
                .neighbours()
                .add_bridge(self.index(OVERLAY)?, mac);
            let add = add
                .destination(IpAddr::V4(*host))
                .flags(NeighbourFlags::Own);
            add.replace().execute().await.map_err(fault)?;
            count("forward");
        }
        Ok(())
    }

    async fn add_routes(
        &self,
        plan: &Plan,
        links: &Links,
        count: &mut impl FnMut(&'static str),
    ) -> io::Result<()> {
        for (range, way) in &plan.routes {
            if self
                .routes
                .get(range)
                .is_some_and(|(known, _)| known == way)
            {
                continue;
            }
            let index = match way {
                Way::Link(device) | Way::Via(_, device) => self.index(device)?,
                Way::Unreachable => 0,
            };
            links.route_message(route(*range, way, index)).await?;
            count("route");
        }
        Ok(())
    }

    /// Last: what takes a thing's place is there before that goes.
    async fn remove(
        &self,
        plan: &Plan,
        links: &Links,
        count: &mut impl FnMut(&'static str),
    ) -> io::Result<()> {
        let handle = links.handle();
        let gone = |result: Result<(), rtnetlink::Error>| match result.map_err(fault) {
            Err(error) if is_absent(&error) => Ok(()),
            other => other,
        };
        for (range, (_, message)) in &self.routes {
            if !plan.routes.contains_key(range) {
                gone(handle.route().del(message.clone()).execute().await)?;
                count("route");
            }
        }
        for (key, (_, message)) in &self.neighbours {
            if !plan.neighbours.contains_key(key) {
                gone(handle.neighbours().del(message.clone()).execute().await)?;
                count("neighbour");
            }
        }
        for (key, message) in &self.forwards {
            if !plan.forwards.contains(key) {
                gone(handle.neighbours().del(message.clone()).execute().await)?;
                count("forward");
            }
        }
        for (key, message) in &self.addresses {
            if !plan.addresses.contains(key) {
                gone(handle.address().del(message.clone()).execute().await)?;
                count("address");
            }
        }
        Ok(())
    }
}

fn is_absent(error: &io::Error) -> bool {
    let absent = [libc::ENOENT, libc::ESRCH, libc::EADDRNOTAVAIL, libc::ENODEV];
    error
        .raw_os_error()
        .is_some_and(|code| absent.contains(&code))
}

async fn names(links: &Links) -> io::Result<BTreeMap<u32, String>> {
    let all: Vec<_> = links
        .handle()
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
    let named = all.into_iter().filter_map(|link| {
        let index = link.header.index;
        Some((index, link.attributes.into_iter().find_map(name)?))
    });
    Ok(named.collect())
}

/// The kernel's own (loopback) and the link to the host are not the plan's.
fn address_of(
    message: &AddressMessage,
    names: &BTreeMap<u32, String>,
) -> Option<(String, IpAddr, u8)> {
    let device = names.get(&message.header.index)?;
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        message.attributes.iter().find_map(wanted)
    };
    let local = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })?;
    let other = address.is_loopback() || device == UPLINK;
    (!other).then(|| (device.clone(), address, message.header.prefix_len))
}

fn route_of(message: &RouteMessage, names: &BTreeMap<u32, String>) -> Option<((IpAddr, u8), Way)> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.protocol != RouteProtocol::Static {
        return None;
    }
    let unspecified = match header.address_family {
        AddressFamily::Inet => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut to, mut via, mut device) = (unspecified, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = address_in(address)?,
            RouteAttribute::Gateway(address) => via = address_in(address),
            RouteAttribute::Oif(index) => device = names.get(index).cloned(),
            _ => {}
        }
    }
    let way = match (header.kind, via, device) {
        (RouteType::Unreachable, ..) => Way::Unreachable,
        (_, Some(via), Some(device)) => Way::Via(via, device),
        (_, None, Some(device)) => Way::Link(device),
        _ => return None,
    };
    Some(((to, header.destination_prefix_length), way))
}

fn address_in(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn route((to, length): (IpAddr, u8), way: &Way, index: u32) -> RouteMessage {
    match to {
        IpAddr::V4(to) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to, length);
            match way {
                Way::Link(_) => route.output_interface(index).scope(RouteScope::Link),
                Way::Via(IpAddr::V4(via), _) => {
                    route.gateway(*via).output_interface(index).onlink()
                }
                Way::Via(IpAddr::V6(_), _) | Way::Unreachable => route.kind(RouteType::Unreachable),
            }
            .build()
        }
        IpAddr::V6(to) => {
            let route = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(to, length);
            match way {
                Way::Link(_) => route.output_interface(index),
                Way::Via(IpAddr::V6(via), _) => route.gateway(*via).output_interface(index),
                Way::Via(IpAddr::V4(_), _) | Way::Unreachable => route.kind(RouteType::Unreachable),
            }
            .build()
        }
    }
}

fn neighbour_of(
    message: &NeighbourMessage,
    names: &BTreeMap<u32, String>,
) -> Option<((String, IpAddr), [u8; 6])> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let device = names.get(&message.header.ifindex)?.clone();
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(to)) => {
                address = Some(IpAddr::from(*to));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(to)) => {
                address = Some((*to).into());
            }
            NeighbourAttribute::LinkLocalAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    Some(((device, address?), mac?))
}

fn forward_of(message: &NeighbourMessage) -> Option<([u8; 6], Ipv4Addr)> {
    let (mut host, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
                host = <[u8; 4]>::try_from(bytes.as_slice())
                    .ok()
                    .map(Ipv4Addr::from);
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet(to)) => host = Some(*to),
            NeighbourAttribute::LinkLocalAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    Some((mac?, host?))
}

/// Devices of the namespace, for those who must know whether one is there.
pub async fn devices() -> io::Result<BTreeSet<String>> {
    Ok(names(&Links::open()?).await?.into_values().collect())
}
