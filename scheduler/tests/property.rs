//! Properties of placement over random hosts and requests.

mod generate;

use generate::{fleets, hosts_with, requests};
use nube_scheduler::filter::{fits, reasons};
use nube_scheduler::{Host, choose, place};
use nube_types::NodeId;
use proptest::prelude::*;

/// Written apart from the filters on purpose: capacity is what counts.
fn within_capacity(host: &Host) -> bool {
    u64::from(host.vcpus_used) * 100
        <= u64::from(host.vcpus_total) * u64::from(host.vcpu_overcommit_percent)
        && host.memory_used <= host.memory_total
        && host.disk_used <= host.disk_total
}

proptest! {
    #[test]
    fn placement_never_oversubscribes(
        mut hosts in fleets(), wishes in prop::collection::vec(requests(), 0..30),
    ) {
        for request in wishes {
            let Some((ordinal, _)) = choose(&hosts, &request) else {
                continue;
            };
            let host = &mut hosts[ordinal];
            host.vcpus_used += request.vcpus;
            host.memory_used.0 += request.memory.0;
            host.disk_used.0 += request.disk.0;
            host.instances += 1;
            // A host that was over its capacity before takes nothing but
            // requests for nothing of that resource.
            let over_before = request.vcpus == 0 || request.memory.0 == 0 || request.disk.0 == 0;
            prop_assert!(within_capacity(host) || over_before, "{host:?} after {request:?}");
        }
    }

    #[test]
    fn words_and_fast_path_agree(hosts in fleets(), request in requests()) {
        for host in &hosts {
            prop_assert_eq!(fits(host, &request), reasons(host, &request).is_empty());
        }
        let decision = place(&hosts, &request);
        let fast = choose(&hosts, &request);
        prop_assert_eq!(fast.map(|(ordinal, _)| hosts[ordinal].id), decision.chosen);
        prop_assert_eq!(fast.map_or(0, |(_, score)| score.total()), decision.score);
        prop_assert_eq!(decision.candidates.len() + decision.refused.len(), hosts.len());
        let chosen = hosts.iter().find(|host| Some(host.id) == decision.chosen);
        prop_assert!(chosen.is_none_or(|host| fits(host, &request)));
        prop_assert_eq!(chosen.is_none(), decision.candidates.is_empty());
        prop_assert!(decision.refused.iter().all(|refusal| !refusal.reasons.is_empty()));
        let verdicts: Vec<_> = decision.verdicts().collect();
        prop_assert_eq!(verdicts.len(), hosts.len());
        let first = verdicts.first().filter(|verdict| verdict.chosen).map(|first| first.host);
        prop_assert_eq!(first, decision.chosen);
        let totals: Vec<_> = verdicts.iter().map(|verdict| verdict.score.map(|s| s.total())).collect();
        prop_assert!(totals.is_sorted_by(|a, b| a >= b), "fitting first, best first");
        for verdict in verdicts {
            prop_assert_eq!(verdict.refused_for().is_empty(), verdict.score.is_some());
        }
    }

    #[test]
    fn the_order_of_hosts_decides_nothing(
        (hosts, shuffled) in fleets().prop_flat_map(|hosts| {
            (Just(hosts.clone()), Just(hosts).prop_shuffle())
        }),
        request in requests(),
    ) {
        prop_assert_eq!(place(&hosts, &request), place(&shuffled, &request));
    }

    #[test]
    fn equal_hosts_go_to_the_lowest_id(
        host in hosts_with(),
        request in requests(),
        ids in Just((1..6).collect::<Vec<u64>>()).prop_shuffle(),
    ) {
        let hosts: Vec<_> =
            ids.into_iter().map(|id| Host { id: NodeId(id), ..host.clone() }).collect();
        let lowest = fits(&host, &request).then_some(NodeId(1));
        prop_assert_eq!(place(&hosts, &request).chosen, lowest);
        let fast = choose(&hosts, &request).map(|(ordinal, _)| hosts[ordinal].id);
        prop_assert_eq!(fast, lowest);
    }

    #[test]
    fn more_capacity_never_turns_yes_into_no(
        hosts in fleets(), request in requests(), extra in hosts_with(), at in 0..8usize,
        (vcpus, memory, disk) in (0..8u32, 0..4_096u64, 0..4_096u64),
    ) {
        prop_assume!(choose(&hosts, &request).is_some());
        let mut grown = hosts.clone();
        if let Some(host) = grown.get_mut(at) {
            host.vcpus_total += vcpus;
            host.memory_total.0 += memory;
            host.disk_total.0 += disk;
        }
        prop_assert!(choose(&grown, &request).is_some(), "a larger host");
        let mut joined = hosts;
        joined.push(Host { id: NodeId(99), ..extra });
        prop_assert!(choose(&joined, &request).is_some(), "one more host");
    }

    #[test]
    fn a_group_spreads_before_room_counts(hosts in fleets(), request in requests()) {
        let decision = place(&hosts, &request);
        let members = |id| hosts.iter().find(|host| host.id == id).map(|host| host.same_group);
        let least = decision.candidates.iter().filter_map(|c| members(c.host)).min();
        prop_assert_eq!(decision.chosen.and_then(members), least);
    }
}
