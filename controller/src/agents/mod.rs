//! Hosts: the sessions of agents with this controller, what they are told and
//! what they say. Every agent has a session with every controller; only the
//! leader speaks of wishes and listens to reports.

pub mod attach;
pub mod desired;
pub mod facts;
pub mod lease;
pub mod networks;
mod news;
pub mod service;
pub mod session;
pub mod talk;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nube_proto::agent::v1::controller_message::Message;
use nube_proto::agent::v1::{ControllerMessage, OpenStream, open_stream};
use nube_types::{InstanceId, NodeId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use attach::{Attached, Waiting};
use lease::Leases;

/// Messages that may wait for one agent; a session that is further behind is
/// broken and ends.
pub const SESSION_QUEUE: usize = 64;

/// One live session.
struct Session {
    /// Tells a newer session of the same node from an older one.
    number: u64,
    sender: mpsc::Sender<Result<ControllerMessage, Status>>,
}

struct Registry {
    /// Zero of the clock that leases count by.
    begun: Instant,
    leases: Leases,
    sessions: BTreeMap<NodeId, Session>,
    /// Outlives the session: an agent that restarts is not silent yet. By the
    /// monotonic clock: a jump of the wall clock silences nobody.
    heard: BTreeMap<NodeId, Instant>,
    opened: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            leases: Leases::default(),
            sessions: BTreeMap::new(),
            heard: BTreeMap::new(),
            opened: 0,
        }
    }
}

/// The sessions with this controller; cheap to clone.
#[derive(Clone, Default)]
pub struct Agents {
    registry: Arc<Mutex<Registry>>,
    waiting: Waiting,
}

impl Agents {
    fn with<T>(&self, look: impl FnOnce(&mut Registry) -> T) -> T {
        look(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A new session takes the place of an older one of the same node.
    fn enter(&self, node: NodeId, sender: mpsc::Sender<Result<ControllerMessage, Status>>) -> u64 {
        self.with(|registry| {
            registry.opened += 1;
            let number = registry.opened;
            registry.sessions.insert(node, Session { number, sender });
            number
        })
    }

    fn leave(&self, node: NodeId, number: u64) {
        self.with(|registry| {
            if registry
                .sessions
                .get(&node)
                .is_some_and(|session| session.number == number)
            {
                registry.sessions.remove(&node);
            }
        });
    }

    fn heard(&self, node: NodeId, number: u64) {
        self.with(|registry| {
            if registry
                .sessions
                .get(&node)
                .is_some_and(|session| session.number == number)
            {
                registry.heard.insert(node, Instant::now());
            }
        });
    }

    /// The leases, and what time it is for them. Keep it short: all sessions wait.
    pub(crate) fn leases<T>(&self, work: impl FnOnce(&mut Leases, u64) -> T) -> T {
        self.with(|registry| {
            let now_ms = u64::try_from(registry.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            work(&mut registry.leases, now_ms)
        })
    }

    /// How many agents have a session with this controller.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.with(|registry| registry.sessions.len())
    }

    /// For how long each node that ever spoke has been silent.
    #[must_use]
    pub fn silence(&self) -> BTreeMap<NodeId, Duration> {
        self.with(|registry| {
            registry
                .heard
                .iter()
                .map(|(node, heard)| (*node, heard.elapsed()))
                .collect()
        })
    }

    /// Asks a node's agent for a byte stream and waits until it attaches.
    pub async fn open_stream(
        &self,
        node: NodeId,
        instance: InstanceId,
        kind: open_stream::Kind,
        wait: Duration,
    ) -> Result<Attached, Status> {
        let absent = || Status::unavailable("the instance's host is not connected; try again");
        let sender = self.with(|r| r.sessions.get(&node).map(|s| s.sender.clone()));
        let sender = sender.ok_or_else(absent)?;
        let ticket = self.waiting.register(node)?;
        let message = Message::OpenStream(OpenStream {
            stream_id: ticket.id().to_owned(),
            instance_id: instance.to_string(),
            kind: Some(kind),
        });
        let message = ControllerMessage {
            message: Some(message),
        };
        sender.send(Ok(message)).await.map_err(|_| absent())?;
        ticket.attached(wait + attach::GRACE).await
    }

    /// Where agents attach.
    #[must_use]
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }
}
