//! Nodes: compute hosts. Facts come from their agents; liveness from the
//! leader; what is used is derived from the instances placed there.

use minicbor::{Decode, Encode};
use nube_types::limits::{NODES_MAX, REASON_BYTES_MAX};
use nube_types::{Labels, Mib, Name, NodeId, TimestampMs, label};

use crate::command::{SetNodeLabels, SetNodeReachable};
use crate::eviction::Eviction;
use crate::instance::{self, Instance};
use crate::outcome::{Kind, Outcome, Refusal};
use crate::state::State;
use crate::table::Record;
use crate::{event, network};

/// More unknown things than this are not listed one by one.
const UNKNOWN_LISTED_MAX: usize = 20;
/// Drivers that a host may name; there are a handful in the world.
const DRIVERS_MAX: usize = 16;

/// How guests run there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Accelerator {
    /// Emulation.
    #[n(0)]
    Tcg,
    /// Hardware virtualisation.
    #[n(1)]
    Kvm,
}

/// What the host guarantees between guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Isolation {
    /// Nothing (emulation).
    #[n(0)]
    None,
    /// Hardware virtualisation.
    #[n(1)]
    Hardware,
}

/// What an agent says of its host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NodeFacts {
    /// From the agent's certificate.
    #[n(0)]
    pub id: NodeId,
    /// Unique in the cell.
    #[n(1)]
    pub name: Name,
    /// Failure domain.
    #[n(2)]
    pub zone: String,
    /// Grows with each start of the agent.
    #[n(3)]
    pub agent_epoch: u64,
    /// Changes with each boot of the host.
    #[n(4)]
    pub boot_id: String,
    /// Of the agent.
    #[n(5)]
    pub agent_version: String,
    /// Of QEMU.
    #[n(6)]
    pub hypervisor_version: String,
    /// Of the host.
    #[n(7)]
    pub kernel_version: String,
    /// Cores for guests.
    #[n(8)]
    pub vcpus: u32,
    /// 400 = four virtual CPUs per core.
    #[n(9)]
    pub vcpu_overcommit_percent: u32,
    /// For guests.
    #[n(10)]
    pub memory: Mib,
    /// For guests.
    #[n(11)]
    pub disk: Mib,
    /// What works there.
    #[n(12)]
    pub accelerator: Accelerator,
    /// Why not a better one.
    #[n(13)]
    pub accelerator_reason: String,
    /// What it guarantees.
    #[n(14)]
    pub isolation: Isolation,
    /// As `qemu`.
    #[n(15)]
    pub drivers: Vec<String>,
    /// Checked labels.
    #[n(16)]
    pub labels: Labels,
    /// Found there and explained by nothing.
    #[n(17)]
    pub unknown: Vec<String>,
    /// IPv4 address that other hosts send networks' packets to; absent: none.
    #[cbor(n(18), skip_if = "crate::table::is_default")]
    pub overlay_address: Option<u32>,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Node {
    /// As the agent said.
    #[n(0)]
    pub facts: NodeFacts,
    /// The leader hears its agent.
    #[n(1)]
    pub reachable: bool,
    /// An operator took it out of placement.
    #[n(2)]
    pub drained: bool,
    /// The last committed proof of life.
    #[n(3)]
    pub last_seen: TimestampMs,
    /// Of the last report that counted, under `facts.agent_epoch`.
    #[n(4)]
    pub last_sequence: u64,
    /// Log index of the last change.
    #[n(5)]
    pub revision: u64,
    /// Since when the leader hears its agent: deadlines do not run in silence.
    #[n(6)]
    pub reachable_since: TimestampMs,
    /// Its agent came back with less than was promised here already. True exactly
    /// as long as what is reserved exceeds the facts.
    #[n(7)]
    pub oversold: bool,
    /// Given by operators; they win over those of the agent.
    #[n(8)]
    pub operator_labels: Option<Labels>,
    /// How often it was fenced (see `eviction.rs`).
    #[cbor(n(9), skip_if = "crate::table::is_default")]
    pub fence_epoch: u64,
    /// Fenced, and its agent has not answered since.
    #[cbor(n(10), skip_if = "crate::table::is_default")]
    pub fenced: bool,
}

impl Record for Node {
    type Key = NodeId;
    const TABLE: u8 = 7;
    fn key(&self) -> NodeId {
        self.facts.id
    }
}

/// What the instances placed on a node reserve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeUse {
    /// How many.
    pub instances: u32,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest memory.
    pub memory: Mib,
    /// Root disks.
    pub disk: Mib,
    /// Instances that left and are not cleared away; what they take is in the
    /// sums above, they are not among `instances`.
    pub evictions: u32,
}

