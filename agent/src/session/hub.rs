//! Whom to obey and what to report. Without I/O: time and news come in, messages
//! and notes come out. The shell (`session.rs`) and the simulator both run it.
//!
//! Outputs are carried out in order; none of them is answered. A message that
//! cannot be sent is lost: reports and proofs of life come again by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use nube_proto::agent::v1::{
    AgentMessage, Desired, DesiredNetworks, Heartbeat, agent_message, controller_message::Message,
};
use nube_types::InstanceId;
use nube_types::limits::HEARTBEAT_MS;

use super::roster::Roster;
use super::rules::{Leadership, LinkId, RevisionGate};
use crate::convert;
use crate::instance::Wish;
use crate::lease::{Held, Lease};
use crate::report::{Outbox, View};

/// How often [`HubInput::Tick`] must come: claims grow steady, reports and
/// proofs of life fall due without any other news.
pub const TICK_MS: u64 = 250;

/// What happened.
#[derive(Debug)]
pub enum HubInput<'a> {
    /// A session is open, with nothing said yet but the agent's hello.
    LinkUp(LinkId),
    /// A session is over.
    LinkDown(LinkId),
    /// A controller said something.
    Said(LinkId, Message),
    /// What there is to tell has changed.
    View(&'a View),
    /// To the obeyed leader, if there is one; nobody waits for it.
    Tell(Box<agent_message::Message>),
    /// Time went on.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum HubOutput {
    /// To this controller, if its queue has room.
    Send(LinkId, Box<AgentMessage>),
    /// The obeyed leader's list, for the reconciler.
    Obey {
        /// One for each instance of this node.
        wishes: Vec<Wish>,
        /// How often this node had been fenced when the list was read.
        fence_epoch: u64,
    },
    /// What the obeyed leader says of networks, for those who make them.
    Networks(Arc<DesiredNetworks>),
    /// The obeyed leader granted a lease, for the reconciler.
    Lease(Held),
    /// The leader has committed that these were found dead.
    Told(Vec<InstanceId>),
    /// Remember the term that is obeyed. That this failed changes nothing: the
    /// note only guards against a deposed leader right after a restart.
    NoteTerm(u64),
    /// Remember where the controllers are.
    NoteControllers(Vec<String>),
}

/// Decides whom to obey and what to report.
pub struct Hub {
    leadership: Leadership,
    gate: RevisionGate,
    networks_gate: RevisionGate,
    outbox: Outbox,
    links: BTreeMap<LinkId, Link>,
    leader: Option<LinkId>,
    roster: Roster,
    view: View,
    /// Numbers all proofs of life of this agent's life, over all links.
    beats: u64,
    lease: Lease,
    outputs: Vec<HubOutput>,
}

#[derive(Default)]
struct Link {
    /// The newest list from there. It counts only while this link leads, which
    /// may be decided later than the list arrives.
    desired: Option<Desired>,
    /// As above, of networks.
    networks: Option<DesiredNetworks>,
    /// Where it says the controllers are; counts on the same terms.
    controllers: Vec<String>,
    /// When the next proof of life is due.
    beat_at_ms: u64,
}

impl Hub {
    /// Starts with nobody to obey. `agent_epoch` is this life's number,
    /// `obeyed_term` what was noted last, `view` what is here at the start.
    #[must_use]
    pub fn recover(agent_epoch: u64, obeyed_term: u64, roster: Roster, view: View) -> Self {
        Self {
            leadership: Leadership::new(obeyed_term),
            gate: RevisionGate::default(),
            networks_gate: RevisionGate::default(),
            outbox: Outbox::new(agent_epoch),
            links: BTreeMap::new(),
            leader: None,
            roster,
            view,
            beats: 0,
            lease: Lease::default(),
            outputs: Vec::new(),
        }
    }

    /// The controller that is obeyed.
    #[must_use]
    pub fn leader(&self) -> Option<LinkId> {
        self.leader
    }

    /// The term of the newest leader that was obeyed.
    #[must_use]
    pub fn obeyed_term(&self) -> u64 {
        self.leadership.obeyed_term()
    }

    /// Whether a report waits for its acknowledgement.
    #[must_use]
    pub fn awaits_acknowledgement(&self) -> bool {
        self.outbox.is_under_way()
    }

    /// Takes one piece of news. `now_ms` never goes back within a life.
    pub fn handle(&mut self, now_ms: u64, input: HubInput<'_>) -> Vec<HubOutput> {
        match input {
            HubInput::LinkUp(link) => {
                self.forget_link(link);
                let beat_at_ms = now_ms;
                self.links.insert(
                    link,
                    Link {
                        beat_at_ms,
                        ..Link::default()
                    },
                );
            }
            HubInput::LinkDown(link) => self.forget_link(link),
            HubInput::Said(link, message) => self.said(now_ms, link, message),
            HubInput::View(view) => self.view.clone_from(view),
            HubInput::Tell(said) => {
                let send = |link| HubOutput::Send(link, message(*said));
                self.outputs.extend(self.leader.map(send));
            }
            HubInput::Tick => {}
        }
        self.elect(now_ms);
        self.follow(now_ms);
        self.beat(now_ms);
        self.report(now_ms);
        std::mem::take(&mut self.outputs)
    }

    fn forget_link(&mut self, link: LinkId) {
        self.links.remove(&link);
        self.leadership.closed(link);
        if self.leader == Some(link) {
            self.leader = None;
            self.lease.obey_another();
        }
    }

