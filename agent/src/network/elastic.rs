//! Elastic addresses on the host's own network: the way to the guest's network,
//! and answers to those who ask for the address. Runs in the host's namespace.
//!
//! The kernel's proxy entries are made for single addresses. `proxy_arp` would
//! answer for everything that this host has another way to.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use futures::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};

use crate::host::firewall::{UPLINK_PATTERN, UPLINK_PREFIX};
use crate::host::link::{Links, Prefix, fault, set_sysctl};

/// Says that a proxy entry is ours (RTPROT numbers from 64 up are free).
const OWNER: u8 = 0x4e;

/// Elastic addresses, with link and inner end of the link to each.
pub type Announced = BTreeMap<Ipv4Addr, (String, Ipv4Addr)>;

/// What there is of ours.
struct Found {
    routes: BTreeMap<Ipv4Addr, (u32, Ipv4Addr, RouteMessage)>,
    proxies: BTreeMap<(u32, Ipv4Addr), NeighbourMessage>,
    /// Devices of the host's own networks, with their MACs.
    outside: BTreeMap<u32, [u8; 6]>,
    links: BTreeMap<String, u32>,
    outside_names: Vec<String>,
}

/// Takes away what is not announced any more. Comes before everything else: the
/// address may be another host's already.
pub async fn withdraw(wanted: &Announced) -> io::Result<u64> {
    let links = Links::open()?;
    let found = Found::read(&links).await?;
    let mut changes = 0;
    for (address, (_, _, message)) in &found.routes {
        if !wanted.contains_key(address) {
            let del = links.handle().route().del(message.clone());
            del.execute().await.map_err(fault)?;
            changes += 1;
        }
    }
    for ((index, address), message) in &found.proxies {
        if !wanted.contains_key(address) || !found.outside.contains_key(index) {
            let del = links.handle().neighbours().del(message.clone());
            del.execute().await.map_err(fault)?;
            changes += 1;
        }
    }
    Ok(changes)
}

/// Makes the ways and the answers, and tells the neighbourhood about new ones.
pub async fn announce(wanted: &Announced) -> io::Result<u64> {
    let links = Links::open()?;
    let found = Found::read(&links).await?;
    let mut fresh = BTreeSet::new();
    let mut changes = 0;
    for (address, (link, inside)) in wanted {
        let Some(index) = found.links.get(link).copied() else {
            continue;
        };
        let known = found.routes.get(address);
        if known.is_none_or(|(by, via, _)| (*by, *via) != (index, *inside)) {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(*address, 32)
                .gateway(*inside)
                .output_interface(index);
            links.route_message(route.build()).await?;
            fresh.insert(*address);
            changes += 1;
        }
        for outside in found.outside.keys() {
            if found.proxies.contains_key(&(*outside, *address)) {
                continue;
            }
            let neighbours = links.handle().neighbours();
            let mut add = neighbours
                .add(*outside, IpAddr::V4(*address))
                .flags(NeighbourFlags::Proxy);
            let owner = NeighbourAttribute::Protocol(RouteProtocol::from(OWNER));
            add.message_mut().attributes.push(owner);
            add.replace().execute().await.map_err(fault)?;
            fresh.insert(*address);
            changes += 1;
        }
    }
    if !wanted.is_empty() {
        for name in &found.outside_names {
            // Whoever asks does not wait for an answer that nobody else gives.
            set_sysctl(&format!("ipv4/neigh/{name}/proxy_delay"), "0")?;
        }
    }
    for address in fresh {
        for (index, mac) in &found.outside {
            tell(*index, *mac, address)?;
        }
    }
    Ok(changes)
}

impl Found {
    async fn read(links: &Links) -> io::Result<Self> {
        let handle = links.handle();
        let mut found = Self {
            routes: BTreeMap::new(),
            proxies: BTreeMap::new(),
            outside: BTreeMap::new(),
            links: BTreeMap::new(),
            outside_names: Vec::new(),
        };
        let addressed: BTreeSet<u32> = links
            .addresses()
            .await?
            .into_iter()
            .filter(|(_, address, _)| !address.is_loopback())
            .map(|(index, _, _)| index)
            .collect();
        let inward = UPLINK_PATTERN.trim_end_matches('*');
        let all: Vec<_> = handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(fault)?;
        for link in all {
            let index = link.header.index;
            let (mut name, mut mac) = (String::new(), None);
            for attribute in link.attributes {
                match attribute {
                    LinkAttribute::IfName(text) => name = text,
                    LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(bytes).ok(),
                    _ => {}
                }
            }
            if name.starts_with(inward) {
                found.links.insert(name, index);
            } else if let Some(mac) = mac.filter(|mac| *mac != [0; 6] && addressed.contains(&index))
            {
                found.outside.insert(index, mac);
                found.outside_names.push(name);
            }
        }
        let empty = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let routes: Vec<_> = handle
            .route()
            .get(empty)
            .execute()
            .try_collect()
            .await
            .map_err(fault)?;
        for message in routes {
            if let Some((address, index, via)) = route_of(&message)
                && found.links.values().any(|link| *link == index)
            {
                found.routes.insert(address, (index, via, message));
            }
        }
        let get = handle.neighbours().get().proxies();
        let proxies: Vec<_> = get.execute().try_collect().await.map_err(fault)?;
        for message in proxies {
            if let Some(address) = proxy_of(&message) {
                found
                    .proxies
                    .insert((message.header.ifindex, address), message);
            }
        }
        Ok(found)
    }
}

fn route_of(message: &RouteMessage) -> Option<(Ipv4Addr, u32, Ipv4Addr)> {
    if message.header.protocol != RouteProtocol::Static
        || message.header.destination_prefix_length != 32
    {
        return None;
    }
    let (mut to, mut via, mut index) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = Some(*address),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => via = Some(*address),
            RouteAttribute::Oif(device) => index = Some(*device),
            _ => {}
        }
    }
    let to = to.filter(|to| !UPLINK_PREFIX.contains(Prefix::around(*to, 32)))?;
    Some((to, index?, via?))
}

fn proxy_of(message: &NeighbourMessage) -> Option<Ipv4Addr> {
    let owner = NeighbourAttribute::Protocol(RouteProtocol::from(OWNER));
    if !message.attributes.contains(&owner) {
        return None;
    }
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
            _ => None,
        })
}

/// Gratuitous ARP, as a request and as an answer: some listen to one only.
fn tell(index: u32, mac: [u8; 6], address: Ipv4Addr) -> io::Result<()> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is passed; protocol 0 receives nothing.
    let socket = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    for operation in [1, 2] {
        let mut frame = [0xff; 6].to_vec();
        frame.extend(mac);
        frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation]);
        frame.extend(mac);
        frame.extend(address.octets());
        frame.extend([0xff; 6]);
        frame.extend(address.octets());
        // SAFETY: all bytes zero is a value of this plain struct.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_protocol = 0x0806_u16.to_be();
        to.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: frame and address outlive the call and have these lengths.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                length,
            )
        };
        // A device that is down tells nobody, and has nobody to tell.
        if sent < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::ENETDOWN) {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
