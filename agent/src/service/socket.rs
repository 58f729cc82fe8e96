//! Sockets as services need them. Called inside of a network's namespace, where
//! they stay. Addresses may be bound before the namespace has them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be taken.
const BACKLOG: i32 = 32;
/// The guest itself; a container behind it or a router in it is one further.
const ONE_HOP: u32 = 1;

fn base(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, kind.cloexec().nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_freebind_v6(true)?;
            socket.set_only_v6(true)?;
        }
    }
    Ok(socket)
}

/// A listener.
pub fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = base(address, Type::STREAM)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A listener whose answers reach the guest and nothing behind it.
pub fn tcp_one_hop(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = base(address, Type::STREAM)?;
    match address {
        SocketAddr::V4(_) => socket.set_ttl_v4(ONE_HOP)?,
        SocketAddr::V6(_) => socket.set_unicast_hops_v6(ONE_HOP)?,
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A datagram socket.
pub fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = base(address, Type::DGRAM)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A datagram socket that hears and speaks on one device alone.
pub fn udp_on(device: &str, address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = base(address, Type::DGRAM)?;
    socket.bind_device(Some(device.as_bytes()))?;
    if address.is_ipv4() {
        socket.set_broadcast(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// As `udp_on`, for IPv6, and a member of a group there.
pub fn udp_on_group(device: &str, index: u32, port: u16, group: Ipv6Addr) -> io::Result<UdpSocket> {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let socket = base(any, Type::DGRAM)?;
    socket.bind_device(Some(device.as_bytes()))?;
    socket.join_multicast_v6(&group, index)?;
    socket.bind(&any.into())?;
    Ok(socket.into())
}

/// Raw ICMPv6 that one device hears, for a group. To the runtime it is a datagram
/// socket, which it behaves like.
pub fn icmp6_on(device: &str, index: u32, group: Ipv6Addr) -> io::Result<UdpSocket> {
    let socket = icmp6(device)?;
    socket.join_multicast_v6(&group, index)?;
    Ok(socket.into())
}

/// Raw ICMPv6 that leaves one device under an address of that link. The kernel
/// fills in the checksum.
pub fn icmp6_from(device: &str, index: u32, own: Ipv6Addr) -> io::Result<UdpSocket> {
    let socket = icmp6(device)?;
    // Receivers take nothing that was forwarded.
    socket.set_unicast_hops_v6(255)?;
    socket.set_multicast_hops_v6(255)?;
    socket.set_multicast_if_v6(index)?;
    socket.bind(&on_link(own, 0, index).into())?;
    Ok(socket.into())
}

fn icmp6(device: &str) -> io::Result<Socket> {
    let kind = Type::RAW.cloexec().nonblocking();
    let socket = Socket::new(Domain::IPV6, kind, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(device.as_bytes()))?;
    socket.set_freebind_v6(true)?;
    Ok(socket)
}

/// On which address a broadcast arrives.
pub const ANY_V4: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// A link-local address on a device.
#[must_use]
pub fn on_link(address: Ipv6Addr, port: u16, index: u32) -> SocketAddr {
    SocketAddr::V6(SocketAddrV6::new(address, port, 0, index))
}
