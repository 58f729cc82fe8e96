//! Networks that never meet, and hosts that speak for nobody else's guests.

use std::net::Ipv4Addr;
use std::time::Duration;

use nube_types::net::{transit_address, transit_mac};

use super::Lab;
use super::guest::{SILENCE, dial};
use super::wire;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_with_equal_ranges_never_meet() {
    let Some(mut lab) = Lab::new(&[3, 4]).await else {
        return;
    };
    let mut guests = Vec::new();
    for number in [3, 4] {
        for (host, last) in [(0, 11), (1, 12)] {
            guests.push(lab.guest(number, host, last, &[1]).await);
        }
    }
    // Each finds its own neighbour under the same address.
    for pair in guests.chunks(2) {
        let (one, two) = (&pair[0], &pair[1]);
        let listener = two.listen(7000).await;
        drop(one.connect(two.v4(), 7000).await);
        assert_eq!(listener.accept().1, one.v4());
    }
    // Nobody else heard of it, and no way leads there.
    let other = guests[3].listen(7001).await;
    guests[0].fails(guests[3].v4(), 7001).await;
    guests[0].fails(guests[3].v6(), 7001).await;
    assert!(!other.is_called());
    // Nor to the hosts' names, the host itself, or the links in between.
    let host = lab.hosts[0].overlay;
    let far = transit_address(lab.hosts[1].overlay);
    for closed in [
        host,
        transit_address(host),
        far,
        Ipv4Addr::new(169, 254, 64, 13),
    ] {
        guests[0].fails(closed.into(), 22).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_lost_a_guest_sends_as_it_in_vain() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let moved = lab.guest(3, 0, 11, &[1]).await;
    let peer = lab.guest(3, 1, 12, &[1]).await;
    // The old host stays one of the network's hosts, which is why its frames come in.
    let stays = lab.guest(3, 0, 13, &[1]).await;
    let listener = peer.listen(7000).await;
    for address in [peer.v4(), peer.v6()] {
        drop(moved.connect(address, 7000).await);
        let _ = listener.accept();
    }
    // It runs elsewhere now; its old host has not heard of it.
    let elsewhere = lab.outside_address.to_string();
    lab.wishes.get_mut(&3).expect("network").ports[0].host_address = elsewhere;
    lab.tell_one(1).await;
    let inside = lab.hosts[1].inside(3);
    for (address, fenced) in [(peer.v4(), 1), (peer.v6(), 2)] {
        let error = moved.fails(address, 7000).await;
        let counted = lab
            .counter(&inside, "netdev", "nube_overlay", "fenced")
            .await;
        assert!(counted >= fenced, "{address}: {error}, {counted} frames");
    }
    assert!(!listener.is_called());
    drop(stays.connect(peer.v4(), 7000).await);
    let _ = listener.accept();
    // Back again: the host it is on counts, nothing else.
    let host = lab.hosts[0].overlay.to_string();
    lab.wishes.get_mut(&3).expect("network").ports[0].host_address = host;
    lab.tell().await;
    drop(moved.connect(peer.v4(), 7000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_frames_of_the_overlay_are_dropped() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let one = lab.guest(3, 0, 11, &[1]).await;
    let two = lab.guest(3, 1, 12, &[1]).await;
    let victim = lab.hosts[1].overlay;
    let table = crate::host::network::host_table(lab._scratch.node_of(1));
    let host = lab.hosts[1].namespace.clone();
    let listening = two
        .namespace
        .run(|| std::net::UdpSocket::bind("0.0.0.0:7000"));
    let listening = listening.await.expect("bound");
    listening.set_read_timeout(Some(SILENCE)).expect("set");
    let forged = frame(
        3,
        lab.hosts[0].overlay,
        victim,
        one.port.address,
        two.port.address,
    );
    let dropped = || lab.counter(&host, "inet", &table, "overlay");
    // From somebody who is no host; from a host, under another one's MAC.
    let before = dropped().await;
    let mine = frame(
        3,
        lab.hosts[1].overlay,
        victim,
        one.port.address,
        two.port.address,
    );
    for (from, bytes) in [(&lab.outside, &forged), (&lab.hosts[0].namespace, &mine)] {
        let bytes = bytes.clone();
        from.run(move || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket.send_to(&bytes, (victim, 4789)).map(|_| ())
        })
        .await
        .expect("sent");
    }
    assert!(listening.recv(&mut [0; 64]).is_err(), "nothing arrives");
    assert_eq!(dropped().await, before + 2);
    // The same frame from the right host does: the test can tell.
    lab.hosts[0]
        .namespace
        .run(move || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
            socket.send_to(&forged, (victim, 4789)).map(|_| ())
        })
        .await
        .expect("sent");
    listening
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("set");
    assert_eq!(listening.recv(&mut [0; 64]).expect("arrives"), 4);
}

/// A VXLAN packet that carries a UDP datagram between guests.
fn frame(vni: u32, host: Ipv4Addr, to_host: Ipv4Addr, from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![8, 0, 0, 0];
    bytes.extend((vni << 8).to_be_bytes());
    bytes.extend(transit_mac(to_host));
    bytes.extend(transit_mac(host));
    bytes.extend([8, 0]);
    let udp = [0x1b, 0x58, 0x1b, 0x58, 0, 12, 0, 0, b'n', b'u', b'b', b'e'];
    let mut ip = vec![0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0];
    ip.extend(from.octets());
    ip.extend(to.octets());
    let sum = super::spoof::checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(ip);
    bytes.extend(udp);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_without_a_policy_passes_nothing_but_its_hosts_tunnel() {
    let Some(mut lab) = Lab::new(&[3]).await else {
        return;
    };
    let known = lab.guest(3, 0, 11, &[1]).await;
    let _listener = known.listen(7000).await;
    let unknown = lab.guest(3, 0, 12, &[1]).await;
    lab.wishes.get_mut(&3).expect("network").ports.truncate(1);
    lab.tell().await;
    unknown.fails(known.v4(), 7000).await;
    let listener = unknown.listen(22).await;
    known.fails(unknown.v4(), 22).await;
    assert!(!listener.is_called());
    let inside = lab.hosts[0].inside(3);
    let tunnel = dial(&inside, unknown.v4(), 22, Duration::from_secs(10)).await;
    drop(tunnel.expect("the agent's own way"));
    let _ = wire::instance(3, 12);
}
