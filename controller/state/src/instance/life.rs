//! Deadlines and ends: every transitional state has an exit even when its owner
//! never answers, and every delete finishes.

use nube_types::limits::{DELETED_KEPT_MS, STARTING_DEADLINE_MS, STOPPING_DEADLINE_MS};
use nube_types::{InstanceId, NodeId};

use crate::instance::{self, DesiredState, Instance, InstanceStage, InstanceState};
use crate::state::State;

/// Bounds the work of one tick; the next tick goes on.
const AT_ONCE: usize = 1_000;

/// The deadline of a transitional state, in ms of replicated time. `None`: the
/// state needs none.
#[must_use]
pub fn deadline_ms(state: InstanceState) -> Option<u64> {
    match state {
        InstanceState::Pending | InstanceState::Starting => Some(STARTING_DEADLINE_MS),
        InstanceState::Stopping | InstanceState::Deleting => Some(STOPPING_DEADLINE_MS),
        InstanceState::Running
        | InstanceState::Stopped
        | InstanceState::Deleted
        | InstanceState::Failed => None,
    }
}

/// Ends a delete for its owner. Unless the host confirmed, address and capacity
/// stay reserved until it does: the guest may still be running there.
pub(crate) fn conclude_delete(instance: &mut Instance, host_confirmed: bool) {
    instance.state = InstanceState::Deleted;
    instance.stage = InstanceStage::None;
    instance.host_owes_cleanup = !host_confirmed;
    instance.reason.clear();
    // Nothing of the tenant's is needed any more.
    instance.user_data_sealed.clear();
    instance.authorized_keys.clear();
}

/// A node fell silent: what was being deleted there is deleted for its owner.
pub(crate) fn finish_deletes_without_host(state: &mut State, node: NodeId) {
    let deleting: Vec<Instance> = state
        .instances_on(node)
        .filter(|instance| instance.state == InstanceState::Deleting)
        .cloned()
        .collect();
    for mut instance in deleting {
        conclude_delete(&mut instance, false);
        instance::store(state, instance);
    }
}

/// Called at each tick.
pub(crate) fn advance(state: &mut State) {
    enforce_deadlines(state);
    purge_deleted(state);
}

fn enforce_deadlines(state: &mut State) {
    let overdue: Vec<InstanceId> = state
        .derived
        .transitional
        .iter()
        .filter(|id| {
            state
                .instances
                .get(id)
                .is_some_and(|i| is_overdue(state, i))
        })
        .take(AT_ONCE)
        .copied()
        .collect();
    for id in overdue {
        let Some(mut instance) = state.instances.get(&id).cloned() else {
            continue;
        };
        if instance.state == InstanceState::Deleting {
            conclude_delete(&mut instance, false);
        } else {
            let verb = match instance.desired {
                DesiredState::Stopped => "stop --force",
                DesiredState::Running | DesiredState::Deleted => "start",
            };
            instance.reason = format!(
                "its host did not finish `{}` in time; try `cloudctl {verb} {}` or delete it",
                instance.state.word(),
                instance.name
            );
            instance.state = InstanceState::Failed;
        }
        instance::store(state, instance);
    }
}

/// A silent host gets no deadline for starts and stops: nobody can tell what is
/// so there, and guests are left alone. One that is back gets the whole time.
fn is_overdue(state: &State, instance: &Instance) -> bool {
    let Some(limit) = deadline_ms(instance.state) else {
        return false;
    };
    let late = |since| state.time.since_ms(since) >= limit;
    if instance.state == InstanceState::Deleting {
        return late(instance.state_changed_at);
    }
    let node = state
        .nodes
        .get(&instance.node)
        .filter(|node| node.reachable);
    node.is_some_and(|node| late(instance.state_changed_at.max(node.reachable_since)))
}

fn purge_deleted(state: &mut State) {
    let over: Vec<Instance> = state
        .derived
        .deleted
        .iter()
        .filter_map(|id| state.instances.get(id))
        .filter(|i| !i.host_owes_cleanup)
        .filter(|i| state.time.since_ms(i.state_changed_at) >= DELETED_KEPT_MS)
        .take(AT_ONCE)
        .cloned()
        .collect();
    for instance in over {
        state.derived.forget_instance(&instance);
        state.derived.owned.remove(&(instance.project, instance.id));
        state.instances.remove(&instance.id);
        state.placements.remove(&instance.id);
        // The ledger keeps what it says.
        state.traffic_counters.remove(&instance.id);
    }
}
