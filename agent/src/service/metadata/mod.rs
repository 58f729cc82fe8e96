//! The metadata service: EC2's second version (IMDSv2) and cloud-init's NoCloud.
//! `answer` decides, `token` and `tree` are its parts; here is what carries.

pub mod answer;
pub mod token;
pub mod tree;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nube_types::InstanceId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use self::answer::addresses;
use super::{Context, Current, socket};
use crate::driver::GuestSpec;
use crate::host::clock::boot_time_ms;
use crate::network::spec::NetworkSpec;

/// Per address; a connection carries one request.
const CONNECTIONS_MAX: usize = 32;
const CONNECTIONS_PER_GUEST_MAX: usize = 8;
/// From the first byte to the last.
const CONNECTION: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 32;
/// The least that hyper takes.
const HEADER_BYTES_MAX: usize = 8_192;

/// What one guest may know.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The guest that asks.
    pub guest: &'a GuestSpec,
    /// Its network.
    pub network: &'a NetworkSpec,
    /// The host's availability zone.
    pub zone: Option<&'a str>,
    /// How long its run lasts; unknown when nobody saw it begin.
    pub run_age_ms: Option<u64>,
}

/// Serves one address until something is wrong with its socket.
pub(crate) async fn serve(context: Context, address: SocketAddr) -> io::Result<()> {
    let listener = context.make(move || socket::tcp_one_hop(address)).await?;
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let guests = Arc::new(Held::default());
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of descriptors, mostly: who waits is served later.
            Err(error) => {
                tracing::warn!(%error, "metadata: accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let current = context.now();
        let Some((instance, _)) = current.local(peer.ip()) else {
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let Some(turn) = guests.take(*instance) else {
            continue;
        };
        let of = context.clone();
        context.spawn(async move {
            let _held = (place, turn);
            let answering = |request: Request<()>| respond(&of, peer, &request);
            let _ = tokio::time::timeout(CONNECTION, converse(stream, answering)).await;
        });
    }
}

/// By what is known when the request is complete.
fn respond(context: &Context, peer: SocketAddr, request: &Request<()>) -> Response<Vec<u8>> {
    let current: Arc<Current> = context.now();
    let now_ms = boot_time_ms();
    let Some((_, local)) = current.local(peer.ip()) else {
        let mut gone = Response::new(Vec::new());
        *gone.status_mut() = http::StatusCode::FORBIDDEN;
        return gone;
    };
    let about = About {
        guest: &local.guest,
        network: &current.site.spec,
        zone: context.shared.zone.as_deref(),
        run_age_ms: local.started_ms.map(|began| now_ms.saturating_sub(began)),
    };
    answer::answer(request, &about, &context.shared.tokens, now_ms)
}

/// One connection, one request.
pub(crate) async fn converse<S>(
    stream: S,
    answering: impl Fn(Request<()>) -> Response<Vec<u8>>,
) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request: Request<Incoming>| {
        let response = answering(request.map(|_| ()));
        let response = response.map(|body| Full::new(Bytes::from(body)));
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CONNECTION)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .keep_alive(false)
        // Small clients close their half after the request.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

/// How many connections each guest has.
#[derive(Debug, Default)]
struct Held(Mutex<HashMap<InstanceId, usize>>);

impl Held {
    fn take(self: &Arc<Self>, instance: InstanceId) -> Option<Turn> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(instance).or_default();
        if *count >= CONNECTIONS_PER_GUEST_MAX {
            return None;
        }
        *count += 1;
        Some(Turn {
            of: Arc::clone(self),
            instance,
        })
    }
}

struct Turn {
    of: Arc<Held>,
    instance: InstanceId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.instance) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.instance);
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_guest_holds_a_part_of_all_places() {
        let held = Arc::new(Held::default());
        let turns: Vec<_> = (0..CONNECTIONS_PER_GUEST_MAX)
            .map(|_| held.take(InstanceId(1)).expect("a place"))
            .collect();
        assert!(held.take(InstanceId(1)).is_none());
        assert!(held.take(InstanceId(2)).is_some());
        drop(turns);
        assert!(held.take(InstanceId(1)).is_some());
        assert!(held.0.lock().expect("whole").is_empty());
    }
}
