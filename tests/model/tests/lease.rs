//! The lease protocol in all orders: as built it never runs an instance twice and
//! can replace it; with any rule broken it does, and the walk finds it.

use std::collections::BTreeSet;

use nube_model::explore::{Explored, explore};
use nube_model::lease::{Bounds, Model, Rules, WANTED};
use nube_types::limits::{LEASE_MS, LEASE_WAIT_MS};

/// Clocks that drift apart as far as they may: in the time that is just more than
/// the leader's wait on its own fast clock, so much passes on the host's slow one.
fn ticks(per_wait: u64) -> (u64, u64) {
    let leader_tick_ms = LEASE_WAIT_MS.div_ceil(per_wait);
    (leader_tick_ms, leader_tick_ms * 99 / 100)
}

/// Two leaders, one fence.
fn change_of_leader() -> Bounds {
    let (leader_tick_ms, host_tick_ms) = ticks(2);
    Bounds {
        leader_tick_ms,
        host_tick_ms,
        ticks: 3,
        terms: 2,
        beats: 2,
        entries: 3,
        fences: 1,
        breaks: 0,
        deaths: 0,
    }
}

/// One leader; the host is fenced, comes back, and is fenced again.
fn return_of_the_host() -> Bounds {
    let (leader_tick_ms, host_tick_ms) = ticks(1);
    Bounds {
        leader_tick_ms,
        host_tick_ms,
        ticks: 2,
        terms: 1,
        beats: 2,
        entries: 5,
        fences: 2,
        breaks: 0,
        deaths: 0,
    }
}

/// One leader; streams break and the agent dies.
fn broken_streams() -> Bounds {
    Bounds {
        beats: 2,
        entries: 3,
        fences: 1,
        breaks: 1,
        deaths: 1,
        ..return_of_the_host()
    }
}

/// One leader and small steps of time.
fn fine_time() -> Bounds {
    let (leader_tick_ms, host_tick_ms) = ticks(4);
    Bounds {
        leader_tick_ms,
        host_tick_ms,
        ticks: 6,
        terms: 1,
        beats: 2,
        entries: 3,
        fences: 1,
        breaks: 0,
        deaths: 0,
    }
}

fn walk(name: &str, rules: Rules, bounds: Bounds) -> Explored {
    let explored = explore(&Model { rules, bounds });
    let (states, steps, depth) = (explored.states, explored.steps, explored.depth);
    println!("{name}: {states} states, {steps} steps, {depth} deep");
    if let Some((story, what)) = &explored.broken {
        println!("  {}\n  {what}", story.join(", "));
    }
    explored
}

#[test]
fn no_instance_runs_twice_and_each_can_be_replaced() {
    let mut reached = BTreeSet::new();
    for (name, bounds) in [
        ("change of leader", change_of_leader()),
        ("return of the host", return_of_the_host()),
        ("broken streams", broken_streams()),
        ("fine time", fine_time()),
    ] {
        let explored = walk(name, Rules::default(), bounds);
        assert!(explored.broken.is_none(), "{name}");
        assert!(explored.complete, "{name}: too many states");
        reached.extend(explored.reached);
    }
    for (number, wanted) in WANTED.iter().enumerate() {
        assert!(reached.contains(&number), "never: {wanted}");
    }
}

/// Breaks one rule.
type Breaks = fn(&mut Rules);

#[test]
fn every_broken_rule_is_found() {
    let without_drift = Bounds {
        leader_tick_ms: LEASE_MS / 3,
        host_tick_ms: LEASE_MS / 3 * 99 / 100,
        ..fine_time()
    };
    let table: Vec<(&str, Breaks, Bounds)> = vec![
        (
            "the lease counts from the receipt",
            |rules| rules.counts_from_sending = false,
            fine_time(),
        ),
        (
            "a new leader does not wait",
            |rules| rules.new_leader_waits = false,
            change_of_leader(),
        ),
        (
            "a grant without a confirmation",
            |rules| rules.confirms = false,
            change_of_leader(),
        ),
        (
            "a wait as long as the lease, without drift",
            |rules| rules.wait_cut_ms = LEASE_WAIT_MS - LEASE_MS,
            without_drift,
        ),
        (
            "a grant while a fence is pending",
            |rules| rules.pending_blocks = false,
            fine_time(),
        ),
        (
            "a grant on a view from before the fence",
            |rules| rules.fence_is_remembered = false,
            fine_time(),
        ),
        (
            "a grant to a silent host",
            |rules| rules.none_while_silent = false,
            return_of_the_host(),
        ),
        (
            "a grant overtakes its list",
            |rules| rules.list_goes_first = false,
            return_of_the_host(),
        ),
        (
            // The list that goes first covers for this rule; one of them is not
            // enough (see above), both are.
            "a list of an older fence is obeyed",
            |rules| (rules.same_fence, rules.list_goes_first) = (false, false),
            return_of_the_host(),
        ),
        (
            "the fencer dies with the agent",
            |rules| rules.fencer = false,
            broken_streams(),
        ),
    ];
    for (name, breaks, bounds) in table {
        let mut rules = Rules::default();
        breaks(&mut rules);
        let found = walk(name, rules, bounds);
        assert!(found.broken.is_some(), "not found: {name}");
    }
}
