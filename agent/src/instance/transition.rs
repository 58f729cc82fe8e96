//! How a machine changes: a step begins, a step finishes, a run ends, a report
//! is acknowledged. Nothing is decided here; that is `plan`.

use nube_types::limits::STOP_GRACE_MS;

use super::{
    Busy, Done, Ending, Failure, Goal, Machine, Phase, START_ATTEMPTS_MAX, Verb, Wish, retry_ms,
};
use crate::driver::{GuestExit, Run};
use crate::plan::Action;

impl Machine {
    /// Notes that an action is taken for a wish. The caller writes the record
    /// down before it does anything on the host.
    pub fn begin(&mut self, action: &Action, wish: &Wish, token: u64, now_ms: u64) {
        // A stop may serve a newer placement while the old one still runs: the
        // epoch moves on only when something is made for the new one.
        match action {
            Action::Fulfil => return self.fulfil(wish),
            Action::Refuse(reason) => {
                self.epoch = wish.version.epoch;
                self.phase = self.given_up(None, reason.clone(), wish);
                return;
            }
            Action::Forget => return,
            Action::Fence => {
                self.busy = Some(Busy {
                    verb: Verb::PowerCut,
                    token,
                });
                // A reboot that waits for a lease is none: the stay ends here.
                self.rebooting = false;
                self.phase = Phase::Fencing {
                    retry_at_ms: now_ms,
                };
                return;
            }
            Action::Do(verb) => self.busy = Some(Busy { verb: *verb, token }),
        }
        match self.busy.map(|busy| busy.verb) {
            Some(Verb::Fetch) => {
                self.epoch = wish.version.epoch;
                self.phase = Phase::Fetching;
            }
            Some(Verb::Prepare) => {
                self.touched = true;
                self.phase = Phase::Preparing;
            }
            Some(Verb::Start) => {
                self.early_end = None;
                let reboot_count = wish.reboot_count.max(self.reboots.unwrap_or(0));
                self.phase = Phase::Starting(Goal {
                    version: wish.version,
                    reboot_count,
                });
            }
            Some(Verb::PowerButton) => {
                self.stop_for(wish);
                self.phase = Phase::Stopping {
                    cut_at_ms: now_ms.saturating_add(STOP_GRACE_MS),
                };
            }
            Some(Verb::PowerCut) => {
                self.stop_for(wish);
                self.phase = Phase::Stopping { cut_at_ms: now_ms };
            }
            Some(Verb::Remove) => {
                self.rebooting = false;
                self.epoch = self.epoch.max(wish.version.epoch);
                self.phase = Phase::Removing {
                    retry_at_ms: now_ms,
                };
            }
            None => {}
        }
    }

    fn stop_for(&mut self, wish: &Wish) {
        if matches!(self.phase, Phase::Running) {
            let same_placement = wish.version.epoch == self.epoch;
            let running = matches!(wish.desire, super::Desire::Running(_));
            self.rebooting = running && same_placement && self.owes_reboot(wish);
        }
    }

    /// The wish is so already.
    fn fulfil(&mut self, wish: &Wish) {
        self.applied = wish.version;
        self.epoch = wish.version.epoch;
        self.failures = 0;
        self.trouble.clear();
        let stopped = matches!(wish.desire, super::Desire::Stopped);
        if stopped {
            // A stop overtakes a reboot that was not done yet: the next boot
            // must not be followed by another.
            self.reboots = Some(self.reboots.unwrap_or(0).max(wish.reboot_count));
            if !matches!(self.phase, Phase::Stopped(_)) {
                self.phase = Phase::Stopped(Ending::Asked);
            }
        }
    }

    /// A start that was noted does not happen now.
    pub fn put_off_start(&mut self, token: u64) {
        self.busy.take_if(|busy| busy.token == token);
        self.phase = Phase::Prepared { fresh: true };
    }

    /// A verb answered. A late answer of an overtaken attempt changes nothing.
    pub fn finished(&mut self, token: u64, done: Done, wish: Option<&Wish>, now_ms: u64) {
        let Some(busy) = self.busy.filter(|busy| busy.token == token) else {
            return;
        };
        self.busy = None;
        match done {
            Done::Failed(reason) => self.verb_failed(busy.verb, reason, wish, now_ms),
            Done::Started(run) => self.started(run),
            Done::Ok => self.verb_worked(busy.verb),
        }
    }

    fn verb_worked(&mut self, verb: Verb) {
        match (verb, &self.phase) {
            (Verb::Fetch, Phase::Fetching) => self.phase = Phase::Fetched,
            (Verb::Prepare, Phase::Preparing) => {
                self.prepared = true;
                self.phase = Phase::Prepared { fresh: true };
            }
            (Verb::PowerCut, Phase::Stopping { .. }) => self.went_down(),
            (Verb::PowerCut, Phase::Fencing { .. }) => self.was_fenced(),
            (Verb::Remove, Phase::Removing { .. }) => {
                (self.touched, self.prepared, self.run) = (false, false, None);
                self.settle();
                self.phase = Phase::Removed;
            }
            // The guest followed the button before the button's answer came.
            _ => {}
        }
    }

