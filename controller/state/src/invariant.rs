//! What must be true of the state at every log index (numbers as in
//! ARCHITECTURE.md). Tests and simulations call this after each entry; it costs
//! a walk over everything, so a live controller calls it only when asked.

mod networks;

use std::collections::BTreeSet;

use crate::codec;
use crate::instance::{DesiredState, HostFailurePolicy, InstanceState};
use crate::join_token::{JoinRole, Joined};
use crate::state::{Derived, State};
use nube_types::limits::{JOIN_TOKENS_MAX, MEMBERS_REMOVED_KEPT};

/// Every broken invariant as a sentence that starts with its number.
#[must_use]
pub fn broken(state: &State) -> Vec<String> {
    let mut found = Vec::new();
    capacity(state, &mut found);
    placement(state, &mut found);
    uniqueness(state, &mut found);
    life(state, &mut found);
    usage(state, &mut found);
    derived(state, &mut found);
    membership(state, &mut found);
    networks::broken(state, &mut found);
    found
}

/// A7: a name means one member, a token one newcomer of its own role, and both
/// tables are bounded.
fn membership(state: &State, found: &mut Vec<String>) {
    let mut names = BTreeSet::new();
    for member in crate::member::present(state) {
        if member.name.as_ref().is_some_and(|name| !names.insert(name)) {
            found.push(format!(
                "A7: the name of member {} is used twice",
                member.id
            ));
        }
    }
    let removed = state.members.len() - crate::member::present(state).count();
    // The newest number is kept in any case.
    if removed > MEMBERS_REMOVED_KEPT + 1 || state.join_tokens.len() > JOIN_TOKENS_MAX {
        found.push("A7: more tombstones or join tokens than are kept".to_owned());
    }
    let mut bound = BTreeSet::new();
    for token in state.join_tokens.iter() {
        let fits = match token.spent.as_ref().map(|spent| &spent.joined) {
            None => true,
            Some(Joined::Agent { name, .. }) => {
                token.role == JoinRole::Agent && *name == token.name
            }
            Some(Joined::Controller { member, name }) => {
                let newest = crate::member::newest_id(state);
                token.role == JoinRole::Controller && *name == token.name && *member <= newest
            }
        };
        if !fits || !bound.insert((token.role, &token.name)) {
            found.push(format!("A7: the join token of `{}` is not one", token.name));
        }
    }
}

/// C2: reserved never exceeds what a node offers, unless its agent came back with
/// less; then nothing is added (see `Node::oversold`).
fn capacity(state: &State, found: &mut Vec<String>) {
    for node in state.nodes.iter() {
        let used = state.node_use(node.facts.id);
        if node.exceeded_by(&used) != node.oversold {
            found.push(format!(
                "C2: node {} is oversubscribed: {used:?}",
                node.facts.name
            ));
        }
    }
}

/// C1: an instance runs on one host. What it left is told to go, with an epoch
/// that is over; a fenced host is silent, and nothing that may be replaced is
/// billed there.
fn placement(state: &State, found: &mut Vec<String>) {
    for eviction in state.evictions.iter() {
        let now = state.instances.get(&eviction.instance);
        let over = now.is_none_or(|instance| {
            eviction.epoch < instance.epoch && eviction.node != instance.node
        });
        if !over || state.nodes.get(&eviction.node).is_none() {
            let (id, node) = (eviction.instance, eviction.node);
            found.push(format!("C1: {id} is both on {node} and told to leave it"));
        }
    }
    for node in state.nodes.iter().filter(|node| node.fenced) {
        if node.reachable || node.fence_epoch == 0 {
            found.push(format!("C1: {} is fenced and answers", node.facts.name));
        }
        for instance in state.instances_on(node.facts.id) {
            let replaced = instance.on_host_failure == HostFailurePolicy::Replace;
            if replaced && instance.is_metered(state) {
                found.push(format!("C1: {} is billed on a lost host", instance.id));
            }
        }
    }
}

