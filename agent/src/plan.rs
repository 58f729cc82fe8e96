//! What to do next for one instance: desired x observed -> one action. Pure; the
//! table in `plan/test.rs` lists every combination.
//!
//! Rules in order of rank:
//! 1. One verb at a time per instance; only a fetch may be overtaken, because it
//!    touches nothing of the instance.
//! 2. Delete wins in every state and is tried until it worked.
//! 3. A leased guest whose lease is over is cut, wish or no wish: another host
//!    may be starting it.
//! 4. An instance the leader does not list is never touched.
//! 5. What runs for an older placement is cut before anything new begins.
//! 6. A fulfilled wish causes nothing: no flapping.

#[cfg(test)]
pub(crate) mod test;

use crate::instance::{Desire, Ending, Failure, Machine, Phase, Verb, Wish};

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Do this on the host.
    Do(Verb),
    /// The wish is so already: note it as applied.
    Fulfil,
    /// The wish cannot be carried out; the text says why.
    Refuse(String),
    /// The host's lease is over: cut its power.
    Fence,
    /// Nothing of it is here and nobody wants it: drop machine and record.
    Forget,
}

/// What the host's lease lets an instance do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Everything: it needs no lease, or the lease is in force.
    Start,
    /// Run on, for the lease of an earlier life of the agent is not over yet.
    /// Nothing may start.
    RunOn,
    /// Nothing.
    Stop,
}

/// What to do now, and when to look again without an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// At most one action.
    pub action: Option<Action>,
    /// Look again at this time.
    pub wake_at_ms: Option<u64>,
}

impl Plan {
    fn none() -> Self {
        Self::default()
    }

    fn act(action: Action) -> Self {
        Self {
            action: Some(action),
            wake_at_ms: None,
        }
    }

    fn verb(verb: Verb) -> Self {
        Self::act(Action::Do(verb))
    }

    fn verb_at(verb: Verb, at_ms: u64, now_ms: u64) -> Self {
        Self::act_at(Action::Do(verb), at_ms, now_ms)
    }

    fn act_at(action: Action, at_ms: u64, now_ms: u64) -> Self {
        if now_ms >= at_ms {
            return Self::act(action);
        }
        Self {
            action: None,
            wake_at_ms: Some(at_ms),
        }
    }

    /// For states that are as wished: only the generation is left to note.
    fn noted(wish: &Wish, machine: &Machine) -> Self {
        if machine.applied < wish.version {
            Self::act(Action::Fulfil)
        } else {
            Self::none()
        }
    }
}

/// The next step for one instance.
#[must_use]
pub fn plan(wish: Option<&Wish>, machine: &Machine, leave: Leave, now_ms: u64) -> Plan {
    let busy = machine.busy.map(|busy| busy.verb);
    let deleted = wish.is_some_and(|wish| wish.desire == Desire::Deleted);
    if busy.is_none() && !deleted {
        if let Phase::Fencing { retry_at_ms } = machine.phase {
            // To the end, also when a lease is back.
            return Plan::act_at(Action::Fence, retry_at_ms, now_ms);
        }
        if leave == Leave::Stop && machine.is_on() {
            return Plan::act(Action::Fence);
        }
    }
    let Some(wish) = wish else {
        return plan_unlisted(machine, busy);
    };
    match busy {
        None => {}
        Some(Verb::Fetch) if deleted => {}
        Some(_) => return Plan::none(),
    }
    if let Phase::Removing { retry_at_ms } = machine.phase {
        // Also when a newer placement came in: first the old traces go.
        return Plan::verb_at(Verb::Remove, retry_at_ms, now_ms);
    }
    match &wish.desire {
        Desire::Deleted => plan_deleted(wish, machine),
        Desire::Stopped => plan_stopped(wish, machine, now_ms),
        Desire::Running(_) => plan_running(wish, machine, leave, now_ms),
        Desire::Refused(reason) => plan_refused(wish, machine, reason, now_ms),
    }
}

fn plan_unlisted(machine: &Machine, busy: Option<Verb>) -> Plan {
    if busy.is_none() && !machine.touched {
        return Plan::act(Action::Forget);
    }
    Plan::none()
}

fn plan_deleted(wish: &Wish, machine: &Machine) -> Plan {
    match machine.phase {
        Phase::Removed => Plan::noted(wish, machine),
        _ => Plan::verb(Verb::Remove),
    }
}

