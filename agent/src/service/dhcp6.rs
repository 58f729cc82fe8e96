//! DHCP for IPv6, one server per tap: a guest gets its port's one address, with
//! nothing else on its link. Stateless as `dhcp` is.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, OptionCode, Status, StatusCode,
};
use dhcproto::{Decodable, Decoder, Encodable, Name};
use tokio::net::UdpSocket;

use super::taps::Tap;
use super::{Context, domain_of, socket};
use crate::driver::GuestSpec;
use crate::host::network::GATEWAY_MAC;

const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const SERVER: u16 = 547;
/// As for IPv4; renewed after half of it.
const LEASE_SECONDS: u32 = 86_400;
const DATAGRAM_BYTES_MAX: usize = 1_500;
/// Longest identifier of a client (RFC 8415, 11.1).
const IDENTIFIER_BYTES_MAX: usize = 130;

/// This server's identifier: the gateway's MAC, equal on all hosts.
fn identifier() -> Vec<u8> {
    let mut bytes = vec![0, 3, 0, 1];
    bytes.extend(GATEWAY_MAC);
    bytes
}

/// The answer to one datagram of the guest that has this port; `None`: silence.
#[must_use]
pub fn reply(datagram: &[u8], guest: &GuestSpec, network_name: &str) -> Option<Vec<u8>> {
    use MessageType as Kind;
    let address = guest.port.address_v6?;
    let known = known_parts(datagram)?;
    let request = Message::decode(&mut Decoder::new(&known)).ok()?;
    let client = match request.opts().get(OptionCode::ClientId) {
        Some(DhcpOption::ClientId(client)) if client.len() <= IDENTIFIER_BYTES_MAX => {
            Some(client.clone())
        }
        Some(_) => return None,
        None => None,
    };
    let server = match request.opts().get(OptionCode::ServerId) {
        Some(DhcpOption::ServerId(server)) if *server != identifier() => return None,
        found => found.is_some(),
    };
    let kind = request.msg_type();
    // Who must name the server and who must not (RFC 8415, 16).
    let named_rightly = match kind {
        Kind::Solicit | Kind::Confirm | Kind::Rebind => !server && client.is_some(),
        Kind::Request | Kind::Renew | Kind::Release | Kind::Decline => server && client.is_some(),
        Kind::InformationRequest => true,
        _ => false,
    };
    if !named_rightly {
        return None;
    }
    let rapid = kind == Kind::Solicit && request.opts().get(OptionCode::RapidCommit).is_some();
    let answered = match kind {
        Kind::Solicit if !rapid => Kind::Advertise,
        _ => Kind::Reply,
    };
    let mut answer = Message::new_with_id(answered, request.xid());
    let options = answer.opts_mut();
    options.insert(DhcpOption::ServerId(identifier()));
    if let Some(client) = client {
        options.insert(DhcpOption::ClientId(client));
    }
    match kind {
        Kind::Solicit | Kind::Request | Kind::Renew | Kind::Rebind => {
            if rapid {
                options.insert(DhcpOption::RapidCommit);
            }
            associate(&request, address, options);
        }
        Kind::Confirm => options.insert(status(match confirmed(&request, address)? {
            true => Status::Success,
            false => Status::NotOnLink,
        })),
        Kind::Release | Kind::Decline => options.insert(status(Status::Success)),
        _ => {}
    }
    if let Ok(domain) = Name::from_ascii(format!("{}.", domain_of(network_name))) {
        options.insert(DhcpOption::DomainSearchList(vec![domain]));
    }
    answer.to_vec().ok()
}

/// The datagram with those options alone that are read here, each of the length
/// it must have: the decoder of others subtracts from lengths that it was told.
fn known_parts(datagram: &[u8]) -> Option<Vec<u8>> {
    const ASSOCIATION_BYTES: usize = 12;
    const ADDRESS_BYTES: usize = 24;
    let (head, options) = datagram.split_at_checked(4)?;
    let mut known = head.to_vec();
    for (code, value) in parted(options)? {
        let value = match OptionCode::from(code) {
            OptionCode::ClientId | OptionCode::ServerId => value.to_vec(),
            OptionCode::RapidCommit => Vec::new(),
            OptionCode::IANA => {
                let (fixed, inner) = value.split_at_checked(ASSOCIATION_BYTES)?;
                let mut association = fixed.to_vec();
                for (code, value) in parted(inner)? {
                    if OptionCode::from(code) == OptionCode::IAAddr {
                        push(&mut association, code, value.get(..ADDRESS_BYTES)?);
                    }
                }
                association
            }
            _ => continue,
        };
        push(&mut known, code, &value);
    }
    Some(known)
}

