//! A simulated agent: the real hub and the real reconciler core over a simulated host. The
//! shells that are replaced here only keep files and move bytes.

pub mod host;
pub mod links;
pub mod process;

use std::collections::BTreeMap;

use nube_agent::reconciler::core::Core;
use nube_agent::report::View;
use nube_agent::session::hub::Hub;
use nube_types::NodeId;
use tokio::sync::watch;

use crate::clock::Clock;
use host::Host;
use links::Link;

/// One host and its agent, in all their lives.
pub struct Agent {
    /// As the cell knows it.
    pub node: NodeId,
    /// What survives the agent.
    pub host: Host,
    /// Number of the agent's process.
    pub life: u64,
    /// Absent while it is down.
    pub process: Option<Process>,
    /// The host's clocks.
    pub clock: Clock,
    /// The whole host stands still until then.
    pub paused_until_ms: u64,
    /// It reports what is not so.
    pub lies: bool,
}

/// What an agent's process holds.
pub struct Process {
    pub(crate) core: Core,
    pub(crate) hub: Hub,
    pub(crate) view: View,
    pub(crate) agent_epoch: u64,
    pub(crate) wanted: watch::Receiver<Vec<String>>,
    pub(crate) links: BTreeMap<usize, Link>,
    pub(crate) next_link: usize,
    pub(crate) wake_at_ms: Option<u64>,
}

impl Agent {
    /// A host without guests.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self {
            node: NodeId(number),
            host: Host::default(),
            life: 0,
            process: None,
            clock: Clock::default(),
            paused_until_ms: 0,
            lies: false,
        }
    }

    /// The host's own milliseconds: it goes on while the host stands still, as
    /// CLOCK_BOOTTIME does.
    #[must_use]
    pub fn boottime_ms(&self, now_ms: u64) -> u64 {
        self.clock.monotonic_ms(now_ms)
    }
}
