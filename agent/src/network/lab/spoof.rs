//! Frames that a guest may not send: each kind is dropped and counted as what it
//! is, and what a guest must send passes.

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use nube_types::net::GATEWAY_V6;

use super::Lab;
use crate::host::network::{GATEWAY_MAC, tap_name};
use crate::network::rules::spoof::{REASONS, table_name};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 11);
const FOREIGN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 99);
const MAC: [u8; 6] = [2, 0, 0, 0, 3, 11];
const LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// As IP and ICMP have it.
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let sum: u32 = words.sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

fn frame(mac: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    // A virtio header stands before each frame: no offloads.
    let mut bytes = vec![0; 10];
    bytes.extend(GATEWAY_MAC);
    bytes.extend(mac);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn arp(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, 1];
    bytes.extend(mac);
    bytes.extend(address.octets());
    bytes.extend([0; 6]);
    bytes.extend([10, 0, 0, 1]);
    frame(MAC, 0x0806, &bytes)
}

fn udp(source: u16, target: u16) -> Vec<u8> {
    let mut bytes = source.to_be_bytes().to_vec();
    bytes.extend(target.to_be_bytes());
    bytes.extend([0, 12, 0, 0, 1, 2, 3, 4]);
    bytes
}

fn ip4(from: Ipv4Addr, to: Ipv4Addr, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 20 + body.len() as u8, 0, 1, 0, 0, 64, 17, 0, 0];
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    let sum = checksum(&bytes);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn ip6(from: Ipv6Addr, to: Ipv6Addr, next: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0, 0, body.len() as u8, next, 255];
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(body);
    frame(MAC, 0x86dd, &bytes)
}

/// A solicitation (135) or advertisement (136) with a link-layer address.
fn neighbour(kind: u8, target: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(target.octets());
    bytes.extend([kind - 134, 1]);
    bytes.extend(mac);
    bytes
}

/// Frames that are dropped, each with its reason.
fn forged(own: Ipv6Addr) -> Vec<(&'static str, Vec<u8>)> {
    const FOREIGN_MAC: [u8; 6] = [2, 0, 0, 0, 3, 12];
    let foreign = Ipv6Addr::from_bits(own.to_bits() + 1);
    let neighbour_of =
        |from, kind, target, mac| ip6(from, ALL_NODES, 58, &neighbour(kind, target, mac));
    let plain = udp(5000, 5000);
    let tagged = |kind: u16| {
        let mut inner = vec![0, 5, 8, 0];
        inner.extend(ip4(OWN, FOREIGN, &plain));
        frame(MAC, kind, &inner)
    };
    vec![
        (
            "mac",
            frame(FOREIGN_MAC, 0x0800, &ip4(OWN, FOREIGN, &plain)),
        ),
        ("arp", arp(MAC, FOREIGN)),
        ("arp", arp(FOREIGN_MAC, OWN)),
        ("arp", arp(MAC, Ipv4Addr::new(10, 0, 0, 1))),
        ("ip4", frame(MAC, 0x0800, &ip4(FOREIGN, OWN, &plain))),
        (
            "ip4",
            frame(MAC, 0x0800, &ip4(Ipv4Addr::UNSPECIFIED, FOREIGN, &plain)),
        ),
        ("ip6", ip6(foreign, own, 17, &plain)),
        ("ip6", ip6(LINK, foreign, 17, &plain)),
        ("ip6", ip6(LINK, GATEWAY_V6, 17, &plain)),
        ("nd", neighbour_of(LINK, 136, GATEWAY_V6, MAC)),
        ("nd", neighbour_of(own, 136, foreign, MAC)),
        ("nd", neighbour_of(own, 136, own, FOREIGN_MAC)),
        ("nd", neighbour_of(foreign, 136, own, MAC)),
        ("nd", neighbour_of(GATEWAY_V6, 135, own, MAC)),
        ("nd", neighbour_of(foreign, 135, GATEWAY_V6, MAC)),
        (
            "nd",
            neighbour_of(Ipv6Addr::UNSPECIFIED, 135, GATEWAY_V6, MAC),
        ),
        (
            "ra",
            ip6(
                LINK,
                ALL_NODES,
                58,
                &[134, 0, 0, 0, 64, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
        ),
        ("ra", ip6(own, ALL_NODES, 58, &neighbour(137, own, MAC))),
        (
            "dhcp",
            frame(MAC, 0x0800, &ip4(OWN, Ipv4Addr::BROADCAST, &udp(67, 68))),
        ),
        ("dhcp", ip6(LINK, ALL_NODES, 17, &udp(547, 546))),
        ("vlan", tagged(0x8100)),
        ("vlan", tagged(0x88a8)),
        ("ethertype", frame(MAC, 0x88cc, &[0; 46])),
    ]
}

/// Frames that every guest sends.
fn honest(own: Ipv6Addr) -> Vec<Vec<u8>> {
    let neighbour_of = |from, kind, target| ip6(from, ALL_NODES, 58, &neighbour(kind, target, MAC));
    let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
    vec![
        arp(MAC, OWN),
        arp(MAC, Ipv4Addr::UNSPECIFIED),
        frame(MAC, 0x0800, &ip4(OWN, FOREIGN, &udp(5000, 5000))),
        frame(
            MAC,
            0x0800,
            &ip4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, &udp(68, 67)),
        ),
        ip6(own, own, 17, &udp(5000, 5000)),
        ip6(LINK, servers, 17, &udp(546, 547)),
        ip6(LINK, ALL_NODES, 58, &[133, 0, 0, 0, 0, 0, 0, 0]),
        neighbour_of(LINK, 135, GATEWAY_V6),
        neighbour_of(own, 135, GATEWAY_V6),
        neighbour_of(Ipv6Addr::UNSPECIFIED, 135, own),
        neighbour_of(own, 136, own),
        neighbour_of(LINK, 136, LINK),
        // Who listens to which multicast: dropped, and nobody's fault.
        ip6(LINK, ALL_NODES, 58, &[143, 0, 0, 0, 0, 0, 0, 0]),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_forgery_is_dropped_and_counted() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let mut guest = lab.guest(3, 0, 11, &[1]).await;
    guest.halt();
    let own = guest.port.address_v6.expect("an address");
    let networks = &lab.hosts[0].networks;
    let tap = networks.open_tap(guest.instance, &guest.port).await;
    let mut tap = File::from(tap.expect("a tap"));
    let inside = lab.hosts[0].inside(3);
    let table = table_name(&tap_name(guest.instance));
    let counts = async || {
        let mut counts = Vec::new();
        for reason in REASONS {
            counts.push(lab.counter(&inside, "netdev", &table, reason).await);
        }
        counts
    };
    let mut before = counts().await;
    for (number, (reason, frame)) in forged(own).into_iter().enumerate() {
        tap.write_all(&frame).expect("sent");
        let place = REASONS.iter().position(|known| *known == reason);
        before[place.expect("a reason")] += 1;
        assert_eq!(counts().await, before, "{number}: {reason}");
    }
    for (number, frame) in honest(own).into_iter().enumerate() {
        tap.write_all(&frame).expect("sent");
        assert_eq!(counts().await, before, "honest frame {number}");
    }
}
