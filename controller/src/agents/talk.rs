//! What a controller says in one agent's session, and what it makes of what the
//! agent says. Sans-I/O: `session` runs it on a gRPC stream, the simulator in one
//! thread.
//!
//! ```text
//!  Up, Look, Proposed, Confirmed ──► Talk ──► Down, Heard, Propose, Confirm, End
//! ```
//! At most one proposal and one confirmation are under way. What comes meanwhile
//! waits, and only the newest of it: agents repeat what was not acknowledged.

use nube_proto::agent::v1::agent_message::Message as Up;
use nube_proto::agent::v1::controller_message::Message as Down;
use nube_proto::agent::v1::{
    AgentMessage, HealthReport, HeartbeatAck, Leadership, LeaseGrant, Report, ReportAck,
    TrafficReport,
};
use nube_state::{Command, NodeFacts, Outcome, State, member};
use nube_types::NodeId;
use nube_types::limits::LEASE_MS;
use tonic::Status;

use super::lease::{Grant, Leases};
use super::{desired, facts, networks, news};
use crate::secret::Secret;

/// What is so at this moment.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// The newest view.
    pub state: &'a State,
    /// This member is ready to lead, as consensus says.
    pub leader_ready: bool,
    /// Consensus' term.
    pub term: u64,
}

impl Sight<'_> {
    /// A new cluster's first entry comes before anything an agent says.
    fn leads(&self) -> bool {
        self.leader_ready && self.state.cluster.is_some()
    }
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposed {
    /// Committed and applied here; it may be a refusal.
    Applied(Outcome),
    /// Nobody can tell; it may still take effect.
    Lost,
}

/// What happens to the session.
pub enum Input<'a> {
    /// View, term or leadership may have changed. Also the first input.
    Look,
    /// The agent said something.
    Up(Box<AgentMessage>),
    /// The proposal under way ended.
    Proposed(Proposed),
    /// The confirmation under way ended. `true`: a ReadIndex that began when it
    /// was asked for came back, and the view shows all that it promises.
    Confirmed {
        /// Whether it came back well.
        confirmed: bool,
        /// Those of this controller.
        leases: &'a mut Leases,
        /// By the controller's monotonic clock.
        now_ms: u64,
    },
}

/// What to do, in this order.
#[derive(Debug)]
pub enum Output {
    /// To the agent.
    Down(Down),
    /// The agent is alive.
    Heard,
    /// Begin this proposal; answer with [`Input::Proposed`].
    Propose(Box<Command>),
    /// Begin a ReadIndex; answer with [`Input::Confirmed`].
    Confirm,
    /// The session is over.
    End(Status),
}

/// One session.
pub struct Talk {
    node: NodeId,
    member_id: u64,
    secret: Secret,
    /// From the newest hello.
    facts: Option<NodeFacts>,
    /// Leader, term, and the digest of the members table it was said under.
    told_leadership: Option<(bool, u64, [u64; 4])>,
    /// Term and log index of the wish.
    told_wish: Option<(u64, u64)>,
    /// Term and log index of what it must know of networks.
    told_networks: Option<(u64, u64)>,
    under_way: Option<UnderWay>,
    waiting: Option<Report>,
    traffic: Option<TrafficReport>,
    health: Option<HealthReport>,
    /// The heartbeat whose confirmation is under way, and in which term it began.
    confirming: Option<(u64, u64)>,
    /// A newer heartbeat, for the next one.
    beat: Option<u64>,
}

/// The proposal under way.
enum UnderWay {
    Registration,
    Report {
        agent_epoch: u64,
        sequence: u64,
    },
    /// Of networks: nobody waits for an answer.
    News,
}

impl Talk {
    /// A session of `node` with member `member_id`.
    #[must_use]
    pub fn new(node: NodeId, member_id: u64, secret: Secret) -> Self {
        Self {
            node,
            member_id,
            secret,
            facts: None,
            told_leadership: None,
            told_wish: None,
            told_networks: None,
            under_way: None,
            waiting: None,
            traffic: None,
            health: None,
            confirming: None,
            beat: None,
        }
    }

    /// Takes what happened; answers with what is to be done.
    pub fn handle(&mut self, sight: Sight<'_>, input: Input<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        let done = self.take(sight, input, &mut out);
        if let Err(status) = done {
            out.push(Output::End(status));
        }
        out
    }