impl NodeUse {
    pub(crate) fn reserve(&mut self, instance: &Instance) {
        // Saturating: a damaged snapshot must end in an error, not a panic.
        self.instances = self.instances.saturating_add(1);
        self.vcpus = self.vcpus.saturating_add(instance.vcpus);
        self.memory.0 = self.memory.0.saturating_add(instance.memory.0);
        self.disk.0 = self.disk.0.saturating_add(instance.disk.0);
    }

    pub(crate) fn owe(&mut self, eviction: &Eviction) {
        self.evictions = self.evictions.saturating_add(1);
        self.vcpus = self.vcpus.saturating_add(eviction.vcpus);
        self.memory.0 = self.memory.0.saturating_add(eviction.memory.0);
        self.disk.0 = self.disk.0.saturating_add(eviction.disk.0);
    }

    pub(crate) fn settle(&mut self, eviction: &Eviction) {
        self.evictions = self.evictions.saturating_sub(1);
        self.vcpus = self.vcpus.saturating_sub(eviction.vcpus);
        self.memory.0 = self.memory.0.saturating_sub(eviction.memory.0);
        self.disk.0 = self.disk.0.saturating_sub(eviction.disk.0);
    }

    pub(crate) fn release(&mut self, instance: &Instance) {
        self.instances = self.instances.saturating_sub(1);
        self.vcpus = self.vcpus.saturating_sub(instance.vcpus);
        self.memory.0 = self.memory.0.saturating_sub(instance.memory.0);
        self.disk.0 = self.disk.0.saturating_sub(instance.disk.0);
    }
}

impl Node {
    /// The agent's labels, and the operators' over them.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let mut labels = self.facts.labels.clone();
        labels.extend(self.operator_labels.clone().unwrap_or_default());
        labels
    }

    /// Virtual CPUs that may be promised: cores times the overcommit.
    #[must_use]
    pub fn vcpus_promised_max(&self) -> u64 {
        u64::from(self.facts.vcpus) * u64::from(self.facts.vcpu_overcommit_percent) / 100
    }

    /// More is reserved than the host offers.
    #[must_use]
    pub fn exceeded_by(&self, used: &NodeUse) -> bool {
        u64::from(used.vcpus) > self.vcpus_promised_max()
            || used.memory > self.facts.memory
            || used.disk > self.facts.disk
    }

    /// Notes a sign of life. Until the first report of a new agent counts, it
    /// proves only the agent: which guests ended in between is not told yet, and
    /// their end must be dated by the last proof before (see `observe`).
    pub(crate) fn prove(&mut self, at: TimestampMs) {
        if self.last_sequence > 0 {
            self.last_seen = self.last_seen.max(at);
        }
    }

    fn hear(&mut self, reachable: bool, now: TimestampMs) {
        if reachable {
            if !self.reachable {
                self.reachable_since = now;
            }
            // What was not replaced yet is its own again, and needs another
            // fence before anybody else may start it.
            self.fenced = false;
        }
        self.reachable = reachable;
    }

    /// Why these sizes do not fit on top of what is used; `None` when they do.
    #[must_use]
    pub fn misfit(&self, used: &NodeUse, vcpus: u32, memory: Mib, disk: Mib) -> Option<String> {
        let lack = |what: &str, want: u64, used: u64, total: u64| {
            let free = total.saturating_sub(used);
            (want > free).then(|| format!("{what}: needs {want}, {free} of {total} free"))
        };
        if !self.reachable {
            return Some("its agent does not answer".to_owned());
        }
        if self.drained {
            return Some("it is drained".to_owned());
        }
        if used.evictions > 0 {
            let count = used.evictions;
            return Some(format!("it still has to clear away {count} that left it"));
        }
        lack(
            "vcpus",
            vcpus.into(),
            used.vcpus.into(),
            self.vcpus_promised_max(),
        )
        .or_else(|| lack("memory MiB", memory.0, used.memory.0, self.facts.memory.0))
        .or_else(|| lack("disk MiB", disk.0, used.disk.0, self.facts.disk.0))
    }
}

