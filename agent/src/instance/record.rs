//! What is written down of a machine before each step, and what a machine is
//! after the agent comes back: record x what the driver found. Pure.

use nube_types::{InstanceId, PlacementEpoch};

use super::{Ending, Failure, Goal, Machine, Phase, Verb, Version};
use crate::driver::Run;

/// The durable part of a machine. Holds no secrets: the driver keeps the spec.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Which instance.
    pub instance: InstanceId,
    /// As in [`Machine::accepted`].
    pub accepted: Version,
    /// As in [`Machine::applied`].
    pub applied: Version,
    /// As in [`Machine::epoch`].
    pub epoch: PlacementEpoch,
    /// As in [`Machine::reboots`].
    pub reboots: Option<u64>,
    /// As in [`Machine::run`].
    pub run: Option<Run>,
    /// As in [`Machine::rebooting`].
    pub rebooting: bool,
    /// As in [`Machine::prepared`].
    pub prepared: bool,
    /// The step that was begun, or the state that was reached.
    pub step: Step,
}

/// What was begun or reached. A crash right after the write leaves the step
/// undone, half done or done; recovery asks the driver which.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Step {
    /// Disk, seed and port, on the way to a start. Half done: done again.
    Preparing,
    /// The process. A process that is found fulfils the goal.
    Starting(Goal),
    /// It ran. Without a process it is found dead.
    Running,
    /// It was asked to end. Without a process the end was asked for; with one
    /// it is asked again, unless the wish changed meanwhile.
    Stopping,
    /// The host's lease ran out and its power is cut. With a process it is cut
    /// again, unless a lease is back.
    Fencing,
    /// It was off.
    Stopped(Ending),
    /// Every trace is to go. Done again: the order is still in force or, if the
    /// leader no longer lists it, nothing happens.
    Removing,
    /// It waits for a newer wish.
    Failed {
        /// The verb that failed.
        verb: Option<Verb>,
        /// For people.
        reason: String,
        /// The wish that failed.
        version: Version,
    },
}

impl Step {
    /// Whether the host may hold traces, even if nothing was ever finished.
    fn touches(&self) -> bool {
        !matches!(
            self,
            Self::Stopped(_)
                | Self::Failed {
                    verb: None | Some(Verb::Fetch),
                    ..
                }
        )
    }
}

/// What the driver found of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Absent,
    /// A preparation of this placement, no process.
    Prepared(PlacementEpoch),
    /// A process of this placement.
    Running(PlacementEpoch, Run),
}

impl Machine {
    /// What must be durable now; none when nothing was done on the host and no
    /// promise was made, so that a crash loses nothing.
    #[must_use]
    pub fn record(&self) -> Option<Record> {
        let step = match &self.phase {
            Phase::Absent | Phase::Removed => return None,
            Phase::Fetching | Phase::Fetched if !self.touched => return None,
            // An image on its way changes nothing of the disk that is here.
            Phase::Fetching | Phase::Fetched | Phase::Preparing | Phase::Prepared { .. } => {
                Step::Preparing
            }
            Phase::Starting(goal) => Step::Starting(*goal),
            Phase::Running => Step::Running,
            Phase::Stopping { .. } => Step::Stopping,
            Phase::Fencing { .. } => Step::Fencing,
            Phase::Stopped(ending) => Step::Stopped(*ending),
            Phase::Removing { .. } => Step::Removing,
            // A failure that is retried is forgotten by a crash: tried at once.
            Phase::Failed(failure) if failure.retry_at_ms.is_some() && self.touched => {
                Step::Preparing
            }
            Phase::Failed(failure) if failure.retry_at_ms.is_some() => return None,
            Phase::Failed(failure) => Step::Failed {
                verb: failure.verb,
                reason: failure.reason.clone(),
                version: failure.version,
            },
        };
        Some(Record {
            instance: self.id,
            accepted: self.accepted,
            applied: self.applied,
            epoch: self.epoch,
            reboots: self.reboots,
            run: self.run.clone(),
            rebooting: self.rebooting,
            prepared: self.prepared,
            step,
        })
    }

    /// The machine after an agent start.
    #[must_use]
    pub fn recovered(id: InstanceId, record: Option<Record>, found: Found) -> Self {
        let Some(record) = record else {
            return Self::without_record(id, found);
        };
        let mut machine = Self {
            id,
            accepted: record.accepted,
            applied: record.applied,
            epoch: record.epoch,
            reboots: record.reboots,
            run: record.run,
            rebooting: record.rebooting,
            touched: record.prepared || record.step.touches(),
            prepared: record.prepared,
            ..Self::new(id)
        };
        match found {
            Found::Running(_, run) => machine.adopt(&record.step, run),
            Found::Prepared(_) => {
                (machine.touched, machine.prepared) = (true, true);
                machine.phase = off(record.step);
            }
            Found::Absent => machine.phase = machine.without_traces(record.step),
        }
        machine
    }

    /// The journal was lost. What runs goes on; what does not run may have run,
    /// so it is called found dead: the careful answer for history and bill.
    fn without_record(id: InstanceId, found: Found) -> Self {
        let mut machine = Self::new(id);
        let (epoch, run, phase) = match found {
            Found::Absent => return machine,
            Found::Prepared(epoch) => (
                epoch,
                None,
                Phase::Stopped(Ending::FoundDead { told: false }),
            ),
            Found::Running(epoch, run) => (epoch, Some(run), Phase::Running),
        };
        machine.epoch = epoch;
        machine.accepted = Version {
            epoch,
            generation: 0,
        };
        machine.applied = machine.accepted;
        machine.reboots = None;
        (machine.touched, machine.prepared) = (true, true);
        (machine.run, machine.phase) = (run, phase);
        machine
    }

    fn adopt(&mut self, step: &Step, run: Run) {
        if let Step::Starting(goal) = step {
            // Killed between the start and the note that it worked.
            self.applied = goal.version;
            self.reboots = Some(goal.reboot_count);
            self.rebooting = false;
        }
        // A reboot whose old life still runs is begun again by the plan: the
        // count was not raised. Nothing is lost, nothing done twice.
        self.rebooting &= *step == Step::Stopping && self.run.as_ref() == Some(&run);
        (self.touched, self.prepared) = (true, true);
        self.run = Some(run);
        self.phase = Phase::Running;
    }

    fn without_traces(&mut self, step: Step) -> Phase {
        if self.prepared && step != Step::Removing {
            (self.prepared, self.touched) = (false, false);
            return Phase::Failed(Failure {
                verb: None,
                reason: "its disk is gone from the host; `cloudctl start` boots it with a new \
                         disk made from the image, `cloudctl delete` gives it up"
                    .to_owned(),
                retry_at_ms: None,
                version: self.accepted,
            });
        }
        // Half a preparation may have left traces the driver does not list.
        match step {
            Step::Stopped(_) | Step::Failed { .. } => off(step),
            _ => Phase::Absent,
        }
    }
}

/// The phase when there is no process.
fn off(step: Step) -> Phase {
    match step {
        Step::Preparing | Step::Starting(_) | Step::Removing => Phase::Prepared { fresh: false },
        Step::Running => Phase::Stopped(Ending::FoundDead { told: false }),
        Step::Stopping => Phase::Stopped(Ending::Asked),
        Step::Fencing => Phase::Stopped(Ending::Fenced { told: false }),
        Step::Stopped(ending) => Phase::Stopped(ending),
        Step::Failed {
            verb,
            reason,
            version,
        } => Phase::Failed(Failure {
            verb,
            reason,
            retry_at_ms: None,
            version,
        }),
    }
}
