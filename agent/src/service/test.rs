//! What a guest sees, over real sockets in real namespaces: needs root.

use std::net::Ipv4Addr;

use nube_types::{NetworkId, PlacementEpoch};

use super::*;
use crate::driver::{DiskFormat, ImageSpec};

/// A guest of the network `net` of `probe`.
pub(super) fn guest(number: u8) -> GuestSpec {
    GuestSpec {
        instance: InstanceId(0x1000 + u64::from(number)),
        epoch: PlacementEpoch(1),
        hostname: format!("guest-{number}"),
        vcpus: 1,
        memory_mib: 128,
        disk_mib: 128,
        image: ImageSpec {
            disk_sha256: "ab".repeat(32),
            disk_size_bytes: 1,
            disk_format: DiskFormat::Raw,
            boot: None,
        },
        port: PortSpec {
            network: NetworkId(9),
            network_number: 9,
            address: Ipv4Addr::new(10, 0, 0, number),
            prefix_length: 16,
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            mac: [0x02, 0, 0, 0, 0, number],
            mtu: 1450,
            address_v6: Some(format!("fd00:1::{number}").parse().expect("address")),
            network_name: "net".to_owned(),
        },
        authorized_keys: vec![
            "ssh-ed25519 AAAA a".to_owned(),
            "ssh-rsa BBBB\nx".to_owned(),
        ],
        user_data: b"#!/bin/sh\n".to_vec(),
        ssh_host_private_key: "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END\n".to_owned(),
        leased: false,
        metadata_only: true,
    }
}

/// A network's namespace with one port, whose other end is a namespace that plays
/// the guest; and a host whose resolver answers `NXDOMAIN` to everything.
struct World {
    network: Namespace,
    guest: Namespace,
    host: Namespace,
}

const TAP: &str = "t000000001005";
const PATIENCE: Duration = Duration::from_secs(10);

impl World {
    async fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let make = |role: &str| {
            let namespace = Namespace::named(format!("nbserv{role}-{}", std::process::id()));
            namespace.create().expect("a namespace");
            namespace
        };
        let world = Self {
            network: make("n"),
            guest: make("g"),
            host: make("h"),
        };
        let inside = world.guest.open().expect("the guest");
        let network_end = move || async move { network_end(inside).await };
        world
            .network
            .run_async(network_end)
            .await
            .expect("a network");
        world.guest.run_async(guest_end).await.expect("a guest");
        world.host.run_async(resolver).await.expect("a resolver");
        Some(world)
    }

    fn site(&self, internet_gateway: bool, guest: GuestSpec) -> Site {
        let local = LocalPort {
            tap: TAP.to_owned(),
            started_ms: Some(crate::host::clock::boot_time_ms()),
            guest: Arc::new(guest),
        };
        Site {
            namespace: self.network.clone(),
            spec: probe::network(&local.guest, internet_gateway),
            ports: BTreeMap::from([(local.guest.instance, local)]),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [&self.network, &self.guest, &self.host] {
            let _ = namespace.delete();
        }
    }
}

async fn network_end(inside: std::os::fd::OwnedFd) -> io::Result<()> {
    use crate::host::link::set_sysctl;
    use std::os::fd::AsFd;
    let spec = guest(5).port;
    set_sysctl("ipv4/ip_forward", "1")?;
    let links = crate::host::link::Links::open()?;
    let lo = links.require("lo").await?;
    links.up(lo).await?;
    let own = [
        spec.gateway,
        nube_types::net::METADATA,
        nube_types::net::RESOLVER,
    ];
    for address in own {
        links.address(lo, address, 32).await?;
    }
    links.add_veth(TAP, "eth0", inside.as_fd()).await?;
    let tap = links.require(TAP).await?;
    let gateway = crate::host::network::GATEWAY_MAC;
    links.shape(tap, gateway, spec.mtu).await?;
    links.up(tap).await?;
    for address in [spec.address, STRANGER] {
        links.route_to_link(address.into(), tap).await?;
        links.neighbour(tap, address.into(), spec.mac).await?;
    }
    Ok(())
}

async fn guest_end() -> io::Result<()> {
    let links = crate::host::link::Links::open()?;
    let link = links.require("eth0").await?;
    let spec = guest(5).port;
    crate::host::link::set_sysctl("ipv4/conf/all/rp_filter", "0")?;
    crate::host::link::set_sysctl("ipv4/conf/eth0/rp_filter", "0")?;
    crate::host::link::set_sysctl("ipv6/conf/eth0/accept_ra", "1")?;
    links.shape(link, spec.mac, spec.mtu).await?;
    links.up(link).await
}

