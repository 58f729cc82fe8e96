//! An agent's process in virtual time: what `run`, `reconciler` and `session` do around their
//! cores.

use nube_agent::driver::{GuestEnded, GuestExit};
use nube_agent::instance::{Done, Verb, Wish};
use nube_agent::reconciler::core::{Core, Input, Output};
use nube_agent::session::hub::{Hub, HubInput, HubOutput, TICK_MS};
use nube_agent::session::roster::Roster;
use nube_proto::agent::v1::{AgentMessage, ControllerMessage, agent_message};
use nube_proto::v1::InstanceState;
use nube_types::InstanceId;
use rand::Rng;

use super::Process;
use crate::judge::hold;
use crate::network::HOST;
use crate::scenario::Mode;
use crate::world::{Event, World};

/// A step under way on a host.
pub struct Step {
    instance: InstanceId,
    token: u64,
    verb: Verb,
    wish: Box<Wish>,
}

impl World {
    /// All hosts come up.
    pub(crate) fn form_hosts(&mut self) {
        for number in 0..self.scenario.agents {
            self.agents.push(super::Agent::new(number as u64 + 1));
            if self.scenario.faults.clock_drift {
                let drift_ppm = self.random.random_range(-4_000..=4_000);
                self.agents[number].clock.drift_ppm = drift_ppm;
            }
            let ms = self.random.random_range(100..1_500);
            self.after(ms, Event::AgentStart { agent: number });
        }
    }

    /// A process begins over what its host holds.
    pub(crate) fn agent_start(&mut self, agent: usize) {
        let first = (1..=self.scenario.controllers).map(|id| format!("controller-{id}:7400"));
        let seeds: Vec<String> = first.collect();
        let known = &mut self.agents[agent];
        if known.process.is_some() {
            return;
        }
        let host = &mut known.host;
        host.agent_epoch += 1;
        let agent_epoch = host.agent_epoch;
        let core = Core::recover(host.journal.clone(), host.found(), Vec::new());
        let core = core.with_deadline(host.deadline_ms);
        let view = core.view().clone();
        let (roster, wanted) = Roster::new(seeds, host.controllers.clone());
        let hub = Hub::recover(agent_epoch, host.leader_term, roster, view.clone());
        known.life += 1;
        let life = known.life;
        known.process = Some(Process {
            core,
            hub,
            view,
            agent_epoch,
            wanted,
            links: std::collections::BTreeMap::new(),
            next_link: 0,
            wake_at_ms: None,
        });
        self.note("agent starts", agent as u64, agent_epoch);
        self.core(agent, Input::Started);
        self.after(1, Event::AgentTick { agent, life });
    }

    /// The process dies. Steps under way are done, half done or not done.
    pub(crate) fn agent_kill(&mut self, agent: usize) {
        let known = &mut self.agents[agent];
        if known.process.take().is_none() {
            return;
        }
        known.life += 1;
        for at in 0..self.controllers.len() {
            let open = self
                .network
                .is_open(HOST + agent as u64, self.controllers[at].id);
            let of = |(number, session): (&u64, &super::links::Session)| {
                (session.agent == agent).then_some(*number)
            };
            let sessions = &self.controllers[at].sessions;
            let numbers: Vec<u64> = sessions.iter().filter_map(of).collect();
            for number in numbers {
                let ms = self.random.random_range(1..if open { 50 } else { 8_000 });
                self.after(ms, Event::SessionLost { at, number });
            }
        }
        self.note("agent dies", agent as u64, 0);
    }

    pub(crate) fn agent_tick(&mut self, agent: usize, life: u64) {
        if self.agents[agent].life != life || self.agents[agent].process.is_none() {
            return;
        }
        self.after(TICK_MS, Event::AgentTick { agent, life });
        self.follow_roster(agent);
        self.hub(agent, HubInput::Tick);
    }

    pub(crate) fn agent_wake(&mut self, agent: usize, life: u64, at_ms: u64) {
        let known = &self.agents[agent];
        let due = known.process.as_ref().and_then(|p| p.wake_at_ms) == Some(at_ms);
        if known.life != life || !due {
            return;
        }
        self.core(agent, Input::Wake);
    }

    /// A controller's word arrives.
    pub(crate) fn down_arrived(
        &mut self,
        (agent, life, link, number): (usize, u64, usize, u64),
        message: ControllerMessage,
    ) {
        let known = &self.agents[agent];
        let open = known
            .process
            .as_ref()
            .and_then(|p| p.links.get(&link)?.session);
        if known.life != life || open != Some(number) {
            return;
        }
        if let Some(message) = message.message {
            self.hub(agent, HubInput::Said(link, message));
        }
    }

