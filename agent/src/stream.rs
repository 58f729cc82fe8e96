//! Byte streams that a controller asks for: a tunnel to a guest's TCP port, its
//! serial console (`serial`), or its serial log. The agent calls back with Attach; the
//! first message says whether the stream could be opened, then bytes flow both
//! ways, and each side may end its half first.

mod serial;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use nube_proto::agent::v1::agent_service_client::AgentServiceClient;
use nube_proto::agent::v1::{
    OpenStream, StreamDown, StreamOpened, StreamUp, TunnelTarget, open_stream, stream_up,
};
use nube_types::InstanceId;
use nube_types::limits::{CHUNK_BYTES, SERIAL_RING_BYTES, TUNNELS_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use tonic::transport::Channel;

use crate::driver::{Console, Driver};
use crate::report::shorten;

/// Between two attempts to connect to a guest that still boots.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// The first attempts: a booting guest drops packets, and the kernel repeats a
/// dropped SYN only after a second. Fresh attempts find an open port sooner: a
/// whole second of each launch was spent waiting for that repetition.
const ATTEMPT_FIRST: Duration = Duration::from_millis(150);
/// Each attempt may last longer than the one before, up to this: a guest on a
/// busy host needs time to answer.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);
/// As in the public API.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// Without a byte in either direction: far above a pause for lunch.
const IDLE_MAX: Duration = Duration::from_secs(4 * 3600);
/// Chunks under way to a controller that reads slowly; then the guest waits.
const CHUNKS_UNDER_WAY: usize = 4;
/// First read; doubled while reads fill it, so that an idle shell is cheap and
/// a copy is fast.
const READ_BYTES_FIRST: usize = 8 * 1024;

/// Serves streams, a bounded number at once.
pub struct Streams<D> {
    driver: Arc<D>,
    places: Arc<Semaphore>,
}

impl<D: Driver> Streams<D> {
    /// None open yet.
    pub fn new(driver: Arc<D>) -> Self {
        Self {
            driver,
            places: Arc::new(Semaphore::new(TUNNELS_MAX)),
        }
    }

    /// Serves a request in the background, on the controller that asked.
    pub fn open(self: Arc<Self>, client: AgentServiceClient<Channel>, open: OpenStream) {
        tokio::spawn(async move {
            let stream_id = open.stream_id.clone();
            if let Err(cause) = self.serve(client, open).await {
                tracing::debug!(stream_id = %stream_id.escape_debug(), %cause, "stream ended early");
            }
        });
    }

    async fn serve(
        &self,
        mut client: AgentServiceClient<Channel>,
        open: OpenStream,
    ) -> Result<(), String> {
        let place = self.places.clone().try_acquire_owned();
        let target = match &place {
            Ok(_) => self.target(&open).await,
            Err(_) => Err(format!("{TUNNELS_MAX} streams are open on this host")),
        };
        let (up, queue) = mpsc::channel(CHUNKS_UNDER_WAY);
        let error = target
            .as_ref()
            .err()
            .map(|error| shorten(error))
            .unwrap_or_default();
        let opened = StreamOpened {
            stream_id: open.stream_id,
            error,
        };
        let first = StreamUp {
            message: Some(stream_up::Message::Opened(opened)),
        };
        up.send(first).await.map_err(|e| e.to_string())?;
        let down = client.attach(ReceiverStream::new(queue)).await;
        let down = down
            .map_err(|status| status.message().to_owned())?
            .into_inner();
        match target {
            Err(error) => Err(error),
            Ok(Target::Tunnel(guest)) => splice(guest, up, down).await,
            Ok(Target::Log(log)) => send_log(&log, up, down).await,
            Ok(Target::Follow(log)) => serial::follow(log, up, down).await,
            Ok(Target::Console(console)) => serial::console(console, up, down).await,
        }
    }

    async fn target(&self, open: &OpenStream) -> Result<Target, String> {
        let id: InstanceId = open.instance_id.parse().map_err(|e| format!("{e}"))?;
        match &open.kind {
            Some(open_stream::Kind::Tunnel(target)) => {
                self.connect(id, target).await.map(Target::Tunnel)
            }
            Some(open_stream::Kind::SerialLog(target)) => {
                let bytes_max = target.bytes_max.min(SERIAL_RING_BYTES);
                if target.follow {
                    let log = self.driver.follow_log(id, bytes_max).await;
                    return log.map(Target::Follow).map_err(|e| e.to_string());
                }
                let log = self.driver.serial_log(id, bytes_max).await;
                log.map(|log| Target::Log(log.into()))
                    .map_err(|e| e.to_string())
            }
            Some(open_stream::Kind::Console(_)) => {
                let console = self.driver.console(id).await;
                console.map(Target::Console).map_err(|e| e.to_string())
            }
            None => Err("this agent does not know this kind of stream".to_owned()),
        }
    }

    /// One attempt after the other until the guest accepts or time is up.
    async fn connect(&self, id: InstanceId, target: &TunnelTarget) -> Result<TcpStream, String> {
        let port = u16::try_from(target.port).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| format!("{} is not a TCP port", target.port))?;
        let wait = Duration::from_millis(target.wait_ms.into()).min(WAIT_MAX);
        let begun = Instant::now();
        let give_up_at = begun + wait;
        loop {
            // A tenth of the time that has passed: never a large share of it.
            let patience = (begun.elapsed() / 10).clamp(ATTEMPT_FIRST, ATTEMPT_MAX);
            let error = match timeout(patience, self.driver.connect(id, port)).await {
                Ok(Ok(guest)) => {
                    // Best effort: only latency suffers.
                    let _ = guest.set_nodelay(true);
                    return Ok(guest);
                }
                Ok(Err(error)) => error.to_string(),
                Err(_late) => format!("port {port} of the guest does not answer"),
            };
            if Instant::now() + RETRY_PAUSE >= give_up_at {
                return Err(error);
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

enum Target {
    Tunnel(TcpStream),
    Log(Bytes),
    Follow(BoxStream<'static, Bytes>),
    Console(Console),
}

async fn send_log(
    log: &Bytes,
    up: mpsc::Sender<StreamUp>,
    mut down: impl Stream<Item = Result<StreamDown, Status>> + Unpin,
) -> Result<(), String> {
    for start in (0..log.len()).step_by(CHUNK_BYTES) {
        let chunk = log.slice(start..log.len().min(start + CHUNK_BYTES));
        tokio::select! {
            sent = send(&up, chunk) => sent?,
            said = down.next() => {
                if !matches!(said, Some(Ok(_))) {
                    return Err("the reader left".to_owned());
                }
            }
        }
    }
    // Leaving now would cancel the call and with it what is still under way:
    // the reader says when it has everything.
    drop(up);
    while down.next().await.is_some_and(|said| said.is_ok()) {}
    Ok(())
}

async fn send(up: &mpsc::Sender<StreamUp>, data: Bytes) -> Result<(), String> {
    let message = StreamUp {
        message: Some(stream_up::Message::Data(data)),
    };
    up.send(message)
        .await
        .map_err(|_| "the controller left".to_owned())
}

/// Copies both ways until both halves ended, one failed, or nothing moved.
async fn splice(
    guest: TcpStream,
    up: mpsc::Sender<StreamUp>,
    down: impl Stream<Item = Result<StreamDown, Status>> + Unpin,
) -> Result<(), String> {
    let (reader, writer) = guest.into_split();
    let (moved, mut seen) = watch::channel(Instant::now());
    let copies = async {
        tokio::try_join!(
            to_client(reader, up, &moved),
            to_guest(writer, down, &moved)
        )
    };
    let idle = async {
        loop {
            let until = *seen.borrow_and_update() + IDLE_MAX;
            if timeout_at(until, seen.changed()).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        copied = copies => copied.map(|_| ()),
        () = idle => Err("idle for too long".to_owned()),
    }
}

/// Ends its half by dropping the sender.
async fn to_client(
    mut guest: OwnedReadHalf,
    up: mpsc::Sender<StreamUp>,
    moved: &watch::Sender<Instant>,
) -> Result<(), String> {
    let mut read_bytes = READ_BYTES_FIRST;
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(read_bytes);
        let count = guest
            .read_buf(&mut buffer)
            .await
            .map_err(|e| e.to_string())?;
        if count == 0 {
            return Ok(());
        }
        if count >= read_bytes {
            read_bytes = (read_bytes * 2).min(CHUNK_BYTES);
        }
        moved.send_replace(Instant::now());
        while !buffer.is_empty() {
            let chunk = buffer.split_to(buffer.len().min(CHUNK_BYTES)).freeze();
            send(&up, chunk).await?;
        }
    }
}

/// Ends its half with a TCP FIN.
async fn to_guest(
    mut guest: OwnedWriteHalf,
    mut down: impl Stream<Item = Result<StreamDown, Status>> + Unpin,
    moved: &watch::Sender<Instant>,
) -> Result<(), String> {
    while let Some(chunk) = down.next().await {
        let chunk = chunk.map_err(|status| status.message().to_owned())?;
        guest
            .write_all(&chunk.data)
            .await
            .map_err(|e| e.to_string())?;
        moved.send_replace(Instant::now());
    }
    guest.shutdown().await.map_err(|e| e.to_string())
}

#[cfg(test)]
mod test;
