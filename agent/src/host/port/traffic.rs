//! Tests that speak as a guest: frames go into a tap, and what comes back says
//! what the host lets through.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use std::collections::BTreeMap;

use nube_types::net::Ipv4Prefix;
use nube_types::{Name, PlacementEpoch, SecurityGroupId, SecurityRuleId};

use super::*;
use crate::host::network::GATEWAY_MAC;
use crate::host::scratch::{self, Scratch};
use crate::network::kernel::Changes;
use crate::network::meter::Meter;
use crate::network::spec::{NetworkPortSpec, NetworkSpec, Peer, Protocol, RuleSpec, SubnetSpec};

/// Virtio header before each frame: no offloads.
const HEADER: [u8; 10] = [0; 10];
/// Long enough for an answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is dropped stays silent for this long, twice.
const SILENCE: Duration = Duration::from_millis(150);

struct FakeGuest {
    tap: File,
    mac: [u8; 6],
    address: Ipv4Addr,
}

impl FakeGuest {
    fn new(tap: OwnedFd, port: &PortSpec) -> Self {
        Self {
            tap: tap.into(),
            mac: port.mac,
            address: port.address,
        }
    }

    fn send(&mut self, kind: u16, target: [u8; 6], payload: &[u8]) {
        let mut frame = HEADER.to_vec();
        frame.extend(target);
        frame.extend(self.mac);
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        self.tap.write_all(&frame).expect("sent");
    }

    /// The payload of the first frame of this kind that `wanted` likes.
    fn receive(
        &mut self,
        kind: u16,
        within: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        let began = Instant::now();
        let mut frame = [0; 2048];
        while began.elapsed() < within {
            let Ok(count) = self.tap.read(&mut frame) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let frame = &frame[HEADER.len()..count];
            if frame.len() > 14 && frame[12..14] == kind.to_be_bytes() && wanted(&frame[14..]) {
                return Some(frame[14..].to_vec());
            }
        }
        None
    }

    /// Tries again: a tap carries nothing to the guest until the kernel has
    /// noticed, up to a second later, that somebody listens.
    fn until<T>(within: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        let began = Instant::now();
        loop {
            let answer = attempt();
            if answer.is_some() || began.elapsed() > within {
                return answer;
            }
        }
    }

    /// Whose MAC the host says this address has.
    fn resolve(&mut self, address: Ipv4Addr, within: Duration) -> Option<[u8; 6]> {
        Self::until(within, || self.resolve_once(address))
    }

    /// Whether an echo request is answered.
    fn ping(&mut self, target: Ipv4Addr, within: Duration) -> bool {
        Self::until(within, || self.ping_once(target).then_some(())).is_some()
    }

    fn resolve_once(&mut self, address: Ipv4Addr) -> Option<[u8; 6]> {
        let mut question = vec![0, 1, 8, 0, 6, 4, 0, 1];
        question.extend(self.mac);
        question.extend(self.address.octets());
        question.extend([0; 6]);
        question.extend(address.octets());
        self.send(0x0806, [0xff; 6], &question);
        let answer = self.receive(0x0806, SILENCE, |arp| {
            arp[6..8] == [0, 2] && arp[14..18] == address.octets()
        })?;
        answer[8..14].try_into().ok()
    }

    fn ping_once(&mut self, target: Ipv4Addr) -> bool {
        let mut echo = vec![8, 0, 0, 0, 0, 7, 0, 1];
        echo.extend(*b"nube");
        let sum = checksum(&echo);
        echo[2..4].copy_from_slice(&sum.to_be_bytes());
        let length = 20 + echo.len() as u16;
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 1, 0, 0, 64, 1, 0, 0]);
        packet.extend(self.address.octets());
        packet.extend(target.octets());
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(&echo);
        self.send(0x0800, GATEWAY_MAC, &packet);
        let from = target.octets();
        let reply = |packet: &[u8]| packet[12..16] == from && packet[9] == 1 && packet[20] == 0;
        self.receive(0x0800, SILENCE, reply).is_some()
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let sum: u32 = words.sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

