//! Nodes and instances: pure, over what a leader's view lists.

use nube_proto::v1::{Instance, InstanceState, IsolationClassOffered, Node, NodeState};
use nube_types::limits::{STARTING_DEADLINE_MS, STOPPING_DEADLINE_MS, TICK_MS};

use super::check::Check;
use crate::output::text::{age, enum_word, plural};

const AREA: &str = "load";
/// Names in one line; the rest is a number.
const NAMED_MAX: usize = 5;

/// What the cloud carries.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Replicated time of the look.
    pub now_ms: u64,
    pub nodes: Vec<Node>,
    pub instances: Vec<Instance>,
}

/// Everything that can be said of hosts and guests.
pub fn check(load: &Load) -> Vec<Check> {
    let mut checks = vec![reachable(load)];
    checks.extend(room(load));
    checks.extend(unknown(load));
    checks.push(isolation(load));
    checks.push(stuck(load));
    checks
}

/// A few names and how many more.
fn named<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let mut text = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>();
    let rest = format!("{} more", names.len().saturating_sub(NAMED_MAX));
    if names.len() > NAMED_MAX {
        text.push(&rest);
    }
    text.join(", ")
}

fn reachable(load: &Load) -> Check {
    let name = "nodes";
    let ready = |node: &&Node| node.state() == NodeState::Ready;
    let count = load.nodes.iter().filter(ready).count();
    let silent = load.nodes.iter().filter(|node| !ready(node));
    let found = format!("{count} of {} ready", load.nodes.len());
    if count == load.nodes.len() && count > 0 {
        let drained = load.nodes.iter().filter(|node| node.drained).count();
        let drained = match drained {
            0 => String::new(),
            drained => format!(", {drained} drained"),
        };
        return Check::ok(AREA, name, found + &drained);
    }
    if load.nodes.is_empty() {
        let todo = "join a host: nothing can be launched";
        return Check::fail(AREA, name, "none", todo);
    }
    let since = |node: &Node| {
        let seen = age(node.last_seen_at_ms, load.now_ms);
        format!("{} silent for {seen}", node.name)
    };
    let silent: Vec<String> = silent.map(since).collect();
    let found = format!("{found}: {}", named(silent.iter().map(String::as_str)));
    let todo = "look at the host, its network and its agent; guests there are left alone";
    match count {
        0 => Check::fail(AREA, name, found, todo),
        _ => Check::warn(AREA, name, found, todo),
    }
}

/// Placement never gives away more than a host offers, so a host that now
/// offers less is what is looked for.
fn room(load: &Load) -> Option<Check> {
    let over = |node: &&Node| {
        let vcpus = u64::from(node.vcpus_total) * u64::from(node.vcpu_overcommit_percent) / 100;
        u64::from(node.vcpus_used) > vcpus
            || node.memory_mib_used > node.memory_mib_total
            || node.disk_mib_used > node.disk_mib_total
    };
    let oversold: Vec<&str> = load
        .nodes
        .iter()
        .filter(over)
        .map(|n| n.name.as_str())
        .collect();
    let used: u64 = load.nodes.iter().map(|node| node.memory_mib_used).sum();
    let total: u64 = load.nodes.iter().map(|node| node.memory_mib_total).sum();
    let percent = (used * 100).checked_div(total)?;
    if !oversold.is_empty() {
        let found = format!("oversold: {}", named(oversold.into_iter()));
        let todo = "drain these hosts and delete guests: they promise more than they have";
        return Some(Check::fail(AREA, "room", found, todo));
    }
    let found = format!("{percent} % of the memory is given away");
    Some(match percent > 90 {
        true => Check::warn(
            AREA,
            "room",
            found,
            "add a host before launches are refused",
        ),
        false => Check::ok(AREA, "room", found),
    })
}

fn unknown(load: &Load) -> Option<Check> {
    let with = load
        .nodes
        .iter()
        .filter(|node| !node.unknown_resources.is_empty());
    let lines: Vec<String> = with
        .map(|node| format!("{}: {}", node.name, node.unknown_resources.join("; ")))
        .collect();
    let todo = "nothing touches them: look at the host, and remove what nobody needs";
    let found = named(lines.iter().map(String::as_str));
    (!lines.is_empty()).then(|| Check::warn(AREA, "unknown things", found, todo))
}

fn isolation(load: &Load) -> Check {
    let name = "isolation";
    let open = |node: &&Node| node.isolation() == IsolationClassOffered::None;
    let open: Vec<&Node> = load.nodes.iter().filter(open).collect();
    let Some(first) = open.first() else {
        return Check::ok(AREA, name, "guests are kept apart by hardware");
    };
    let names = named(open.iter().map(|node| node.name.as_str()));
    let found = format!("none on {names}: {}", first.accelerator_reason);
    Check::warn(AREA, name, found, "keep hostile tenants off these hosts")
}

fn deadline_ms(instance: &Instance) -> Option<u64> {
    match instance.state() {
        InstanceState::Pending | InstanceState::Starting => Some(STARTING_DEADLINE_MS),
        InstanceState::Stopping | InstanceState::Deleting => Some(STOPPING_DEADLINE_MS),
        _ => None,
    }
}

fn stuck(load: &Load) -> Check {
    let name = "instances";
    // The tick that ends a deadline may be one behind.
    let late = |instance: &&Instance| {
        let since = load.now_ms.saturating_sub(instance.state_changed_at_ms);
        deadline_ms(instance).is_some_and(|limit| since > limit + 2 * TICK_MS)
    };
    let text = |instance: &Instance| {
        let state = enum_word(instance.state().as_str_name(), "INSTANCE_STATE");
        let since = age(instance.state_changed_at_ms, load.now_ms);
        let host = match instance.node_reachable {
            true => "",
            false => " on a silent host",
        };
        format!("{} {state} for {since}{host}", instance.name)
    };
    let stuck: Vec<String> = load.instances.iter().filter(late).map(text).collect();
    let total = plural(load.instances.len(), "instance");
    if stuck.is_empty() {
        return Check::ok(AREA, name, format!("{total}, none stuck"));
    }
    let found = format!(
        "{} stuck: {}",
        stuck.len(),
        named(stuck.iter().map(String::as_str))
    );
    let todo = "bring their hosts back, or delete them: a delete always ends";
    Check::warn(AREA, name, found, todo)
}