async fn resolver() -> io::Result<()> {
    let links = crate::host::link::Links::open()?;
    links.up(links.require("lo").await?).await?;
    let socket = std::net::UdpSocket::bind("127.0.0.1:53")?;
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        // Ends with the test's process.
        while let Ok((count, from)) = socket.recv_from(&mut buffer) {
            buffer[2] |= 0x80;
            buffer[3] = 3;
            let _ = socket.send_to(&buffer[..count], from);
        }
    });
    Ok(())
}

/// In the guest, but known to nobody.
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);

async fn until<T, F: Future<Output = Option<T>>>(what: &str, attempt: impl Fn() -> F) -> T {
    let began = std::time::Instant::now();
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Sends a datagram on the guest's link and waits for what comes back.
async fn exchange(world: &World, own: &str, to: &str, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let (own, to): (std::net::SocketAddr, String) = (own.parse().expect("own"), to.to_owned());
    let sent = world.guest.run(move || {
        let socket = match own.port() == 0 {
            true => socket::udp(own)?,
            false => socket::udp_on("eth0", own)?,
        };
        let index = rustix::net::netdevice::name_to_index(&socket, "eth0")?;
        let to: std::net::SocketAddr = to
            .replace("%eth0", &format!("%{index}"))
            .parse()
            .expect("to");
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.send_to(&bytes, to)?;
        let mut buffer = [0; 1_500];
        let count = socket.recv(&mut buffer)?;
        Ok(buffer[..count].to_vec())
    });
    sent.await.ok()
}

/// One request over a connection of its own; empty when it was closed unheard.
async fn http(world: &World, source: Ipv4Addr, request: String) -> io::Result<String> {
    use std::io::{Read, Write};
    let ask = move || {
        let kind = socket2::Type::STREAM;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, kind, None)?;
        socket.bind(&std::net::SocketAddr::new(source.into(), 0).into())?;
        let service = std::net::SocketAddr::new(nube_types::net::METADATA.into(), 80);
        socket.connect_timeout(&service.into(), Duration::from_secs(3))?;
        let mut stream = std::net::TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        // A connection that is closed with bytes unread is reset.
        let _ = stream.read_to_string(&mut answer);
        Ok(answer)
    };
    world.guest.run(ask).await
}

async fn gets_an_address(world: &World) {
    use dhcproto::v4::{DhcpOption, Message, MessageType};
    use dhcproto::{Decodable, Decoder, Encodable};
    let none = Ipv4Addr::UNSPECIFIED;
    let spec = guest(5).port;
    let mut answers = Vec::new();
    for (kind, wanted) in [
        (MessageType::Discover, None),
        (MessageType::Request, Some(spec.address)),
        (MessageType::Request, Some(STRANGER)),
    ] {
        let mut message = Message::new_with_id(9, none, none, none, none, &spec.mac);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        if let Some(wanted) = wanted {
            message
                .opts_mut()
                .insert(DhcpOption::RequestedIpAddress(wanted));
        }
        let bytes = message.to_vec().expect("encoded");
        let attempt = || exchange(world, "0.0.0.0:68", "255.255.255.255:67", bytes.clone());
        let bytes = until("an answer by DHCP", attempt).await;
        let answer = Message::decode(&mut Decoder::new(&bytes)).expect("decoded");
        answers.push((answer.opts().msg_type(), answer.yiaddr()));
    }
    let expected = [
        (Some(MessageType::Offer), spec.address),
        (Some(MessageType::Ack), spec.address),
        (Some(MessageType::Nak), none),
    ];
    assert_eq!(answers, expected);
    let configure = move || async move {
        let links = crate::host::link::Links::open()?;
        let link = links.require("eth0").await?;
        for address in [spec.address, STRANGER] {
            links.address(link, address, spec.prefix_length).await?;
        }
        links.route_default(spec.gateway).await
    };
    world.guest.run_async(configure).await.expect("configured");
}

