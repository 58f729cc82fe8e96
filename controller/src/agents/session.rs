//! One agent's session on its stream: carries out what [`Talk`] decides.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use nube_proto::agent::v1::controller_message::Message as Down;
use nube_proto::agent::v1::{AgentMessage, ControllerMessage};
use nube_state::{Command, Envelope};
use nube_types::NodeId;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::talk::{Input, Output, Proposed, Sight, Talk};
use crate::cell::Cell;
use crate::metrics;

/// One session, from its first message to its end.
pub struct Session {
    /// The controller.
    pub cell: Arc<Cell>,
    /// From the agent's certificate.
    pub node: NodeId,
    /// To the agent.
    pub down: mpsc::Sender<Result<ControllerMessage, Status>>,
}

type Work<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// What was begun and has not ended. Both stay polled until then: nothing that
/// the agent says waits for them.
#[derive(Default)]
struct UnderWay {
    proposal: Work<Proposed>,
    confirmation: Work<bool>,
}

/// What wakes a session.
enum Event {
    Look,
    Said(Box<AgentMessage>),
    Proposed(Proposed),
    Confirmed(bool),
    Over,
}

/// Waits for the work, if there is any.
async fn ended<T>(work: &mut Work<T>) -> T {
    let answer = match work {
        Some(work) => work.await,
        None => pending().await,
    };
    *work = None;
    answer
}

fn or_over(goes_on: bool) -> Event {
    if goes_on { Event::Look } else { Event::Over }
}

impl Session {
    /// Runs until either side ends.
    pub async fn run(self, mut up: Streaming<AgentMessage>) {
        let number = self.cell.agents.enter(self.node, self.down.clone());
        tracing::info!(node = %self.node, "agent connected");
        let ended = self.serve(&mut up, number).await;
        self.cell.agents.leave(self.node, number);
        match ended {
            Ok(()) => tracing::info!(node = %self.node, "agent disconnected"),
            Err(status) => {
                tracing::info!(node = %self.node, "agent session ended: {status}");
                // Best effort: the agent may be gone already.
                let _ = self.down.try_send(Err(status));
            }
        }
    }

    async fn serve(&self, up: &mut Streaming<AgentMessage>, number: u64) -> Result<(), Status> {
        let cell = &self.cell;
        let mut views = cell.views.clone();
        let mut raft = cell.raft.watch_status();
        let mut talk = Talk::new(self.node, cell.config.id, cell.secret.clone());
        let mut under_way = UnderWay::default();
        let mut event = Event::Look;
        loop {
            let Some(outputs) = self.handle(&mut talk, event) else {
                return Ok(());
            };
            for output in outputs {
                self.perform(output, number, &mut under_way)?;
            }
            event = tokio::select! {
                message = up.message() => message?.map_or(Event::Over, |m| Event::Said(Box::new(m))),
                proposed = ended(&mut under_way.proposal) => Event::Proposed(proposed),
                confirmed = ended(&mut under_way.confirmation) => Event::Confirmed(confirmed),
                goes_on = views.changed() => or_over(goes_on),
                changed = raft.changed() => or_over(changed.is_ok()),
                () = self.down.closed() => Event::Over,
            };
        }
    }

    fn handle(&self, talk: &mut Talk, event: Event) -> Option<Vec<Output>> {
        let cell = &self.cell;
        let (status, state) = (cell.raft.status(), cell.views.now());
        let sight = Sight {
            state: &state,
            leader_ready: status.leader_ready,
            term: status.term,
        };
        Some(match event {
            Event::Look => talk.handle(sight, Input::Look),
            Event::Said(message) => talk.handle(sight, Input::Up(message)),
            Event::Proposed(proposed) => talk.handle(sight, Input::Proposed(proposed)),
            Event::Confirmed(confirmed) => cell.agents.leases(|leases, now_ms| {
                let confirmed = Input::Confirmed {
                    confirmed,
                    leases,
                    now_ms,
                };
                talk.handle(sight, confirmed)
            }),
            Event::Over => return None,
        })
    }

    fn perform(&self, output: Output, number: u64, under_way: &mut UnderWay) -> Result<(), Status> {
        match output {
            Output::Down(message) => {
                if matches!(&message, Down::HeartbeatAck(ack) if ack.lease.is_some()) {
                    metrics::events().leases_granted.inc();
                }
                self.send(message)?;
            }
            Output::Heard => self.cell.agents.heard(self.node, number),
            Output::Propose(command) => {
                let proposal = propose(Arc::clone(&self.cell), self.node, *command);
                under_way.proposal = Some(Box::pin(proposal));
            }
            Output::Confirm => {
                // Consensus gathers the reads of all sessions into few rounds.
                let raft = self.cell.raft.clone();
                let confirmation = async move { raft.read_index().await.is_ok() };
                under_way.confirmation = Some(Box::pin(confirmation));
            }
            Output::End(status) => return Err(status),
        }
        Ok(())
    }

    fn send(&self, message: Down) -> Result<(), Status> {
        let message = ControllerMessage {
            message: Some(message),
        };
        // A full queue means that the agent does not read: let it reconnect.
        self.down
            .try_send(Ok(message))
            .map_err(|_| Status::resource_exhausted("agent too slow"))
    }
}

async fn propose(cell: Arc<Cell>, node: NodeId, command: Command) -> Proposed {
    let envelope = Envelope {
        source: None,
        request: None,
        at: cell.clock.now(),
        actor: format!("agent/{node}"),
        command,
    };
    match cell.proposer.append(envelope).await {
        Ok(committed) => Proposed::Applied(committed.outcome),
        Err(error) => {
            tracing::debug!(%node, "not committed: {error}");
            Proposed::Lost
        }
    }
}
