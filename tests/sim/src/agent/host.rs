//! A simulated host: what is really there, whatever anybody believes. Steps take time, may fail,
//! and may be half done when the agent dies.

use std::collections::BTreeMap;

use nube_agent::driver::{GuestEnded, GuestExit, GuestSpec, Recovered, Run};
use nube_agent::instance::record::Record;
use nube_agent::instance::{Desire, Done, Verb, Wish};
use nube_types::InstanceId;

/// What survives the agent's process.
#[derive(Default)]
pub struct Host {
    /// Grows with each start of the machine.
    pub boot: u64,
    /// What is there of guests.
    pub guests: BTreeMap<InstanceId, Guest>,
    /// The agent's journal.
    pub journal: BTreeMap<InstanceId, Record>,
    /// As noted there.
    pub leader_term: u64,
    /// As noted there.
    pub controllers: Vec<String>,
    /// As noted there.
    pub agent_epoch: u64,
    /// Until when its fencer lets leased guests run, on the host's own clock.
    pub deadline_ms: u64,
    /// Steps that changed something.
    pub effects: u64,
    /// The newest of them.
    pub last: Option<(InstanceId, Verb)>,
    pids: u32,
}

/// Disk, port and (perhaps) process of one instance.
pub struct Guest {
    /// What it was made of.
    pub spec: GuestSpec,
    /// The process, while it runs.
    pub run: Option<Run>,
}

/// What a step did.
pub struct Effect {
    /// What it says.
    pub done: Done,
    /// A run that it ended.
    pub ended: Option<GuestEnded>,
}

impl Effect {
    fn ok() -> Self {
        Self {
            done: Done::Ok,
            ended: None,
        }
    }

    fn failed(reason: &str) -> Self {
        Self {
            done: Done::Failed(reason.to_owned()),
            ended: None,
        }
    }
}

impl Host {
    /// What the driver finds after a start of the agent.
    #[must_use]
    pub fn found(&self) -> Vec<Recovered> {
        let recovered = |guest: &Guest| {
            let spec = Box::new(guest.spec.clone());
            match &guest.run {
                Some(run) => Recovered::Running(spec, run.clone()),
                None => Recovered::Prepared(spec),
            }
        };
        self.guests.values().map(recovered).collect()
    }

    /// Carries a step out.
    pub fn perform(&mut self, instance: InstanceId, verb: Verb, wish: &Wish) -> Effect {
        self.effects += 1;
        self.last = Some((instance, verb));
        match verb {
            Verb::Fetch => Effect::ok(),
            Verb::Prepare => self.prepare(wish),
            Verb::Start => self.start(instance),
            Verb::PowerButton | Verb::PowerCut => {
                let exit = match verb {
                    Verb::PowerButton => GuestExit::PoweredOff,
                    _ => GuestExit::Crashed("its power was cut".to_owned()),
                };
                Effect {
                    done: Done::Ok,
                    ended: self.end(instance, exit),
                }
            }
            Verb::Remove => {
                let exit = GuestExit::Crashed("it was removed".to_owned());
                let ended = self.end(instance, exit);
                self.guests.remove(&instance);
                Effect {
                    done: Done::Ok,
                    ended,
                }
            }
        }
    }

    fn prepare(&mut self, wish: &Wish) -> Effect {
        let Desire::Running(spec) = &wish.desire else {
            return Effect::failed("the wish changed before its step began");
        };
        let run = self
            .guests
            .remove(&spec.instance)
            .and_then(|guest| guest.run);
        let spec = GuestSpec::clone(spec);
        self.guests.insert(spec.instance, Guest { spec, run });
        Effect::ok()
    }

    fn start(&mut self, instance: InstanceId) -> Effect {
        let Some(guest) = self.guests.get_mut(&instance) else {
            return Effect::failed("it is not on this host");
        };
        if guest.run.is_none() {
            self.pids += 1;
            guest.run = Some(Run {
                host_boot_id: format!("boot-{}", self.boot),
                pid: self.pids,
                start_ticks: 1,
            });
        }
        let run = guest.run.clone();
        let done = run.map_or(Done::Failed("no process".to_owned()), Done::Started);
        Effect { done, ended: None }
    }

    /// A run ends, for whatever reason.
    pub fn end(&mut self, instance: InstanceId, exit: GuestExit) -> Option<GuestEnded> {
        let run = self.guests.get_mut(&instance)?.run.take()?;
        Some(GuestEnded {
            instance,
            run,
            exit,
        })
    }

    /// The power fails: no process is left, the disks are.
    pub fn lose_power(&mut self) {
        for guest in self.guests.values_mut() {
            guest.run = None;
        }
        self.boot += 1;
    }

    /// Instances whose process runs.
    pub fn running(&self) -> impl Iterator<Item = InstanceId> + '_ {
        let runs = |(id, guest): (&InstanceId, &Guest)| guest.run.as_ref().map(|_| *id);
        self.guests.iter().filter_map(runs)
    }
}
