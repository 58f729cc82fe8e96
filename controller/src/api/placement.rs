//! Placement as people see it: hosts for the scheduler, its answer for the log,
//! and the same answer for owners, with or without the names of hosts.

use std::collections::BTreeMap;

use nube_proto::v1;
use nube_scheduler::{
    Accelerator, Decision, Driver, DriverSet, Host, Isolation, Request, Strategy, Verdict,
};
use nube_state::{Explanation, HostNeeds, HostVerdict, Instance, State};
use nube_types::NodeId;
use nube_types::limits::{VERDICTS_KEPT_MAX, VERDICTS_SHOWN_MAX};

/// A host as the scheduler knows it.
pub fn host(state: &State, node: &nube_state::Node) -> Host {
    let (facts, used) = (&node.facts, state.node_use(node.facts.id));
    let drivers: Vec<Driver> = facts
        .drivers
        .iter()
        .filter_map(|driver| match driver.as_str() {
            // Stands in for qemu in scale and fault tests, and says so itself.
            "qemu" | "simulated" => Some(Driver::Qemu),
            "container" => Some(Driver::Container),
            _ => None,
        })
        .collect();
    Host {
        id: facts.id,
        name: facts.name.clone(),
        zone: facts.zone.clone(),
        // What left it must be cleared away first.
        ready: node.reachable && used.evictions == 0,
        drained: node.drained,
        vcpus_total: facts.vcpus,
        vcpu_overcommit_percent: facts.vcpu_overcommit_percent,
        vcpus_used: used.vcpus,
        memory_total: facts.memory,
        memory_used: used.memory,
        disk_total: facts.disk,
        disk_used: used.disk,
        accelerator: match facts.accelerator {
            nube_state::Accelerator::Kvm => Accelerator::Kvm,
            nube_state::Accelerator::Tcg => Accelerator::Tcg,
        },
        isolation: match facts.isolation {
            nube_state::Isolation::None => Isolation::None,
            nube_state::Isolation::Hardware => Isolation::Hardware,
        },
        drivers: DriverSet::of(&drivers),
        instances: used.instances,
        same_group: 0,
    }
}

/// What of a request is kept with the instance: the rest is its size.
pub fn needs(request: &Request) -> HostNeeds {
    HostNeeds {
        zone: request.zone.clone(),
        accelerator: match request.accelerator {
            Some(Accelerator::Kvm) => Some(nube_state::Accelerator::Kvm),
            Some(Accelerator::Tcg) => Some(nube_state::Accelerator::Tcg),
            Some(Accelerator::None) | None => None,
        },
        isolation: (request.isolation == Isolation::Hardware)
            .then_some(nube_state::Isolation::Hardware),
        pack: (request.strategy == Strategy::Pack).then_some(true),
    }
}

/// The request that an instance was launched with, to ask it again.
pub fn asked(instance: &Instance) -> Request {
    let needs = &instance.needs;
    Request {
        vcpus: instance.vcpus,
        memory: instance.memory,
        disk: instance.disk,
        accelerator: needs.accelerator.map(|accelerator| match accelerator {
            nube_state::Accelerator::Kvm => Accelerator::Kvm,
            nube_state::Accelerator::Tcg => Accelerator::Tcg,
        }),
        isolation: match needs.isolation {
            Some(nube_state::Isolation::Hardware) => Isolation::Hardware,
            Some(nube_state::Isolation::None) | None => Isolation::None,
        },
        zone: needs.zone.clone(),
        driver: Driver::Qemu,
        strategy: match needs.pack {
            Some(true) => Strategy::Pack,
            _ => Strategy::Spread,
        },
    }
}

/// The scheduler's answer as it is kept: the winner, the next best, and some of
/// those that did not fit.
pub fn explanation(state: &State, request: &Request, decision: &Decision) -> Explanation {
    let verdict = |verdict: Verdict<'_>| HostVerdict {
        node: verdict.host,
        score: verdict.score.map_or(0, |score| score.total()),
        refused_for: verdict.refused_for().to_owned(),
        reason: verdict.to_string(),
    };
    let total = decision.candidates.len() + decision.refused.len();
    Explanation {
        revision: state.placement_revision,
        pack: request.strategy == Strategy::Pack,
        hosts: decision
            .verdicts()
            .map(verdict)
            .take(VERDICTS_SHOWN_MAX)
            .collect(),
        hosts_total: u32::try_from(total).unwrap_or(u32::MAX),
        hosts_fitting: u32::try_from(decision.candidates.len()).unwrap_or(u32::MAX),
    }
}

/// The winner alone, when judging everybody for everyone would take too long.
pub fn winner(state: &State, request: &Request, node: NodeId, score: i64) -> Explanation {
    Explanation {
        revision: state.placement_revision,
        pack: request.strategy == Strategy::Pack,
        hosts: vec![HostVerdict {
            node,
            score,
            refused_for: String::new(),
            reason: String::new(),
        }],
        hosts_total: u32::try_from(state.nodes.len()).unwrap_or(u32::MAX),
        hosts_fitting: 0,
    }
}

