//! Sessions between agents and controllers: streams that keep their order, and break when the
//! network does. Each end learns of a break by itself, later.

use nube_agent::session::hub::HubInput;
use nube_controller::agents::talk::{Input, Talk};
use nube_proto::agent::v1::{AgentMessage, ControllerMessage, Hello, agent_message};
use rand::Rng;

use crate::controller::Controller;
use crate::network::HOST;
use crate::world::{Event, World};

/// An agent's link to one controller, up or not.
pub struct Link {
    /// Where it leads.
    pub controller: String,
    /// The open session.
    pub session: Option<u64>,
}

/// A session as its controller has it.
pub struct Session {
    /// Whose.
    pub agent: usize,
    /// In which life of that agent.
    pub life: u64,
    /// Which link of that life.
    pub link: usize,
    pub(crate) talk: Talk,
    /// Nothing passes before this, in each direction: streams keep their order.
    up_ms: u64,
    down_ms: u64,
    /// The network lost something: nothing passes any more.
    broken: bool,
}

impl World {
    /// Links follow the roster.
    pub(crate) fn follow_roster(&mut self, agent: usize) {
        let Some(process) = &mut self.agents[agent].process else {
            return;
        };
        let wanted = process.wanted.borrow_and_update().clone();
        let gone: Vec<usize> = process
            .links
            .iter()
            .filter(|(_, link)| !wanted.contains(&link.controller))
            .map(|(number, _)| *number)
            .collect();
        let mut fresh = Vec::new();
        for controller in wanted {
            if !process.links.values().any(|l| l.controller == controller) {
                let number = process.next_link;
                process.next_link += 1;
                let session = None;
                let link = Link {
                    controller,
                    session,
                };
                process.links.insert(number, link);
                fresh.push(number);
            }
        }
        let life = self.agents[agent].life;
        for link in fresh {
            let ms = self.random.random_range(5..100);
            self.after(ms, Event::Connect { agent, life, link });
        }
        for link in gone {
            self.link_down(agent, link);
            if let Some(process) = &mut self.agents[agent].process {
                process.links.remove(&link);
            }
        }
    }

    /// An agent tries to open a session.
    pub(crate) fn connect(&mut self, agent: usize, life: u64, link: usize) {
        let known = &self.agents[agent];
        let Some(process) = known.process.as_ref().filter(|_| known.life == life) else {
            return;
        };
        let Some(address) = process.links.get(&link).map(|l| l.controller.clone()) else {
            return;
        };
        let member = self.member_of(&address).unwrap_or_default();
        let (node, agent_epoch) = (known.node, process.agent_epoch);
        let reachable = |world: &Self, at: usize| {
            let there = &world.controllers[at];
            let open = world.network.is_open(HOST + agent as u64, member);
            open && there.core.is_some() && there.paused_until_ms <= world.now_ms
        };
        let at = self.place_of(member).filter(|at| reachable(self, *at));
        let Some(at) = at else {
            let ms = self.random.random_range(100..2_000);
            return self.after(ms, Event::Connect { agent, life, link });
        };
        self.sessions += 1;
        let number = self.sessions;
        let session = Session {
            agent,
            life,
            link,
            talk: Talk::new(node, member, self.secret.clone()),
            up_ms: 0,
            down_ms: 0,
            broken: false,
        };
        let controller = &mut self.controllers[at];
        controller.by_node.insert(node, number);
        controller.sessions.insert(number, session);
        if let Some(process) = &mut self.agents[agent].process
            && let Some(link) = process.links.get_mut(&link)
        {
            link.session = Some(number);
        }
        self.note("session", agent as u64, member);
        let hello = self.hello(agent, agent_epoch);
        self.up(agent, link, hello);
        self.hub(agent, HubInput::LinkUp(link));
        self.talk(at, number, Input::Look);
    }

    fn hello(&self, agent: usize, agent_epoch: u64) -> AgentMessage {
        let known = &self.agents[agent];
        let hello = Hello {
            node_id: known.node.to_string(),
            node_name: format!("node-{agent}"),
            zone: format!("zone-{}", agent % 3),
            agent_epoch,
            boot_id: format!("boot-{}", known.host.boot),
            vcpus: 4,
            vcpu_overcommit_percent: 200,
            memory_mib: 2_048,
            disk_mib: 32_768,
            accelerator: "tcg".to_owned(),
            isolation: "none".to_owned(),
            drivers: vec!["simulated".to_owned()],
            ..Hello::default()
        };
        AgentMessage {
            message: Some(agent_message::Message::Hello(hello)),
        }
    }

