//! Real sockets: what is answered, and what an abuser gets.

use super::*;
use crate::sheet::figures;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn start(source: Arc<Source>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, source));
    address
}

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    // A reset after a refusal is an answer as well.
    let _ = stream.read_to_string(&mut answer).await;
    answer
}

fn one_figure() -> Registry {
    let mut registry = Registry::default();
    let scrapes = AtomicU64::new(0);
    registry.register_collector(figures(move |sheet| {
        let scrapes = scrapes.fetch_add(1, Ordering::Relaxed);
        sheet.gauge("scrapes", "How often", scrapes);
    }));
    registry
}

#[tokio::test]
async fn two_paths_are_read_and_nothing_else() {
    let well = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&well);
    let health = move || match seen.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err("no leader".to_owned()),
    };
    let address = start(Source::new(one_figure(), health)).await;
    let metrics = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
    assert!(metrics.contains(OPENMETRICS) && metrics.ends_with("scrapes 0\n# EOF\n"));
    let health = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    assert!(ask(address, health).await.starts_with("HTTP/1.1 200 "));
    well.store(false, Ordering::Relaxed);
    let ill = ask(address, health).await;
    assert!(ill.starts_with("HTTP/1.1 503 ") && ill.ends_with("no leader\n"));
    for (request, code) in [
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "404"),
        (
            "GET /metrics/../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n",
            "404",
        ),
        (
            "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc",
            "405",
        ),
        ("DELETE /healthz HTTP/1.1\r\nhost: x\r\n\r\n", "405"),
        ("\u{0}\u{1} nonsense\r\n\r\n", "400"),
    ] {
        let answer = ask(address, request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {code} ")),
            "{request}: {answer}"
        );
    }
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(64 * 1024));
    assert!(!ask(address, &long).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_scrapes_costs_one_look() {
    let source = Source::new(one_figure(), || Ok(()));
    let first = source.metrics().await.expect("a page");
    for _ in 0..100 {
        assert_eq!(source.metrics().await.as_ref(), Some(&first));
    }
    tokio::time::advance(FRESH).await;
    assert_ne!(source.metrics().await, Some(first));
}

#[tokio::test(start_paused = true)]
async fn idle_connections_do_not_keep_their_places() {
    let address = start(Source::new(one_figure(), || Ok(()))).await;
    let mut held = Vec::new();
    for _ in 0..2 * CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(b"GET /metr").await.expect("written");
        held.push(stream);
    }
    // The clock is the test's: it moves on when everyone waits.
    let answer = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}
