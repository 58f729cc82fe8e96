//! HTTP/2 by hand, over TLS: frames that no client library would send.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An operator's TLS, or a nobody's.
pub fn tls(cell: &Path, with_certificate: bool) -> anyhow::Result<TlsConnector> {
    let pki = cell.join("pki");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.join("ca.pem"))?)?;
    let builder = ClientConfig::builder_with_provider(nube_tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = if with_certificate {
        let certificate = CertificateDer::from_pem_file(pki.join("operator.pem"))?;
        let key = PrivateKeyDer::from_pem_file(pki.join("operator.key"))?;
        builder.with_client_auth_cert(vec![certificate], key)?
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![nube_tls::ALPN.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

pub async fn connect(port: u16, tls: &TlsConnector) -> anyhow::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from(nube_tls::SERVER_NAME)?;
    Ok(tls.connect(name, tcp).await?)
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HPACK without any compression: each field literal, never remembered.
pub fn header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.push(u8::try_from(text.len()).expect("below 127"));
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// The head of a call that the gate lets pass.
pub fn call(stream: u32) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/nube.v1.ClusterService/GetCluster"),
        (":authority", "127.0.0.1"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let block: Vec<u8> = fields.iter().flat_map(|(n, v)| header(n, v)).collect();
    frame(HEADERS, END_HEADERS, stream, &block)
}

/// Frames that came back, by kind.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    pub headers: usize,
    pub resets: usize,
    pub goaway: bool,
    pub ended: bool,
}

/// A connection that speaks for itself: pings are answered, frames counted.
pub struct Raw {
    writer: tokio::sync::mpsc::Sender<Vec<u8>>,
    seen: tokio::sync::watch::Receiver<Seen>,
}

impl Raw {
    pub async fn open(port: u16, tls: &TlsConnector) -> anyhow::Result<Self> {
        let (reading, mut writing) = tokio::io::split(connect(port, tls).await?);
        writing.write_all(PREFACE).await?;
        writing.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        let (writer, queue) = tokio::sync::mpsc::channel(64);
        let (count, seen) = tokio::sync::watch::channel(Seen::default());
        tokio::spawn(write(writing, queue));
        tokio::spawn(read(reading, writer.clone(), count));
        Ok(Self { writer, seen })
    }

    /// False once the other side is gone.
    pub async fn send(&self, bytes: Vec<u8>) -> bool {
        self.writer.send(bytes).await.is_ok()
    }

    /// Waits until what came back is enough.
    pub async fn until(
        &mut self,
        what: &str,
        enough: impl Fn(&Seen) -> bool,
    ) -> anyhow::Result<Seen> {
        let limit = std::time::Duration::from_secs(60);
        let found = tokio::time::timeout(limit, self.seen.wait_for(enough)).await;
        if let Ok(Ok(seen)) = found {
            return Ok(*seen);
        }
        drop(found);
        anyhow::bail!("{what}: only {:?}", *self.seen.borrow())
    }
}

async fn write(
    mut stream: WriteHalf<TlsStream<TcpStream>>,
    mut queue: tokio::sync::mpsc::Receiver<Vec<u8>>,
) {
    while let Some(bytes) = queue.recv().await {
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn read(
    mut stream: ReadHalf<TlsStream<TcpStream>>,
    writer: tokio::sync::mpsc::Sender<Vec<u8>>,
    count: tokio::sync::watch::Sender<Seen>,
) {
    let mut payload = Vec::new();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            break;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        payload.resize(length as usize, 0);
        if stream.read_exact(&mut payload).await.is_err() {
            break;
        }
        count.send_modify(|seen| match head[3] {
            HEADERS => seen.headers += 1,
            RST_STREAM => seen.resets += 1,
            GOAWAY => seen.goaway = true,
            _ => {}
        });
        let reply = match (head[3], head[4] & ACK) {
            (SETTINGS, 0) => frame(SETTINGS, ACK, 0, &[]),
            (PING, 0) => frame(PING, ACK, 0, &payload),
            _ => continue,
        };
        // Behind the attack in the queue there may be no room: then the server
        // hears nothing from us, as with a client that hangs.
        let _ = writer.try_send(reply);
    }
    count.send_modify(|seen| seen.ended = true);
}
