//! Why an instance is where it is: the answer that its launch was given, kept
//! as long as the instance. It was computed outside; here it is only bounded.

use minicbor::{Decode, Encode};
use nube_types::limits::VERDICTS_KEPT_MAX;
use nube_types::{InstanceId, NodeId};

use crate::node::{Accelerator, Isolation, bounded};
use crate::state::State;
use crate::table::Record;

/// What an owner asks of a host beyond room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct HostNeeds {
    /// Only hosts of this zone.
    #[n(0)]
    pub zone: Option<String>,
    /// At least this one.
    #[n(1)]
    pub accelerator: Option<Accelerator>,
    /// At least this much.
    #[n(2)]
    pub isolation: Option<Isolation>,
    /// Prefer full hosts to empty ones.
    #[n(3)]
    pub pack: Option<bool>,
}

/// The scheduler's answer for one instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Explanation {
    /// The log index of the view that was judged.
    #[n(0)]
    pub revision: u64,
    /// Prefer full hosts to empty ones.
    #[n(1)]
    pub pack: bool,
    /// The chosen host first; the best known part of `hosts_total`.
    #[n(2)]
    pub hosts: Vec<HostVerdict>,
    /// How many were judged.
    #[n(3)]
    pub hosts_total: u32,
    /// How many of them fitted.
    #[n(4)]
    pub hosts_fitting: u32,
}

/// What was thought of one host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HostVerdict {
    /// Which.
    #[n(0)]
    pub node: NodeId,
    /// Higher wins; 0 for those that did not fit.
    #[n(1)]
    pub score: i64,
    /// One word, as `memory`; empty when it fitted.
    #[n(2)]
    pub refused_for: String,
    /// The same with numbers.
    #[n(3)]
    pub reason: String,
}

/// One instance's answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Placement {
    /// Whose.
    #[n(0)]
    pub instance: InstanceId,
    /// The answer.
    #[n(1)]
    pub explanation: Explanation,
}

impl Record for Placement {
    type Key = InstanceId;
    const TABLE: u8 = 17;
    fn key(&self) -> InstanceId {
        self.instance
    }
}

pub(crate) fn keep(state: &mut State, instance: InstanceId, explanation: &Explanation) {
    let mut explanation = explanation.clone();
    explanation.hosts.truncate(VERDICTS_KEPT_MAX);
    for host in &mut explanation.hosts {
        host.refused_for = bounded(&host.refused_for);
        host.reason = bounded(&host.reason);
    }
    state.placements.put(Placement {
        instance,
        explanation,
    });
}