    fn take(
        &mut self,
        sight: Sight<'_>,
        input: Input<'_>,
        out: &mut Vec<Output>,
    ) -> Result<(), Status> {
        match input {
            Input::Look => {}
            Input::Up(message) => self.listen(sight, *message, out)?,
            Input::Proposed(Proposed::Applied(outcome)) => self.applied(outcome, out)?,
            Input::Proposed(Proposed::Lost) => {
                self.under_way = None;
                // Not again at once: what is so will show at the next look.
                return Ok(());
            }
            Input::Confirmed {
                confirmed,
                leases,
                now_ms,
            } => {
                // First the list that the lease belongs to: what it grants was
                // decided on this view.
                self.look(sight, out)?;
                self.confirmed(sight, confirmed, leases, now_ms, out);
                return Ok(());
            }
        }
        self.look(sight, out)
    }

    fn look(&mut self, sight: Sight<'_>, out: &mut Vec<Output>) -> Result<(), Status> {
        self.tell_leadership(sight, out);
        if sight.leads() {
            self.go_on(sight, out)?;
        } else {
            // The agent keeps its reports for the leader, and tells the rest again.
            self.waiting = None;
            self.traffic = None;
            self.health = None;
        }
        Ok(())
    }

    fn listen(
        &mut self,
        sight: Sight<'_>,
        message: AgentMessage,
        out: &mut Vec<Output>,
    ) -> Result<(), Status> {
        match message.message {
            Some(Up::Hello(hello)) => self.facts = Some(facts::node(self.node, &hello)?),
            Some(Up::Heartbeat(beat)) if self.facts.is_some() => {
                self.heartbeat(sight, beat.sequence, out);
            }
            Some(Up::Report(report)) if self.facts.is_some() => {
                self.waiting = Some(report);
            }
            Some(Up::Traffic(report)) if self.facts.is_some() => self.traffic = Some(report),
            Some(Up::Health(report)) if self.facts.is_some() => self.health = Some(report),
            Some(Up::Heartbeat(_) | Up::Report(_) | Up::Traffic(_) | Up::Health(_)) | None => {
                return Err(Status::invalid_argument("the first message must be hello"));
            }
        }
        // Not before: a stream that says nothing proves no host alive.
        out.push(Output::Heard);
        if sight.leads() && self.is_silent_in(sight.state) {
            self.register(out);
        }
        Ok(())
    }

    fn heartbeat(&mut self, sight: Sight<'_>, sequence: u64, out: &mut Vec<Output>) {
        if !sight.leads() {
            out.push(ack(sequence, None));
        } else if self.confirming.is_none() {
            self.confirming = Some((sequence, sight.term));
            out.push(Output::Confirm);
        } else if let Some(older) = self.beat.replace(sequence) {
            out.push(ack(older, None));
        }
    }

    fn confirmed(
        &mut self,
        sight: Sight<'_>,
        confirmed: bool,
        leases: &mut Leases,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) {
        let Some((sequence, term)) = self.confirming.take() else {
            return;
        };
        // A ReadIndex is answered on followers, too, by another leader: it speaks
        // of this one's leadership only if that stands in the same term.
        let led = confirmed && sight.leads() && sight.term == term;
        let told = self.told_wish == Some(self.wish_now(sight));
        // A host that is committed silent may be fenced or replaced at any entry:
        // it is heard first. A view on which it answers is one after its return.
        let node = sight.state.nodes.get(&self.node);
        let node = node.filter(|node| led && told && node.reachable);
        let grant = node.and_then(|node| leases.grant(self.node, term, node.fence_epoch, now_ms));
        out.push(ack(sequence, grant));
        if let Some(newer) = self.beat.take() {
            self.heartbeat(sight, newer, out);
        }
    }

    fn applied(&mut self, outcome: Outcome, out: &mut Vec<Output>) -> Result<(), Status> {
        let ended = self.under_way.take();
        if let Outcome::Refused(refusal) = outcome {
            return Err(Status::failed_precondition(refusal.to_string()));
        }
        if let Some(UnderWay::Report {
            agent_epoch,
            sequence,
        }) = ended
        {
            out.push(Output::Down(Down::ReportAck(ReportAck {
                agent_epoch,
                sequence,
            })));
        }
        Ok(())
    }

    fn tell_leadership(&mut self, sight: Sight<'_>, out: &mut Vec<Output>) {
        let (leader, term) = (sight.leads(), sight.term);
        let now = (leader, term, sight.state.members.digest());
        if self.told_leadership == Some(now) {
            return;
        }
        self.told_leadership = Some(now);
        let controllers = member::present(sight.state).map(|m| m.for_agents().to_owned());
        out.push(Output::Down(Down::Leadership(Leadership {
            member_id: self.member_id,
            leader,
            term,
            controllers: controllers.collect(),
        })));
    }