/// What of it is worth keeping with the instance: the best, and why others lost.
pub fn kept(mut explanation: Explanation) -> Explanation {
    let half = VERDICTS_KEPT_MAX / 2;
    let (fitting, refused): (Vec<_>, Vec<_>) = explanation
        .hosts
        .into_iter()
        .partition(|host| host.refused_for.is_empty());
    let room = VERDICTS_KEPT_MAX - refused.len().min(half);
    let fitting: Vec<_> = fitting.into_iter().take(room).collect();
    let rest = VERDICTS_KEPT_MAX - fitting.len();
    explanation.hosts = fitting
        .into_iter()
        .chain(refused.into_iter().take(rest))
        .collect();
    explanation
}

/// For owners. Tenants see hosts by number: which one it was, and that others
/// lost, but nothing that tells of other tenants.
pub fn shown(
    state: &State,
    explanation: &Explanation,
    sees_hosts: bool,
    (id, name): (String, String),
) -> v1::PlacementExplanation {
    let numbers = numbers(explanation);
    let chosen = explanation.hosts.first().map(|host| host.node);
    let verdict = |host: &HostVerdict| {
        let node = state.nodes.get(&host.node);
        let zone = node.map(|node| node.facts.zone.clone()).unwrap_or_default();
        let known = node.map(|node| node.facts.name.to_string());
        let number = numbers.get(&host.node).copied().unwrap_or_default();
        let redacted = match host.refused_for.as_str() {
            "" => String::new(),
            word => format!("not suitable: {word}"),
        };
        let own = |text: String, other: String| if sees_hosts { text } else { other };
        v1::HostVerdict {
            node_id: own(host.node.to_string(), String::new()),
            node_name: own(
                known.unwrap_or_else(|| host.node.to_string()),
                format!("host-{number}"),
            ),
            zone,
            chosen: Some(host.node) == chosen && host.refused_for.is_empty(),
            score: if sees_hosts { host.score } else { 0 },
            refused_for: host.refused_for.clone(),
            reason: own(host.reason.clone(), redacted),
        }
    };
    let strategy = if explanation.pack {
        v1::PlacementStrategy::Pack
    } else {
        v1::PlacementStrategy::Spread
    };
    v1::PlacementExplanation {
        instance_id: id,
        instance_name: name,
        revision: explanation.revision,
        strategy: strategy.into(),
        hosts: explanation.hosts.iter().map(verdict).collect(),
        hosts_total: if sees_hosts {
            explanation.hosts_total
        } else {
            0
        },
        hosts_fitting: if sees_hosts {
            explanation.hosts_fitting
        } else {
            0
        },
    }
}

/// By id, so that the order of scores tells nothing.
fn numbers(explanation: &Explanation) -> BTreeMap<NodeId, usize> {
    let mut ids: Vec<NodeId> = explanation.hosts.iter().map(|host| host.node).collect();
    ids.sort_unstable();
    ids.into_iter().zip(1..).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    fn verdict(node: u64, word: &str) -> HostVerdict {
        HostVerdict {
            node: NodeId(node),
            score: 7,
            refused_for: word.to_owned(),
            reason: "64 of 4096 MiB free".to_owned(),
        }
    }

    fn twelve() -> Explanation {
        let fitting = (1..=6).map(|node| verdict(node, ""));
        Explanation {
            revision: 3,
            pack: false,
            hosts: fitting
                .chain((7..=12).map(|node| verdict(node, "memory")))
                .collect(),
            hosts_total: 12,
            hosts_fitting: 6,
        }
    }

    #[test]
    fn what_is_kept_has_winners_and_losers() {
        let kept = kept(twelve());
        let refused = kept
            .hosts
            .iter()
            .filter(|h| !h.refused_for.is_empty())
            .count();
        assert_eq!(
            (kept.hosts.len(), refused),
            (VERDICTS_KEPT_MAX, VERDICTS_KEPT_MAX / 2)
        );
        assert_eq!((kept.hosts[0].node, kept.hosts_total), (NodeId(1), 12));
    }

    #[test]
    fn tenants_learn_nothing_of_hosts() {
        let state = State::default();
        let shown = shown(&state, &twelve(), false, (String::new(), "web".to_owned()));
        assert!(
            shown
                .hosts
                .iter()
                .all(|host| host.node_id.is_empty() && host.score == 0)
        );
        assert!(shown.hosts.iter().all(|host| !host.reason.contains("4096")));
        assert_eq!(shown.hosts[0].node_name, "host-1");
        assert!(shown.hosts[0].chosen && !shown.hosts[1].chosen);
    }
}
