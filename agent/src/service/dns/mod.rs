//! Names: `INSTANCE.NETWORK.internal` and back are answered here (`zone`), other
//! names by the host's resolvers (`upstream`), if the network has an internet
//! gateway. This file carries.

pub mod upstream;
pub mod zone;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nube_types::net::RESOLVER;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

pub use self::upstream::{Upstream, host_resolvers};
pub use self::zone::{Verdict, Zone, answer};
use super::{Context, socket};

/// Questions of one network that wait for the host's resolvers. More are
/// answered as failed, and asked again by who needs them.
const IN_FLIGHT_MAX: usize = 64;
const CONNECTIONS_MAX: usize = 16;
/// Of one connection.
const QUESTIONS_MAX: usize = 64;
const CONNECTION: Duration = Duration::from_secs(10);
/// Questions are short; what is longer is none.
const QUESTION_BYTES_MAX: usize = 1_232;

fn address() -> SocketAddr {
    SocketAddr::new(RESOLVER.into(), 53)
}

/// Serves datagrams until something is wrong with the socket.
pub(crate) async fn serve_udp(context: Context) -> io::Result<()> {
    let socket = context.make(|| socket::udp(address())).await?;
    let socket = Arc::new(UdpSocket::from_std(socket)?);
    let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let mut buffer = [0; QUESTION_BYTES_MAX];
    loop {
        let (count, peer) = socket.recv_from(&mut buffer).await?;
        let current = context.now();
        if current.local(peer.ip()).is_none() {
            continue;
        }
        let question = match answer(&buffer[..count], &current.names) {
            Verdict::Answer(bytes) => {
                send(&socket, &bytes, peer).await;
                continue;
            }
            Verdict::Silent => continue,
            Verdict::Forward(question) => question,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            send(&socket, &question.failed(), peer).await;
            continue;
        };
        let (of, socket) = (context.clone(), Arc::clone(&socket));
        context.spawn(async move {
            let _place = place;
            let bytes = of.shared.upstream.ask_udp(&question).await;
            send(&socket, &bytes, peer).await;
        });
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], peer: SocketAddr) {
    // A guest that is gone asks again.
    if let Err(error) = socket.send_to(bytes, peer).await {
        tracing::debug!(%peer, %error, "dns answer");
    }
}

/// Serves connections until something is wrong with the socket.
pub(crate) async fn serve_tcp(context: Context) -> io::Result<()> {
    let listener = context.make(|| socket::tcp(address())).await?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "dns: accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if context.now().local(peer.ip()).is_none() {
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let of = context.clone();
        context.spawn(async move {
            let _place = place;
            let _ = tokio::time::timeout(CONNECTION, converse(&of, stream)).await;
        });
    }
}

async fn converse(context: &Context, mut stream: TcpStream) -> io::Result<()> {
    for _ in 0..QUESTIONS_MAX {
        let length = usize::from(stream.read_u16().await?);
        if length > QUESTION_BYTES_MAX {
            return Ok(());
        }
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await?;
        let verdict = answer(&bytes, &context.now().names);
        let bytes = match verdict {
            Verdict::Answer(bytes) => bytes,
            Verdict::Silent => return Ok(()),
            Verdict::Forward(question) => context.shared.upstream.ask_tcp(&question).await,
        };
        stream.write_all(&upstream::framed(&bytes)).await?;
    }
    Ok(())
}
