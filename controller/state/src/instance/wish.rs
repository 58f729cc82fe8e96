//! What owners ask of an instance. A wish that is fulfilled already changes
//! nothing; delete is accepted in every state and wins.

use crate::command::{ChangeInstance, Wish};
use crate::instance::{self, DesiredState, Instance, InstanceStage, InstanceState};
use crate::outcome::{Kind, Outcome, Refusal};
use crate::state::State;
use crate::{address, load_balancer, usage};
use nube_billing::EndReason;

pub(crate) fn change(state: &mut State, command: &ChangeInstance) -> Result<Outcome, Refusal> {
    let instance = state
        .instances
        .get(&command.instance)
        .filter(|instance| instance.project == command.project)
        .cloned()
        .ok_or_else(|| absent(command))?;
    match command.wish {
        Wish::Delete => delete(state, instance),
        _ if instance.desired == DesiredState::Deleted => return Err(absent(command)),
        Wish::Start => start(state, instance),
        Wish::Stop => stop(state, instance, command.force),
        Wish::Reboot => reboot(state, instance, command.force)?,
    }
    // Named, so that a repetition finds it whatever its name means by then.
    Ok(Outcome::Instances(vec![command.instance]))
}

fn absent(command: &ChangeInstance) -> Refusal {
    Refusal::NotFound {
        kind: Kind::Instance,
        reference: command.instance.to_string(),
    }
}

fn start(state: &mut State, mut instance: Instance) {
    let fulfilled = instance.desired == DesiredState::Running;
    if fulfilled && instance.state != InstanceState::Failed {
        return;
    }
    instance.desired = DesiredState::Running;
    instance.generation += 1;
    instance.force = false;
    instance.stage = InstanceStage::None;
    instance.reason.clear();
    // While the host is still bringing it down, `stopping` stays true.
    if instance.state != InstanceState::Stopping {
        instance.state = InstanceState::Pending;
    }
    instance::store(state, instance);
}

fn stop(state: &mut State, mut instance: Instance, force: bool) {
    let under_way = instance.desired == DesiredState::Stopped
        && instance.state == InstanceState::Stopping
        && (instance.force || !force);
    // A stop that failed may be asked for again.
    if under_way || instance.state == InstanceState::Stopped {
        return;
    }
    usage::close(state, &mut instance, state.time, EndReason::Stopped);
    instance.desired = DesiredState::Stopped;
    instance.generation += 1;
    instance.force = force;
    instance.state = InstanceState::Stopping;
    instance.stage = InstanceStage::None;
    instance.reason.clear();
    instance::store(state, instance);
}

fn reboot(state: &mut State, mut instance: Instance, force: bool) -> Result<(), Refusal> {
    if instance.state != InstanceState::Running || instance.desired != DesiredState::Running {
        return Err(Refusal::WrongState {
            name: instance.name,
            state: instance.state.word().to_owned(),
            advice: "only a running instance can be rebooted; start it instead".to_owned(),
        });
    }
    instance.generation += 1;
    instance.reboot_count += 1;
    instance.force = force;
    instance::store(state, instance);
    Ok(())
}

fn delete(state: &mut State, mut instance: Instance) {
    if instance.desired == DesiredState::Deleted {
        return;
    }
    usage::close(state, &mut instance, state.time, EndReason::DeleteRequested);
    instance.desired = DesiredState::Deleted;
    instance.generation += 1;
    instance.stage = InstanceStage::None;
    instance.reason.clear();
    // Its address stays its owner's, and points at nothing.
    address::forget_instance(state, instance.id);
    load_balancer::forget_target(state, instance.network, instance.id);
    let reachable = state
        .nodes
        .get(&instance.node)
        .is_some_and(|node| node.reachable);
    if reachable {
        instance.state = InstanceState::Deleting;
    } else {
        instance::life::conclude_delete(&mut instance, false);
    }
    instance::store(state, instance);
}