fn port(number: u8) -> PortSpec {
    PortSpec {
        network: nube_types::NetworkId(3),
        network_number: 3,
        address: Ipv4Addr::new(10, 0, 0, number),
        prefix_length: 16,
        gateway: Ipv4Addr::new(10, 0, 0, 1),
        mac: [2, 0, 0, 0, 0, number],
        mtu: 1400,
        address_v6: None,
        network_name: String::new(),
    }
}

fn networks(scratch: &Scratch) -> Networks {
    let book = std::env::temp_dir().join(format!("nube-meter-{}", scratch.node));
    let meter = Meter::open(book).expect("a meter");
    Networks::new(
        scratch.node,
        Some(&scratch.host.namespace),
        Vec::new(),
        meter,
    )
}

/// A network whose one group lets everything out and its members in.
fn open(ports: &[(InstanceId, PortSpec)]) -> NetworkSpec {
    let group = SecurityGroupId(1);
    let rule = |number, ingress, peer| RuleSpec {
        id: SecurityRuleId(number),
        ingress,
        protocol: Protocol::Any,
        ports: None,
        peer,
    };
    let all = Peer::Range("0.0.0.0/0".parse().expect("a range"));
    let rules = vec![rule(1, false, all), rule(2, true, Peer::Group(group))];
    let of = |(instance, port): &(InstanceId, PortSpec)| {
        let known = NetworkPortSpec {
            name: Name::new(&format!("g{}", instance.0)).expect("a name"),
            address: port.address,
            address_v6: port.address_v6,
            mac: port.mac,
            host: None,
            epoch: PlacementEpoch(1),
            local: true,
            groups: vec![group],
        };
        (*instance, known)
    };
    NetworkSpec {
        id: ports[0].1.network,
        number: ports[0].1.network_number,
        name: Name::new("lab").expect("a name"),
        internet_gateway: true,
        mtu: 1450,
        subnets: vec![SubnetSpec {
            range: Ipv4Prefix::around(ports[0].1.gateway, ports[0].1.prefix_length),
            gateway: ports[0].1.gateway,
        }],
        ports: ports.iter().map(of).collect(),
        groups: BTreeMap::from([(group, rules)]),
        elastic: BTreeMap::new(),
        load_balancers: BTreeMap::new(),
    }
}

/// A machine somewhere behind the host's own gateway.
struct World {
    namespace: Namespace,
    link: String,
    address: Ipv4Addr,
}

