//! Hosts that were lost, and what began anew elsewhere.
//!
//! ```text
//!  silent ── every lease is over ──► fenced ── ReplaceInstance ──► elsewhere
//!    ▲                                 │                             │
//!    └───── its agent answers ─────────┘         the eviction stays ─┘
//! ```
//! A fence says: whatever of this host may be replaced does not run there, and
//! will not before its agent has answered and heard what it should have. It ends
//! when the agent answers. An eviction is what the old host still has to clear
//! away of an instance that has left it: its place stays reserved until it did,
//! and nothing new comes to a host that owes one.

use minicbor::{Decode, Encode};
use nube_billing::EndReason;
use nube_types::{InstanceId, Mib, NodeId, PlacementEpoch};

use crate::instance::{
    self, DesiredState, HostFailurePolicy, Instance, InstanceStage, InstanceState,
};
use crate::outcome::{Kind, Outcome, Refusal};
use crate::placement::{self, Explanation};
use crate::state::State;
use crate::table::Record;
use crate::{event, node, usage};

/// See [`crate::Command::FenceNode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct FenceNode {
    /// Which.
    #[n(0)]
    pub node: NodeId,
    /// One more than it has: a fence that was decided twice takes effect once.
    #[n(1)]
    pub fence_epoch: u64,
}

/// See [`crate::Command::ReplaceInstance`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReplaceInstance {
    /// Which.
    #[n(0)]
    pub instance: InstanceId,
    /// The host that it leaves.
    #[n(1)]
    pub from: NodeId,
    /// The placement that ends.
    #[n(2)]
    pub epoch: PlacementEpoch,
    /// The scheduler's choice.
    #[n(3)]
    pub to: NodeId,
    /// Why this host.
    #[n(4)]
    pub explanation: Option<Explanation>,
}

/// What a host has to clear away, and what that still takes there.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Eviction {
    /// Which instance left.
    #[n(0)]
    pub instance: InstanceId,
    /// From here.
    #[n(1)]
    pub node: NodeId,
    /// Of that placement.
    #[n(2)]
    pub epoch: PlacementEpoch,
    /// Of the wish to delete: newer than all that the host was told.
    #[n(3)]
    pub generation: u64,
    /// Reserved.
    #[n(4)]
    pub vcpus: u32,
    /// Reserved.
    #[n(5)]
    pub memory: Mib,
    /// Reserved.
    #[n(6)]
    pub disk: Mib,
}

impl Record for Eviction {
    type Key = (InstanceId, NodeId);
    const TABLE: u8 = 18;
    fn key(&self) -> (InstanceId, NodeId) {
        (self.instance, self.node)
    }
}

/// A host still owes something of this instance.
pub(crate) fn is_owed(state: &State, instance: InstanceId) -> bool {
    of(state, instance).next().is_some()
}

/// What hosts owe of this instance.
pub(crate) fn of(state: &State, instance: InstanceId) -> impl Iterator<Item = &Eviction> {
    state
        .evictions
        .range_from((instance, NodeId(0)))
        .take_while(move |eviction| eviction.instance == instance)
}

pub(crate) fn fence(state: &mut State, command: &FenceNode) -> Result<Outcome, Refusal> {
    let reference = || command.node.to_string();
    let mut node = state
        .nodes
        .get(&command.node)
        .cloned()
        .ok_or_else(|| Refusal::NotFound {
            kind: Kind::Node,
            reference: reference(),
        })?;
    let refused = |why: &str| Refusal::Fence {
        node: command.node,
        why: why.to_owned(),
    };
    if node.reachable {
        return Err(refused("its agent answers"));
    }
    if node.fence_epoch.checked_add(1) != Some(command.fence_epoch) {
        return Err(refused("it was fenced meanwhile"));
    }
    node.fence_epoch = command.fence_epoch;
    node.fenced = true;
    node.revision = state.index;
    let (id, name) = (reference(), node.facts.name.to_string());
    state.nodes.put(node);
    // The list that its agent gets names the fence.
    state.derived.node_wish.insert(command.node, state.index);
    state.placement_revision = state.index;
    event::note_node(
        state,
        id,
        name,
        "fenced: nothing that may be replaced runs there",
    );
    end_runs(state, command.node);
    Ok(Outcome::Done)
}

