//! `console`: the guest's serial console on this terminal, or for a script.

mod terminal;

use std::io::IsTerminal;
use std::time::Duration;

use bytes::Bytes;
use nube_proto::v1::instance_service_client::InstanceServiceClient;
use nube_proto::v1::{ConsoleOpen, ConsoleRequest, ConsoleResponse};
use nube_proto::v1::{console_request, console_response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use self::terminal::Raw;
use super::App;
use super::logs::plain::Plain;
use crate::args::instance::Console;
use crate::client::Client;
use crate::error::{Context, Error, Result};
use crate::output::text::escape;

/// Ctrl-]: no shell and no editor needs it.
const LEAVE: u8 = 0x1d;
/// The contract's limit for one message.
const KEYS_BYTES_MAX: usize = 4 * 1024;
/// Messages under way: flow control of the stream does the rest.
const QUEUE: usize = 4;
/// The host gets ten seconds to open it.
const WAY_MAX: Duration = Duration::from_secs(15);

struct Open {
    to_guest: mpsc::Sender<ConsoleRequest>,
    from_guest: Streaming<ConsoleResponse>,
}

/// `console`.
pub async fn run(app: &App, args: Console) -> Result<()> {
    let open = open(&app.client()?, &args.instance).await?;
    if !std::io::stdin().is_terminal() {
        return script(open, args.linger).await;
    }
    let name = escape(&args.instance);
    eprintln!("Console of {name}. Enter shows a prompt, Ctrl-] leaves.");
    let raw = Raw::enter().context("terminal")?;
    let ended = talk(open).await;
    drop(raw);
    eprintln!("\nLeft the console of {name}.");
    ended
}

async fn open(client: &Client, instance: &str) -> Result<Open> {
    let first = ConsoleRequest {
        message: Some(console_request::Message::Open(ConsoleOpen {
            instance: instance.to_owned(),
        })),
    };
    // Nothing was typed until this succeeds: trying elsewhere is safe.
    let attempt = |channel| {
        let first = first.clone();
        async move { open_once(InstanceServiceClient::new(channel), first).await }
    };
    client.call_slow("console", WAY_MAX, attempt).await
}

async fn open_once(
    mut client: InstanceServiceClient<crate::client::Link>,
    first: ConsoleRequest,
) -> std::result::Result<tonic::Response<Open>, Status> {
    let (to_guest, queue) = mpsc::channel(QUEUE);
    let closed = || Status::unavailable("the console was closed before it opened");
    to_guest.send(first).await.map_err(|_| closed())?;
    let response = client.open_console(ReceiverStream::new(queue)).await?;
    let mut from_guest = response.into_inner();
    match from_guest.message().await?.and_then(|m| m.message) {
        Some(console_response::Message::Opened(_)) => Ok(tonic::Response::new(Open {
            to_guest,
            from_guest,
        })),
        Some(console_response::Message::Data(_)) => {
            Err(Status::internal("the console sent data before it opened"))
        }
        None => Err(closed()),
    }
}

/// On a terminal, until Ctrl-], a signal, or the end of the guest's side.
async fn talk(open: Open) -> Result<()> {
    let Open {
        to_guest,
        mut from_guest,
    } = open;
    let mut signals = Signals::new()?;
    let (tell, mut left) = oneshot::channel();
    tokio::spawn(type_in(to_guest, Some(LEAVE), tell));
    let mut stdout = tokio::io::stdout();
    loop {
        tokio::select! {
            _ = &mut left => return Ok(()),
            () = signals.next() => return Err(Error::failed("console: ended by a signal")),
            printed = next(&mut from_guest) => {
                stdout.write_all(&printed?).await.context("standard output")?;
                stdout.flush().await.context("standard output")?;
            }
        }
    }
}

/// From a pipe or a file: all of it is typed, and what the guest says is printed
/// until it has been quiet for `linger`.
async fn script(open: Open, linger: Duration) -> Result<()> {
    let Open {
        to_guest,
        mut from_guest,
    } = open;
    let mut filter = std::io::stdout().is_terminal().then(Plain::default);
    let (tell, mut typed) = oneshot::channel();
    tokio::spawn(type_in(to_guest, None, tell));
    let mut quiet_at = None;
    let mut stdout = tokio::io::stdout();
    loop {
        let quiet = async {
            match quiet_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = &mut typed, if quiet_at.is_none() => quiet_at = Some(Instant::now() + linger),
            () = quiet => return Ok(()),
            printed = next(&mut from_guest) => {
                let printed = printed?;
                let text = filter.as_mut().map(|filter| filter.feed(&printed));
                let bytes = text.as_ref().map_or(printed.as_ref(), |text| text.as_bytes());
                stdout.write_all(bytes).await.context("standard output")?;
                stdout.flush().await.context("standard output")?;
                quiet_at = quiet_at.map(|_| Instant::now() + linger);
            }
        }
    }
}

/// The guest's next bytes. Its side never ends without a reason.
async fn next(from_guest: &mut Streaming<ConsoleResponse>) -> Result<Bytes> {
    loop {
        let message = from_guest.message().await;
        let message = message.map_err(|status| Error::from_status("console", &status))?;
        let message = message.ok_or_else(|| Error::failed("console: it was closed"))?;
        if let Some(console_response::Message::Data(data)) = message.message {
            return Ok(data);
        }
    }
}

/// Sends standard input until its end or the leaving key.
async fn type_in(
    to_guest: mpsc::Sender<ConsoleRequest>,
    leave: Option<u8>,
    tell: oneshot::Sender<()>,
) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; KEYS_BYTES_MAX];
    loop {
        let count = match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let keys = &buffer[..count];
        let leaving = leave.and_then(|leave| keys.iter().position(|key| *key == leave));
        let keys = &keys[..leaving.unwrap_or(count)];
        let data = console_request::Message::Data(Bytes::copy_from_slice(keys));
        let message = ConsoleRequest {
            message: Some(data),
        };
        if !keys.is_empty() && to_guest.send(message).await.is_err() {
            break;
        }
        if leaving.is_some() {
            break;
        }
    }
    // The other side may have ended first.
    let _ = tell.send(());
}

/// What would end this process and leave its terminal raw.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Self> {
        let open = |kind| signal(kind).context("signals");
        Ok(Self([
            open(SignalKind::terminate())?,
            open(SignalKind::hangup())?,
            open(SignalKind::interrupt())?,
        ]))
    }

    async fn next(&mut self) {
        let [terminate, hangup, interrupt] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}