impl World {
    async fn new(ordinal: u8) -> Self {
        let network = scratch::subnet(ordinal);
        let near = Ipv4Addr::from_bits(network.to_bits() + 1);
        let far = Ipv4Addr::from_bits(network.to_bits() + 2);
        let namespace = Namespace::named(format!("nbworld-{}", std::process::id()));
        namespace.create().expect("world");
        let inside = namespace.open().expect("world");
        let link = format!("nw{}", std::process::id());
        let name = link.clone();
        Namespace::of(None)
            .run_async(move || async move {
                let links = Links::open()?;
                links.add_veth(&name, "eth0", inside.as_fd()).await?;
                let index = links.require(&name).await?;
                links.address(index, near, 24).await?;
                links.up(index).await
            })
            .await
            .expect("link to the world");
        namespace
            .run_async(move || async move {
                let links = Links::open()?;
                let index = links.require("eth0").await?;
                links.address(index, far, 24).await?;
                links.up(index).await?;
                links.route_default(near).await
            })
            .await
            .expect("the world's end");
        Self {
            namespace,
            link,
            address: far,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let link = self.link.clone();
        let removing = std::thread::spawn(move || {
            namespace::block_on(async { Links::open()?.delete(&link).await })
        });
        let _ = removing.join();
        let _ = self.namespace.delete();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_reaches_what_it_may_and_nothing_else() {
    let Some(scratch) = Scratch::new(8) else {
        return;
    };
    let networks = networks(&scratch);
    let (one, two) = (InstanceId(1), InstanceId(2));
    let ports = [(one, port(11)), (two, port(12))];
    networks.ensure(&ports).await.expect("ports");
    networks.ensure(&ports).await.expect("again");
    let guests: BTreeMap<_, _> = ports.clone().into();
    // Without a policy a guest is answered by its host, and nothing passes.
    let changes = networks.apply(3, None, None, &guests).await;
    changes.expect("closed");
    let changes = networks.apply(3, Some(&open(&ports)), None, &guests).await;
    assert!(!changes.expect("opened").is_empty());
    let again = networks.apply(3, Some(&open(&ports)), None, &guests).await;
    assert_eq!(again.expect("applied"), Changes::new(), "nothing to do");
    let tap = |instance| networks.open_tap(instance, &ports[0].1);
    let mut guest = FakeGuest::new(tap(one).await.expect("tap"), &ports[0].1);
    let _other = tap(two).await.expect("tap");
    let world = World::new(9).await;

    // Its gateway, and its neighbour by way of the gateway.
    let gateway = ports[0].1.gateway;
    assert_eq!(guest.resolve(gateway, PATIENCE), Some(GATEWAY_MAC));
    assert_eq!(
        guest.resolve(ports[1].1.address, PATIENCE),
        Some(GATEWAY_MAC)
    );
    assert_eq!(guest.resolve(Ipv4Addr::new(10, 0, 9, 9), SILENCE), None);
    assert!(guest.ping(gateway, PATIENCE), "gateway");
    // The world, through all the translations.
    assert!(guest.ping(world.address, PATIENCE), "world");

    // Not its host, the machine that carries it, or the links in between.
    let host = scratch.host.address;
    let machine = Ipv4Addr::from_bits(host.to_bits() & !0xff | 1);
    let uplink = Ipv4Addr::new(169, 254, 64, 13);
    let beside_world = Ipv4Addr::from_bits(world.address.to_bits() - 1);
    for closed in [host, machine, uplink, beside_world] {
        assert!(!guest.ping(closed, SILENCE), "{closed}");
    }

    // Not as somebody else.
    guest.address = Ipv4Addr::new(10, 0, 0, 99);
    assert!(!guest.ping(gateway, SILENCE), "foreign address");
    assert_eq!(guest.resolve(gateway, SILENCE), None, "foreign ARP");
    guest.address = ports[0].1.address;
    guest.mac[5] ^= 1;
    assert!(!guest.ping(gateway, SILENCE), "foreign MAC");
    guest.mac[5] ^= 1;
    assert!(guest.ping(gateway, PATIENCE), "itself again");

    for (instance, port) in &ports {
        networks.remove(*instance, port).await.expect("removed");
        networks.remove(*instance, port).await.expect("again");
    }
    assert!(
        namespace::list(&namespace_prefix(scratch.node))
            .expect("list")
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_with_the_same_addresses_stay_apart() {
    let Some(scratch) = Scratch::new(10) else {
        return;
    };
    let networks = networks(&scratch);
    let one = (InstanceId(1), port(11));
    let mut two = (InstanceId(2), port(11));
    two.1.network_number = 4;
    for port in [&one, &two] {
        networks
            .ensure(std::slice::from_ref(port))
            .await
            .expect("port");
    }
    // A server in one network is found from its own namespace only.
    for (instance, port) in [&one, &two] {
        let mut guest =
            FakeGuest::new(networks.open_tap(*instance, port).await.expect("tap"), port);
        assert!(guest.ping(port.gateway, PATIENCE));
    }
    networks.remove(one.0, &one.1).await.expect("removed");
    let left = namespace::list(&namespace_prefix(scratch.node)).expect("list");
    assert_eq!(left, vec![namespace_name(scratch.node, 4)]);
    // What a crash leaves between the last tap and its network is swept up.
    let tap = tap_name(two.0);
    Namespace::named(left[0].clone())
        .run_async(move || async move { Links::open()?.delete(&tap).await })
        .await
        .expect("tap gone");
    let unexplained = networks.sweep(&BTreeSet::new()).await.expect("swept");
    assert!(unexplained.is_empty());
    assert!(
        namespace::list(&namespace_prefix(scratch.node))
            .expect("list")
            .is_empty()
    );
}
