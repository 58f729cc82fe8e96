//! Hosts that are lost: first their fence, then new places for what may be
//! replaced. Pure plans; whoever runs them proposes what they say.

use nube_scheduler::Request;
use nube_state::eviction::{FenceNode, ReplaceInstance};
use nube_state::{Command, DesiredState, Explanation, HostFailurePolicy, Instance, Node, State};
use nube_types::NodeId;

use crate::api::placement;
use crate::fleet::Hosts;

/// New places in one round: each is a log entry, and the round waits for all.
const AT_ONCE: usize = 100;
/// Hosts beyond which only the winner is explained, as in a launch.
const JUDGED_MAX: usize = 200;

/// It is wished to run, and may do so elsewhere.
fn is_wanted(instance: &Instance) -> bool {
    instance.on_host_failure == HostFailurePolicy::Replace
        && instance.desired == DesiredState::Running
}

/// Silent hosts with something to replace. `begin` is asked for each, with the
/// fence it has: it answers with the next one when no lease is in force there and
/// none will be (see `agents::lease`).
pub fn fences(state: &State, begin: &mut dyn FnMut(NodeId, u64) -> Option<u64>) -> Vec<Command> {
    let lost = |node: &&Node| {
        let silent = !node.reachable && !node.fenced;
        silent && state.instances_on(node.facts.id).any(is_wanted)
    };
    let fence = |node: &Node| {
        let id = node.facts.id;
        let fence_epoch = begin(id, node.fence_epoch)?;
        Some(Command::FenceNode(FenceNode {
            node: id,
            fence_epoch,
        }))
    };
    state.nodes.iter().filter(lost).filter_map(fence).collect()
}

/// A new place for each instance of a fenced host that finds one. Those that do
/// not are asked for again in the next round; what they say of themselves was
/// written with the fence.
pub fn replacements(state: &State, hosts: &Hosts) -> Vec<Command> {
    let fenced = state.nodes.iter().filter(|node| node.fenced);
    let waiting = fenced.flat_map(|node| state.instances_on(node.facts.id));
    let mut waiting = waiting.filter(|instance| is_wanted(instance)).peekable();
    if waiting.peek().is_none() {
        return Vec::new();
    }
    let mut kept = hosts.at(state);
    let fleet = &mut kept.fleet;
    let mut placed: Vec<(NodeId, Request)> = Vec::new();
    let mut commands = Vec::new();
    for instance in waiting {
        let request = placement::asked(instance);
        fleet.start_group();
        let Some((to, score)) = fleet.place(&request) else {
            let (name, size) = (&instance.name, &instance.instance_type);
            tracing::debug!("no host can take {name} ({size}) in place of a lost one");
            continue;
        };
        let why = if fleet.hosts().len() <= JUDGED_MAX {
            placement::explanation(state, &request, &fleet.explain(&request))
        } else {
            placement::winner(state, &request, to, score.total())
        };
        fleet.reserve(to, &request);
        placed.push((to, request));
        commands.push(replace(instance, to, why));
        if commands.len() == AT_ONCE {
            break;
        }
    }
    for (to, request) in &placed {
        fleet.release(*to, request);
    }
    commands
}

fn replace(instance: &Instance, to: NodeId, why: Explanation) -> Command {
    Command::ReplaceInstance(ReplaceInstance {
        instance: instance.id,
        from: instance.node,
        epoch: instance.epoch,
        to,
        explanation: Some(placement::kept(why)),
    })
}

#[cfg(test)]
mod test;
