//! Nodes that fell silent or came back, judged by the leader's own ears.

use std::collections::BTreeMap;
use std::time::Duration;

use nube_state::command::{NodeSeen, SetNodeReachable, Tick};
use nube_state::{Command, State};
use nube_types::limits::NODE_UNREACHABLE_MS;
use nube_types::{NodeId, TimestampMs};

/// Longer silences make a node unreachable.
const UNREACHABLE: Duration = Duration::from_millis(NODE_UNREACHABLE_MS);

/// When a node that has been silent for so long was last heard.
fn seen_at(now: TimestampMs, silent: Duration) -> TimestampMs {
    let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
    TimestampMs(now.0.saturating_sub(silent_ms))
}

/// Time goes on; from time to time with proof of who was alive.
pub fn tick(silence: &BTreeMap<NodeId, Duration>, now: TimestampMs, with_seen: bool) -> Command {
    let alive = silence
        .iter()
        .filter(|(_, silent)| with_seen && **silent < UNREACHABLE);
    let seen = alive.map(|(node, silent)| NodeSeen {
        node: *node,
        at: seen_at(now, *silent),
    });
    Command::Tick(Tick {
        seen: seen.collect(),
    })
}

/// Nodes whose reachability differs from what is committed. A new leader waits
/// as long as a silence lasts: it has not listened before.
pub fn plan(
    state: &State,
    silence: &BTreeMap<NodeId, Duration>,
    now: TimestampMs,
    leading: Duration,
) -> Vec<Command> {
    let judge = |node: &nube_state::Node| {
        let silent = silence.get(&node.facts.id).copied();
        let alive = silent.is_some_and(|silent| silent < UNREACHABLE);
        let may_judge = alive || leading >= UNREACHABLE;
        if alive == node.reachable || !may_judge {
            return None;
        }
        let last_seen = silent.map_or(node.last_seen, |silent| seen_at(now, silent));
        let node = node.facts.id;
        Some(Command::SetNodeReachable(SetNodeReachable {
            node,
            reachable: alive,
            last_seen,
        }))
    };
    state.nodes.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod test {
    use super::*;
    use nube_state::command::InitCluster;
    use nube_state::{Accelerator, Envelope, Isolation, NodeFacts, apply};
    use nube_types::{Mib, Name, NetworkId, ProjectId};

    fn one_node() -> State {
        let facts = NodeFacts {
            id: NodeId(1),
            name: Name::new("node-1").expect("a name"),
            zone: "z".to_owned(),
            agent_epoch: 1,
            boot_id: String::new(),
            agent_version: String::new(),
            hypervisor_version: String::new(),
            kernel_version: String::new(),
            vcpus: 1,
            vcpu_overcommit_percent: 100,
            memory: Mib(1),
            disk: Mib(1),
            accelerator: Accelerator::Tcg,
            accelerator_reason: String::new(),
            isolation: Isolation::None,
            drivers: vec![],
            labels: BTreeMap::new(),
            unknown: vec![],
        };
        let (project, network) = (ProjectId(1), NetworkId(1));
        let init = InitCluster {
            cluster_id: [1; 16],
            project,
            network,
        };
        let mut state = State::default();
        for (index, command) in [Command::InitCluster(init), Command::RegisterNode(facts)]
            .into_iter()
            .enumerate()
        {
            let (request, actor) = (None, String::new());
            let envelope = Envelope {
                source: None,
                request,
                at: TimestampMs(1_000),
                actor,
                command,
            };
            apply(&mut state, index as u64 + 1, &envelope);
        }
        state
    }

    #[test]
    fn silence_is_judged_only_after_listening_long_enough() {
        let state = one_node();
        let now = TimestampMs(100_000);
        let silent = BTreeMap::from([(NodeId(1), UNREACHABLE)]);
        let planned = plan(&state, &silent, now, UNREACHABLE);
        let last_seen = TimestampMs(now.0 - NODE_UNREACHABLE_MS);
        let lost = SetNodeReachable {
            node: NodeId(1),
            reachable: false,
            last_seen,
        };
        assert_eq!(planned, vec![Command::SetNodeReachable(lost)]);
        assert_eq!(plan(&state, &BTreeMap::new(), now, UNREACHABLE).len(), 1);
        let too_early = UNREACHABLE - Duration::from_millis(1);
        assert!(plan(&state, &silent, now, too_early).is_empty());
        let alive = BTreeMap::from([(NodeId(1), Duration::ZERO)]);
        assert!(plan(&state, &alive, now, Duration::MAX).is_empty());
    }
}
