//! The talk with the controllers: a link to each, one hub that decides whom to
//! obey and what to report. Only this file's rooms know the wire protocol.
//!
//! ```text
//! link 0 ─┐ LinkEvent                  Event ┌─► reconciler
//! link 1 ─┼───────────► HubTask (one task) ──┤
//! link 2 ─┘ ◄─────────── AgentMessage        └── View (watch)
//! ```
//!
//! [`HubTask`] is the shell of [`hub::Hub`], which decides. All controllers down
//! changes nothing here but silence: the view keeps the newest state of each
//! instance until a leader listens again.

pub mod blobs;
pub mod hub;
pub mod link;
pub mod roster;
pub mod rules;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nube_proto::agent::v1::{AgentMessage, DesiredNetworks, agent_message, controller_message};
use tokio::sync::{mpsc, watch};

use crate::host::clock::Clock;
use crate::journal::Journal;
use crate::log::chain;
use crate::metrics;
use crate::reconciler::Event;
use crate::report::View;
use hub::{Hub, HubInput, HubOutput, TICK_MS};
use roster::Roster;
use rules::LinkId;

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

/// The ends of the talk about networks: what is wished, and what is told.
#[derive(Debug)]
pub struct Networking {
    /// The newest list of the obeyed leader; nothing before the first one.
    pub desired: watch::Sender<Option<Arc<DesiredNetworks>>>,
    /// Traffic and verdicts for the leader. They come again by themselves: what
    /// nobody leads to hear is lost.
    pub said: mpsc::Receiver<agent_message::Message>,
}

/// Runs the hub: brings it its news and carries out what it says.
pub struct HubTask {
    hub: Hub,
    links: BTreeMap<LinkId, mpsc::Sender<AgentMessage>>,
    journal: Journal,
    view: watch::Receiver<View>,
    reconciler: mpsc::Sender<Event>,
    networks: Networking,
    clock: Clock,
}

impl HubTask {
    /// Starts with nobody to obey.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        agent_epoch: u64,
        obeyed_term: u64,
        journal: Journal,
        roster: Roster,
        view: watch::Receiver<View>,
        reconciler: mpsc::Sender<Event>,
        networks: Networking,
        clock: Clock,
    ) -> Self {
        let seen = view.borrow().clone();
        Self {
            hub: Hub::recover(agent_epoch, obeyed_term, roster, seen),
            links: BTreeMap::new(),
            journal,
            view,
            reconciler,
            networks,
            clock,
        }
    }

    /// Runs until all links or the reconciler are gone.
    pub async fn run(mut self, mut events: mpsc::Receiver<(LinkId, LinkEvent)>) {
        let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => Some(event),
                    None => return,
                },
                Some(said) = self.networks.said.recv() => {
                    for output in self.hub.handle(self.clock.now_ms(), HubInput::Tell(Box::new(said))) {
                        self.carry_out(output).await;
                    }
                    None
                }
                changed = self.view.changed() => match changed {
                    Ok(()) => {
                        self.view.mark_changed();
                        None
                    }
                    Err(_) => return,
                },
                _ = tick.tick() => None,
            };
            // The newest first: what an event sends off is not older than need be.
            let mut outputs = self.look();
            if let Some((link, event)) = event {
                outputs.extend(self.link_event(link, event));
            }
            for output in outputs {
                self.carry_out(output).await;
            }
            self.show();
        }
    }

    fn look(&mut self) -> Vec<HubOutput> {
        let now_ms = self.clock.now_ms();
        if !self.view.has_changed().unwrap_or(false) {
            return self.hub.handle(now_ms, HubInput::Tick);
        }
        let view = self.view.borrow_and_update();
        self.hub.handle(now_ms, HubInput::View(&view))
    }

    fn link_event(&mut self, link: LinkId, event: LinkEvent) -> Vec<HubOutput> {
        let input = match event {
            LinkEvent::Up(up) => {
                self.links.insert(link, up);
                HubInput::LinkUp(link)
            }
            LinkEvent::Down => {
                self.links.remove(&link);
                HubInput::LinkDown(link)
            }
            LinkEvent::Said(message) => {
                self.count(link, &message);
                HubInput::Said(link, message)
            }
        };
        self.hub.handle(self.clock.now_ms(), input)
    }

    async fn carry_out(&mut self, output: HubOutput) {
        match output {
            HubOutput::Send(link, message) => self.send(link, *message),
            HubOutput::Obey {
                wishes,
                fence_epoch,
            } => {
                let event = Event::Desired {
                    wishes,
                    fence_epoch,
                };
                self.tell(event).await;
            }
            HubOutput::Networks(networks) => {
                // Only the newest counts; nobody listens where guests are simulated.
                let _ = self.networks.desired.send(Some(networks));
            }
            HubOutput::Lease(held) => self.tell(Event::Lease(held)).await,
            HubOutput::Told(ids) => self.tell(Event::Told(ids)).await,
            HubOutput::NoteTerm(term) => {
                if let Err(error) = self.journal.set_leader_term(term) {
                    tracing::error!(error = %chain(&error), "cannot note the leader's term");
                }
            }
            HubOutput::NoteControllers(list) => {
                if let Err(error) = self.journal.set_controllers(&list) {
                    // They are followed all the same; a restart begins with older ones.
                    tracing::error!(error = %chain(&error), "cannot note where the controllers are");
                }
            }
        }
    }

    /// A full queue is a stuck controller: a report is due again soon, no proof
    /// of life is lost that it would have read, and a dead session starts over.
    fn send(&self, link: LinkId, message: AgentMessage) {
        let counter = match &message.message {
            Some(agent_message::Message::Report(_)) => &metrics::events().reports_sent,
            Some(agent_message::Message::Traffic(_) | agent_message::Message::Health(_)) => {
                &metrics::events().network_reports_sent
            }
            _ => &metrics::events().heartbeats_sent,
        };
        let up = self.links.get(&link);
        if up.is_some_and(|up| up.try_send(message).is_ok()) {
            counter.inc();
        }
    }

    async fn tell(&self, event: Event) {
        if self.reconciler.send(event).await.is_err() {
            tracing::error!("the reconciler is gone");
        }
    }

    fn count(&self, link: LinkId, message: &controller_message::Message) {
        use controller_message::Message;
        match message {
            Message::HeartbeatAck(_) => {
                metrics::events().heartbeats_acknowledged.inc();
            }
            Message::ReportAck(_) if self.hub.leader() == Some(link) => {
                metrics::events().reports_acknowledged.inc();
            }
            _ => {}
        }
    }

    fn show(&self) {
        let events = metrics::events();
        events.leader.set(self.hub.leader().is_some().into());
        events.obeyed_term.set(self.hub.obeyed_term().cast_signed());
        let waiting = self.hub.awaits_acknowledgement().into();
        events.reports_unacknowledged.set(waiting);
    }
}

#[cfg(test)]
mod test;