    /// The agent says something on a link.
    pub(crate) fn up(&mut self, agent: usize, link: usize, message: AgentMessage) {
        let Some((at, number)) = self.session_of(agent, link) else {
            return;
        };
        let to = self.controllers[at].id;
        let cut = self.network.is_cut(HOST + agent as u64, to);
        if cut {
            return self.break_session(at, number);
        }
        let ms = self.random.random_range(1..5);
        let due = self.now_ms + ms;
        let Some(session) = self.controllers[at].sessions.get_mut(&number) else {
            // The controller forgot the session: it says so.
            let life = self.agents[agent].life;
            return self.after(ms, Event::LinkLost { agent, life, link });
        };
        if session.broken {
            return;
        }
        session.up_ms = session.up_ms.max(due);
        let (at_ms, message) = (session.up_ms, Box::new(message));
        self.queue.push(
            at_ms,
            Event::Up {
                at,
                number,
                message,
            },
        );
    }

    /// A controller says something in a session.
    pub(crate) fn down(&mut self, at: usize, number: u64, message: ControllerMessage) {
        let from = self.controllers[at].id;
        let Some(session) = self.controllers[at].sessions.get(&number) else {
            return;
        };
        let (agent, life, link) = (session.agent, session.life, session.link);
        if session.broken {
            return;
        }
        if self.network.is_cut(from, HOST + agent as u64) {
            return self.break_session(at, number);
        }
        let due = self.now_ms + self.random.random_range(1..5);
        if let Some(session) = self.controllers[at].sessions.get_mut(&number) {
            session.down_ms = session.down_ms.max(due);
            let (at_ms, message) = (session.down_ms, Box::new(message));
            let event = Event::Down {
                agent,
                life,
                link,
                number,
                message,
            };
            self.queue.push(at_ms, event);
        }
    }

    fn member_of(&self, address: &str) -> Option<u64> {
        let of = |controller: &&Controller| controller.address == address;
        self.controllers.iter().find(of).map(|c| c.id)
    }

    fn session_of(&self, agent: usize, link: usize) -> Option<(usize, u64)> {
        let process = self.agents[agent].process.as_ref()?;
        let link = process.links.get(&link)?;
        let at = self.place_of(self.member_of(&link.controller)?)?;
        Some((at, link.session?))
    }

    /// Nothing passes any more; both ends learn of it by their own patience.
    fn break_session(&mut self, at: usize, number: u64) {
        let Some(session) = self.controllers[at].sessions.get_mut(&number) else {
            return;
        };
        if std::mem::replace(&mut session.broken, true) {
            return;
        }
        let (agent, life, link) = (session.agent, session.life, session.link);
        self.judge.marks.hit("fault: session broken");
        let (near, far) = (
            self.random.random_range(500..8_000),
            self.random.random_range(500..8_000),
        );
        self.after(near, Event::LinkLost { agent, life, link });
        self.after(far, Event::SessionLost { at, number });
    }

    /// A controller's process is gone: the hosts that can hear it learn so.
    pub(crate) fn sessions_end(&mut self, at: usize) {
        let from = self.controllers[at].id;
        self.controllers[at].by_node.clear();
        for (_, session) in std::mem::take(&mut self.controllers[at].sessions) {
            let (agent, life, link) = (session.agent, session.life, session.link);
            let quick = self.network.is_open(from, HOST + agent as u64);
            let most = if quick { 50 } else { 8_000 };
            let ms = self.random.random_range(1..most);
            self.after(ms, Event::LinkLost { agent, life, link });
        }
    }

    /// The agent learns that a session is over.
    pub(crate) fn link_lost(&mut self, agent: usize, life: u64, link: usize) {
        if self.agents[agent].life != life || self.agents[agent].process.is_none() {
            return;
        }
        if self.link_down(agent, link) {
            let ms = self.random.random_range(100..2_000);
            self.after(ms, Event::Connect { agent, life, link });
        }
    }

    /// True when it was up.
    fn link_down(&mut self, agent: usize, link: usize) -> bool {
        let Some((at, number)) = self.session_of(agent, link) else {
            return false;
        };
        self.session_lost(at, number);
        if let Some(process) = &mut self.agents[agent].process
            && let Some(link) = process.links.get_mut(&link)
        {
            link.session = None;
        }
        self.hub(agent, HubInput::LinkDown(link));
        true
    }

    /// A controller learns that a session is over.
    pub(crate) fn session_lost(&mut self, at: usize, number: u64) {
        let controller = &mut self.controllers[at];
        controller.sessions.remove(&number);
        controller.by_node.retain(|_, newest| *newest != number);
    }
}