    fn said(&mut self, now_ms: u64, from: LinkId, message: Message) {
        let Some(link) = self.links.get_mut(&from) else {
            // The last words of a session that is over.
            return;
        };
        let leads = self.leader == Some(from);
        match message {
            Message::Leadership(said) => {
                link.controllers = said.controllers;
                self.leadership.heard(from, said.leader, said.term, now_ms);
            }
            Message::Desired(desired) if leads => self.obey(desired),
            Message::Desired(desired) => link.desired = Some(desired),
            Message::Networks(networks) if leads => self.obey_networks(networks),
            Message::Networks(networks) => link.networks = Some(networks),
            Message::ReportAck(ack) if leads => {
                let told_dead = self.outbox.acked(ack.agent_epoch, ack.sequence);
                if !told_dead.is_empty() {
                    self.outputs.push(HubOutput::Told(told_dead));
                }
            }
            Message::HeartbeatAck(ack) if leads => {
                if let Some(grant) = ack.lease {
                    let (fence_epoch, duration_ms) = (grant.fence_epoch, grant.duration_ms);
                    if self.lease.granted(ack.sequence, fence_epoch, duration_ms) {
                        self.outputs.extend(self.lease.held().map(HubOutput::Lease));
                    }
                }
            }
            // An ack of a former leader proves nothing; streams are the link's.
            Message::ReportAck(_) | Message::HeartbeatAck(_) | Message::OpenStream(_) => {}
        }
    }

    fn elect(&mut self, now_ms: u64) {
        let before = self.leadership.obeyed_term();
        let leader = self
            .leadership
            .leader(now_ms)
            .filter(|link| self.links.contains_key(link));
        let term = self.leadership.obeyed_term();
        if term != before {
            self.outputs.push(HubOutput::NoteTerm(term));
            self.lease.obey_another();
            if term < before {
                tracing::warn!(
                    term,
                    before,
                    "obeying a lower term that stood unchallenged: a restored cluster"
                );
                self.gate.reset();
                self.networks_gate.reset();
            }
        }
        if leader == self.leader {
            return;
        }
        self.leader = leader;
        self.lease.obey_another();
        self.outbox.restart();
        let Some(link) = leader else {
            tracing::warn!("no leader: guests go on as they are");
            return;
        };
        tracing::info!(link, term, "obeying a leader");
        let Some(waiting) = self.links.get_mut(&link) else {
            return;
        };
        let (desired, networks) = (waiting.desired.take(), waiting.networks.take());
        if let Some(networks) = networks {
            self.obey_networks(networks);
        }
        if let Some(desired) = desired {
            self.obey(desired);
        }
    }

    fn obey_networks(&mut self, networks: DesiredNetworks) {
        if self.networks_gate.passes(networks.revision) {
            self.outputs.push(HubOutput::Networks(Arc::new(networks)));
        } else {
            let revision = networks.revision;
            tracing::warn!(revision, "ignored an older list of networks");
        }
    }

    fn obey(&mut self, desired: Desired) {
        if !self.gate.passes(desired.revision) {
            tracing::warn!(revision = desired.revision, "ignored an older list");
            return;
        }
        let mut wishes = Vec::with_capacity(desired.instances.len());
        for instance in desired.instances {
            match convert::wish(instance) {
                Ok(wish) => wishes.push(wish),
                Err(reason) => tracing::error!(reason, "ignored a wish without a valid id"),
            }
        }
        self.outputs.push(HubOutput::Obey {
            wishes,
            fence_epoch: desired.fence_epoch,
        });
    }

    /// Sessions are kept with the controllers that the obeyed leader names.
    fn follow(&mut self, now_ms: u64) {
        let leader = self.leader.and_then(|link| self.links.get(&link));
        let said = leader.map(|link| link.controllers.as_slice());
        let others: Vec<&[String]> = self
            .links
            .values()
            .map(|link| link.controllers.as_slice())
            .collect();
        if let Some(list) = self.roster.follow(said, &others, now_ms) {
            self.outputs.push(HubOutput::NoteControllers(list));
        }
    }

    /// Proofs of life go to all controllers: any of them may lead next.
    fn beat(&mut self, now_ms: u64) {
        for (link, state) in &mut self.links {
            if now_ms < state.beat_at_ms {
                continue;
            }
            // In step with the clock, not with how late this look is; after a
            // pause there is one beat, not all that were missed.
            let next_ms = state.beat_at_ms.saturating_add(HEARTBEAT_MS);
            state.beat_at_ms = if next_ms > now_ms {
                next_ms
            } else {
                now_ms.saturating_add(HEARTBEAT_MS)
            };
            self.beats += 1;
            let sequence = self.beats;
            if self.leader == Some(*link) {
                self.lease.sent(sequence, now_ms);
            }
            let beat = agent_message::Message::Heartbeat(Heartbeat { sequence });
            self.outputs.push(HubOutput::Send(*link, message(beat)));
        }
    }

    fn report(&mut self, now_ms: u64) {
        let Some(link) = self.leader else {
            return;
        };
        self.outbox.trim(&self.view);
        if let Some(report) = self.outbox.next(&self.view, now_ms) {
            let report = message(agent_message::Message::Report(report));
            self.outputs.push(HubOutput::Send(link, report));
        }
    }
}

fn message(message: agent_message::Message) -> Box<AgentMessage> {
    Box::new(AgentMessage {
        message: Some(message),
    })
}
