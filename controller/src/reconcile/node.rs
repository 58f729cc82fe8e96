//! Nodes that fell silent or came back, judged by the leader's own ears.

use std::collections::BTreeMap;
use std::time::Duration;

use nube_state::Command;
use nube_state::command::{NodeSeen, SetNodeReachable, Tick};
use nube_types::limits::NODE_UNREACHABLE_MS;
use nube_types::{NodeId, TimestampMs};

use super::Look;

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
pub fn plan(look: &Look<'_>) -> Vec<Command> {
    let judge = |node: &nube_state::Node| {
        let silent = look.silence.get(&node.facts.id).copied();
        let alive = silent.is_some_and(|silent| silent < UNREACHABLE);
        let may_judge = alive || look.leading_ms >= NODE_UNREACHABLE_MS;
        if alive == node.reachable || !may_judge {
            return None;
        }
        let last_seen = silent.map_or(node.last_seen, |silent| seen_at(look.now, silent));
        let node = node.facts.id;
        Some(Command::SetNodeReachable(SetNodeReachable {
            node,
            reachable: alive,
            last_seen,
        }))
    };
    look.state.nodes.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::fleet::Hosts;
    use nube_state::command::InitCluster;
    use nube_state::{Accelerator, Envelope, Isolation, NodeFacts, State, apply};
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
            overlay_address: None,
        };
        let (project, network) = (ProjectId(1), NetworkId(1));
        let init = InitCluster {
            cluster_id: [1; 16],
            project,
            network,
            network_prices: false,
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
        let planned = |silence: &BTreeMap<NodeId, Duration>, leading_ms| {
            plan(&Look {
                state: &state,
                silence,
                now,
                leading_ms,
                with_seen: false,
                hosts: &Hosts::default(),
            })
        };
        let silent = BTreeMap::from([(NodeId(1), UNREACHABLE)]);
        let last_seen = TimestampMs(now.0 - NODE_UNREACHABLE_MS);
        let lost = Command::SetNodeReachable(SetNodeReachable {
            node: NodeId(1),
            reachable: false,
            last_seen,
        });
        assert_eq!(planned(&silent, NODE_UNREACHABLE_MS), vec![lost]);
        assert_eq!(planned(&BTreeMap::new(), NODE_UNREACHABLE_MS).len(), 1);
        assert!(planned(&silent, NODE_UNREACHABLE_MS - 1).is_empty());
        let alive = BTreeMap::from([(NodeId(1), Duration::ZERO)]);
        assert!(planned(&alive, u64::MAX).is_empty());
    }

    #[test]
    fn a_round_begins_with_the_first_entry_then_with_time() {
        let (old, empty, silence) = (one_node(), State::default(), BTreeMap::new());
        let decided = |state| {
            let look = Look {
                state,
                silence: &silence,
                now: TimestampMs(100_000),
                leading_ms: u64::MAX,
                with_seen: false,
                hosts: &Hosts::default(),
            };
            let first = InitCluster {
                cluster_id: [1; 16],
                project: ProjectId(1),
                network: NetworkId(1),
                network_prices: false,
            };
            crate::reconcile::round(&look, &mut |_, _| None, || first)
        };
        assert!(matches!(
            decided(&empty).as_slice(),
            [Command::InitCluster(_)]
        ));
        assert!(matches!(
            decided(&old).as_slice(),
            [Command::Tick(_), Command::SetNodeReachable(_)]
        ));
    }
}
