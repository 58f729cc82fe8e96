//! `GET /metrics` and `GET /healthz` over plain HTTP/1.1, for a Prometheus
//! server that may not have a certificate of the cluster. Read-only, and cheap
//! to abuse: few connections at once, each short, and one answer is reused for
//! everyone who asks at the same time.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

/// Connections served at once; others wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16;
/// From accept to the last byte. Prometheus' own limit is 10 s.
const CONNECTION: Duration = Duration::from_secs(10);
/// A client that sends its request byte by byte.
const HEADER: Duration = Duration::from_secs(3);
/// Longest request that is read.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// An answer serves everyone who asks within this time: a thousand scrapers
/// cost as much as one.
const FRESH: Duration = Duration::from_millis(250);
/// After a failed accept, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether this process can do its work; the text says what is missing.
pub type Health = dyn Fn() -> Result<(), String> + Send + Sync;

/// What is served.
pub struct Source {
    registry: Registry,
    health: Box<Health>,
    page: Mutex<Option<(Instant, Bytes)>>,
}

impl Source {
    /// Figures, and a look at whether all is well.
    pub fn new(
        registry: Registry,
        health: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            registry,
            health: Box::new(health),
            page: Mutex::default(),
        })
    }

    /// All figures now; takes as long as looking at them takes.
    #[must_use]
    pub fn page(&self) -> Option<String> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).ok()?;
        Some(text)
    }

    async fn metrics(self: &Arc<Self>) -> Option<Bytes> {
        let mut page = self.page.lock().await;
        if let Some((made, bytes)) = page.as_ref()
            && made.elapsed() < FRESH
        {
            return Some(bytes.clone());
        }
        let source = Arc::clone(self);
        // Counting the records of a large cell takes a while.
        let made = tokio::task::spawn_blocking(move || source.page().map(Bytes::from));
        let bytes = made.await.ok()??;
        *page = Some((Instant::now(), bytes.clone()));
        Some(bytes)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let known = matches!(request.uri().path(), "/metrics" | "/healthz");
        if !known {
            return plain(StatusCode::NOT_FOUND, "not found\n");
        }
        if request.method() != Method::GET {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
            response
                .headers_mut()
                .insert(ALLOW, hyper::header::HeaderValue::from_static("GET"));
            return response;
        }
        if request.uri().path() == "/healthz" {
            return match (self.health)() {
                Ok(()) => plain(StatusCode::OK, "ok\n"),
                Err(lacks) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{lacks}\n")),
            };
        }
        match self.metrics().await {
            Some(page) => with_type(StatusCode::OK, OPENMETRICS, page),
            None => plain(StatusCode::INTERNAL_SERVER_ERROR, "no figures\n"),
        }
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", text.into())
}

fn with_type(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Serves until the process ends. An address that cannot be taken is no reason
/// to stop a cloud: it is said, and the rest goes on.
pub async fn run(address: SocketAddr, source: Arc<Source>) {
    match TcpListener::bind(address).await {
        Ok(listener) => serve(listener, source).await,
        Err(error) => tracing::error!(%address, %error, "metrics are not served"),
    }
}

/// The same on a socket that is open already.
pub async fn serve(listener: TcpListener, source: Arc<Source>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = Arc::clone(&source);
                tokio::spawn(async move {
                    connection(stream, source).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a scraper could not connect");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, source: Arc<Source>) {
    let service = service_fn(move |request| {
        let source = Arc::clone(&source);
        async move { Ok::<_, Infallible>(source.answer(request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(REQUEST_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a scraper's request was not served"),
        Err(_) => tracing::debug!("a scraper took too long"),
    }
}

#[cfg(test)]
mod test;
