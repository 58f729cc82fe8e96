//! The byte stream to a guest's port, through a controller and the guest's
//! host. `tunnel` is what OpenSSH runs as its ProxyCommand.

use std::time::Duration;

use bytes::Bytes;
use nube_proto::v1::instance_service_client::InstanceServiceClient;
use nube_proto::v1::{TunnelOpen, TunnelRequest, TunnelResponse, tunnel_request, tunnel_response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::App;
use crate::args::ssh::Tunnel;
use crate::client::{Client, Link};
use crate::error::{Context, Error, Exit, Result};

/// Bytes per message: small enough to keep a keystroke's way short, large
/// enough for a fast copy; the limit of the contract is 256 KiB.
const CHUNK_BYTES: usize = 64 * 1024;
/// Messages under way: flow control of the stream does the rest.
const QUEUE: usize = 8;
/// Time for the way itself, beside the time that the guest may take.
const WAY_MAX: Duration = Duration::from_secs(10);
/// One stay at the guest's door; a lost host is noticed between two of them.
const SSH_WAIT: Duration = Duration::from_secs(20);
/// A server that has accepted sends its banner at once, or after a moment on a
/// busy emulated guest.
const BANNER_WAIT: Duration = Duration::from_secs(15);
/// Servers may send lines before the banner (RFC 4253 4.2), not for ever.
const BANNER_BYTES_MAX: usize = 8 * 1024;

/// A tunnel that the guest has accepted.
pub struct Open {
    to_guest: mpsc::Sender<TunnelRequest>,
    from_guest: Streaming<TunnelResponse>,
}

/// `tunnel`.
pub async fn run(app: &App, args: Tunnel) -> Result<()> {
    let wait = Duration::from_millis(u64::from(args.wait_ms));
    let open = open(&app.client()?, &args.instance, args.port, wait).await?;
    splice(open, tokio::io::stdin(), tokio::io::stdout()).await
}

/// Opens a tunnel at any controller. Nothing has been sent to the guest until
/// this succeeds, so trying elsewhere is safe.
pub async fn open(client: &Client, instance: &str, port: u16, wait: Duration) -> Result<Open> {
    let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
    let first = TunnelRequest {
        message: Some(tunnel_request::Message::Open(TunnelOpen {
            instance: instance.to_owned(),
            port: u32::from(port),
            wait_ms,
        })),
    };
    let attempt = |channel| {
        let first = first.clone();
        async move { open_once(InstanceServiceClient::new(channel), first).await }
    };
    client.call_slow("tunnel", wait + WAY_MAX, attempt).await
}

async fn open_once(
    mut client: InstanceServiceClient<Link>,
    first: TunnelRequest,
) -> std::result::Result<tonic::Response<Open>, Status> {
    let (to_guest, queue) = mpsc::channel(QUEUE);
    let closed = || Status::unavailable("the tunnel was closed before it opened");
    to_guest.send(first).await.map_err(|_| closed())?;
    let response = client.open_tunnel(ReceiverStream::new(queue)).await?;
    let mut from_guest = response.into_inner();
    match from_guest.message().await?.and_then(|m| m.message) {
        Some(tunnel_response::Message::Opened(_)) => Ok(tonic::Response::new(Open {
            to_guest,
            from_guest,
        })),
        Some(tunnel_response::Message::Data(_)) => {
            Err(Status::internal("the tunnel sent data before it opened"))
        }
        None => Err(closed()),
    }
}

/// Carries bytes both ways until the guest's side ends. The end of `input` is
/// passed on, and the guest may still answer after it.
pub async fn splice(
    tunnel: Open,
    mut input: impl AsyncRead + Unpin + Send + 'static,
    mut output: impl AsyncWrite + Unpin,
) -> Result<()> {
    let Open {
        to_guest,
        mut from_guest,
    } = tunnel;
    let up = tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match input.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(len) => {
                    let data = Bytes::copy_from_slice(&buffer[..len]);
                    if to_guest.send(data_message(data)).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    let down = async {
        while let Some(message) = from_guest.message().await.map_err(broken)? {
            if let Some(tunnel_response::Message::Data(data)) = message.message {
                output.write_all(&data).await.context("standard output")?;
                output.flush().await.context("standard output")?;
            }
        }
        Ok(())
    };
    let result = down.await;
    up.abort();
    result
}

/// Returns when the guest's SSH server has sent its banner.
pub async fn wait_for_ssh(client: &Client, instance: &str) -> Result<()> {
    loop {
        match ssh_answers(client, instance).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // The port is not open yet, or the way broke: the caller's time
            // limit ends this loop, not a single failure.
            Err(error) if error.exit() == Exit::NotFound => return Err(error),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn ssh_answers(client: &Client, instance: &str) -> Result<bool> {
    let mut tunnel = open(client, instance, 22, SSH_WAIT).await?;
    let banner = async {
        let mut seen = Vec::new();
        while let Ok(Some(message)) = tunnel.from_guest.message().await {
            if let Some(tunnel_response::Message::Data(data)) = message.message {
                seen.extend_from_slice(&data);
            }
            if has_banner(&seen) || seen.len() > BANNER_BYTES_MAX {
                break;
            }
        }
        has_banner(&seen)
    };
    Ok(tokio::time::timeout(BANNER_WAIT, banner)
        .await
        .unwrap_or(false))
}

fn has_banner(seen: &[u8]) -> bool {
    seen.split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(b"SSH-2.0-"))
}

fn data_message(data: Bytes) -> TunnelRequest {
    TunnelRequest {
        message: Some(tunnel_request::Message::Data(data)),
    }
}

fn broken(status: Status) -> Error {
    Error::from_status("tunnel", &status)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_banner_may_follow_other_lines() {
        assert!(has_banner(b"SSH-2.0-dropbear\r\n"));
        assert!(has_banner(b"welcome\r\nSSH-2.0-x"));
        assert!(!has_banner(b"HTTP/1.1 400\r\n"));
        assert!(!has_banner(b"x SSH-2.0-\r\n"));
    }
}
