//! One agent's session: greetings and reports become commands while this
//! controller leads; wishes go down whenever they change.

use std::sync::Arc;

use nube_proto::agent::v1::agent_message::Message as Up;
use nube_proto::agent::v1::controller_message::Message as Down;
use nube_proto::agent::v1::{
    AgentMessage, ControllerMessage, HeartbeatAck, Hello, Leadership, Report, ReportAck,
};
use nube_state::{Command, NodeFacts, Outcome, member};
use nube_types::NodeId;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{desired, facts};
use crate::cell::Cell;
use crate::clock;

/// One session, from its first message to its end.
pub struct Session {
    /// The controller.
    pub cell: Arc<Cell>,
    /// From the agent's certificate.
    pub node: NodeId,
    /// To the agent.
    pub down: mpsc::Sender<Result<ControllerMessage, Status>>,
}

/// What was last sent down.
#[derive(Default)]
struct Told {
    /// With the digest of the members table it was said under.
    leadership: Option<(bool, u64, [u64; 4])>,
    wish: Option<(u64, u64)>,
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
        let mut views = self.cell.views.clone();
        let mut raft = self.cell.raft.watch_status();
        let mut told = Told::default();
        let mut facts = None;
        loop {
            let status = raft.borrow_and_update().clone();
            // A new cluster's first entry comes before anything an agent says.
            let leads = status.leader_ready && views.now().cluster.is_some();
            let now = (leads, status.term);
            self.tell_leadership(&views.now(), now, &mut told).await?;
            if leads {
                self.register(facts.as_ref()).await?;
                if facts.is_some() {
                    self.tell_desired(&views.take(), status.term, &mut told)
                        .await?;
                }
            }
            tokio::select! {
                message = up.message() => match message? {
                    None => return Ok(()),
                    Some(message) => self.listen(message, number, &mut facts).await?,
                },
                changed = views.changed() => if !changed { return Ok(()) },
                changed = raft.changed() => if changed.is_err() { return Ok(()) },
                () = self.down.closed() => return Ok(()),
            }
        }
    }

    async fn send(&self, message: Down) -> Result<(), Status> {
        let message = ControllerMessage {
            message: Some(message),
        };
        // A full queue means that the agent does not read: let it reconnect.
        self.down
            .try_send(Ok(message))
            .map_err(|_| Status::resource_exhausted("agent too slow"))
    }

    async fn tell_leadership(
        &self,
        state: &nube_state::State,
        (leader, term): (bool, u64),
        told: &mut Told,
    ) -> Result<(), Status> {
        let now = (leader, term, state.members.digest());
        if told.leadership == Some(now) {
            return Ok(());
        }
        told.leadership = Some(now);
        let member_id = self.cell.config.id;
        let controllers = member::present(state).map(|m| m.for_agents().to_owned());
        self.send(Down::Leadership(Leadership {
            member_id,
            leader,
            term,
            controllers: controllers.collect(),
        }))
        .await
    }

    /// Sends the whole wish when it changed, or when this controller has just
    /// begun to lead.
    async fn tell_desired(
        &self,
        state: &nube_state::State,
        term: u64,
        told: &mut Told,
    ) -> Result<(), Status> {
        let wish = state
            .derived
            .node_wish
            .get(&self.node)
            .copied()
            .unwrap_or_default();
        if told.wish == Some((term, wish)) {
            return Ok(());
        }
        told.wish = Some((term, wish));
        self.send(Down::Desired(desired::of_node(
            state,
            &self.cell.secret,
            self.node,
        )))
        .await
    }

    async fn listen(
        &self,
        message: AgentMessage,
        number: u64,
        known: &mut Option<NodeFacts>,
    ) -> Result<(), Status> {
        match message.message {
            Some(Up::Hello(hello)) => *known = Some(self.greet(&hello)?),
            Some(Up::Heartbeat(beat)) if known.is_some() => {
                let sequence = beat.sequence;
                self.send(Down::HeartbeatAck(HeartbeatAck { sequence }))
                    .await?;
            }
            Some(Up::Report(report)) if known.is_some() => self.report(&report).await?,
            Some(Up::Heartbeat(_) | Up::Report(_)) | None => {
                return Err(Status::invalid_argument("the first message must be hello"));
            }
        }
        // Not before: a stream that says nothing proves no host alive.
        self.cell.agents.heard(self.node, number);
        Ok(())
    }

    fn greet(&self, hello: &Hello) -> Result<NodeFacts, Status> {
        facts::node(self.node, hello)
    }

    /// Proposes what the agent said of its host, if the state knows otherwise.
    async fn register(&self, facts: Option<&NodeFacts>) -> Result<(), Status> {
        let Some(facts) = facts else { return Ok(()) };
        let state = self.cell.views.now();
        let known = state.nodes.get(&self.node);
        // What is unknown on the host comes with full reports as well.
        let same = |node: &nube_state::Node| {
            let unknown = node.facts.unknown.clone();
            node.reachable
                && node.facts
                    == NodeFacts {
                        unknown,
                        ..facts.clone()
                    }
        };
        if known.is_some_and(same) {
            return Ok(());
        }
        if known.is_some_and(|node| node.facts.agent_epoch > facts.agent_epoch) {
            return Err(Status::failed_precondition(
                "a newer agent of this node is known",
            ));
        }
        self.propose(Command::RegisterNode(facts.clone()))
            .await
            .map(|_| ())
    }

    /// Commits a report, then acknowledges it. While this controller does not
    /// lead it says nothing: the agent keeps the report for the leader.
    async fn report(&self, report: &Report) -> Result<(), Status> {
        if !self.cell.raft.status().leader_ready {
            return Ok(());
        }
        let command = Command::ReportInstances(facts::report(self.node, report)?);
        if self.propose(command).await? {
            let (agent_epoch, sequence) = (report.agent_epoch, report.sequence);
            self.send(Down::ReportAck(ReportAck {
                agent_epoch,
                sequence,
            }))
            .await?;
        }
        Ok(())
    }

    /// True when it was committed and accepted; false when leadership was lost.
    async fn propose(&self, command: Command) -> Result<bool, Status> {
        let actor = format!("agent/{}", self.node);
        let at = clock::now();
        let envelope = nube_state::Envelope {
            source: None,
            request: None,
            at,
            actor,
            command,
        };
        match self.cell.proposer.append(envelope).await {
            Ok(committed) => match committed.outcome {
                Outcome::Refused(refusal) => Err(Status::failed_precondition(refusal.to_string())),
                _ => Ok(true),
            },
            Err(error) => {
                tracing::debug!(node = %self.node, "not committed: {error}");
                Ok(false)
            }
        }
    }
}
