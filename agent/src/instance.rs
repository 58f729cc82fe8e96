//! What one instance is on this host, and how events change that. Pure: no
//! clock, no I/O, no tokio; `now_ms` comes in.
//!
//! ```text
//! Absent ─► Fetching ─► Fetched ─► Preparing ─► Prepared ─► Starting ─► Running
//!    ▲          ▲______________________________________________│          │
//!    │          │  every start walks this road again: after a host        ▼
//!    │          │  reboot taps and cgroups are gone, so the        Stopping, then
//!    │          │  common path is the recovery path                    Stopped
//!    │     Failed (retried a few times, then waits for a newer wish)
//! Removed ◄─ Removing ◄─ any state: delete wins
//! ```
//!
//! `plan` decides the next step, `begin` notes that it was begun (and is
//! written down before it is done), `finished` and `ended` say what came of it.

pub mod record;
mod transition;

use std::sync::Arc;

use nube_types::{InstanceId, PlacementEpoch};

use crate::driver::{GuestExit, GuestSpec, Run};

/// Failures in a row before a start is given up: with the pauses below about
/// half a minute. More hides real trouble from the owner; fewer turns a busy
/// host into a failed launch.
pub const START_ATTEMPTS_MAX: u32 = 5;
/// First pause after a failure; doubles each time.
const RETRY_MS_FIRST: u64 = 1_000;
/// Longest pause: a stuck delete is tried at least this often.
const RETRY_MS_MAX: u64 = 30_000;

/// Orders wishes: a newer placement beats every generation of an older one.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Version {
    /// How often the instance has been placed.
    pub epoch: PlacementEpoch,
    /// Which wish of that placement.
    pub generation: u64,
}

/// What the leader wants of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Of which instance.
    pub instance: InstanceId,
    /// Older ones are refused.
    pub version: Version,
    /// What should be.
    pub desire: Desire,
    /// Grows with each reboot that was asked for.
    pub reboot_count: u64,
    /// Skip the power button.
    pub force: bool,
}

/// What should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desire {
    /// It runs, made of this.
    Running(Arc<GuestSpec>),
    /// It is off; the disk stays.
    Stopped,
    /// Nothing of it is left.
    Deleted,
    /// It should run, but its description makes no sense; the text says why.
    Refused(String),
}

/// A step on the host. At most one per instance is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Verb {
    /// Bring the image files into the cache. Touches nothing of the instance.
    Fetch,
    /// Everything but the process.
    Prepare,
    /// The machine process.
    Start,
    /// Ask the guest to end.
    PowerButton,
    /// End it.
    PowerCut,
    /// Remove every trace.
    Remove,
}

/// A verb under way. The token tells a late answer from the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy {
    /// What is being done.
    pub verb: Verb,
    /// Names this attempt.
    pub token: u64,
}

/// What a finished verb has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It worked.
    Ok,
    /// A start worked; this life runs now.
    Started(Run),
    /// It failed; the driver's reason.
    Failed(String),
}

/// What a successful start fulfils.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Goal {
    /// This wish,
    pub version: Version,
    /// and every reboot up to here: a boot after the request is a reboot.
    pub reboot_count: u64,
}

/// Where the instance is in its life on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was done for it yet.
    Absent,
    /// Image files are on their way.
    Fetching,
    /// Image files are here.
    Fetched,
    /// Disk, seed, port are being made.
    Preparing,
    /// All is ready but the process. Not `fresh` after an agent restart: the
    /// host may have rebooted, so it is prepared again.
    Prepared {
        /// Prepared by this agent process.
        fresh: bool,
    },
    /// The process is being started.
    Starting(Goal),
    /// The process runs; `Machine::run` names it.
    Running,
    /// It was asked to end.
    Stopping {
        /// When the power is cut.
        cut_at_ms: u64,
    },
    /// The host's lease ran out: its power is cut, wish or no wish, and again
    /// at `retry_at_ms` when that failed.
    Fencing {
        /// Pause after a failure.
        retry_at_ms: u64,
    },
    /// It does not run.
    Stopped(Ending),
    /// Being removed; tried again at `retry_at_ms` when that failed.
    Removing {
        /// Pause after a failure.
        retry_at_ms: u64,
    },
    /// No trace is left; kept until the leader no longer lists it.
    Removed,
    /// Something went wrong.
    Failed(Failure),
}

