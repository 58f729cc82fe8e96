//! Byte streams that agents open on request: the meeting place between a client
//! that waits and an agent that attaches. An id is drawn here, used once, and
//! belongs to one node.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use nube_proto::agent::v1::stream_closed::Cause;
use nube_proto::agent::v1::{StreamDown, StreamUp, stream_up};
use nube_types::NodeId;
use nube_types::limits::TUNNELS_MAX;
use tokio::sync::{mpsc, oneshot};
use tonic::{Status, Streaming};

use crate::metrics::{Held, events};

/// An agent gets this long on top of what the client wants to wait.
pub const GRACE: Duration = Duration::from_secs(10);
/// Chunks that may wait for the guest: bounds memory of a fast client.
const DOWN_QUEUE: usize = 8;

/// What comes from the guest's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromGuest {
    /// Bytes.
    Data(Bytes),
    /// The agent's reason for the end that follows.
    Closed(Cause),
}

/// The guest's side; an error means that its host was lost.
pub type Up = Pin<Box<dyn Stream<Item = Result<FromGuest, Status>> + Send>>;

/// Bytes to the guest's side; dropping it ends that half.
pub struct Down {
    sender: mpsc::Sender<Result<StreamDown, Status>>,
    _counted: Held,
}

impl Down {
    /// False when the agent is gone.
    pub async fn send(&self, data: Bytes) -> bool {
        self.sender.send(Ok(StreamDown { data })).await.is_ok()
    }
}

/// A stream that both sides hold.
pub struct Attached {
    /// From the guest.
    pub up: Up,
    /// To the guest.
    pub down: Down,
}

type Result_<T> = Result<T, Status>;
type Entry = (NodeId, oneshot::Sender<Result_<Attached>>);

/// Streams that were asked for and not attached yet.
#[derive(Clone, Default)]
pub struct Waiting(Arc<Mutex<BTreeMap<String, Entry>>>);

/// One stream that was asked for; dropping it forgets it.
pub struct Ticket {
    id: String,
    waiting: Waiting,
    answer: Option<oneshot::Receiver<Result_<Attached>>>,
}

impl Waiting {
    fn entries<T>(&self, look: impl FnOnce(&mut BTreeMap<String, Entry>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Draws an id for a stream with a node.
    pub fn register(&self, node: NodeId) -> Result_<Ticket> {
        let id = uuid::Uuid::new_v4().to_string();
        let (sender, receiver) = oneshot::channel();
        self.entries(|entries| {
            if entries.len() >= TUNNELS_MAX {
                return Err(Status::resource_exhausted(
                    "too many streams are being opened",
                ));
            }
            entries.insert(id.clone(), (node, sender));
            Ok(())
        })?;
        Ok(Ticket {
            id,
            waiting: self.clone(),
            answer: Some(receiver),
        })
    }

    /// An agent attaches: hands both halves to who waits, and gives the agent
    /// its half.
    pub async fn attach(
        &self,
        node: NodeId,
        mut up: Streaming<StreamUp>,
    ) -> Result_<mpsc::Receiver<Result_<StreamDown>>> {
        let first = up.message().await?.and_then(|message| message.message);
        let Some(stream_up::Message::Opened(opened)) = first else {
            return Err(Status::invalid_argument(
                "opened: required in the first message",
            ));
        };
        let entry = self.entries(|entries| match entries.get(&opened.stream_id) {
            Some((owner, _)) if *owner == node => entries.remove(&opened.stream_id),
            _ => None,
        });
        let (_, waiter) = entry.ok_or_else(|| Status::not_found("nobody waits for this stream"))?;
        let (sender, receiver) = mpsc::channel(DOWN_QUEUE);
        let result = if opened.error.is_empty() {
            Ok(Attached {
                up: data_of(up),
                down: Down {
                    sender,
                    _counted: Held::one(&events().streams),
                },
            })
        } else {
            Err(Status::unavailable(opened.error))
        };
        // Who waited may be gone: then the agent sees its half end.
        let _ = waiter.send(result);
        Ok(receiver)
    }
}

fn data_of(mut up: Streaming<StreamUp>) -> Up {
    Box::pin(async_stream::try_stream! {
        // Whatever broke: for the client it is the way to the host that is gone.
        while let Some(message) = up.message().await.map_err(|cause| {
            tracing::debug!(%cause, "a stream broke");
            Status::unavailable("the instance's host was lost; try again")
        })? {
            match message.message {
                Some(stream_up::Message::Data(data)) => yield FromGuest::Data(data),
                Some(stream_up::Message::Closed(closed)) => {
                    yield FromGuest::Closed(closed.cause());
                }
                Some(stream_up::Message::Opened(_)) | None => {}
            }
        }
    })
}

impl Ticket {
    /// What the agent must name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the agent attached.
    pub async fn attached(mut self, wait: Duration) -> Result_<Attached> {
        let gone = || Status::unavailable("the instance's host did not open the stream in time");
        let answer = self.answer.take().ok_or_else(gone)?;
        match tokio::time::timeout(wait, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(gone()),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.waiting.entries(|entries| entries.remove(&self.id));
    }
}
