//! A guest with a network stack of its own: a namespace whose `eth0` is a tap
//! too, and a thread that carries frames between it and the guest's port.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nube_types::InstanceId;
use nube_types::net::GATEWAY_V6;
use rtnetlink::RouteMessageBuilder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::driver::PortSpec;
use crate::host::link::Links;
use crate::host::namespace::Namespace;
use crate::host::port::Networks;
use crate::host::tap;

/// Long enough for an answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is dropped stays silent for this long: a retransmission or two.
pub const SILENCE: Duration = Duration::from_millis(700);

pub struct RealGuest {
    pub namespace: Namespace,
    pub instance: InstanceId,
    pub port: PortSpec,
    stop: Arc<AtomicBool>,
    pump: Option<JoinHandle<()>>,
}

impl RealGuest {
    pub async fn new(networks: &Networks, instance: InstanceId, port: PortSpec) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = Namespace::named(format!("nbguest-{}-{number}", std::process::id()));
        namespace.create().expect("a guest");
        let outer = networks.open_tap(instance, &port).await.expect("a tap");
        let inner = namespace.run(|| tap::open("eth0")).await.expect("eth0");
        let own = port.clone();
        namespace
            .run_async(move || async move { configure(&own).await })
            .await
            .expect("a guest's addresses");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let pump = std::thread::spawn(move || carry(outer, inner, &stopped));
        Self {
            namespace,
            instance,
            port,
            stop,
            pump: Some(pump),
        }
    }

    pub fn v4(&self) -> IpAddr {
        self.port.address.into()
    }

    pub fn v6(&self) -> IpAddr {
        self.port.address_v6.expect("an address").into()
    }

    pub async fn listen(&self, port: u16) -> Listener {
        listen(&self.namespace, port).await
    }

    /// A connection that must come to be.
    pub async fn connect(&self, to: IpAddr, port: u16) -> TcpStream {
        dial(&self.namespace, to, port, PATIENCE)
            .await
            .unwrap_or_else(|error| panic!("{} to {to}:{port}: {error}", self.port.address))
    }

    /// Whether a connection comes to be; soon, or not at all.
    pub async fn fails(&self, to: IpAddr, port: u16) -> io::ErrorKind {
        match dial(&self.namespace, to, port, SILENCE).await {
            Ok(_) => panic!("{} reached {to}:{port}", self.port.address),
            Err(error) => error.kind(),
        }
    }

    /// Stops its stack; the port stays.
    pub fn halt(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
    }
}

impl Drop for RealGuest {
    fn drop(&mut self) {
        self.halt();
        let _ = self.namespace.delete();
    }
}

/// Connects from any namespace. A tap carries nothing until the kernel has
/// noticed that somebody listens: TCP tries again meanwhile.
pub async fn dial(
    from: &Namespace,
    to: IpAddr,
    port: u16,
    within: Duration,
) -> io::Result<TcpStream> {
    let to = SocketAddr::new(to, port);
    from.run(move || TcpStream::connect_timeout(&to, within))
        .await
}

/// Connections that were taken, one by one.
pub struct Listener(TcpListener);

pub async fn listen(of: &Namespace, port: u16) -> Listener {
    let all = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let socket = of.run(move || TcpListener::bind(all)).await;
    Listener(socket.expect("a listener"))
}

impl Listener {
    /// The other end of a connection that stands.
    pub fn accept(&self) -> (TcpStream, IpAddr) {
        let (stream, from) = self.0.accept().expect("accepted");
        (stream, from.ip().to_canonical())
    }

    /// The next connection from this address; others (health checks) are let go.
    pub fn accept_from(&self, wanted: IpAddr) -> TcpStream {
        loop {
            let (stream, from) = self.accept();
            if from == wanted {
                return stream;
            }
        }
    }

    /// How many of this address wait.
    pub fn calls_from(&self, wanted: IpAddr) -> usize {
        self.0.set_nonblocking(true).expect("set");
        let mut calls = 0;
        while let Ok((_, from)) = self.0.accept() {
            calls += usize::from(from.ip().to_canonical() == wanted);
        }
        self.0.set_nonblocking(false).expect("set");
        calls
    }

    /// Whether somebody waits.
    pub fn is_called(&self) -> bool {
        self.0.set_nonblocking(true).expect("set");
        let called = self.0.accept().is_ok();
        self.0.set_nonblocking(false).expect("set");
        called
    }
}

/// Whether a byte arrives.
pub fn passes(from: &mut TcpStream, to: &mut TcpStream, within: Duration) -> bool {
    from.write_all(b"x").expect("written");
    to.set_read_timeout(Some(within)).expect("set");
    to.read(&mut [0; 64]).is_ok_and(|count| count > 0)
}

/// Whether bytes arrive both ways.
pub fn talk(one: &mut TcpStream, other: &mut TcpStream) -> bool {
    passes(one, other, PATIENCE) && passes(other, one, PATIENCE)
}

async fn configure(port: &PortSpec) -> io::Result<()> {
    let links = Links::open()?;
    let lo = links.require("lo").await?;
    links.up(lo).await?;
    let eth0 = links.require("eth0").await?;
    links.shape(eth0, port.mac, port.mtu).await?;
    links.address(eth0, port.address, 32).await?;
    links.up(eth0).await?;
    links.route_to_link(port.gateway.into(), eth0).await?;
    let all = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
        .gateway(port.gateway);
    links.route_message(all.build()).await?;
    if let Some(address) = port.address_v6 {
        links.address_v6(eth0, address, 128).await?;
        let all = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(Ipv6Addr::UNSPECIFIED, 0)
            .gateway(GATEWAY_V6)
            .output_interface(eth0);
        links.route_message(all.build()).await?;
    }
    Ok(())
}

fn carry(outer: OwnedFd, inner: OwnedFd, stop: &AtomicBool) {
    let mut frame = vec![0; 70_000];
    let wait = Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    while !stop.load(Ordering::Relaxed) {
        let mut ready = [
            PollFd::new(&outer, PollFlags::IN),
            PollFd::new(&inner, PollFlags::IN),
        ];
        if poll(&mut ready, Some(&wait)).is_err() {
            continue;
        }
        for (from, to) in [(&outer, &inner), (&inner, &outer)] {
            while let Ok(count) = rustix::io::read(from.as_fd(), &mut frame) {
                // A full or silent device loses frames, as a wire does.
                let _ = rustix::io::write(to.as_fd(), &frame[..count]);
            }
        }
    }
}
