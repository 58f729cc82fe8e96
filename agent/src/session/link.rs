//! One controller: connect, talk, and start over, for as long as the agent
//! lives. Knows nothing of leaders; passes on what it hears, serves streams.

use std::sync::Arc;
use std::time::Duration;

use nube_proto::agent::v1::agent_service_client::AgentServiceClient;
use nube_proto::agent::v1::{AgentMessage, Hello, agent_message, controller_message};
use nube_types::limits::MESSAGE_BYTES_MAX;
use rand::Rng;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::LinkEvent;
use super::blobs::Controllers;
use super::rules::LinkId;
use crate::driver::Driver;
use crate::log::chain;
use crate::metrics;
use crate::report::View;
use crate::stream::Streams;
use crate::tls::Tls;

/// First and longest pause between attempts, each drawn from the upper half:
/// agents of a whole cell do not come back in step.
const BACKOFF_MS_FIRST: u64 = 100;
const BACKOFF_MS_MAX: u64 = 2_000;
/// Messages that wait for one controller; beyond, it is stuck.
const QUEUE_MAX: usize = 64;
/// A controller that accepts a connection but does not open the session.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// What every link of this agent shares.
pub struct Shared<D> {
    /// For certificates.
    pub tls: Tls,
    /// Who this is; `unknown_resources` is filled in at each connect.
    pub hello: Hello,
    /// For what the hello says of unknown things.
    pub view: watch::Receiver<View>,
    /// To the hub.
    pub events: mpsc::Sender<(LinkId, LinkEvent)>,
    /// Connected controllers, as sources of image files.
    pub controllers: Controllers,
    /// Tunnels and logs.
    pub streams: Arc<Streams<D>>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("cannot connect")]
    Connect(#[source] tonic::transport::Error),
    #[error("the controller did not open the session in time")]
    Timeout,
    #[error("refused: {}", .0.message())]
    Status(Box<tonic::Status>),
    #[error("the controller closed the session")]
    Closed,
    #[error("the agent ends")]
    Over,
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// Keeps one link up until the hub is gone.
pub async fn run<D: Driver>(shared: Arc<Shared<D>>, link: LinkId, controller: String) {
    let mut failures = 0_u32;
    let mut last = String::new();
    loop {
        let mut greeted = false;
        let ended = session(&shared, link, &controller, &mut greeted).await;
        shared.controllers.remove(link);
        if matches!(ended, Ended::Over)
            || shared.events.send((link, LinkEvent::Down)).await.is_err()
        {
            return;
        }
        failures = if greeted {
            0
        } else {
            failures.saturating_add(1)
        };
        let cause = chain(&ended);
        // The same trouble once: an hour without controllers is one line each.
        if greeted || cause != last {
            tracing::warn!(%controller, %cause, "no session; trying again");
        }
        last = cause;
        let pause = pause(failures, &mut rand::rng());
        tokio::time::sleep(pause).await;
    }
}

fn pause(failures: u32, rng: &mut impl Rng) -> Duration {
    let full = (BACKOFF_MS_FIRST << failures.min(8)).min(BACKOFF_MS_MAX);
    Duration::from_millis(rng.random_range(full / 2..=full))
}

async fn session<D: Driver>(
    shared: &Arc<Shared<D>>,
    link: LinkId,
    controller: &str,
    greeted: &mut bool,
) -> Ended {
    match talk(shared, link, controller, greeted).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

async fn talk<D: Driver>(
    shared: &Arc<Shared<D>>,
    link: LinkId,
    controller: &str,
    greeted: &mut bool,
) -> Result<std::convert::Infallible, Ended> {
    let channel = shared.tls.connect(controller).await;
    let channel = channel.map_err(Ended::Connect)?;
    let mut client = client(channel.clone());
    let (up, queue) = mpsc::channel(QUEUE_MAX);
    send(&up, agent_message::Message::Hello(hello(shared))).await?;
    let opened = tokio::time::timeout(OPEN_TIMEOUT, client.session(ReceiverStream::new(queue)));
    let mut down = opened.await.map_err(|_| Ended::Timeout)??.into_inner();
    shared.controllers.insert(link, channel.clone());
    let _open = metrics::events().session_open(link);
    tell(shared, link, LinkEvent::Up(up.clone())).await?;
    loop {
        let message = down.next().await.ok_or(Ended::Closed)??;
        if !*greeted {
            tracing::info!(%controller, "session is open");
            *greeted = true;
        }
        match message.message {
            Some(controller_message::Message::OpenStream(open)) => {
                shared.streams.clone().open(client.clone(), open);
            }
            Some(message) => tell(shared, link, LinkEvent::Said(message)).await?,
            // A newer controller says more than this agent knows.
            None => tracing::debug!(%controller, "skipped an unknown message"),
        }
    }
}

/// A client with the protocol's message limit.
pub fn client(channel: Channel) -> AgentServiceClient<Channel> {
    AgentServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

fn hello<D>(shared: &Shared<D>) -> Hello {
    let unknown_resources = shared.view.borrow().unknown.clone();
    Hello {
        unknown_resources,
        ..shared.hello.clone()
    }
}

async fn send(
    up: &mpsc::Sender<AgentMessage>,
    message: agent_message::Message,
) -> Result<(), Ended> {
    up.send(AgentMessage {
        message: Some(message),
    })
    .await
    .map_err(|_| Ended::Closed)
}

async fn tell<D>(shared: &Shared<D>, link: LinkId, event: LinkEvent) -> Result<(), Ended> {
    shared
        .events
        .send((link, event))
        .await
        .map_err(|_| Ended::Over)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut rng = rand::rng();
        for failures in 0..40 {
            let pause = pause(failures, &mut rng).as_millis();
            assert!((50..=2_000).contains(&pause), "{failures}: {pause}");
        }
        assert!(pause(30, &mut rng).as_millis() >= 1_000);
    }
}