    /// The leader's part: first the host is known as it is, then it hears what it
    /// should have, then its reports count.
    fn go_on(&mut self, sight: Sight<'_>, out: &mut Vec<Output>) -> Result<(), Status> {
        if self.owes_registration(sight.state)? {
            self.register(out);
            return Ok(());
        }
        if self.facts.is_none() {
            return Ok(());
        }
        self.tell_networks(sight, out);
        self.tell_desired(sight, out);
        if self.under_way.is_some() {
            return Ok(());
        }
        if let Some(report) = self.waiting.take() {
            let command = Command::ReportInstances(facts::report(self.node, &report)?);
            self.under_way = Some(UnderWay::Report {
                agent_epoch: report.agent_epoch,
                sequence: report.sequence,
            });
            out.push(Output::Propose(Box::new(command)));
            return Ok(());
        }
        if let Some(command) = self.news(sight.state)? {
            self.under_way = Some(UnderWay::News);
            out.push(Output::Propose(Box::new(command)));
        }
        Ok(())
    }

    /// What the agent says of networks, if it is new: verdicts first, connections
    /// wait for them.
    fn news(&mut self, state: &State) -> Result<Option<Command>, Status> {
        if let Some(report) = self.health.take() {
            let report = facts::health(self.node, &report)?;
            if news::of_health(state, &report) {
                return Ok(Some(Command::ReportTargetHealth(report)));
            }
        }
        if let Some(report) = self.traffic.take() {
            let report = news::of_traffic(state, facts::traffic(self.node, &report)?);
            if !report.instances.is_empty() {
                return Ok(Some(Command::ReportTraffic(report)));
            }
        }
        Ok(None)
    }

    /// The state knows the host otherwise than its agent described it.
    fn owes_registration(&self, state: &State) -> Result<bool, Status> {
        let Some(facts) = &self.facts else {
            return Ok(false);
        };
        let Some(known) = state.nodes.get(&self.node) else {
            return Ok(true);
        };
        if known.facts.agent_epoch > facts.agent_epoch {
            return Err(Status::failed_precondition(
                "a newer agent of this node is known",
            ));
        }
        // What is unknown on the host comes with full reports as well.
        let unknown = known.facts.unknown.clone();
        let facts = facts.clone();
        Ok(known.facts != NodeFacts { unknown, ..facts })
    }

    /// The state takes it for silent. Only what it says now proves otherwise: a
    /// session that merely stands does not.
    fn is_silent_in(&self, state: &State) -> bool {
        let known = state.nodes.get(&self.node);
        self.facts.is_some() && known.is_some_and(|node| !node.reachable)
    }

    fn register(&mut self, out: &mut Vec<Output>) {
        if let (None, Some(facts)) = (&self.under_way, &self.facts) {
            self.under_way = Some(UnderWay::Registration);
            out.push(Output::Propose(Box::new(Command::RegisterNode(
                facts.clone(),
            ))));
        }
    }

    fn wish_now(&self, sight: Sight<'_>) -> (u64, u64) {
        let wish = sight.state.derived.node_wish.get(&self.node).copied();
        (sight.term, wish.unwrap_or_default())
    }

    /// Before the wish that needs them: a guest's port is let through only when its
    /// rules are known.
    fn tell_networks(&mut self, sight: Sight<'_>, out: &mut Vec<Output>) {
        let changed = sight.state.derived.node_networks.get(&self.node).copied();
        let now = (sight.term, changed.unwrap_or_default());
        if self.told_networks == Some(now) {
            return;
        }
        self.told_networks = Some(now);
        let networks = networks::of_node(sight.state, self.node);
        out.push(Output::Down(Down::Networks(networks)));
    }

    /// Sends the whole wish when it changed, or when this controller has just
    /// begun to lead.
    fn tell_desired(&mut self, sight: Sight<'_>, out: &mut Vec<Output>) {
        let now = self.wish_now(sight);
        if self.told_wish == Some(now) {
            return;
        }
        self.told_wish = Some(now);
        let desired = desired::of_node(sight.state, &self.secret, self.node);
        out.push(Output::Down(Down::Desired(desired)));
    }
}

fn ack(sequence: u64, grant: Option<Grant>) -> Output {
    let duration_ms = u32::try_from(LEASE_MS).expect("seconds");
    Output::Down(Down::HeartbeatAck(HeartbeatAck {
        sequence,
        lease: grant.map(|grant| LeaseGrant {
            fence_epoch: grant.fence_epoch,
            duration_ms,
        }),
    }))
}

#[cfg(test)]
mod test;
