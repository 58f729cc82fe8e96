//! Sessions of hosts on a simulated controller: the real `Talk`, fed as
//! `nube_controller::agents::session` feeds it.

use nube_controller::agents::talk::{Input, Output, Proposed, Sight};
use nube_proto::agent::v1::{AgentMessage, ControllerMessage};
use nube_state::{Envelope, Outcome, codec};

use super::Waiter;
use crate::world::{Event, World};

impl World {
    /// Views, terms and leadership are told to all sessions when they changed.
    pub(crate) fn look_at_sessions(&mut self, at: usize) {
        let controller = &mut self.controllers[at];
        let Some(status) = controller.status() else {
            return;
        };
        let now = (controller.state.index, status.term, status.leader_ready);
        if controller.told == now {
            return;
        }
        controller.told = now;
        let numbers: Vec<u64> = controller.sessions.keys().copied().collect();
        for number in numbers {
            self.talk(at, number, Input::Look);
        }
    }

    /// An agent's word arrives.
    pub(crate) fn up_arrived(&mut self, at: usize, number: u64, message: Box<AgentMessage>) {
        self.talk(at, number, Input::Up(message));
    }

    pub(crate) fn session_committed(&mut self, at: usize, number: u64, outcome: Outcome) {
        self.talk(at, number, Input::Proposed(Proposed::Applied(outcome)));
    }

    /// A ReadIndex for a session's leases came back, or gave up.
    pub(crate) fn confirm(&mut self, at: usize, number: u64, confirmed: bool) {
        let now_ms = self.controllers[at].clock.monotonic_ms(self.now_ms);
        let mut leases = std::mem::take(&mut self.controllers[at].leases);
        let input = Input::Confirmed {
            confirmed,
            leases: &mut leases,
            now_ms,
        };
        let outputs = self.hear(at, number, input);
        self.controllers[at].leases = leases;
        self.say(at, number, outputs);
    }

    /// Gives a session its news and carries out what it says.
    pub(crate) fn talk(&mut self, at: usize, number: u64, input: Input<'_>) {
        let outputs = self.hear(at, number, input);
        self.say(at, number, outputs);
    }

    fn hear(&mut self, at: usize, number: u64, input: Input<'_>) -> Vec<Output> {
        let controller = &mut self.controllers[at];
        let Some(status) = controller.status() else {
            return Vec::new();
        };
        let Some(session) = controller.sessions.get_mut(&number) else {
            return Vec::new();
        };
        let sight = Sight {
            state: &controller.state,
            leader_ready: status.leader_ready,
            term: status.term,
        };
        session.talk.handle(sight, input)
    }

    fn say(&mut self, at: usize, number: u64, outputs: Vec<Output>) {
        for output in outputs {
            let Some(session) = self.controllers[at].sessions.get(&number) else {
                return;
            };
            let (agent, life, link) = (session.agent, session.life, session.link);
            let node = self.agents[agent].node;
            match output {
                Output::Down(message) => {
                    let message = Some(message);
                    self.down(at, number, ControllerMessage { message });
                }
                Output::Heard => {
                    let now_ms = self.now_ms;
                    let controller = &mut self.controllers[at];
                    if controller.by_node.get(&node) == Some(&number) {
                        controller.heard_ms.insert(node, now_ms);
                    }
                }
                Output::Propose(command) => {
                    let envelope = Envelope {
                        request: None,
                        at: self.stamp(at),
                        actor: format!("agent/{node}"),
                        command: *command,
                        source: None,
                    };
                    let data = codec::encode_envelope(&envelope);
                    self.propose(at, Waiter::Session(number), data);
                }
                Output::Confirm => self.read(at, Waiter::Confirm(number)),
                Output::End(status) => {
                    self.trace
                        .tell(|| format!("session of {node} ends: {status}"));
                    self.session_lost(at, number);
                    self.after(3, Event::LinkLost { agent, life, link });
                }
            }
        }
    }
}
