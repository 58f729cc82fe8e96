//! Router advertisements, one sender per tap: this host is the guest's IPv6
//! router, and its address comes by DHCP. There is no prefix in it: nothing but
//! the gateway is on the guest's link.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nube_types::net::GATEWAY_V6;
use tokio::net::UdpSocket;

use super::taps::Tap;
use super::{Context, socket};
use crate::host::network::GATEWAY_MAC;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
const HOP_LIMIT: u8 = 64;
/// Addresses and all else by DHCP.
const MANAGED_AND_OTHER: u8 = 0xc0;
/// The longest that there is: an agent may be away for so long.
const LIFETIME_SECONDS: u16 = 9_000;
/// Unasked.
const EVERY: Duration = Duration::from_secs(600);
/// Answers to one guest; a router may take so long for one.
const PAUSE: Duration = Duration::from_millis(200);

/// Body of the message; the kernel fills in the checksum.
#[must_use]
pub fn advertisement(mtu: u16) -> Vec<u8> {
    let mut bytes = vec![ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, MANAGED_AND_OTHER];
    bytes.extend(LIFETIME_SECONDS.to_be_bytes());
    // Reachable time and retransmission: the guest's own.
    bytes.extend([0; 8]);
    bytes.extend([1, 1]);
    bytes.extend(GATEWAY_MAC);
    bytes.extend([5, 1, 0, 0]);
    bytes.extend(u32::from(mtu).to_be_bytes());
    bytes
}

/// Whether the message asks for a router.
#[must_use]
pub fn is_solicitation(message: &[u8], from: Ipv6Addr) -> bool {
    let of_link = from.is_unspecified() || from.is_unicast_link_local();
    message.len() >= 8 && message[..2] == [SOLICITATION, 0] && of_link
}

/// Serves one tap until something is wrong with its sockets.
pub(crate) async fn serve(context: Context, tap: Tap) -> io::Result<()> {
    let (device, index) = (tap.name.clone(), tap.index);
    let (heard, spoken) = context
        .make(move || {
            let heard = socket::icmp6_on(&device, index, ALL_ROUTERS)?;
            Ok((heard, socket::icmp6_from(&device, index, GATEWAY_V6)?))
        })
        .await?;
    let (heard, spoken) = (UdpSocket::from_std(heard)?, UdpSocket::from_std(spoken)?);
    let everybody = socket::on_link(ALL_NODES, 0, index);
    let mut buffer = [0; 1_500];
    let mut unasked = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            _ = unasked.tick() => {}
            read = heard.recv_from(&mut buffer) => {
                let (count, from) = read?;
                let IpAddr::V6(of) = SocketAddr::ip(&from) else { continue };
                if !is_solicitation(&buffer[..count], of) {
                    continue;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        let current = context.now();
        let Some(local) = current.site.ports.get(&tap.instance) else {
            continue;
        };
        if local.guest.port.address_v6.is_none() {
            continue;
        }
        // A tap carries nothing while its guest is off.
        if let Err(error) = spoken
            .send_to(&advertisement(local.guest.port.mtu), everybody)
            .await
        {
            tracing::debug!(instance = %tap.instance, %error, "router advertisement");
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn an_advertisement_has_the_bytes_of_its_standard() {
        let bytes = advertisement(1_450);
        assert_eq!(bytes.len(), 32);
        assert_eq!(bytes[..8], [134, 0, 0, 0, 64, 0xc0, 0x23, 0x28]);
        assert_eq!(bytes[16..24], [1, 1, 0xfe, 0, 0, 0, 0, 1]);
        assert_eq!(bytes[24..], [5, 1, 0, 0, 0, 0, 0x05, 0xaa]);
    }

    #[test]
    fn only_neighbours_solicit() {
        let link: Ipv6Addr = "fe80::5".parse().expect("address");
        let far: Ipv6Addr = "fd00::5".parse().expect("address");
        let question = [133, 0, 1, 2, 0, 0, 0, 0];
        assert!(is_solicitation(&question, link));
        assert!(is_solicitation(&question, Ipv6Addr::UNSPECIFIED));
        assert!(!is_solicitation(&question, far));
        assert!(!is_solicitation(&question[..7], link));
        assert!(!is_solicitation(&[134, 0, 1, 2, 0, 0, 0, 0], link));
        assert!(!is_solicitation(&[], link));
    }
}
