//! A guest's point of view: sends what no honest guest sends, listens to all that
//! arrives, and holds connections to see when they end. One file, the standard
//! library alone: tests compile it statically and copy it into guests.
//!
//! ```text
//! probe send INTERFACE KIND TARGET_IP   frames of this kind, with a marker inside
//! probe listen INTERFACE SECONDS TEXT   how many frames held this text
//! probe http METHOD ADDRESS PORT PATH [HEADER…]   status line, headers, body
//! probe serve PORT [SLOW_MS]            answers each connection with the host name
//! probe ticks ADDRESS PORT SECONDS      a byte there and back each 50 ms; gaps
//! probe echo PORT                       the other end of ticks
//! probe blast PORT BYTES                sends so many bytes to whoever connects
//! probe connect ADDRESS PORT            `open`, `refused` or `silent`
//! ```

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(2);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["send", link, kind, target] => raw::send(link, kind, target.parse().expect("address")),
        ["listen", link, seconds, text] => {
            let seconds = Duration::from_secs(seconds.parse().expect("seconds"));
            println!("{}", raw::listen(link, seconds, text.as_bytes()));
        }
        ["http", method, address, port, path, headers @ ..] => {
            http(method, (address, port), path, headers);
        }
        ["serve", port] => serve(port, Duration::ZERO),
        ["serve", port, slow_ms] => {
            serve(port, Duration::from_millis(slow_ms.parse().expect("ms")));
        }
        ["ticks", address, port, seconds] => {
            let seconds = Duration::from_secs(seconds.parse().expect("seconds"));
            ticks(socket(address, port), seconds);
        }
        ["echo", port] => echo(port),
        ["blast", port, bytes] => blast(port, bytes.parse().expect("bytes")),
        ["connect", address, port] => println!("{}", connect(socket(address, port))),
        _ => panic!("see the top of probe.rs"),
    }
}

fn socket(address: &str, port: &str) -> SocketAddr {
    let address: IpAddr = address.parse().expect("address");
    SocketAddr::new(address, port.parse().expect("port"))
}

fn connect(to: SocketAddr) -> &'static str {
    match TcpStream::connect_timeout(&to, PATIENCE) {
        Ok(_) => "open",
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => "refused",
        Err(_) => "silent",
    }
}

