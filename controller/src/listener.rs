//! Takes connections for the server: TCP, TLS handshake, limits. What leaves
//! here has shown a certificate of the cluster or none at all.
//!
//! ```text
//! accept ─► slot (bounded) ─► handshake (5 s) ─► server ─► proven (10 s) ─► until the certificate ends
//!                 └───────── lobby (bounded, the oldest makes room) ─┘
//! ```
//!
//! A connection must prove itself soon: with a request that the gate let pass.
//! Those that have not are few, and a flood of them pushes out its own.

mod connection;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

pub use connection::{Connection, Guarded};
use connection::{Lobby, Slot};

/// What one controller bears.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections in all. Each costs some 30 KiB and a file descriptor.
    pub connections: usize,
    /// Of these, how many may be unproven. Fewer: honest callers are pushed out
    /// in a flood. More: the flood takes memory.
    pub unproven: usize,
    /// A handshake takes three round trips; a slower one is an attack or a
    /// network that cannot carry a session.
    pub handshake: Duration,
    /// From accept to the first request that the gate lets pass.
    pub proof: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            unproven: 512,
            handshake: Duration::from_secs(5),
            proof: Duration::from_secs(10),
        }
    }
}

/// The log, the store and image files open files as well: a socket that takes
/// the last descriptor would stop the log.
const FILES_RESERVED: u64 = 1_024;
/// Finished handshakes that wait for the server.
const QUEUE: usize = 64;
/// A pause when the kernel has no descriptor or memory left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// A silent peer is noticed by the kernel as well: while the handshake runs
/// HTTP/2 sends no pings.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;

/// What the server takes.
pub type Incoming = BoxStream<'static, io::Result<TlsStream<Guarded>>>;

impl Limits {
    /// Raises this process's limit of open files as far as it may, and takes
    /// back what does not fit into it.
    #[must_use]
    pub fn fit_files(mut self) -> Self {
        let now = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: now.maximum,
            maximum: now.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(
                "the limit of open files stays at {:?}: {error}",
                now.current
            );
        }
        if let Some(files) = getrlimit(Resource::Nofile).current {
            let room = files.saturating_sub(FILES_RESERVED).max(files / 2);
            self.connections = self
                .connections
                .min(usize::try_from(room).unwrap_or(usize::MAX));
            self.unproven = self.unproven.min(self.connections / 2);
        }
        self
    }
}

/// Starts the thread that accepts and shakes hands. It is one thread of its own:
/// a flood of handshakes takes a core at most, and delays no request, and no
/// heartbeat between controllers. Ends with the stream it returns.
pub fn serve(sockets: Vec<TcpListener>, tls: &TlsAcceptor, limits: Limits) -> io::Result<Incoming> {
    let (ready, incoming) = mpsc::channel(QUEUE);
    let door = Arc::new(Door {
        tls: tls.clone(),
        slots: Arc::new(Semaphore::new(limits.connections)),
        lobby: Arc::new(Lobby::new(limits.unproven)),
        limits,
        ready,
    });
    let sockets = sockets.into_iter().map(TcpListener::into_std);
    let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let thread = std::thread::Builder::new().name("door".to_owned());
    thread.spawn(move || {
        let mut accepting = tokio::task::JoinSet::new();
        let context = runtime.enter();
        for socket in sockets {
            match TcpListener::from_std(socket) {
                Ok(socket) => {
                    accepting.spawn_on(accept(socket, Arc::clone(&door)), runtime.handle())
                }
                Err(error) => return tracing::error!("a socket cannot be served: {error}"),
            };
        }
        drop((context, door));
        // Connections that were handed over have left this runtime.
        runtime.block_on(async { while accepting.join_next().await.is_some() {} });
    })?;
    Ok(Box::pin(ReceiverStream::new(incoming).map(arrive)))
}

/// From here on the connection is served by the runtime that asked for it.
fn arrive(arrived: io::Result<TlsStream<Guarded>>) -> io::Result<TlsStream<Guarded>> {
    let mut stream = arrived?;
    stream.get_mut().0.move_here()?;
    Ok(stream)
}

/// What all sockets share.
struct Door {
    tls: TlsAcceptor,
    slots: Arc<Semaphore>,
    lobby: Arc<Lobby>,
    limits: Limits,
    ready: mpsc::Sender<io::Result<TlsStream<Guarded>>>,
}

async fn accept(socket: TcpListener, door: Arc<Door>) {
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = door.ready.closed() => return,
        };
        let (tcp, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // A connection that broke before it was taken costs nothing;
                // what lacks else will not come back at once.
                tracing::debug!("accepting a connection: {error}");
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&door.slots).try_acquire_owned() else {
            if !full {
                let limit = door.limits.connections;
                tracing::warn!("all {limit} connections are taken; new ones are refused");
            }
            full = true;
            continue;
        };
        full = false;
        if let Err(error) = tune(&tcp) {
            tracing::debug!("a connection broke at once: {error}");
            continue;
        }
        let slot = Slot {
            remote,
            lobby: Arc::clone(&door.lobby),
            proof: door.limits.proof,
            permit,
        };
        tokio::spawn(handshake(Guarded::new(tcp, slot), Arc::clone(&door)));
    }
}

fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(tcp, KEEPALIVE_IDLE / KEEPALIVE_PROBES)?;
    sockopt::set_tcp_keepcnt(tcp, KEEPALIVE_PROBES)?;
    Ok(())
}

/// Each on a task of its own: a slow one delays nobody.
async fn handshake(io: Guarded, door: Arc<Door>) {
    let remote = io.connection().remote();
    let accepting = door.tls.accept(io);
    let stream = match tokio::time::timeout(door.limits.handshake, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%remote, "TLS handshake failed: {error}"),
        Err(_) => return tracing::debug!(%remote, "TLS handshake took too long"),
    };
    let (guarded, session) = stream.get_ref();
    if let Some(leaf) = session.peer_certificates().and_then(<[_]>::first) {
        // The verifier has parsed it already: an unreadable date is none.
        guarded.connection().ends_with(leaf);
    }
    // The server is gone when nobody takes it: so is the connection.
    let _ = door.ready.send(Ok(stream)).await;
}

#[cfg(test)]
mod test;
