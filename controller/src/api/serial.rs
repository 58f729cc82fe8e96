//! A guest's serial port: its log, read or followed, and its console.
//!
//! Both end with the instance, whatever its host does: a host that is lost
//! cannot tell its clients.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use nube_proto::agent::v1::open_stream::Kind;
use nube_proto::agent::v1::stream_closed::Cause;
use nube_proto::agent::v1::{ConsoleTarget, SerialLogTarget};
use nube_proto::v1;
use nube_state::{Instance, InstanceState};
use nube_types::limits::SERIAL_RING_BYTES;
use nube_types::{InstanceId, ProjectId};
use tokio::sync::oneshot;
use tonic::{Status, Streaming};

use super::status;
use super::stream::{BoxStream, find, open};
use crate::agents::attach::{Attached, Down, FromGuest, Up};
use crate::cell::Cell;
use crate::view::Views;

const LOG_DEFAULT_BYTES: u64 = 64 * 1024;
/// Keystrokes in one message: more is a file, and a console is slow.
const KEYS_BYTES_MAX: usize = 4 * 1024;

/// The newest bytes of the log, and what comes if the client wants to follow.
pub async fn log(
    cell: &Cell,
    project: ProjectId,
    request: v1::ReadSerialLogRequest,
) -> Result<BoxStream<v1::SerialLogChunk>, Status> {
    let bytes_max = match request.bytes_max {
        0 => LOG_DEFAULT_BYTES,
        wanted => wanted.min(SERIAL_RING_BYTES),
    };
    let instance = find(cell, project, &request.instance).await?;
    let kind = Kind::SerialLog(SerialLogTarget {
        bytes_max,
        follow: request.follow,
    });
    let attached = open(cell, &instance, kind, 0).await?;
    let Attached { up, down } = attached;
    let bytes = match request.follow {
        false => whole(up),
        true => {
            let deleted = deleted(cell.views.clone(), instance.id);
            until_end(Of::Log, up, deleted, std::future::pending())
        }
    };
    // Held to the end: the agent stops sending when its caller is gone.
    Ok(Box::pin(bytes.map(move |data| {
        let _held = &down;
        data.map(|data| v1::SerialLogChunk { data })
    })))
}

fn whole(up: Up) -> BoxStream<Bytes> {
    Box::pin(up.try_filter_map(|message| async {
        Ok(match message {
            FromGuest::Data(data) => Some(data),
            FromGuest::Closed(_) => None,
        })
    }))
}

/// The console, both ways.
pub async fn console(
    cell: &Arc<Cell>,
    project: ProjectId,
    mut client: Streaming<v1::ConsoleRequest>,
) -> Result<BoxStream<v1::ConsoleResponse>, Status> {
    use v1::console_request::Message;
    use v1::console_response;
    let first = client.message().await?.and_then(|request| request.message);
    let Some(Message::Open(wanted)) = first else {
        return Err(status::invalid("open", "required in the first message"));
    };
    let instance = find(cell, project, &wanted.instance).await?;
    must_have_power(&instance)?;
    let kind = Kind::Console(ConsoleTarget {});
    let Attached { up, down } = open(cell, &instance, kind, 0).await?;
    let (refuse, refused) = oneshot::channel();
    tokio::spawn(send_keys(client, down, refuse));
    let refused = async {
        match refused.await {
            Ok(status) => status,
            // The client has nothing more to type.
            Err(_) => std::future::pending().await,
        }
    };
    let deleted = deleted(cell.views.clone(), instance.id);
    let bytes = until_end(Of::Console, up, deleted, refused);
    let opened = console_response::Message::Opened(v1::ConsoleOpened {});
    let opened = futures::stream::once(async { Ok(opened) });
    let data = bytes.map_ok(console_response::Message::Data);
    Ok(Box::pin(opened.chain(data).map_ok(|message| {
        v1::ConsoleResponse {
            message: Some(message),
        }
    })))
}

/// Said here, where the state is known, and not by a host that only has no
/// machine process.
fn must_have_power(instance: &Instance) -> Result<(), Status> {
    match instance.state {
        InstanceState::Starting | InstanceState::Running | InstanceState::Stopping => Ok(()),
        _ => {
            let text = format!(
                "instance `{}` does not run: it has no console",
                instance.name
            );
            Err(status::precondition("NOT_RUNNING", text))
        }
    }
}

/// Ends when the client ends its half, or either side is gone: dropping `down`
/// tells the agent.
async fn send_keys(
    mut client: Streaming<v1::ConsoleRequest>,
    down: Down,
    refuse: oneshot::Sender<Status>,
) {
    use v1::console_request::Message;
    while let Ok(Some(request)) = client.message().await {
        let Some(Message::Data(keys)) = request.message else {
            let _ = refuse.send(status::invalid("open", "only in the first message"));
            return;
        };
        if keys.len() > KEYS_BYTES_MAX {
            let rule = format!("at most {KEYS_BYTES_MAX} bytes in one message");
            let _ = refuse.send(status::invalid("data", rule));
            return;
        }
        if !down.send(keys).await {
            return;
        }
    }
}