fn http(method: &str, (address, port): (&str, &str), path: &str, headers: &[&str]) {
    let mut stream = match TcpStream::connect_timeout(&socket(address, port), PATIENCE) {
        Ok(stream) => stream,
        Err(error) => return println!("no connection: {:?}", error.kind()),
    };
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let host = match address.contains(':') {
        true => format!("[{address}]"),
        false => address.to_owned(),
    };
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("Content-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    print!("{}", String::from_utf8_lossy(&answer));
}

/// One thread for each client: a slow answer keeps nobody waiting.
fn each_client(port: &str, work: impl Fn(TcpStream) + Clone + Send + 'static) {
    let listener = TcpListener::bind(("::", port.parse().expect("port"))).expect("listening");
    println!("listening");
    for client in listener.incoming().flatten() {
        let work = work.clone();
        std::thread::spawn(move || work(client));
    }
}

fn serve(port: &str, slow: Duration) {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("host name");
    each_client(port, move |mut client| {
        let mut request = [0; 512];
        let _ = client.read(&mut request);
        std::thread::sleep(slow);
        let body = name.trim();
        let length = body.len();
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        let _ = client.write_all(text.as_bytes());
    });
}

fn echo(port: &str) {
    each_client(port, |mut client| {
        let mut byte = [0; 1];
        while client.read_exact(&mut byte).is_ok() && client.write_all(&byte).is_ok() {}
    });
}

fn blast(port: &str, bytes: u64) {
    each_client(port, move |mut client| {
        let block = [b'x'; 16 * 1024];
        let mut left = bytes;
        while left > 0 {
            let count = left.min(block.len() as u64) as usize;
            if client.write_all(&block[..count]).is_err() {
                return;
            }
            left -= count as u64;
        }
    });
}

/// Prints `connected`, then how long the longest silence was, or that the
/// connection did not answer for two seconds.
fn ticks(to: SocketAddr, time: Duration) {
    let mut stream = match TcpStream::connect_timeout(&to, PATIENCE) {
        Ok(stream) => stream,
        Err(error) => return println!("no connection: {:?}", error.kind()),
    };
    println!("connected");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let (begun, mut longest, mut count) = (Instant::now(), Duration::ZERO, 0);
    let mut byte = [b'.'];
    while begun.elapsed() < time {
        let sent = Instant::now();
        if stream.write_all(&byte).is_err() || stream.read_exact(&mut byte).is_err() {
            println!("ended after {} ms", begun.elapsed().as_millis());
            return;
        }
        longest = longest.max(sent.elapsed());
        count += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("lasted, {count} ticks, longest gap {} ms", longest.as_millis());
}

mod raw {
    //! Frames through a packet socket.

    use super::*;
    use std::ffi::{CString, c_int, c_void};

    const AF_PACKET: c_int = 17;
    const SOCK_RAW: c_int = 3;
    const ALL: u16 = 0x0003;
    const OUTGOING: u8 = 4;

    #[repr(C)]
    #[derive(Default)]
    struct LinkAddress {
        family: u16,
        protocol: u16,
        index: c_int,
        hardware: u16,
        kind: u8,
        length: u8,
        address: [u8; 8],
    }

    unsafe extern "C" {
        fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
        fn bind(socket: c_int, address: *const LinkAddress, length: u32) -> c_int;
        fn sendto(
            socket: c_int,
            bytes: *const c_void,
            length: usize,
            flags: c_int,
            address: *const LinkAddress,
            address_length: u32,
        ) -> isize;
        fn recvfrom(
            socket: c_int,
            bytes: *mut c_void,
            length: usize,
            flags: c_int,
            address: *mut LinkAddress,
            address_length: *mut u32,
        ) -> isize;
        fn if_nametoindex(name: *const std::ffi::c_char) -> u32;
    }

    const LENGTH: u32 = size_of::<LinkAddress>() as u32;

    fn open(link: &str) -> (c_int, LinkAddress) {
        let name = CString::new(link).expect("a name");
        // SAFETY: a terminated string.
        let index = unsafe { if_nametoindex(name.as_ptr()) };
        assert!(index > 0, "no link {link}");
        // SAFETY: no pointers.
        let socket = unsafe { socket(AF_PACKET, SOCK_RAW, ALL.to_be().into()) };
        assert!(socket >= 0, "{}", std::io::Error::last_os_error());
        let address = LinkAddress {
            family: AF_PACKET as u16,
            protocol: ALL.to_be(),
            index: index as c_int,
            ..LinkAddress::default()
        };
        // SAFETY: the address lives as long as the call.
        let bound = unsafe { bind(socket, &address, LENGTH) };
        assert!(bound == 0, "{}", std::io::Error::last_os_error());
        (socket, address)
    }

    /// Counts frames that came in and hold these bytes.
    pub fn listen(link: &str, time: Duration, wanted: &[u8]) -> u64 {
        const DONTWAIT: c_int = 0x40;
        let (socket, _) = open(link);
        let (begun, mut count, mut frame) = (Instant::now(), 0, [0_u8; 2048]);
        while begun.elapsed() < time {
            let mut from = LinkAddress::default();
            let mut length = LENGTH;
            // SAFETY: both buffers live as long as the call, with their lengths.
            let got = unsafe {
                let bytes = frame.as_mut_ptr().cast();
                recvfrom(socket, bytes, frame.len(), DONTWAIT, &mut from, &mut length)
            };
            if got <= 0 {
                std::thread::sleep(Duration::from_millis(2));
            } else if from.kind != OUTGOING
                && frame[..got as usize].windows(wanted.len()).any(|part| part == wanted)
            {
                count += 1;
            }
        }
        count
    }

    struct Own {
        mac: [u8; 6],
        ip: Ipv4Addr,
    }

    fn own(link: &str) -> Own {
        let text = std::fs::read_to_string(format!("/sys/class/net/{link}/address"));
        let text = text.expect("a MAC");
        let mut mac = [0; 6];
        for (byte, part) in mac.iter_mut().zip(text.trim().split(':')) {
            *byte = u8::from_str_radix(part, 16).expect("hexadecimal");
        }
        // The kernel chooses the source; nothing is sent.
        let probe = std::net::UdpSocket::bind("0.0.0.0:0").expect("bound");
        probe.connect("10.255.255.254:9").expect("a route");
        let IpAddr::V4(ip) = probe.local_addr().expect("bound").ip() else {
            panic!("not IPv4");
        };
        Own { mac, ip }
    }

    const GATEWAY_MAC: [u8; 6] = [0xfe, 0, 0, 0, 0, 1];
    const STRANGE_MAC: [u8; 6] = [0x02, 0xba, 0xd0, 0, 0, 1];
    const BROADCAST: [u8; 6] = [0xff; 6];
    const FRAMES: usize = 20;

    /// Twenty frames of a kind; each holds `nube-spoof-KIND`, but for `honest`
    /// ones, which hold it as well and must arrive.
    pub fn send(link: &str, kind: &str, target: Ipv4Addr) {
        let own = own(link);
        let marker = format!("nube-spoof-{kind}");
        let marker = marker.as_bytes();
        let frame = frame(kind, &own, target, marker);
        let (socket, address) = open(link);
        for _ in 0..FRAMES {
            // SAFETY: frame and address live as long as the call.
            let sent = unsafe {
                sendto(socket, frame.as_ptr().cast(), frame.len(), 0, &address, LENGTH)
            };
            assert!(sent > 0, "{}", std::io::Error::last_os_error());
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("sent {FRAMES}");
    }

    fn frame(kind: &str, own: &Own, target: Ipv4Addr, marker: &[u8]) -> Vec<u8> {
        let strange_ip = Ipv4Addr::from_bits(own.ip.to_bits() ^ 0x40);
        let udp4 = |from: Ipv4Addr, ports: (u16, u16)| ipv4(from, target, &udp(ports, marker));
        match kind {
            "honest" => ether(GATEWAY_MAC, own.mac, 0x0800, &udp4(own.ip, (4000, 4000))),
            "mac" => ether(GATEWAY_MAC, STRANGE_MAC, 0x0800, &udp4(own.ip, (4000, 4000))),
            "ip" => ether(GATEWAY_MAC, own.mac, 0x0800, &udp4(strange_ip, (4000, 4000))),
            // "I am the target": poisons whoever believes it.
            "arp" => {
                let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 2];
                arp.extend(own.mac);
                arp.extend(target.octets());
                arp.extend(BROADCAST);
                arp.extend(target.octets());
                arp.extend(marker);
                ether(BROADCAST, own.mac, 0x0806, &arp)
            }
            "dhcp" => {
                let offer = udp((67, 68), marker);
                let packet = ipv4(own.ip, Ipv4Addr::BROADCAST, &offer);
                ether(BROADCAST, own.mac, 0x0800, &packet)
            }
            "nd" => icmp6(own, 136, marker),
            "ra" => icmp6(own, 134, marker),
            "vlan" => {
                let mut inner = vec![0, 7, 8, 0];
                inner.extend(udp4(own.ip, (4000, 4000)));
                ether(GATEWAY_MAC, own.mac, 0x8100, &inner)
            }
            "qinq" => {
                let mut inner = vec![0, 7, 0x81, 0, 0, 9, 8, 0];
                inner.extend(udp4(own.ip, (4000, 4000)));
                ether(BROADCAST, own.mac, 0x88a8, &inner)
            }
            "ethertype" => ether(BROADCAST, own.mac, 0x88b5, marker),
            // A frame for the target in the envelope that hosts use; `target` is a
            // host's address.
            "vxlan" => {
                let inner_packet = ipv4(strange_ip, own.ip, &udp((4000, 4000), marker));
                let inner = ether(own.mac, STRANGE_MAC, 0x0800, &inner_packet);
                let mut envelope = vec![8, 0, 0, 0, 0, 0, 2, 0];
                envelope.extend(inner);
                let packet = ipv4(own.ip, target, &udp((4789, 4789), &envelope));
                ether(GATEWAY_MAC, own.mac, 0x0800, &packet)
            }
            other => panic!("unknown kind {other}"),
        }
    }

    fn ether(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = to.to_vec();
        frame.extend(from);
        frame.extend(kind.to_be_bytes());
        frame.extend(payload);
        frame.resize(frame.len().max(60), 0);
        frame
    }

    fn udp((from, to): (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut packet = from.to_be_bytes().to_vec();
        packet.extend(to.to_be_bytes());
        packet.extend((8 + payload.len() as u16).to_be_bytes());
        // No checksum, which IPv4 allows.
        packet.extend([0, 0]);
        packet.extend(payload);
        packet
    }

    fn ipv4(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0];
        packet.extend((20 + payload.len() as u16).to_be_bytes());
        packet.extend([0, 1, 0, 0, 64, 17, 0, 0]);
        packet.extend(from.octets());
        packet.extend(to.octets());
        let sum = checksum(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(payload);
        packet
    }

    /// From the own link-local address to all nodes, about an address that is not
    /// the own one.
    fn icmp6(own: &Own, kind: u8, marker: &[u8]) -> Vec<u8> {
        let mut from = [0; 16];
        from[..2].copy_from_slice(&[0xfe, 0x80]);
        let m = own.mac;
        from[8..].copy_from_slice(&[m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]]);
        let mut to = [0; 16];
        (to[0], to[1], to[15]) = (0xff, 2, 1);
        let mut body = vec![kind, 0, 0, 0, 64, 0, 0x07, 0x08];
        if kind == 136 {
            body[4] = 0x20;
            let mut victim = [0xfd; 16];
            victim[15] = 7;
            body.extend(victim);
        } else {
            body.extend([0; 8]);
        }
        body.extend(marker);
        let mut pseudo = from.to_vec();
        pseudo.extend(to);
        pseudo.extend((body.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, 58]);
        pseudo.extend(&body);
        let sum = checksum(&pseudo);
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((body.len() as u16).to_be_bytes());
        packet.extend([58, 255]);
        packet.extend(from);
        packet.extend(to);
        packet.extend(body);
        ether([0x33, 0x33, 0, 0, 0, 1], own.mac, 0x86dd, &packet)
    }

    fn checksum(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|pair| {
            let low = pair.get(1).copied().unwrap_or(0);
            u32::from(u16::from_be_bytes([pair[0], low]))
        });
        let sum: u32 = words.sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        !(((sum & 0xffff) + (sum >> 16)) as u16)
    }
}
