//! Nodes that fell silent or came back, judged by the leader's own ears.

use std::collections::BTreeMap;

use nube_state::command::{NodeSeen, SetNodeReachable, Tick};
use nube_state::{Command, State};
use nube_types::limits::NODE_UNREACHABLE_MS;
use nube_types::{NodeId, TimestampMs};

/// Time goes on; from time to time with proof of who was alive.
pub fn tick(heard: &BTreeMap<NodeId, TimestampMs>, with_seen: bool) -> Command {
    let seen = |(node, at): (&NodeId, &TimestampMs)| NodeSeen {
        node: *node,
        at: *at,
    };
    let seen = if with_seen {
        heard.iter().map(seen).collect()
    } else {
        Vec::new()
    };
    Command::Tick(Tick { seen })
}

/// Nodes whose reachability differs from what is committed. A new leader waits
/// as long as a silence lasts: it has not listened before.
pub fn plan(
    state: &State,
    heard: &BTreeMap<NodeId, TimestampMs>,
    now: TimestampMs,
    leading_ms: u64,
) -> Vec<Command> {
    let judge = |node: &nube_state::Node| {
        let last = heard.get(&node.facts.id).copied();
        let alive = last.is_some_and(|last| now.since_ms(last) < NODE_UNREACHABLE_MS);
        let may_judge = alive || leading_ms >= NODE_UNREACHABLE_MS;
        if alive == node.reachable || !may_judge {
            return None;
        }
        let last_seen = last.unwrap_or(node.last_seen);
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
        let silent = BTreeMap::from([(NodeId(1), TimestampMs(now.0 - NODE_UNREACHABLE_MS))]);
        assert_eq!(plan(&state, &silent, now, NODE_UNREACHABLE_MS).len(), 1);
        assert_eq!(
            plan(&state, &BTreeMap::new(), now, NODE_UNREACHABLE_MS).len(),
            1
        );
        assert!(plan(&state, &silent, now, NODE_UNREACHABLE_MS - 1).is_empty());
        let alive = BTreeMap::from([(NodeId(1), now)]);
        assert!(plan(&state, &alive, now, u64::MAX).is_empty());
    }
}
