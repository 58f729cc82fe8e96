//! A slow wire: what a member sends to the others goes through a tun device to
//! this process, waits, and leaves by the member's real device. (The kernel's own
//! delay, netem, is not everywhere.)
//!
//! The way out is a raw socket that is bound to `eth0`: only there does the
//! kernel find the connected network, because the narrower route to the tun
//! device is another device's.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SendFlags, SocketType, sendto, socket};

use super::network::Network;
use crate::run::run;

const DEVICE: &str = "slow0";
/// The lower half of the lab's addresses: all members and the hub.
const ROUTE: &str = "10.214.0.0/25";
const PACKET_BYTES_MAX: usize = 2_048;
/// More would be a flood, not a delay: dropped, as a router would.
const WAITING_MAX: usize = 8_192;
const POLL: Duration = Duration::from_millis(2);

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;

#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    padding: [u8; 22],
}

/// Delays what one member sends, until dropped.
#[derive(Debug)]
pub struct Slow {
    over: Arc<AtomicBool>,
    relay: Option<std::thread::JoinHandle<()>>,
}

impl Slow {
    /// Every packet of `member` takes `delay` longer from now on.
    pub fn start(network: &Network, member: &str, delay: Duration) -> anyhow::Result<Self> {
        let own = network.address(member)?;
        let (tun, out) = network.inside(member, || {
            let tun = open()?;
            run(Command::new("ip").args(["link", "set", DEVICE, "up"]))?.ok()?;
            let protocol = rustix::net::ipproto::RAW;
            let out = socket(AddressFamily::INET, SocketType::RAW, Some(protocol))?;
            bind(&out, c"eth0")?;
            let route = ["route", "add", ROUTE, "dev", DEVICE, "src", &own];
            run(Command::new("ip").args(route))?.ok()?;
            Ok((tun, out))
        })?;
        let over = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&over);
        let relay = std::thread::Builder::new()
            .name(format!("slow {member}"))
            .spawn(move || relay(tun, &out, delay, &done))?;
        Ok(Self {
            over,
            relay: Some(relay),
        })
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // The device and its route go with the relay's descriptor.
        if let Some(relay) = self.relay.take()
            && relay.join().is_err()
        {
            eprintln!("a relay panicked");
        }
    }
}

/// Packets that are on their way when it ends are lost with it: a wire was cut.
fn relay(mut tun: File, out: &OwnedFd, delay: Duration, over: &AtomicBool) {
    let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = [0; PACKET_BYTES_MAX];
    while !over.load(Ordering::Relaxed) {
        while let Ok(length) = tun.read(&mut buffer) {
            if waiting.len() < WAITING_MAX {
                waiting.push_back((Instant::now() + delay, buffer[..length].to_vec()));
            }
        }
        while let Some((_, packet)) = waiting.pop_front_if(|(due, _)| *due <= Instant::now()) {
            if let Some(to) = destination(&packet) {
                // What the kernel does not take is a lost packet.
                let _ = sendto(out, &packet, SendFlags::DONTWAIT, &to);
            }
        }
        std::thread::sleep(POLL);
    }
}

fn destination(packet: &[u8]) -> Option<SocketAddrV4> {
    let is_four = packet.first()? >> 4 == 4;
    let bytes: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    is_four.then(|| SocketAddrV4::new(Ipv4Addr::from(bytes), 0))
}

fn bind(socket: &OwnedFd, device: &std::ffi::CStr) -> anyhow::Result<()> {
    let name = device.to_bytes_with_nul();
    // SAFETY: the option reads `name`, which has this length and outlives the call.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            u32::try_from(name.len())?,
        )
    };
    anyhow::ensure!(code == 0, "eth0: {}", std::io::Error::last_os_error());
    Ok(())
}

fn open() -> anyhow::Result<File> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: IFF_TUN | IFF_NO_PI,
        padding: [0; 22],
    };
    request.name[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
    // SAFETY: the file is /dev/net/tun, for which TUNSETIFF reads and writes
    // one `struct ifreq` (40 bytes, as `InterfaceRequest`) that outlives the call.
    let code = unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF, &raw mut request) };
    anyhow::ensure!(code >= 0, "tun: {}", std::io::Error::last_os_error());
    Ok(tun)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_packets_of_version_four_have_somewhere_to_go() {
        let mut packet = [0; 20];
        assert_eq!(destination(&packet), None);
        packet[0] = 0x45;
        packet[16..].copy_from_slice(&[10, 214, 0, 11]);
        let to = destination(&packet).expect("an address");
        assert_eq!(*to.ip(), Ipv4Addr::new(10, 214, 0, 11));
        assert_eq!(destination(&packet[..19]), None);
    }
}