pub(crate) fn register(state: &mut State, facts: &NodeFacts) -> Result<Outcome, Refusal> {
    let named = |node: &Node| node.facts.name == facts.name && node.facts.id != facts.id;
    if state.nodes.iter().any(named) {
        return Err(Refusal::NameTaken {
            kind: Kind::Node,
            name: facts.name.clone(),
        });
    }
    label::check(&facts.labels).map_err(|rule| Refusal::Invalid {
        field: "labels".to_owned(),
        rule,
    })?;
    let mut node = match state.nodes.get(&facts.id) {
        // A hello of an agent that was replaced since: it says nothing new.
        Some(known) if known.facts.agent_epoch > facts.agent_epoch => return Ok(Outcome::Done),
        // `last_seen` stays: what was found dead after a restart was proven
        // alive only by the agent before it.
        Some(known) => known.clone(),
        None if state.nodes.len() >= NODES_MAX => {
            let limit = NODES_MAX as u64;
            return Err(Refusal::LimitReached {
                what: "nodes".to_owned(),
                limit,
            });
        }
        None => Node {
            facts: facts.clone(),
            reachable: false,
            drained: false,
            last_seen: state.time,
            last_sequence: 0,
            revision: 0,
            reachable_since: state.time,
            oversold: false,
            operator_labels: None,
            fence_epoch: 0,
            fenced: false,
        },
    };
    if node.facts.agent_epoch < facts.agent_epoch {
        node.last_sequence = 0;
    }
    let told = |node: &Node| (node.reachable, node.facts.overlay_address);
    let before = told(&node);
    node.facts = bounded_facts(facts);
    node.hear(true, state.time);
    if told(&node) != before {
        network::touch_host(state, facts.id);
    }
    node.oversold = node.exceeded_by(&state.node_use(facts.id));
    node.revision = state.index;
    state.placement_revision = state.index;
    state.nodes.put(node);
    Ok(Outcome::Done)
}

/// An agent's texts are for people and as short as people read.
fn bounded_facts(facts: &NodeFacts) -> NodeFacts {
    NodeFacts {
        zone: bounded(&facts.zone),
        boot_id: bounded(&facts.boot_id),
        agent_version: bounded(&facts.agent_version),
        hypervisor_version: bounded(&facts.hypervisor_version),
        kernel_version: bounded(&facts.kernel_version),
        accelerator_reason: bounded(&facts.accelerator_reason),
        drivers: facts
            .drivers
            .iter()
            .take(DRIVERS_MAX)
            .map(|name| bounded(name))
            .collect(),
        unknown: bounded_unknown(&facts.unknown),
        ..facts.clone()
    }
}

/// What was found on a host, cut to a length that people read.
pub(crate) fn bounded_unknown(unknown: &[String]) -> Vec<String> {
    unknown
        .iter()
        .take(UNKNOWN_LISTED_MAX)
        .map(|text| bounded(text))
        .collect()
}

/// Called when a place was given back: an oversold host may fit again.
pub(crate) fn settle(state: &mut State, id: NodeId) {
    let used = state.node_use(id);
    let settled = |node: &Node| node.oversold && !node.exceeded_by(&used);
    if state.nodes.get(&id).is_some_and(settled) {
        let index = state.index;
        state.nodes.update(&id, |node| {
            node.oversold = false;
            node.revision = index;
        });
        state.placement_revision = index;
    }
}

pub(crate) fn set_reachable(
    state: &mut State,
    command: &SetNodeReachable,
) -> Result<Outcome, Refusal> {
    let (index, time) = (state.index, state.time);
    let mut changed = None;
    let found = state.nodes.update(&command.node, |node| {
        if node.reachable != command.reachable {
            changed = Some(node.facts.name.to_string());
        }
        node.hear(command.reachable, time);
        node.prove(command.last_seen.min(time));
        node.revision = index;
    });
    if !found {
        let reference = command.node.to_string();
        return Err(Refusal::NotFound {
            kind: Kind::Node,
            reference,
        });
    }
    if let Some(name) = changed {
        state.placement_revision = index;
        let word = if command.reachable {
            "reachable"
        } else {
            "unreachable"
        };
        network::touch_host(state, command.node);
        event::note_node(state, command.node.to_string(), name, word);
    }
    if !command.reachable {
        instance::life::finish_deletes_without_host(state, command.node);
    }
    Ok(Outcome::Done)
}

pub(crate) fn set_drained(
    state: &mut State,
    node: NodeId,
    drained: bool,
) -> Result<Outcome, Refusal> {
    let index = state.index;
    let found = state.nodes.update(&node, |node| {
        if node.drained != drained {
            node.drained = drained;
            node.revision = index;
        }
    });
    if !found {
        return Err(absent(node));
    }
    state.placement_revision = index;
    Ok(Outcome::Done)
}

fn absent(node: NodeId) -> Refusal {
    Refusal::NotFound {
        kind: Kind::Node,
        reference: node.to_string(),
    }
}

pub(crate) fn set_labels(state: &mut State, command: &SetNodeLabels) -> Result<Outcome, Refusal> {
    let mut node = state
        .nodes
        .get(&command.node)
        .cloned()
        .ok_or_else(|| absent(command.node))?;
    let mut labels = node.operator_labels.unwrap_or_default();
    for key in &command.remove {
        labels.remove(key);
    }
    labels.extend(command.set.clone());
    label::check(&labels).map_err(|rule| Refusal::Invalid {
        field: "labels".to_owned(),
        rule,
    })?;
    node.operator_labels = Some(labels);
    node.revision = state.index;
    state.nodes.put(node);
    state.placement_revision = state.index;
    Ok(Outcome::Done)
}

/// A text for people, cut at a character boundary.
pub(crate) fn bounded(text: &str) -> String {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
