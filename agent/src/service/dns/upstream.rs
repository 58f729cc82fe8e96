//! Names of the world: asked in the host's namespace, of the host's resolvers. A
//! question is made anew, with a random id and a random port: no byte of a
//! guest's message leaves but the name and its type.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::Semaphore;

use super::zone::Question;
use crate::host::namespace::Namespace;

/// Of one resolver; guests ask again after five seconds.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// As many as the C library takes.
const RESOLVERS_MAX: usize = 3;
/// Of all networks of the host.
const IN_FLIGHT_MAX: usize = 256;
const RESOLV_CONF_BYTES_MAX: usize = 64 * 1024;

/// The host's resolvers.
#[derive(Debug)]
pub struct Upstream {
    host: Namespace,
    resolvers: Vec<SocketAddr>,
    places: Semaphore,
}

/// Resolvers of this host, as `/etc/resolv.conf` names them now.
#[must_use]
pub fn host_resolvers() -> Vec<IpAddr> {
    let text = std::fs::read(Path::new("/etc/resolv.conf")).unwrap_or_default();
    let text = &text[..text.len().min(RESOLV_CONF_BYTES_MAX)];
    resolvers_in(&String::from_utf8_lossy(text))
}

fn resolvers_in(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    lines
        .filter_map(|word| word.parse().ok())
        .take(RESOLVERS_MAX)
        .collect()
}

impl Upstream {
    /// Asks these, in order, from there.
    #[must_use]
    pub fn new(host: Namespace, resolvers: Vec<IpAddr>) -> Self {
        let resolvers = resolvers.into_iter().take(RESOLVERS_MAX);
        Self {
            host,
            resolvers: resolvers
                .map(|address| SocketAddr::new(address, 53))
                .collect(),
            places: Semaphore::new(IN_FLIGHT_MAX),
        }
    }

    /// The answer for the guest, or that there is none.
    pub async fn ask_udp(&self, question: &Question) -> Vec<u8> {
        self.ask(question, false).await
    }

    /// The same, without the limits of datagrams.
    pub async fn ask_tcp(&self, question: &Question) -> Vec<u8> {
        self.ask(question, true).await
    }

    async fn ask(&self, question: &Question, tcp: bool) -> Vec<u8> {
        let Ok(_place) = self.places.try_acquire() else {
            return question.failed();
        };
        for resolver in &self.resolvers {
            let asking = async {
                match tcp {
                    true => self.over_tcp(*resolver, question).await,
                    false => self.over_udp(*resolver, question).await,
                }
            };
            match tokio::time::timeout(PATIENCE, asking).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(error)) => tracing::debug!(%resolver, %error, "resolver"),
                Err(_) => tracing::debug!(%resolver, "resolver is silent"),
            }
        }
        question.failed()
    }

    async fn over_udp(&self, resolver: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
        let any: IpAddr = match resolver {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let make = move || {
            let socket = StdUdpSocket::bind(SocketAddr::new(any, 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = UdpSocket::from_std(self.host.run(make).await?)?;
        // Connected: the kernel drops what others send.
        socket.connect(resolver).await?;
        let id = rand::random();
        socket.send(&asked(question, id)?).await?;
        let mut buffer = [0; 4_096];
        loop {
            let count = socket.recv(&mut buffer).await?;
            if let Some(answer) = returned(&buffer[..count], question, id) {
                return Ok(answer);
            }
        }
    }

    async fn over_tcp(&self, resolver: SocketAddr, question: &Question) -> io::Result<Vec<u8>> {
        let make = move || {
            let kind = Type::STREAM.cloexec().nonblocking();
            Socket::new(Domain::for_address(resolver), kind, None)
        };
        let socket = self.host.run(make).await?;
        let mut stream = TcpSocket::from_std_stream(socket.into())
            .connect(resolver)
            .await?;
        let id = rand::random();
        stream.write_all(&framed(&asked(question, id)?)).await?;
        let mut bytes = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut bytes).await?;
        let other = || io::Error::other("the answer is to another question");
        returned(&bytes, question, id).ok_or_else(other)
    }
}

/// The message that is sent.
fn asked(question: &Question, id: u16) -> io::Result<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = question.metadata.recursion_desired;
    message.metadata.checking_disabled = question.metadata.checking_disabled;
    message.add_query(question.query.clone());
    if let Some((payload, dnssec_ok)) = question.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload).set_dnssec_ok(dnssec_ok);
        message.set_edns(edns);
    }
    message.to_vec().map_err(io::Error::other)
}

/// What the guest gets of an answer: its own id, if it is the answer at all.
fn returned(bytes: &[u8], question: &Question, id: u16) -> Option<Vec<u8>> {
    let message = Message::from_vec(bytes).ok()?;
    let fits = message.metadata.id == id
        && message.metadata.message_type == MessageType::Response
        && message.queries.as_slice() == std::slice::from_ref(&question.query);
    if !fits {
        return None;
    }
    let mut bytes = bytes.to_vec();
    bytes[..2].copy_from_slice(&question.metadata.id.to_be_bytes());
    Some(bytes)
}

/// With its length before it, as over TCP.
#[must_use]
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(&bytes[..usize::from(length)]);
    framed
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn resolvers_are_read_as_the_c_library_does() {
        let text = "# nameserver 9.9.9.9\nsearch lan\nnameserver 10.0.0.2 # x\n\
                    nameserver fe80::zz\nnameserver\n nameserver 2001:db8::1\n\
                    nameserver 10.0.0.3\nnameserver 10.0.0.4\n";
        let found: Vec<String> = resolvers_in(text).iter().map(IpAddr::to_string).collect();
        assert_eq!(found, ["10.0.0.2", "2001:db8::1", "10.0.0.3"]);
    }
}