async fn gets_an_address_of_ipv6(world: &World) {
    use dhcproto::v6::{DhcpOption, DhcpOptions, IANA, Message, MessageType};
    use dhcproto::{Decodable, Decoder, Encodable};
    let look = || async {
        let read = || std::fs::read_to_string("/proc/thread-self/net/ipv6_route");
        let routes = world.guest.run(read).await.ok()?;
        let default = format!(
            "{} 00 {} 00 fe80{}1",
            "0".repeat(32),
            "0".repeat(32),
            "0".repeat(27)
        );
        routes.contains(&default).then_some(())
    };
    until("a default route by advertisement", look).await;
    let mut message = Message::new_with_id(MessageType::Solicit, [1, 2, 3]);
    message
        .opts_mut()
        .insert(DhcpOption::ClientId(vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 5]));
    let (id, t1, t2, opts) = (1, 0, 0, DhcpOptions::new());
    message
        .opts_mut()
        .insert(DhcpOption::IANA(IANA { id, t1, t2, opts }));
    let bytes = message.to_vec().expect("encoded");
    let attempt = || exchange(world, "[::]:546", "[ff02::1:2%eth0]:547", bytes.clone());
    let bytes = until("an answer by DHCPv6", attempt).await;
    let answer = Message::decode(&mut Decoder::new(&bytes)).expect("decoded");
    assert_eq!(answer.msg_type(), MessageType::Advertise);
    let octets = guest(5).port.address_v6.expect("an address").octets();
    assert!(bytes.windows(16).any(|window| window == octets));
}

async fn reads_metadata(world: &World) {
    let own = guest(5).port.address;
    let ask = |source, line: &str, more: &str| {
        let request = format!("{line} HTTP/1.1\r\nHost: 169.254.169.254\r\n{more}\r\n");
        http(world, source, request)
    };
    let ttl = "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n";
    let answer = ask(own, "PUT /latest/api/token", ttl)
        .await
        .expect("an answer");
    let token = answer.rsplit("\r\n").next().expect("a body");
    let with = format!("X-aws-ec2-metadata-token: {token}\r\n");
    let table = [
        (
            "GET /latest/meta-data/local-hostname",
            with.as_str(),
            "guest-5.net.internal",
        ),
        ("GET /latest/user-data", &with, "#!/bin/sh\n"),
        ("GET /latest/user-data", "", "Unauthorized\n"),
        (
            "GET /latest/user-data",
            "X-Forwarded-For: a\r\n",
            "Forbidden\n",
        ),
    ];
    for (line, more, expected) in table {
        let answer = ask(own, line, more).await.expect("an answer");
        assert!(
            answer.ends_with(&format!("\r\n\r\n{expected}")),
            "{line}: {answer}"
        );
    }
    let answer = ask(STRANGER, "PUT /latest/api/token", ttl).await;
    assert_eq!(answer.expect("connected"), "", "an address of no port");
}

fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("short"));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// Code and, if there is one, the address at the end.
async fn resolve(world: &World, name: &str) -> (u8, [u8; 4]) {
    let attempt = || exchange(world, "10.0.0.5:0", "169.254.169.253:53", question(name));
    let answer = until("an answer by DNS", attempt).await;
    let last = answer[answer.len() - 4..].try_into().expect("four");
    (answer[3] & 0xf, last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_is_told_everything_over_its_network() {
    let Some(world) = World::new().await else {
        return;
    };
    let resolvers = vec![Ipv4Addr::LOCALHOST.into()];
    let services = Services::new(world.host.clone(), resolvers, None);
    services.update(9, world.site(false, guest(5))).await;
    gets_an_address(&world).await;
    reads_metadata(&world).await;
    gets_an_address_of_ipv6(&world).await;

    assert_eq!(
        resolve(&world, "guest-5.net.internal").await,
        (0, [10, 0, 0, 5])
    );
    assert_eq!(resolve(&world, "guest-6.net.internal").await.0, 3);
    assert_eq!(resolve(&world, "example.org").await.0, 5, "no gateway");

    // A connection outlives what is told anew.
    let connect = || std::net::TcpStream::connect("169.254.169.253:53");
    let stream = world.guest.run(connect).await.expect("connected");
    let mut renamed = guest(5);
    renamed.hostname = "other".to_owned();
    services.update(9, world.site(true, renamed)).await;
    assert_eq!(
        resolve(&world, "other.net.internal").await,
        (0, [10, 0, 0, 5])
    );
    assert_eq!(
        resolve(&world, "example.org").await.0,
        3,
        "the host's resolver"
    );
    let ask = move || {
        use std::io::{Read, Write};
        let mut stream = stream;
        stream.write_all(&dns::upstream::framed(&question("other.net.internal")))?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        Ok(answer[..].to_vec())
    };
    let answer = world.guest.run(ask).await.expect("an answer over TCP");
    assert_eq!((answer[3], answer[4] & 0x80), (7, 0x80));

    services.remove(9).await;
    services.remove(9).await;
    let own = guest(5).port.address;
    let refused = http(&world, own, String::new()).await.expect_err("closed");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}
