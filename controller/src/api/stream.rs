//! Byte streams between a client and a guest's host: tunnels here, the serial
//! port in `serial`. The client speaks to this controller, the agent attaches to
//! it; bytes pass through without being looked at.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use nube_proto::agent::v1::TunnelTarget;
use nube_proto::agent::v1::open_stream::Kind;
use nube_proto::v1;
use nube_state::{Instance, InstanceState};
use nube_types::ProjectId;
use nube_types::limits::CHUNK_BYTES;
use tonic::{Status, Streaming};

use super::{resolve, status};
use crate::agents::attach::{Attached, Down, FromGuest};
use crate::cell::Cell;

pub(super) type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

const WAIT_MS_MAX: u32 = 10 * 60 * 1000;
const SSH_PORT: u32 = 22;

pub(super) async fn find(
    cell: &Cell,
    project: ProjectId,
    reference: &str,
) -> Result<Instance, Status> {
    let state = cell.read().await?;
    let instance = resolve::instance(&state, project, reference)?;
    if matches!(
        instance.state,
        InstanceState::Deleting | InstanceState::Deleted
    ) {
        return Err(status::not_found("instance", reference));
    }
    Ok(instance.clone())
}

pub(super) async fn open(
    cell: &Cell,
    instance: &Instance,
    kind: Kind,
    wait_ms: u32,
) -> Result<Attached, Status> {
    let wait = Duration::from_millis(wait_ms.into());
    cell.agents
        .open_stream(instance.node, instance.id, kind, wait)
        .await
}

/// Bytes both ways between the client and a port of the guest.
pub async fn tunnel(
    cell: &Arc<Cell>,
    project: ProjectId,
    mut client: Streaming<v1::TunnelRequest>,
) -> Result<BoxStream<v1::TunnelResponse>, Status> {
    use v1::tunnel_request::Message;
    let first = client.message().await?.and_then(|request| request.message);
    let Some(Message::Open(open_request)) = first else {
        return Err(status::invalid("open", "required in the first message"));
    };
    let port = match open_request.port {
        0 => SSH_PORT,
        1..=65535 => open_request.port,
        _ => return Err(status::invalid("port", "1 to 65535")),
    };
    if open_request.wait_ms > WAIT_MS_MAX {
        return Err(status::invalid("wait_ms", format!("at most {WAIT_MS_MAX}")));
    }
    let instance = find(cell, project, &open_request.instance).await?;
    let wait_ms = open_request.wait_ms;
    let kind = Kind::Tunnel(TunnelTarget { port, wait_ms });
    let Attached { up, down } = open(cell, &instance, kind, wait_ms).await?;
    tokio::spawn(send_down(client, down));
    let opened = v1::tunnel_response::Message::Opened(v1::TunnelOpened {});
    let first = futures::stream::once(async move { Ok(opened) });
    let data = up.filter_map(|message| async {
        match message {
            Ok(FromGuest::Data(data)) => Some(Ok(v1::tunnel_response::Message::Data(data))),
            Ok(FromGuest::Closed(_)) => None,
            Err(status) => Some(Err(status)),
        }
    });
    Ok(Box::pin(first.chain(data).map(|message| {
        message.map(|message| v1::TunnelResponse {
            message: Some(message),
        })
    })))
}

/// Ends when the client ends its half, or either side is gone: dropping `down`
/// tells the agent to close the guest's half.
async fn send_down(mut client: Streaming<v1::TunnelRequest>, down: Down) {
    use v1::tunnel_request::Message;
    while let Ok(Some(request)) = client.message().await {
        let Some(Message::Data(mut data)) = request.message else {
            return;
        };
        while !data.is_empty() {
            let chunk: Bytes = data.split_to(data.len().min(CHUNK_BYTES));
            if !down.send(chunk).await {
                return;
            }
        }
    }
}
