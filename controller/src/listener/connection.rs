//! One connection's fate: it must prove itself in time, it may be pushed out
//! while it has not, and it ends with its certificate. Enforced below TLS, so
//! that nothing above has to remember it.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use nube_tls::Life;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::clock;

/// A host that was suspended has lost no time on its timers, but its
/// certificates have: the clock is looked at this often.
const CLOCK_LOOK: Duration = Duration::from_secs(60);

/// What a request can know of the connection it came by. Every request carries
/// one, in `TlsConnectInfo<Connection>`.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    remote: SocketAddr,
    lobby: Arc<Lobby>,
    ticket: u64,
    is_proven: AtomicBool,
    proven: CancellationToken,
    closed: CancellationToken,
    expires_s: OnceLock<u64>,
}

impl Connection {
    /// Who is at the other end of the wire.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.0.remote
    }

    /// The gate let a request of it pass: it may stay.
    pub fn prove(&self) {
        if !self.0.is_proven.swap(true, Ordering::Relaxed) {
            self.0.lobby.leave(self.0.ticket);
            self.0.proven.cancel();
        }
    }

    /// Ends it at once, with all its streams: for callers that were removed.
    pub fn close(&self) {
        self.0.closed.cancel();
    }

    /// It ends when this certificate (DER) does.
    pub(super) fn ends_with(&self, certificate: &[u8]) {
        if let Ok(life) = Life::of(certificate) {
            let _ = self.0.expires_s.set(life.expires_s);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.lobby.leave(self.ticket);
    }
}

/// Those that have not proven themselves, oldest first.
pub(super) struct Lobby {
    room: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    inside: BTreeMap<u64, CancellationToken>,
}

impl Lobby {
    pub(super) fn new(room: usize) -> Self {
        Self {
            room: room.max(1),
            waiting: Mutex::default(),
        }
    }

    /// A full lobby pushes its oldest out: an honest caller needs milliseconds
    /// here, an attacker wants to stay.
    fn enter(&self) -> (u64, CancellationToken) {
        let closed = CancellationToken::new();
        let (ticket, oldest) = {
            let mut waiting = self.lock();
            let ticket = waiting.next;
            waiting.next += 1;
            let full = waiting.inside.len() >= self.room;
            let oldest = full.then(|| waiting.inside.pop_first()).flatten();
            waiting.inside.insert(ticket, closed.clone());
            (ticket, oldest)
        };
        if let Some((_, oldest)) = oldest {
            oldest.cancel();
        }
        (ticket, closed)
    }

    fn leave(&self, ticket: u64) {
        self.lock().inside.remove(&ticket);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a new connection is given.
pub(super) struct Slot {
    pub remote: SocketAddr,
    pub lobby: Arc<Lobby>,
    pub proof: Duration,
    pub permit: OwnedSemaphorePermit,
}

type Fate = Pin<Box<dyn Future<Output = &'static str> + Send>>;

/// A TCP stream that ends when its time has come.
pub struct Guarded {
    /// `None` only when moving it failed.
    tcp: Option<TcpStream>,
    connection: Connection,
    /// `None` once it is sealed.
    fate: Option<Fate>,
    _permit: OwnedSemaphorePermit,
}

impl Guarded {
    pub(super) fn new(tcp: TcpStream, slot: Slot) -> Self {
        let (ticket, closed) = slot.lobby.enter();
        let connection = Connection(Arc::new(Shared {
            remote: slot.remote,
            lobby: slot.lobby,
            ticket,
            is_proven: AtomicBool::new(false),
            proven: CancellationToken::new(),
            closed,
            expires_s: OnceLock::new(),
        }));
        Self {
            tcp: Some(tcp),
            fate: Some(Box::pin(fate(connection.clone(), slot.proof))),
            connection,
            _permit: slot.permit,
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Has the current runtime wait for its bytes instead of the one before.
    pub(super) fn move_here(&mut self) -> io::Result<()> {
        if let Some(tcp) = self.tcp.take() {
            self.tcp = Some(TcpStream::from_std(tcp.into_std()?)?);
        }
        Ok(())
    }

    /// The stream; an error when the time has come, and from then on.
    fn open(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        let ended = match &mut self.fate {
            None => "closed",
            Some(fate) => match fate.as_mut().poll(context) {
                Poll::Pending => {
                    let tcp = self.tcp.as_mut();
                    return tcp
                        .map(Pin::new)
                        .ok_or_else(|| io::ErrorKind::NotConnected.into());
                }
                Poll::Ready(reason) => {
                    tracing::debug!(remote = %self.connection.remote(), "connection cut: {reason}");
                    self.fate = None;
                    reason
                }
            },
        };
        Err(io::Error::new(io::ErrorKind::TimedOut, ended))
    }
}

/// Ends when the connection has to, with the reason.
async fn fate(connection: Connection, proof: Duration) -> &'static str {
    let shared = connection.0;
    tokio::select! {
        () = shared.proven.cancelled() => {}
        () = shared.closed.cancelled() => return "it made room for a newer one",
        () = tokio::time::sleep(proof) => return "no permitted request in time",
    }
    loop {
        let left = match shared.expires_s.get() {
            None => CLOCK_LOOK,
            Some(end) => match end.saturating_sub(clock::wall().seconds()) {
                0 => return "its certificate has expired",
                left => CLOCK_LOOK.min(Duration::from_secs(left)),
            },
        };
        tokio::select! {
            () = shared.closed.cancelled() => return "its caller was removed",
            () = tokio::time::sleep(left) => {}
        }
    }
}

impl Connected for Guarded {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.open(context)?.poll_read(context, into)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.open(context)?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.open(context)?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open(context)?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tcp {
            Some(tcp) => Pin::new(tcp).poll_shutdown(context),
            None => Poll::Ready(Ok(())),
        }
    }
}
