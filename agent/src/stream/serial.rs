//! Streams of the serial port: a followed log, and the console.
//!
//! Nothing is gathered for a slow client: the log and the console read the
//! serial ring at the client's pace, and skip what the ring has forgotten.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use nube_proto::agent::v1::stream_closed::Cause;
use nube_proto::agent::v1::{StreamClosed, StreamDown, StreamUp, stream_up};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use super::{CHUNK_BYTES, IDLE_MAX, send};
use crate::driver::{Console, ConsoleEnd};

/// For a client that reads slowly to hear why its stream is over.
const LAST_WORD: Duration = Duration::from_secs(10);

/// The log until the reader leaves or the guest is removed.
pub async fn follow(
    mut log: BoxStream<'static, Bytes>,
    up: mpsc::Sender<StreamUp>,
    mut down: impl Stream<Item = Result<StreamDown, Status>> + Unpin,
) -> Result<(), String> {
    let sending = async {
        while let Some(bytes) = log.next().await {
            send_all(&up, bytes).await?;
        }
        close(&up, Cause::Removed).await
    };
    tokio::select! {
        sent = sending => sent?,
        () = left(&mut down) => return Ok(()),
    }
    last(up, down).await
}

/// The console until either side ends it. A client that has no more to type may
/// go on reading.
pub async fn console(
    console: Console,
    up: mpsc::Sender<StreamUp>,
    mut down: impl Stream<Item = Result<StreamDown, Status>> + Unpin,
) -> Result<(), String> {
    let Console {
        mut output,
        input,
        mut ended,
    } = console;
    let mut input = Some(input);
    let mut idle_at = Instant::now() + IDLE_MAX;
    let cause = loop {
        tokio::select! {
            end = &mut ended => break match end {
                ConsoleEnd::TakenOver => Cause::TakenOver,
                ConsoleEnd::Stopped => Cause::Stopped,
                ConsoleEnd::Removed => Cause::Removed,
            },
            bytes = output.next() => match bytes {
                Some(bytes) => tokio::select! {
                    sent = send_all(&up, bytes) => sent?,
                    // A client that reads nothing cannot be told; it is not to
                    // hold the console either.
                    _ = &mut ended => return Err("the console's client does not read".to_owned()),
                },
                None => break Cause::Removed,
            },
            () = up.closed() => return Err("the controller left".to_owned()),
            keys = typed(&mut input, &mut down) => keys?,
            () = sleep_until(idle_at) => break Cause::Idle,
        }
        idle_at = Instant::now() + IDLE_MAX;
    };
    close(&up, cause).await?;
    last(up, down).await
}

/// One message of keystrokes; waits while the guest does not read. After the
/// client's last one this never returns.
async fn typed(
    input: &mut Option<mpsc::Sender<Bytes>>,
    down: &mut (impl Stream<Item = Result<StreamDown, Status>> + Unpin),
) -> Result<(), String> {
    let Some(keys) = input else {
        return std::future::pending().await;
    };
    // Room first: what was read from the client must not be lost when another
    // branch wins.
    let Ok(place) = keys.reserve().await else {
        return std::future::pending().await;
    };
    match down.next().await {
        Some(Ok(message)) => place.send(message.data),
        Some(Err(status)) => return Err(status.message().to_owned()),
        None => {
            drop(place);
            *input = None;
        }
    }
    Ok(())
}

async fn send_all(up: &mpsc::Sender<StreamUp>, mut bytes: Bytes) -> Result<(), String> {
    while !bytes.is_empty() {
        send(up, bytes.split_to(bytes.len().min(CHUNK_BYTES))).await?;
    }
    Ok(())
}

async fn close(up: &mpsc::Sender<StreamUp>, cause: Cause) -> Result<(), String> {
    let closed = StreamClosed {
        cause: cause.into(),
    };
    let message = StreamUp {
        message: Some(stream_up::Message::Closed(closed)),
    };
    match timeout(LAST_WORD, up.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err("the controller left".to_owned()),
        Err(_late) => Err("the client does not read".to_owned()),
    }
}

/// Leaving now would cancel the call and with it what is still under way: the
/// reader says when it has everything.
async fn last(
    up: mpsc::Sender<StreamUp>,
    mut down: impl Stream<Item = Result<StreamDown, Status>> + Unpin,
) -> Result<(), String> {
    drop(up);
    left(&mut down).await;
    Ok(())
}

async fn left(down: &mut (impl Stream<Item = Result<StreamDown, Status>> + Unpin)) {
    while down.next().await.is_some_and(|said| said.is_ok()) {}
}

#[cfg(test)]
mod test;