fn plan_stopped(wish: &Wish, machine: &Machine, now_ms: u64) -> Plan {
    match &machine.phase {
        Phase::Running => stop(wish, machine),
        Phase::Stopping { cut_at_ms } => go_on_stopping(*cut_at_ms, wish, machine, now_ms),
        Phase::Stopped(_) => Plan::noted(wish, machine),
        // A failed start may have left a process: cut, whatever it was.
        Phase::Failed(failure) if overtakes(wish, failure) && machine.touched => {
            Plan::verb(Verb::PowerCut)
        }
        Phase::Failed(failure) if overtakes(wish, failure) => Plan::act(Action::Fulfil),
        Phase::Failed(_) => Plan::none(),
        Phase::Removed if wish.version.epoch <= machine.epoch => Plan::none(),
        Phase::Absent | Phase::Fetched | Phase::Prepared { .. } | Phase::Removed => {
            Plan::act(Action::Fulfil)
        }
        Phase::Fetching
        | Phase::Preparing
        | Phase::Starting(_)
        | Phase::Fencing { .. }
        | Phase::Removing { .. } => Plan::none(),
    }
}

fn plan_running(wish: &Wish, machine: &Machine, leave: Leave, now_ms: u64) -> Plan {
    let outdated = machine.epoch < wish.version.epoch;
    match &machine.phase {
        Phase::Running if outdated => Plan::verb(Verb::PowerCut),
        Phase::Running if machine.owes_reboot(wish) => stop(wish, machine),
        Phase::Running => Plan::noted(wish, machine),
        Phase::Stopping { cut_at_ms } => go_on_stopping(*cut_at_ms, wish, machine, now_ms),
        Phase::Stopped(_) if leave != Leave::Start => Plan::none(),
        Phase::Stopped(ending) if outdated || wants_boot(*ending, wish, machine) => {
            Plan::verb(Verb::Fetch)
        }
        Phase::Stopped(_) => Plan::none(),
        Phase::Fetched if !outdated => Plan::verb(Verb::Prepare),
        Phase::Prepared { fresh: true } if !outdated && leave == Leave::Start => {
            Plan::verb(Verb::Start)
        }
        Phase::Prepared { fresh: true } if !outdated => Plan::none(),
        Phase::Failed(failure) => retry(failure, wish, now_ms),
        Phase::Removed if !outdated => Plan::none(),
        Phase::Absent | Phase::Fetched | Phase::Prepared { .. } | Phase::Removed => {
            Plan::verb(Verb::Fetch)
        }
        Phase::Fetching
        | Phase::Preparing
        | Phase::Starting(_)
        | Phase::Fencing { .. }
        | Phase::Removing { .. } => Plan::none(),
    }
}

fn plan_refused(wish: &Wish, machine: &Machine, reason: &str, now_ms: u64) -> Plan {
    match &machine.phase {
        // What runs well is not ended over a description nobody can read.
        Phase::Running | Phase::Removed => Plan::none(),
        Phase::Stopping { cut_at_ms } => go_on_stopping(*cut_at_ms, wish, machine, now_ms),
        Phase::Stopped(ending) if ending.is_untold() => Plan::none(),
        Phase::Failed(failure) if !overtakes(wish, failure) => Plan::none(),
        _ => Plan::act(Action::Refuse(reason.to_owned())),
    }
}

/// Whether a wish ends a failure: it is newer, or the failure was not final.
fn overtakes(wish: &Wish, failure: &Failure) -> bool {
    wish.version > failure.version || failure.retry_at_ms.is_some()
}

fn retry(failure: &Failure, wish: &Wish, now_ms: u64) -> Plan {
    if wish.version > failure.version {
        return Plan::verb(Verb::Fetch);
    }
    match failure.retry_at_ms {
        Some(at_ms) => Plan::verb_at(Verb::Fetch, at_ms, now_ms),
        None => Plan::none(),
    }
}

fn stop(wish: &Wish, machine: &Machine) -> Plan {
    let outdated = machine.epoch < wish.version.epoch;
    Plan::verb(if wish.force || outdated {
        Verb::PowerCut
    } else {
        Verb::PowerButton
    })
}

fn go_on_stopping(cut_at_ms: u64, wish: &Wish, machine: &Machine, now_ms: u64) -> Plan {
    // Before the first failed cut, force means now; afterwards the pause counts.
    let hurry = wish.force && machine.failures == 0;
    let at_ms = if hurry { now_ms } else { cut_at_ms };
    Plan::verb_at(Verb::PowerCut, at_ms, now_ms)
}

fn wants_boot(ending: Ending, wish: &Wish, machine: &Machine) -> bool {
    match ending {
        Ending::Asked => true,
        Ending::FoundDead { told } | Ending::Fenced { told } => told,
        Ending::PoweredOff => machine.applied < wish.version || machine.owes_reboot(wish),
    }
}
