//! The talk with the controllers: a link to each, one hub that decides whom to
//! obey and what to report. Only this file's rooms know the wire protocol.
//!
//! ```text
//! link 0 ─┐ LinkEvent              Event ┌─► reconciler
//! link 1 ─┼───────────► hub (one task) ──┤
//! link 2 ─┘ ◄─────────── AgentMessage    └── View (watch)
//! ```
//!
//! All controllers down changes nothing here but silence: the view keeps the
//! newest state of each instance until a leader listens again.

pub mod blobs;
pub mod link;
pub mod roster;
pub mod rules;

use std::collections::BTreeMap;
use std::time::Duration;

use nube_proto::agent::v1::{AgentMessage, Desired, agent_message, controller_message};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::convert;
use crate::journal::Journal;
use crate::log::chain;
use crate::metrics;
use crate::reconciler::Event;
use crate::report::{Outbox, View};
use roster::Roster;
use rules::{Leadership, LinkId, RevisionGate};

/// How often claims and unanswered reports are looked at without an event.
const TICK: Duration = Duration::from_millis(500);

/// What a link tells the hub.
#[derive(Debug)]
pub enum LinkEvent {
    /// The session is open; messages for the controller go here.
    Up(mpsc::Sender<AgentMessage>),
    /// The controller said something.
    Said(controller_message::Message),
    /// The session is over.
    Down,
}

/// Decides whom to obey and what to report.
pub struct Hub {
    leadership: Leadership,
    gate: RevisionGate,
    outbox: Outbox,
    links: BTreeMap<LinkId, Link>,
    leader: Option<LinkId>,
    journal: Journal,
    roster: Roster,
    view: watch::Receiver<View>,
    reconciler: mpsc::Sender<Event>,
    started: Instant,
}

struct Link {
    up: mpsc::Sender<AgentMessage>,
    /// The newest list from there. It counts only while this link leads, which
    /// may be decided later than the list arrives.
    desired: Option<Desired>,
    /// Where it says the controllers are; counts on the same terms.
    controllers: Vec<String>,
}

impl Hub {
    /// Starts with nobody to obey.
    pub fn new(
        agent_epoch: u64,
        obeyed_term: u64,
        journal: Journal,
        roster: Roster,
        view: watch::Receiver<View>,
        reconciler: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            leadership: Leadership::new(obeyed_term),
            gate: RevisionGate::default(),
            outbox: Outbox::new(agent_epoch),
            links: BTreeMap::new(),
            leader: None,
            journal,
            roster,
            view,
            reconciler,
            started: Instant::now(),
        }
    }

    /// Runs until all links or the reconciler are gone.
    pub async fn run(mut self, mut events: mpsc::Receiver<(LinkId, LinkEvent)>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some((link, event)) => self.link_event(link, event).await,
                    None => return,
                },
                changed = self.view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                _ = tick.tick() => {}
            }
            self.elect().await;
            self.follow();
            self.report();
            self.count_unacknowledged();
        }
    }

    async fn link_event(&mut self, link: LinkId, event: LinkEvent) {
        match event {
            LinkEvent::Up(up) => {
                self.forget_link(link);
                let (desired, controllers) = (None, Vec::new());
                self.links.insert(
                    link,
                    Link {
                        up,
                        desired,
                        controllers,
                    },
                );
            }
            LinkEvent::Down => self.forget_link(link),
            LinkEvent::Said(message) => self.said(link, message).await,
        }
    }

    fn forget_link(&mut self, link: LinkId) {
        self.links.remove(&link);
        self.leadership.closed(link);
        if self.leader == Some(link) {
            self.leader = None;
        }
    }

    async fn said(&mut self, link: LinkId, message: controller_message::Message) {
        use controller_message::Message;
        match message {
            Message::Leadership(said) => {
                let now_ms = self.now_ms();
                self.leadership.heard(link, said.leader, said.term, now_ms);
                if let Some(link) = self.links.get_mut(&link) {
                    link.controllers = said.controllers;
                }
                self.elect().await;
            }
            Message::Desired(desired) if self.leader == Some(link) => self.obey(desired).await,
            Message::Desired(desired) => {
                if let Some(link) = self.links.get_mut(&link) {
                    link.desired = Some(desired);
                }
            }
            Message::ReportAck(ack) if self.leader == Some(link) => {
                metrics::events().reports_acknowledged.inc();
                let told_dead = self.outbox.acked(ack.agent_epoch, ack.sequence);
                if !told_dead.is_empty() {
                    self.tell(Event::Told(told_dead)).await;
                }
            }
            Message::HeartbeatAck(_) => {
                metrics::events().heartbeats_acknowledged.inc();
            }
            // An ack of a former leader proves nothing; streams are the link's.
            Message::ReportAck(_) | Message::OpenStream(_) => {}
        }
    }

    async fn elect(&mut self) {
        let before = self.leadership.obeyed_term();
        let now_ms = self.now_ms();
        let leader = self
            .leadership
            .leader(now_ms)
            .filter(|link| self.links.contains_key(link));
        let term = self.leadership.obeyed_term();
        if term != before {
            if let Err(error) = self.journal.set_leader_term(term) {
                // Obeying goes on: the note only guards against a deposed
                // leader right after a restart.
                tracing::error!(error = %chain(&error), "cannot note the leader's term");
            }
            if term < before {
                tracing::warn!(
                    term,
                    before,
                    "obeying a lower term that stood unchallenged: a restored cluster"
                );
                self.gate.reset();
            }
        }
        if leader == self.leader {
            return;
        }
        self.leader = leader;
        metrics::events().leader.set(leader.is_some().into());
        metrics::events().obeyed_term.set(term.cast_signed());
        self.outbox.restart();
        let Some(link) = leader else {
            tracing::warn!("no leader: guests go on as they are");
            return;
        };
        tracing::info!(link, term, "obeying a leader");
        let waiting = self
            .links
            .get_mut(&link)
            .and_then(|link| link.desired.take());
        if let Some(desired) = waiting {
            self.obey(desired).await;
        }
    }

    async fn obey(&mut self, desired: Desired) {
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
        self.tell(Event::Desired(wishes)).await;
    }

    /// Sessions are kept with the controllers that the obeyed leader names.
    fn follow(&mut self) {
        let now_ms = self.now_ms();
        let leader = self.leader.and_then(|link| self.links.get(&link));
        let said = leader.map(|link| link.controllers.as_slice());
        if let Some(list) = self.roster.follow(said, now_ms)
            && let Err(error) = self.journal.set_controllers(&list)
        {
            // They are followed all the same; a restart begins with older ones.
            tracing::error!(error = %chain(&error), "cannot note where the controllers are");
        }
    }

    async fn tell(&self, event: Event) {
        if self.reconciler.send(event).await.is_err() {
            tracing::error!("the reconciler is gone");
        }
    }

    fn report(&mut self) {
        let now_ms = self.now_ms();
        let Some(link) = self.leader.and_then(|link| self.links.get(&link)) else {
            return;
        };
        let view = self.view.borrow_and_update();
        self.outbox.trim(&view);
        if let Some(report) = self.outbox.next(&view, now_ms) {
            let message = agent_message::Message::Report(report);
            // A full queue is a stuck controller: the report is due again after
            // RESEND_MS, and a dead session starts over anyway.
            let sent = link.up.try_send(AgentMessage {
                message: Some(message),
            });
            if sent.is_ok() {
                metrics::events().reports_sent.inc();
            }
        }
    }

    fn count_unacknowledged(&self) {
        let waiting = self.outbox.is_under_way().into();
        metrics::events().reports_unacknowledged.set(waiting);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod test;