/// Why it does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Ending {
    /// A wish.
    Asked,
    /// The guest switched itself off. It is not started again for the wish
    /// that was fulfilled already: the owner's `poweroff` is a wish too.
    PoweredOff,
    /// The process ended while no agent watched.
    FoundDead {
        /// The leader has committed it. Only then may it start again, or the
        /// gap would vanish from the history and from the bill.
        told: bool,
    },
    /// It was cut because the host's lease ran out: it may run elsewhere by now.
    Fenced {
        /// As above: nobody listened when it ended.
        told: bool,
    },
}

impl Ending {
    /// Whether the leader still has to learn of an end that it could not see.
    #[must_use]
    pub fn is_untold(self) -> bool {
        matches!(
            self,
            Self::FoundDead { told: false } | Self::Fenced { told: false }
        )
    }
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The verb that failed; none: the process crashed, or the disk is gone.
    pub verb: Option<Verb>,
    /// For people: why and what to do next.
    pub reason: String,
    /// When it is tried again; none: a newer wish is needed.
    pub retry_at_ms: Option<u64>,
    /// The wish that failed.
    pub version: Version,
}

/// One instance on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Which instance.
    pub id: InstanceId,
    /// The newest wish that was taken; older ones are refused.
    pub accepted: Version,
    /// The newest wish that was fulfilled.
    pub applied: Version,
    /// The placement that the present phase serves.
    pub epoch: PlacementEpoch,
    /// Reboots fulfilled. Unknown after the journal was lost: then those asked
    /// so far count as done, since a running guest must not be rebooted for it.
    pub reboots: Option<u64>,
    /// The newest life known here.
    pub run: Option<Run>,
    /// Between the power button of a reboot and the next boot.
    pub rebooting: bool,
    /// A preparation was begun: the host may hold traces.
    pub touched: bool,
    /// A preparation was finished: there is a disk with the tenant's data.
    pub prepared: bool,
    /// Where it is.
    pub phase: Phase,
    /// The verb under way.
    pub busy: Option<Busy>,
    /// Failures in a row.
    pub failures: u32,
    /// What failed last, while it is tried again.
    pub trouble: String,
    /// An end that arrived before the start it belongs to had answered.
    pub early_end: Option<(Run, GuestExit)>,
}

impl Machine {
    /// An instance nothing was done for yet.
    #[must_use]
    pub fn new(id: InstanceId) -> Self {
        Self {
            id,
            accepted: Version::default(),
            applied: Version::default(),
            epoch: PlacementEpoch::default(),
            reboots: Some(0),
            run: None,
            rebooting: false,
            touched: false,
            prepared: false,
            phase: Phase::Absent,
            busy: None,
            failures: 0,
            trouble: String::new(),
            early_end: None,
        }
    }

    /// Whether a wish counts, and notes it. An older one is refused: it comes
    /// from a deposed leader or a delayed message.
    pub fn take(&mut self, wish: &Wish) -> bool {
        if wish.version < self.accepted {
            return false;
        }
        if wish.version > self.accepted {
            // A newer wish starts with fresh patience.
            self.failures = 0;
        }
        self.accepted = wish.version;
        self.reboots.get_or_insert(wish.reboot_count);
        if !matches!(wish.desire, Desire::Running(_)) {
            self.rebooting = false;
        }
        true
    }

    /// Whether a reboot was asked for that no boot has fulfilled.
    #[must_use]
    pub fn owes_reboot(&self, wish: &Wish) -> bool {
        self.reboots.is_some_and(|done| wish.reboot_count > done)
    }

    /// Whether a process runs, or a reboot says that one does.
    #[must_use]
    pub fn is_on(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Stopping { .. }) || self.rebooting
    }

    /// The generation to report: only wishes of the present placement count.
    #[must_use]
    pub fn applied_generation(&self) -> u64 {
        if self.applied.epoch == self.epoch {
            self.applied.generation
        } else {
            0
        }
    }
}

/// The pause after the n-th failure in a row.
#[must_use]
pub fn retry_ms(failures: u32) -> u64 {
    let doubled = RETRY_MS_FIRST << failures.saturating_sub(1).min(16);
    doubled.min(RETRY_MS_MAX)
}