    /// Gives the hub its news and carries out what it says.
    pub(crate) fn hub(&mut self, agent: usize, input: HubInput<'_>) {
        let now_ms = self.agents[agent].boottime_ms(self.now_ms);
        let Some(process) = &mut self.agents[agent].process else {
            return;
        };
        for output in process.hub.handle(now_ms, input) {
            match output {
                HubOutput::Send(link, message) => {
                    let message = self.maybe_lie(agent, *message);
                    self.up(agent, link, message);
                }
                HubOutput::Obey {
                    wishes,
                    fence_epoch,
                } => self.core(
                    agent,
                    Input::Desired {
                        wishes,
                        fence_epoch,
                    },
                ),
                // Simulated hosts have no networks.
                HubOutput::Networks(_) => {}
                HubOutput::Lease(held) => self.core(agent, Input::Lease(held)),
                HubOutput::Told(ids) => self.core(agent, Input::Told(ids)),
                HubOutput::NoteTerm(term) => self.agents[agent].host.leader_term = term,
                HubOutput::NoteControllers(list) => self.agents[agent].host.controllers = list,
            }
        }
    }

    /// Gives the reconciler its news and carries out what it says.
    pub(crate) fn core(&mut self, agent: usize, input: Input) {
        let mut inputs = std::collections::VecDeque::from([input]);
        let mut shown = false;
        while let Some(input) = inputs.pop_front() {
            let now_ms = self.agents[agent].boottime_ms(self.now_ms);
            let Some(process) = &mut self.agents[agent].process else {
                return;
            };
            process.wake_at_ms = None;
            for output in process.core.handle(now_ms, input) {
                shown |= matches!(output, Output::Show(_));
                inputs.extend(self.carry_out(agent, output));
            }
        }
        if shown && let Some(process) = &self.agents[agent].process {
            let view = process.view.clone();
            self.hub(agent, HubInput::View(&view));
        }
    }

    fn carry_out(&mut self, agent: usize, output: Output) -> Option<Input> {
        let full = self.scenario.faults.failing_verbs && !self.calm && self.chance(10);
        let known = &mut self.agents[agent];
        let process = known.process.as_mut()?;
        let life = known.life;
        match output {
            Output::PinImages(_) | Output::AbortFetch(_) => {}
            Output::Prolong { deadline_ms } => {
                known.host.deadline_ms = deadline_ms;
                let here = known.boottime_ms(self.now_ms);
                let ms = deadline_ms.saturating_sub(here);
                self.after(ms + ms / 100 + 1, Event::Fencer { agent });
            }
            Output::WriteRecord(record) => {
                let instance = record.instance;
                if !full {
                    known.host.journal.insert(instance, *record);
                }
                let durable = !full;
                return Some(Input::Recorded { instance, durable });
            }
            Output::Forget(instance) => {
                known.host.journal.remove(&instance);
                let durable = true;
                return Some(Input::Recorded { instance, durable });
            }
            Output::Begin {
                instance,
                token,
                verb,
                wish,
            } => {
                let step = Box::new(Step {
                    instance,
                    token,
                    verb,
                    wish,
                });
                self.begin_step(agent, life, step);
            }
            Output::Show(change) => process.view.apply(change),
            Output::WakeAt(at_ms) => {
                process.wake_at_ms = Some(at_ms);
                let here = known.boottime_ms(self.now_ms);
                // One more: clocks that run slow have not come so far yet.
                let ms = at_ms.saturating_sub(here);
                let ms = ms + ms / 100 + 1;
                self.after(ms, Event::AgentWake { agent, life, at_ms });
            }
        }
        None
    }

    fn begin_step(&mut self, agent: usize, life: u64, step: Box<Step>) {
        let most = match step.verb {
            Verb::Fetch => 300,
            Verb::Prepare | Verb::Start => 800,
            Verb::PowerButton => 20,
            Verb::PowerCut | Verb::Remove => 200,
        };
        let ms = self.random.random_range(1..most);
        self.after(ms, Event::StepDone { agent, life, step });
    }

    /// A step comes to its end, or its agent died meanwhile.
    pub(crate) fn step_done(&mut self, agent: usize, life: u64, step: Step) {
        let alive = self.agents[agent].life == life;
        // The driver's call may have been under way when the agent died; not in another boot.
        if !alive && self.random.random_bool(0.5) {
            return;
        }
        let (instance, token, verb) = (step.instance, step.token, step.verb);
        let fails = self.scenario.faults.failing_verbs && !self.calm && self.chance(80);
        if fails && alive {
            self.mark("fault: step on a host fails", agent as u64);
            let done = Done::Failed("the host said no".to_owned());
            return self.finished(agent, instance, token, done);
        }
        if verb == Verb::PowerButton {
            self.button(agent, life, instance);
            if alive {
                self.finished(agent, instance, token, Done::Ok);
            }
            return;
        }
        if !alive && matches!(verb, Verb::Start | Verb::Prepare) {
            // A later life has its own idea of this instance by now.
            return;
        }
        let effect = self.agents[agent].host.perform(instance, verb, &step.wish);
        self.note("step", agent as u64, verb as u64);
        self.trace
            .tell(|| format!("{verb:?} {instance} {:?} alive {alive}", step.wish.version));
        self.look_at_hosts(agent, instance);
        if verb == Verb::Start {
            // A fencer is born with its guest and looks at once.
            self.after(1, Event::Fencer { agent });
        }
        if let Some(ended) = effect.ended {
            self.tell_ended(agent, ended);
        }
        if alive {
            self.finished(agent, instance, token, effect.done);
        }
    }