/// Which stream it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Log,
    Console,
}

/// Bytes until the end, and what the end means: nothing more of a deleted
/// instance's log, an error for all else.
fn until_end(
    of: Of,
    mut up: Up,
    deleted: impl Future<Output = ()> + Send + 'static,
    refused: impl Future<Output = Status> + Send + 'static,
) -> BoxStream<Bytes> {
    Box::pin(async_stream::try_stream! {
        tokio::pin!(deleted, refused);
        let cause = loop {
            let message = tokio::select! {
                biased;
                status = &mut refused => Err(status),
                message = up.next() => message.transpose(),
                () = &mut deleted => Ok(Some(FromGuest::Closed(Cause::Removed))),
            };
            match message? {
                Some(FromGuest::Data(data)) => yield data,
                Some(FromGuest::Closed(cause)) => break cause,
                None => break Cause::Unspecified,
            }
        };
        if of == Of::Console || cause != Cause::Removed {
            Err(end(cause))?;
        }
    })
}

fn end(cause: Cause) -> Status {
    match cause {
        Cause::TakenOver => status::taken_over("another client has the console now"),
        Cause::Stopped => {
            status::precondition("NOT_RUNNING", "the machine was switched off".to_owned())
        }
        Cause::Removed => status::precondition("NOT_RUNNING", "the instance is gone".to_owned()),
        Cause::Idle => Status::deadline_exceeded("nothing moved for hours"),
        Cause::Unspecified => {
            Status::unavailable("the instance's host ended the stream; try again")
        }
    }
}

/// Returns when the instance is no more, as far as this controller knows.
async fn deleted(mut views: Views, id: InstanceId) {
    loop {
        let state = views.take();
        let is_there = |instance: &Instance| instance.state != InstanceState::Deleted;
        if !state.instances.get(&id).is_some_and(is_there) {
            return;
        }
        drop(state);
        if !views.changed().await {
            return;
        }
    }
}

#[cfg(test)]
mod test {
    use std::future::{pending, ready};

    use tonic::Code;

    use super::*;

    fn up(messages: Vec<Result<FromGuest, Status>>, goes_on: bool) -> Up {
        let messages = futures::stream::iter(messages);
        match goes_on {
            true => Box::pin(messages.chain(futures::stream::pending())),
            false => Box::pin(messages),
        }
    }

    fn data() -> Result<FromGuest, Status> {
        Ok(FromGuest::Data("x".into()))
    }

    /// Bytes read, and the code of the end.
    async fn read(mut stream: BoxStream<Bytes>) -> (usize, Option<Code>) {
        let mut bytes = 0;
        loop {
            match stream.next().await {
                Some(Ok(data)) => bytes += data.len(),
                Some(Err(status)) => return (bytes, Some(status.code())),
                None => return (bytes, None),
            }
        }
    }

    #[tokio::test]
    async fn each_end_has_its_status() {
        let closed = |cause| Ok(FromGuest::Closed(cause));
        let lost = || Err(Status::unavailable("lost"));
        let table = [
            (closed(Cause::Removed), None, Some(Code::FailedPrecondition)),
            (
                closed(Cause::Stopped),
                Some(Code::FailedPrecondition),
                Some(Code::FailedPrecondition),
            ),
            (
                closed(Cause::TakenOver),
                Some(Code::Aborted),
                Some(Code::Aborted),
            ),
            (lost(), Some(Code::Unavailable), Some(Code::Unavailable)),
        ];
        for (last, log, console) in table {
            for (of, expected) in [(Of::Log, log), (Of::Console, console)] {
                let up = up(vec![data(), last.clone()], true);
                let ended = read(until_end(of, up, pending(), pending())).await;
                assert_eq!(ended, (1, expected), "{last:?}");
            }
        }
        let silent = || up(vec![data()], false);
        let ended = read(until_end(Of::Log, silent(), pending(), pending())).await;
        assert_eq!(ended, (1, Some(Code::Unavailable)), "no reason given");
    }

    #[tokio::test]
    async fn a_deleted_instance_and_a_refused_client_end_it_at_once() {
        let goes_on = || up(vec![data()], true);
        let ended = read(until_end(Of::Log, goes_on(), ready(()), pending())).await;
        assert_eq!(ended, (1, None), "what came before is still sent");
        let refused = ready(status::invalid("data", "too long"));
        let ended = read(until_end(Of::Console, goes_on(), pending(), refused)).await;
        assert_eq!(ended, (0, Some(Code::InvalidArgument)));
    }
}
