//! DHCP for IPv4, one server per tap. There is nothing to hand out: the port's
//! address is the guest's, whoever asks first. So there are no leases to keep,
//! and any agent answers as the one before it did.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dhcproto::v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use nube_types::net::{METADATA, RESOLVER};
use tokio::net::UdpSocket;

use super::taps::Tap;
use super::{Context, domain_of, socket, subnet_of};
use crate::driver::{GuestSpec, PortSpec};

const SERVER: u16 = 67;
const CLIENT: u16 = 68;
/// A guest that renews finds the same address; a day without an agent is
/// survived.
const LEASE_SECONDS: u32 = 86_400;
/// An Ethernet frame of a guest.
const DATAGRAM_BYTES_MAX: usize = 1_500;

/// An answer, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Encoded message.
    pub bytes: Vec<u8>,
    /// The guest's address when it has it already, else all on the link.
    pub to: Ipv4Addr,
}

/// The answer to one datagram of the guest that has this port; `None`: silence.
#[must_use]
pub fn reply(datagram: &[u8], guest: &GuestSpec, network_name: &str) -> Option<Reply> {
    // The length of the MAC comes first: what reads the rest trusts it.
    if datagram.get(2) != Some(&6) {
        return None;
    }
    let request = Message::decode(&mut Decoder::new(datagram)).ok()?;
    let port = &guest.port;
    let ethernet = request.htype() == HType::Eth;
    let own = ethernet && request.chaddr() == port.mac.as_slice();
    let direct = request.giaddr().is_unspecified();
    if request.opcode() != Opcode::BootRequest || !own || !direct {
        return None;
    }
    let kind = request.opts().msg_type()?;
    // An answer to another server's offer is not for us. There is none: hosts
    // drop what guests say as servers.
    let server = option(&request, OptionCode::ServerIdentifier);
    if server.is_some_and(|server| server != port.gateway) {
        return None;
    }
    let given = request.ciaddr();
    match kind {
        MessageType::Discover => Some(told(&request, MessageType::Offer, guest, network_name)),
        MessageType::Request => {
            let wanted = option(&request, OptionCode::RequestedIpAddress)
                .or((!given.is_unspecified()).then_some(given))?;
            if wanted != port.address {
                return Some(refused(&request, port));
            }
            Some(told(&request, MessageType::Ack, guest, network_name))
        }
        MessageType::Inform if given == port.address => {
            Some(told(&request, MessageType::Ack, guest, network_name))
        }
        _ => None,
    }
}

fn option(request: &Message, code: OptionCode) -> Option<Ipv4Addr> {
    match request.opts().get(code)? {
        DhcpOption::ServerIdentifier(address) | DhcpOption::RequestedIpAddress(address) => {
            Some(*address)
        }
        _ => None,
    }
}

fn answer_to(request: &Message, kind: MessageType, port: &PortSpec) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut answer = Message::new_with_id(request.xid(), none, none, none, none, request.chaddr());
    answer.set_opcode(Opcode::BootReply);
    answer.set_flags(request.flags());
    let options = answer.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(port.gateway));
    answer
}

fn told(request: &Message, kind: MessageType, guest: &GuestSpec, network_name: &str) -> Reply {
    let port = &guest.port;
    let informs = request.opts().msg_type() == Some(MessageType::Inform);
    let mut answer = answer_to(request, kind, port);
    answer.set_ciaddr(request.ciaddr());
    if !informs {
        answer.set_yiaddr(port.address);
        let lease = DhcpOption::AddressLeaseTime(LEASE_SECONDS);
        answer.opts_mut().insert(lease);
    }
    let options = answer.opts_mut();
    let mask = Ipv4Addr::from_bits(!u32::MAX.checked_shr(port.prefix_length.into()).unwrap_or(0));
    let via = |address| (host_route(address), port.gateway);
    let everywhere = ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
    options.insert(DhcpOption::SubnetMask(mask));
    options.insert(DhcpOption::Router(vec![port.gateway]));
    options.insert(DhcpOption::DomainNameServer(vec![RESOLVER]));
    options.insert(DhcpOption::DomainName(domain_of(network_name)));
    options.insert(DhcpOption::Hostname(guest.hostname.clone()));
    options.insert(DhcpOption::InterfaceMtu(port.mtu));
    // Who reads these ignores the router above: all routes are here.
    options.insert(DhcpOption::ClasslessStaticRoute(vec![
        via(RESOLVER),
        via(METADATA),
        (everywhere, port.gateway),
    ]));
    let to = match request.ciaddr() {
        given if given == port.address => given,
        _ => Ipv4Addr::BROADCAST,
    };
    encoded(&answer, to)
}

fn host_route(address: Ipv4Addr) -> ipnet::Ipv4Net {
    ipnet::Ipv4Net::new_assert(address, 32)
}

fn refused(request: &Message, port: &PortSpec) -> Reply {
    let mut answer = answer_to(request, MessageType::Nak, port);
    let why = format!("the address of this port is {}", port.address);
    answer.opts_mut().insert(DhcpOption::Message(why));
    encoded(&answer, Ipv4Addr::BROADCAST)
}

fn encoded(answer: &Message, to: Ipv4Addr) -> Reply {
    // Lengths are bounded by what a host name and a network's name may be.
    let bytes = answer.to_vec().unwrap_or_default();
    Reply { bytes, to }
}

/// Serves one tap until something is wrong with its sockets.
pub(crate) async fn serve(context: Context, tap: Tap) -> io::Result<()> {
    let Some(gateway) = gateway(&context, &tap) else {
        return Ok(());
    };
    let device = tap.name.clone();
    // Answers come from the gateway, and who renews writes to it; questions of
    // guests without an address go to everybody.
    let (all, own) = context
        .make(move || {
            let all = SocketAddr::new(IpAddr::V4(socket::ANY_V4), SERVER);
            let own = SocketAddr::new(gateway.into(), SERVER);
            Ok((socket::udp_on(&device, all)?, socket::udp_on(&device, own)?))
        })
        .await?;
    let (all, own) = (UdpSocket::from_std(all)?, UdpSocket::from_std(own)?);
    let (mut first, mut second) = ([0; DATAGRAM_BYTES_MAX], [0; DATAGRAM_BYTES_MAX]);
    loop {
        let datagram = tokio::select! {
            read = all.recv(&mut first) => &first[..read?],
            read = own.recv(&mut second) => &second[..read?],
        };
        let current = context.now();
        let Some(local) = current.site.ports.get(&tap.instance) else {
            continue;
        };
        if local.guest.port.gateway != gateway {
            // Placed in another subnet meanwhile: with sockets of that one.
            return Ok(());
        }
        let name = current.site.spec.name.as_str();
        if let Some(reply) = reply(datagram, &local.guest, name) {
            let to = SocketAddr::new(reply.to.into(), CLIENT);
            if let Err(error) = own.send_to(&reply.bytes, to).await {
                tracing::debug!(instance = %tap.instance, %error, "dhcp answer");
            }
        }
    }
}

fn gateway(context: &Context, tap: &Tap) -> Option<Ipv4Addr> {
    let current = context.now();
    let local = current.site.ports.get(&tap.instance)?;
    let port = &local.guest.port;
    subnet_of(port).has(port.gateway).then_some(port.gateway)
}

#[cfg(test)]
#[path = "dhcp/test.rs"]
mod test;