    fn finished(&mut self, agent: usize, instance: InstanceId, token: u64, done: Done) {
        let input = Input::VerbFinished {
            instance,
            token,
            done,
        };
        self.core(agent, input);
    }

    /// A guest follows the power button after a while, or never.
    fn button(&mut self, agent: usize, life: u64, instance: InstanceId) {
        if !self.random.random_bool(0.9) {
            return;
        }
        let guest = self.agents[agent].host.guests.get(&instance);
        let Some(run) = guest.and_then(|guest| guest.run.clone()) else {
            return;
        };
        let ms = self.random.random_range(50..3_000);
        let _ = life;
        let ended = GuestEnded {
            instance,
            run,
            exit: GuestExit::PoweredOff,
        };
        let ended = Box::new(ended);
        self.ends_due += 1;
        self.after(ms, Event::GuestEnds { agent, ended });
    }

    /// A run ends by itself.
    pub(crate) fn guest_ends(&mut self, agent: usize, ended: GuestEnded) {
        self.ends_due -= 1;
        let host = &mut self.agents[agent].host;
        let guest = host.guests.get(&ended.instance);
        if guest.and_then(|guest| guest.run.as_ref()) == Some(&ended.run) {
            let ended = host.end(ended.instance, ended.exit);
            self.note("guest ends", agent as u64, 0);
            if let Some(ended) = ended {
                self.tell_ended(agent, ended);
            }
        }
    }

    /// The lease of a host is over: its fencer ends what another host may begin anew, whether the
    /// agent lives or not.
    pub(crate) fn fencer(&mut self, agent: usize) {
        let known = &mut self.agents[agent];
        let here = known.boottime_ms(self.now_ms);
        if known.host.deadline_ms > here {
            // Renewed; or a clock that runs slow has not come so far yet.
            let ms = known.host.deadline_ms - here;
            return self.after(ms + ms / 100 + 1, Event::Fencer { agent });
        }
        let leased = |(id, guest): (&InstanceId, &super::host::Guest)| {
            (guest.spec.leased && guest.run.is_some()).then_some(*id)
        };
        let over: Vec<_> = known.host.guests.iter().filter_map(leased).collect();
        for instance in over {
            let exit = GuestExit::Crashed("its host's lease ran out".to_owned());
            self.mark("a lease ran out and its guest was ended", agent as u64);
            if let Some(ended) = self.agents[agent].host.end(instance, exit) {
                self.tell_ended(agent, ended);
            }
        }
    }

    pub(crate) fn tell_ended(&mut self, agent: usize, ended: GuestEnded) {
        self.core(agent, Input::GuestEnded(ended));
    }

    /// C1 and C3 on the ground: an instance runs on one host, an address is used once.
    fn look_at_hosts(&mut self, agent: usize, instance: InstanceId) {
        let host = &self.agents[agent].host;
        let Some(guest) = host.guests.get(&instance).filter(|g| g.run.is_some()) else {
            return;
        };
        let port = (guest.spec.port.network, guest.spec.port.address);
        let mac = guest.spec.port.mac;
        for (other, known) in self.agents.iter().enumerate() {
            // Guests of a host that stands still do nothing.
            if other == agent || known.paused_until_ms >= self.now_ms {
                continue;
            }
            for (id, there) in known.host.guests.iter().filter(|(_, g)| g.run.is_some()) {
                hold("C1", *id != instance, || {
                    format!("{instance} runs on hosts {agent} and {other}")
                });
                let same = (there.spec.port.network, there.spec.port.address) == port
                    || there.spec.port.mac == mac;
                hold("C3", !same, || {
                    format!("{instance} and {id} run with one address or MAC")
                });
            }
        }
    }

    /// D7, E3: a lying agent says things of instances that are and are not its own.
    fn maybe_lie(&mut self, agent: usize, mut message: AgentMessage) -> AgentMessage {
        if !self.agents[agent].lies || !self.random.random_bool(0.3) {
            return message;
        }
        let all: Vec<InstanceId> = self
            .judge
            .reference
            .state()
            .instances
            .iter()
            .map(|i| i.id)
            .collect();
        let Some(agent_message::Message::Report(report)) = &mut message.message else {
            return message;
        };
        self.judge.marks.hit("fault: an agent lies");
        // What an agent says of its own instances is all that anybody knows of them: after such
        // lies nothing can be asked of the end.
        let own = self.scenario.mode == Mode::Unlimited;
        for seen in &mut report.instances {
            match self.random.random_range(if own { 0 } else { 4 }..6) {
                0 => seen.state = InstanceState::Running.into(),
                1 => seen.placement_epoch = self.random.random_range(0..5),
                2 => seen.applied_generation = self.random.random_range(0..1_000),
                3 => seen.found_dead = true,
                4 if !all.is_empty() => {
                    let foreign = all[self.random.random_range(0..all.len())];
                    seen.instance_id = foreign.to_string();
                }
                _ => {}
            }
        }
        message
    }
}