fn push(bytes: &mut Vec<u8>, code: u16, value: &[u8]) {
    // Never longer than what was read.
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    bytes.extend(code.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(value);
}

/// Codes and values; `None` if a length leads past the end.
fn parted(mut bytes: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut options = Vec::new();
    while !bytes.is_empty() {
        let (&[a, b, c, d], rest) = bytes.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes([c, d]));
        let (value, rest) = rest.split_at_checked(length)?;
        options.push((u16::from_be_bytes([a, b]), value));
        bytes = rest;
    }
    Some(options)
}

fn associations(request: &Message) -> impl Iterator<Item = &IANA> {
    request.opts().iter().filter_map(|option| match option {
        DhcpOption::IANA(association) => Some(association),
        _ => None,
    })
}

fn addresses(association: &IANA) -> impl Iterator<Item = Ipv6Addr> {
    association.opts.iter().filter_map(|option| match option {
        DhcpOption::IAAddr(address) => Some(address.addr),
        _ => None,
    })
}

/// One association gets the address, the same each time; others of the guest get
/// none.
fn associate(request: &Message, address: Ipv6Addr, options: &mut DhcpOptions) {
    let chosen = associations(request)
        .map(|association| association.id)
        .min();
    for association in associations(request) {
        let mut of = DhcpOptions::new();
        if Some(association.id) == chosen {
            of.insert(DhcpOption::IAAddr(leased(address, LEASE_SECONDS)));
            // What the guest believes to have besides is over.
            for other in addresses(association).filter(|other| *other != address) {
                of.insert(DhcpOption::IAAddr(leased(other, 0)));
            }
        } else {
            of.insert(status(Status::NoAddrsAvail));
        }
        options.insert(DhcpOption::IANA(IANA {
            id: association.id,
            t1: LEASE_SECONDS / 2,
            t2: LEASE_SECONDS / 5 * 4,
            opts: of,
        }));
    }
}

/// `None`: it names no address, and is not to be answered.
fn confirmed(request: &Message, address: Ipv6Addr) -> Option<bool> {
    let mut named = associations(request).flat_map(addresses).peekable();
    named.peek()?;
    Some(named.all(|of| of == address))
}

fn leased(addr: Ipv6Addr, seconds: u32) -> IAAddr {
    IAAddr {
        addr,
        preferred_life: seconds,
        valid_life: seconds,
        opts: DhcpOptions::new(),
    }
}

fn status(status: Status) -> DhcpOption {
    let msg = String::new();
    DhcpOption::StatusCode(StatusCode { status, msg })
}

/// Serves one tap until something is wrong with its socket.
pub(crate) async fn serve(context: Context, tap: Tap) -> io::Result<()> {
    let (device, index) = (tap.name.clone(), tap.index);
    let make = move || socket::udp_on_group(&device, index, SERVER, ALL_SERVERS);
    let socket = UdpSocket::from_std(context.make(make).await?)?;
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        let (count, from) = socket.recv_from(&mut buffer).await?;
        let SocketAddr::V6(of) = from else { continue };
        let current = context.now();
        let Some(local) = current.site.ports.get(&tap.instance) else {
            continue;
        };
        if !of.ip().is_unicast_link_local() {
            continue;
        }
        let name = current.site.spec.name.as_str();
        if let Some(bytes) = reply(&buffer[..count], &local.guest, name)
            && let Err(error) = socket.send_to(&bytes, from).await
        {
            tracing::debug!(instance = %tap.instance, %error, "dhcp answer");
        }
    }
}

#[cfg(test)]
#[path = "dhcp6/test.rs"]
mod test;
