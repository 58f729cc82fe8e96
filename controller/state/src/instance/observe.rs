//! What agents see. A report counts once, for what is placed on its node, in
//! the epoch it belongs to; everything else in it changes nothing.
//!
//! `failed` is left by a wish or by a proof that the machine runs, never by
//! mere progress: otherwise a deadline would be an endless round.

use std::collections::BTreeSet;

use nube_billing::EndReason;
use nube_types::InstanceId;

use crate::command::{Observed, ReportInstances};
use crate::instance::{self, DesiredState, Instance, InstanceStage, InstanceState};
use crate::node::{bounded, bounded_unknown};
use crate::outcome::{Kind, Outcome, Refusal};
use crate::state::State;
use crate::{eviction, usage};

pub(crate) fn report(state: &mut State, command: &ReportInstances) -> Result<Outcome, Refusal> {
    let reference = || command.node.to_string();
    let node = state
        .nodes
        .get(&command.node)
        .cloned()
        .ok_or_else(|| Refusal::NotFound {
            kind: Kind::Node,
            reference: reference(),
        })?;
    let order = (command.agent_epoch, command.sequence);
    if order <= (node.facts.agent_epoch, node.last_sequence)
        || command.agent_epoch != node.facts.agent_epoch
    {
        return Ok(Outcome::Done);
    }
    // On its way when the host was fenced: what it says of guests is over.
    if node.fenced {
        let why = "it is fenced; its agent has to say hello first".to_owned();
        let node = command.node;
        return Err(Refusal::Fence { node, why });
    }
    // Once each: two answers in one entry would be two transitions at one index.
    let mut listed = BTreeSet::new();
    for observed in &command.observed {
        if !listed.insert(observed.instance) {
            continue;
        }
        if eviction::observe(state, command.node, observed) {
            continue;
        }
        let placed = state
            .instances
            .get(&observed.instance)
            .cloned()
            .filter(|instance| {
                instance.node == command.node
                    && instance.epoch == observed.epoch
                    && instance.holds_place()
            });
        if let Some(instance) = placed {
            observe(state, instance, observed);
        }
    }
    if command.full {
        lose_the_unlisted(state, command, &listed);
    }
    let (index, time) = (state.index, state.time);
    state.nodes.update(&command.node, |node| {
        node.last_sequence = command.sequence;
        let unknown = bounded_unknown(&command.unknown);
        if command.full && node.facts.unknown != unknown {
            node.facts.unknown = unknown;
            node.revision = index;
        }
        // A report is a proof of life of what it lists as running; only now,
        // after ends that were found late have been dated by the proof before.
        node.last_seen = time;
    });
    Ok(Outcome::Done)
}

fn observe(state: &mut State, mut instance: Instance, observed: &Observed) {
    let owed = instance.applied_generation < instance.generation;
    let applied = observed.applied_generation.min(instance.generation);
    instance.applied_generation = instance.applied_generation.max(applied);
    let current = observed.applied_generation >= instance.generation;
    match instance.desired {
        DesiredState::Deleted => see_deleting(&mut instance, observed),
        DesiredState::Stopped if current => see_stopping(&mut instance, observed, owed),
        // It still goes down, or is told of the stop only now.
        DesiredState::Stopped => {}
        DesiredState::Running => see_running(state, &mut instance, observed, current),
    }
    instance::store(state, instance);
}

fn see_deleting(instance: &mut Instance, observed: &Observed) {
    if observed.state == InstanceState::Deleted {
        instance::life::conclude_delete(instance, true);
    } else if observed.state == InstanceState::Failed {
        instance.reason = bounded(&observed.reason);
    }
}

/// `owed`: the host had not fulfilled the stop before.
fn see_stopping(instance: &mut Instance, observed: &Observed, owed: bool) {
    match observed.state {
        // A loss (see below) owes nothing and stays told.
        InstanceState::Stopped if instance.state == InstanceState::Failed && !owed => {}
        // The reason of a power-off stays, too.
        InstanceState::Stopped if instance.state == InstanceState::Stopped => {}
        InstanceState::Stopped | InstanceState::Deleted => {
            instance.state = InstanceState::Stopped;
            instance.stage = InstanceStage::None;
            instance.reason.clear();
        }
        InstanceState::Failed => {
            instance.state = InstanceState::Failed;
            instance.reason = bounded(&observed.reason);
        }
        _ => {}
    }
}