/// H: wish and state fit each other, so that each instance has a way on.
fn life(state: &State, found: &mut Vec<String>) {
    use InstanceState as S;
    for instance in state.instances.iter() {
        let fits = match instance.desired {
            DesiredState::Running => {
                matches!(
                    instance.state,
                    S::Pending | S::Starting | S::Running | S::Stopping | S::Failed
                )
            }
            DesiredState::Stopped => matches!(instance.state, S::Stopping | S::Stopped | S::Failed),
            DesiredState::Deleted => matches!(instance.state, S::Deleting | S::Deleted),
        };
        let owes = !instance.host_owes_cleanup || instance.state == S::Deleted;
        if !fits || !owes || instance.applied_generation > instance.generation {
            found.push(format!("H: {} is {:?}", instance.id, instance.state));
        }
    }
}

/// C3: no MAC or living name twice; addresses are in `networks`.
fn uniqueness(state: &State, found: &mut Vec<String>) {
    let (mut macs, mut names) = (BTreeSet::new(), BTreeSet::new());
    for instance in state.instances.iter() {
        if !macs.insert(instance.mac) {
            found.push(format!("C3: MAC of {} is used twice", instance.id));
        }
        let living = instance.state != InstanceState::Deleted;
        if living && !names.insert((instance.project, instance.name.clone())) {
            found.push(format!("C3: name of {} is used twice", instance.id));
        }
    }
}

/// D2: runs are disjoint and in order, and only running instances and held addresses
/// are metered.
fn usage(state: &State, found: &mut Vec<String>) {
    let mut previous: Option<&nube_billing::UsageInterval> = None;
    for interval in state.usage.iter() {
        if let Some(before) = previous.filter(|b| b.subject == interval.subject) {
            let ended = before.end.is_some_and(|end| end <= interval.start);
            if !ended || before.run + 1 != interval.run {
                found.push(format!("D2: runs of {} overlap or skip", interval.subject));
            }
        }
        previous = Some(interval);
        let (subject, resource) = (interval.subject, &interval.resource);
        let instance = subject.instance(resource);
        let instance = instance.and_then(|id| state.instances.get(&id));
        let address = subject.address(resource);
        let billable = instance.is_some_and(|i| {
            i.state == InstanceState::Running && i.desired == DesiredState::Running
        }) || address.is_some_and(|id| state.addresses.get(&id).is_some());
        if interval.is_open() && !billable {
            found.push(format!(
                "D2: {} is metered and not running, or not held",
                subject.id(resource)
            ));
        }
    }
    for instance in state.instances.iter() {
        if instance.state == InstanceState::Running && !instance.is_metered(state) {
            found.push(format!("D2: {} runs and is not metered", instance.id));
        }
    }
}

/// A5: indexes equal what a restart would rebuild, and bytes read back equal.
fn derived(state: &State, found: &mut Vec<String>) {
    let rebuilt = Derived::rebuild(state);
    let used = |derived: &Derived| {
        let used = derived
            .node_use
            .iter()
            .filter(|(_, used)| used.instances > 0 || used.evictions > 0);
        used.map(|(node, used)| (*node, *used)).collect::<Vec<_>>()
    };
    let projects = |derived: &Derived| {
        let used = derived
            .project_use
            .iter()
            .filter(|(_, used)| used.instances > 0);
        used.map(|(project, used)| (*project, *used))
            .collect::<Vec<_>>()
    };
    let equal = rebuilt.names == state.derived.names
        && rebuilt.addresses == state.derived.addresses
        && rebuilt.network == state.derived.network
        && networks::every_host_hears(state)
        && rebuilt.placed == state.derived.placed
        && rebuilt.owed == state.derived.owed
        && rebuilt.owned == state.derived.owned
        && rebuilt.image_use == state.derived.image_use
        && rebuilt.project_names == state.derived.project_names
        && projects(&rebuilt) == projects(&state.derived)
        && rebuilt.transitional == state.derived.transitional
        && rebuilt.deleted == state.derived.deleted
        && rebuilt.request_order == state.derived.request_order
        && used(&rebuilt) == used(&state.derived);
    if !equal {
        found.push("A5: derived indexes differ from a rebuild".to_owned());
    }
    let bytes = codec::encode_snapshot(state);
    match codec::decode_snapshot(&bytes) {
        Ok(copy) if codec::encode_snapshot(&copy) == bytes => {
            if codec::state_hash(&copy) != codec::state_hash(state) {
                found.push("A5: a snapshot that was read back has another hash".to_owned());
            }
        }
        Ok(_) => found.push("A5: a snapshot that was read back has other bytes".to_owned()),
        Err(error) => found.push(format!("A5: a snapshot cannot be read back: {error}")),
    }
}