/// What may be replaced does not run on a fenced host: its runs ended at the
/// host's last proof of life, wherever it goes on.
fn end_runs(state: &mut State, node: NodeId) {
    let lost: Vec<Instance> = state
        .instances_on(node)
        .filter(|instance| instance.on_host_failure == HostFailurePolicy::Replace)
        .filter(|instance| instance.desired == DesiredState::Running)
        .filter(|instance| instance.state != InstanceState::Failed)
        .cloned()
        .collect();
    for mut instance in lost {
        let proven = instance::observe::last_proof(state, &instance);
        usage::close(state, &mut instance, proven, EndReason::HostLost);
        // A stop that was taken back is over as well.
        instance.state = InstanceState::Pending;
        instance.stage = InstanceStage::None;
        "its host was lost; it waits for room on another".clone_into(&mut instance.reason);
        instance::store(state, instance);
    }
}

pub(crate) fn replace(state: &mut State, command: &ReplaceInstance) -> Result<Outcome, Refusal> {
    let mut instance = check_leaving(state, command)?;
    check_new_host(state, command, &instance)?;
    let lost = state.nodes.get(&command.from);
    let lost = lost.map(|node| node.facts.name.to_string());
    instance.generation += 1;
    let eviction = Eviction {
        instance: instance.id,
        node: command.from,
        epoch: instance.epoch,
        generation: instance.generation,
        vcpus: instance.vcpus,
        memory: instance.memory,
        disk: instance.disk,
    };
    state.derived.note_eviction(&eviction);
    state.evictions.put(eviction);
    instance.epoch = PlacementEpoch(instance.epoch.0 + 1);
    instance.node = command.to;
    // The new host has fulfilled nothing.
    instance.applied_generation = 0;
    instance.state = match instance.desired {
        DesiredState::Stopped => InstanceState::Stopped,
        _ => InstanceState::Pending,
    };
    instance.stage = InstanceStage::None;
    instance.force = false;
    instance.reason.clear();
    // It may have waited for room: the new host has the whole time.
    instance.state_changed_at = state.time;
    event::note_replaced(state, &instance, &lost.unwrap_or_default());
    if let Some(explanation) = &command.explanation {
        placement::keep(state, instance.id, explanation);
    }
    let id = instance.id;
    instance::store(state, instance);
    Ok(Outcome::Instances(vec![id]))
}

fn check_leaving(state: &State, command: &ReplaceInstance) -> Result<Instance, Refusal> {
    let instance = state
        .instances
        .get(&command.instance)
        .filter(|instance| instance.desired != DesiredState::Deleted)
        .ok_or_else(|| Refusal::NotFound {
            kind: Kind::Instance,
            reference: command.instance.to_string(),
        })?;
    let refused = |why: &str| Refusal::Fence {
        node: command.from,
        why: why.to_owned(),
    };
    if (instance.node, instance.epoch) != (command.from, command.epoch) {
        return Err(refused("the instance left it already"));
    }
    if instance.on_host_failure != HostFailurePolicy::Replace {
        return Err(refused("the instance waits for it"));
    }
    let from = state.nodes.get(&command.from);
    if !from.is_some_and(|node| node.fenced) {
        return Err(refused("it is not fenced; the instance may run there"));
    }
    if instance.epoch.0 == u32::MAX {
        return Err(refused("the instance was placed too often"));
    }
    Ok(instance.clone())
}

/// At this very log index, as for a launch. A host that owes an eviction takes
/// nothing in, so the instance cannot meet its own remains.
fn check_new_host(
    state: &State,
    command: &ReplaceInstance,
    instance: &Instance,
) -> Result<(), Refusal> {
    let stale = |why| Refusal::StalePlacement {
        node: command.to,
        why,
    };
    let to = state.nodes.get(&command.to);
    let to = to.ok_or_else(|| stale("it is gone".to_owned()))?;
    let used = state.node_use(command.to);
    match to.misfit(&used, instance.vcpus, instance.memory, instance.disk) {
        Some(why) => Err(stale(why)),
        None => Ok(()),
    }
}

/// The old host's word that nothing is left. Called for each part of a report.
pub(crate) fn observe(
    state: &mut State,
    node: NodeId,
    observed: &crate::command::Observed,
) -> bool {
    let key = (observed.instance, node);
    let Some(eviction) = state.evictions.get(&key).cloned() else {
        return false;
    };
    if eviction.epoch != observed.epoch || observed.state != InstanceState::Deleted {
        return false;
    }
    state.evictions.remove(&key);
    state.derived.forget_eviction(&eviction);
    state.derived.node_wish.insert(node, state.index);
    state.placement_revision = state.index;
    node::settle(state, node);
    true
}