fn see_running(state: &mut State, instance: &mut Instance, observed: &Observed, current: bool) {
    match observed.state {
        // Running: a reboot; between two boots the machine stays rented.
        InstanceState::Pending | InstanceState::Starting
            if !matches!(
                instance.state,
                InstanceState::Running | InstanceState::Failed
            ) =>
        {
            instance.state = InstanceState::Starting;
            instance.stage = observed.stage;
        }
        InstanceState::Running if current || instance.is_metered(state) => {
            instance.state = InstanceState::Running;
            instance.stage = InstanceStage::Running;
            instance.reason.clear();
            usage::open(state, instance);
        }
        InstanceState::Stopped if observed.found_dead => {
            if instance.state == InstanceState::Failed {
                return;
            }
            // It ended unseen: proven up to the node's last sign of life only.
            let proven = last_proof(state, instance);
            usage::close(state, instance, proven, EndReason::HostLost);
            instance.state = InstanceState::Pending;
            instance.stage = InstanceStage::None;
        }
        InstanceState::Stopped if current => {
            usage::close(state, instance, state.time, EndReason::Failed);
            instance.desired = DesiredState::Stopped;
            instance.generation += 1;
            // The host is there already: nothing is owed for this wish.
            instance.applied_generation = instance.generation;
            instance.state = InstanceState::Stopped;
            instance.stage = InstanceStage::None;
            instance.reason = "the guest switched itself off".to_owned();
        }
        // A start that failed fulfilled nothing, so its report need not be
        // current. Only a wish that waits for its first sign is not answered by
        // the failure of the wish before it.
        InstanceState::Failed if current || !awaits_first_sign(instance) => {
            fail(state, instance, &observed.reason);
        }
        _ => {}
    }
}

fn awaits_first_sign(instance: &Instance) -> bool {
    instance.generation > 1
        && matches!(
            instance.state,
            InstanceState::Pending | InstanceState::Stopping
        )
}

fn fail(state: &mut State, instance: &mut Instance, reason: &str) {
    usage::close(state, instance, state.time, EndReason::Failed);
    instance.state = InstanceState::Failed;
    instance.reason = bounded(reason);
}

/// Instances the node once had and no longer knows: its disk was lost. The wish
/// becomes `stopped`, or the host would make a blank one under the same name; the
/// owner decides. Deletes wait for the host's word as always: a wish to run may
/// still be on its way there.
fn lose_the_unlisted(state: &mut State, command: &ReportInstances, listed: &BTreeSet<InstanceId>) {
    let lost: Vec<Instance> = state
        .instances_on(command.node)
        .filter(|instance| instance.applied_generation > 0 && !listed.contains(&instance.id))
        .filter(|instance| instance.desired != DesiredState::Deleted && !is_told_lost(instance))
        .cloned()
        .collect();
    for mut instance in lost {
        let proven = last_proof(state, &instance);
        usage::close(state, &mut instance, proven, EndReason::HostLost);
        instance.desired = DesiredState::Stopped;
        instance.generation += 1;
        instance.applied_generation = instance.generation;
        instance.state = InstanceState::Failed;
        instance.stage = InstanceStage::None;
        instance.reason = format!(
            "its host lost it, disk and all; `cloudctl start {}` makes it anew from its image, \
             or delete it",
            instance.name
        );
        instance::store(state, instance);
    }
}

fn is_told_lost(instance: &Instance) -> bool {
    instance.desired == DesiredState::Stopped
        && instance.state == InstanceState::Failed
        && instance.applied_generation == instance.generation
}

pub(crate) fn last_proof(state: &State, instance: &Instance) -> nube_types::TimestampMs {
    state
        .nodes
        .get(&instance.node)
        .map_or(state.time, |node| node.last_seen)
}