    fn started(&mut self, run: Run) {
        let Phase::Starting(goal) = self.phase else {
            return;
        };
        self.applied = goal.version;
        self.reboots = Some(goal.reboot_count);
        self.run = Some(run.clone());
        self.rebooting = false;
        self.settle();
        self.phase = Phase::Running;
        if let Some((_, exit)) = self.early_end.take().filter(|(ended, _)| *ended == run) {
            self.ended(&run, exit);
        }
    }

    fn verb_failed(&mut self, verb: Verb, reason: String, wish: Option<&Wish>, now_ms: u64) {
        self.failures = self.failures.saturating_add(1);
        self.trouble.clone_from(&reason);
        let retry_at_ms = now_ms.saturating_add(retry_ms(self.failures));
        match (verb, &self.phase) {
            // Deletes and power cuts must finish: they are tried for ever.
            (Verb::Remove, Phase::Removing { .. }) => self.phase = Phase::Removing { retry_at_ms },
            (Verb::PowerCut, Phase::Stopping { .. }) => {
                self.phase = Phase::Stopping {
                    cut_at_ms: retry_at_ms,
                };
            }
            (Verb::PowerCut, Phase::Fencing { .. }) => {
                self.phase = Phase::Fencing { retry_at_ms };
            }
            // No button, no waiting: the cut is next.
            (Verb::PowerButton, Phase::Stopping { .. }) => {
                self.phase = Phase::Stopping { cut_at_ms: now_ms };
            }
            (Verb::Fetch, Phase::Fetching)
            | (Verb::Prepare, Phase::Preparing)
            | (Verb::Start, Phase::Starting(_)) => {
                let version = wish.map_or(self.accepted, |wish| wish.version);
                let last = self.failures >= START_ATTEMPTS_MAX;
                let retry_at_ms = (!last).then_some(retry_at_ms);
                let reason = if last {
                    self.rebooting = false;
                    format!(
                        "{reason}; gave up after {START_ATTEMPTS_MAX} tries, `cloudctl start` tries again"
                    )
                } else {
                    format!("{reason}; try {} of {START_ATTEMPTS_MAX}", self.failures)
                };
                self.phase = Phase::Failed(Failure {
                    verb: Some(verb),
                    reason,
                    retry_at_ms,
                    version,
                });
            }
            _ => {}
        }
    }

    /// A run ended. Ends of earlier lives change nothing.
    pub fn ended(&mut self, run: &Run, exit: GuestExit) {
        if let Phase::Starting(_) = self.phase {
            // Its start has not answered yet, so the life has no name here.
            self.early_end = Some((run.clone(), exit));
            return;
        }
        if self.run.as_ref() != Some(run) {
            return;
        }
        match (&self.phase, exit) {
            (Phase::Stopping { .. }, _) => self.went_down(),
            (Phase::Fencing { .. }, _) => self.was_fenced(),
            (Phase::Running, GuestExit::PoweredOff) => {
                self.phase = Phase::Stopped(Ending::PoweredOff);
            }
            (Phase::Running, GuestExit::Crashed(how)) => {
                self.phase = Phase::Failed(Failure {
                    verb: None,
                    reason: format!(
                        "the machine ended by itself: {how}; `cloudctl start` boots it again"
                    ),
                    retry_at_ms: None,
                    // The wish it ran for: one that came since still counts.
                    version: self.applied,
                });
            }
            _ => {}
        }
    }

    /// A run ended after the host's lease did: its fencer ended it, whatever it
    /// looks like from here.
    pub fn ended_by_fencer(&mut self, run: &Run) {
        let fenced = match self.phase {
            Phase::Running => true,
            Phase::Stopping { .. } => self.rebooting,
            _ => false,
        };
        if fenced && self.run.as_ref() == Some(run) {
            self.rebooting = false;
            return self.was_fenced();
        }
        self.ended(
            run,
            GuestExit::Crashed("the host's lease ran out".to_owned()),
        );
    }

    /// The leader committed an end that it could not see.
    pub fn told_dead(&mut self) {
        if let Phase::Stopped(Ending::FoundDead { told } | Ending::Fenced { told }) =
            &mut self.phase
        {
            *told = true;
        }
    }

    fn was_fenced(&mut self) {
        self.settle();
        self.phase = Phase::Stopped(Ending::Fenced { told: false });
    }

    fn went_down(&mut self) {
        self.settle();
        self.phase = Phase::Stopped(Ending::Asked);
    }

    fn settle(&mut self) {
        self.failures = 0;
        self.trouble.clear();
    }

    fn given_up(&self, verb: Option<Verb>, reason: String, wish: &Wish) -> Phase {
        Phase::Failed(Failure {
            verb,
            reason,
            retry_at_ms: None,
            version: wish.version,
        })
    }
}
