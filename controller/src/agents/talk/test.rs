//! Talks as tables: what is said and done, as words. Consensus and the leader's
//! clock are played by the test.

use std::collections::BTreeMap;

use nube_proto::agent::v1::{self as agent, Heartbeat, Hello};
use nube_state::command::{
    InitCluster, InstanceTraffic, ReportTargetHealth, ReportTraffic, TargetVerdict,
};
use nube_state::{Envelope, Kind, Refusal, apply};
use nube_types::{InstanceId, LoadBalancerId, NetworkId, PlacementEpoch, ProjectId, TimestampMs};

use super::*;
use crate::fixture::{self, Town};

const NODE: NodeId = NodeId(1);

/// A cell of one host and one session, with consensus played by the test.
struct Cloud {
    state: State,
    leads: bool,
    term: u64,
    now_ms: u64,
    leases: Leases,
    talk: Talk,
}

fn hello(agent_epoch: u64) -> AgentMessage {
    up(Up::Hello(Hello {
        node_id: NODE.to_string(),
        node_name: "node-1".to_owned(),
        zone: "z".to_owned(),
        agent_epoch,
        vcpus: 4,
        vcpu_overcommit_percent: 100,
        labels: BTreeMap::new().into_iter().collect(),
        ..Hello::default()
    }))
}

fn beat(sequence: u64) -> AgentMessage {
    up(Up::Heartbeat(Heartbeat { sequence }))
}

fn report(sequence: u64) -> AgentMessage {
    up(Up::Report(Report {
        agent_epoch: 1,
        sequence,
        ..Report::default()
    }))
}

fn up(message: Up) -> AgentMessage {
    AgentMessage {
        message: Some(message),
    }
}

/// An output as a word, so that a test reads like a talk.
fn word(output: &Output) -> String {
    match output {
        Output::Down(Down::Leadership(l)) => format!("leadership {} {}", l.leader, l.term),
        Output::Down(Down::Desired(_)) => "desired".to_owned(),
        Output::Down(Down::Networks(_)) => "networks".to_owned(),
        Output::Down(Down::ReportAck(ack)) => format!("report ack {}", ack.sequence),
        Output::Down(Down::HeartbeatAck(ack)) => match &ack.lease {
            Some(lease) => format!("beat ack {} fence {}", ack.sequence, lease.fence_epoch),
            None => format!("beat ack {}", ack.sequence),
        },
        Output::Down(Down::OpenStream(_)) => "stream".to_owned(),
        Output::Heard => "heard".to_owned(),
        Output::Propose(command) => match command.as_ref() {
            Command::RegisterNode(_) => "register".to_owned(),
            Command::ReportInstances(r) => format!("report {}", r.sequence),
            Command::ReportTraffic(r) => format!("traffic {}", r.instances.len()),
            Command::ReportTargetHealth(r) => format!("health {}", r.targets.len()),
            other => format!("{other:?}"),
        },
        Output::Confirm => "confirm".to_owned(),
        Output::End(status) => format!("end {:?}", status.code()),
    }
}

impl Cloud {
    fn new(leads: bool) -> Self {
        let mut cloud = Self {
            state: State::default(),
            leads,
            term: 3,
            now_ms: 0,
            leases: Leases::default(),
            talk: Talk::new(NODE, 7, Secret::new([1; 32])),
        };
        cloud.apply(Command::InitCluster(InitCluster {
            cluster_id: [1; 16],
            project: ProjectId(1),
            network: NetworkId(1),
            network_prices: false,
        }));
        cloud
    }

    /// With a host that is known and told what it should have.
    fn settled() -> Self {
        let mut cloud = Self::new(true);
        cloud.look();
        cloud.says(hello(1));
        cloud.commit();
        cloud
    }

    fn apply(&mut self, command: Command) -> Outcome {
        let envelope = Envelope {
            source: None,
            request: None,
            at: TimestampMs(1_000),
            actor: String::new(),
            command,
        };
        let index = self.state.index + 1;
        apply(&mut self.state, index, &envelope)
    }

    fn handle(&mut self, input: Input<'_>) -> Vec<String> {
        let sight = Sight {
            state: &self.state,
            leader_ready: self.leads,
            term: self.term,
        };
        self.talk.handle(sight, input).iter().map(word).collect()
    }

    fn look(&mut self) -> Vec<String> {
        self.handle(Input::Look)
    }

    fn says(&mut self, message: AgentMessage) -> Vec<String> {
        self.handle(Input::Up(Box::new(message)))
    }

    /// Commits a registration of the host as `hello(1)` tells it.
    fn commit(&mut self) -> Vec<String> {
        let facts = self.talk.facts.clone().expect("a hello");
        let outcome = self.apply(Command::RegisterNode(facts));
        self.handle(Input::Proposed(Proposed::Applied(outcome)))
    }

    fn done(&mut self) -> Vec<String> {
        self.handle(Input::Proposed(Proposed::Applied(Outcome::Done)))
    }

    fn confirmed(&mut self, confirmed: bool) -> Vec<String> {
        let mut leases = std::mem::take(&mut self.leases);
        let input = Input::Confirmed {
            confirmed,
            leases: &mut leases,
            now_ms: self.now_ms,
        };
        let words = self.handle(input);
        self.leases = leases;
        words
    }
}

#[test]
fn leadership_is_said_once_per_change_and_wishes_to_a_known_host() {
    let mut cloud = Cloud::new(false);
    assert_eq!(cloud.look(), ["leadership false 3"]);
    assert_eq!(cloud.look(), [""; 0]);
    assert_eq!(cloud.says(hello(1)), ["heard"]);
    (cloud.leads, cloud.term) = (true, 4);
    assert_eq!(cloud.look(), ["leadership true 4", "register"]);
    assert_eq!(cloud.look(), [""; 0], "one proposal at a time");
    assert_eq!(cloud.commit(), ["networks", "desired"]);
    assert_eq!(cloud.look(), [""; 0]);
    cloud.state.derived.node_wish.insert(NODE, 99);
    assert_eq!(cloud.look(), ["desired"]);
    cloud.state.derived.node_networks.insert(NODE, 99);
    assert_eq!(cloud.look(), ["networks"]);
    cloud.term = 5;
    let words = cloud.look();
    assert_eq!(words, ["leadership true 5", "networks", "desired"]);
}

#[test]
fn an_empty_cell_has_no_leader_yet() {
    let mut cloud = Cloud::new(true);
    cloud.state = State::default();
    assert_eq!(cloud.look(), ["leadership false 3"]);
    assert_eq!(cloud.says(hello(1)), ["heard"]);
}

#[test]
fn changed_facts_are_registered_and_older_agents_are_not_heard() {
    let mut cloud = Cloud::settled();
    assert_eq!(cloud.says(hello(1)), ["heard"], "nothing new");
    assert_eq!(cloud.says(hello(2)), ["heard", "register"]);
    cloud.commit();
    assert_eq!(cloud.says(hello(1)), ["heard", "end FailedPrecondition"]);
}

#[test]
fn only_a_word_proves_a_silent_host_alive() {
    let mut cloud = Cloud::settled();
    cloud
        .state
        .nodes
        .update(&NODE, |node| node.reachable = false);
    assert_eq!(cloud.look(), [""; 0]);
    assert_eq!(cloud.says(beat(1)), ["confirm", "heard", "register"]);
}

#[test]
fn reports_are_acknowledged_after_their_commit_one_at_a_time() {
    let mut cloud = Cloud::settled();
    assert_eq!(cloud.says(report(1)), ["heard", "report 1"]);
    // The agent grows impatient: the newest is enough.
    assert_eq!(cloud.says(report(2)), ["heard"]);
    assert_eq!(cloud.says(report(3)), ["heard"]);
    assert_eq!(cloud.done(), ["report ack 1", "report 3"]);
    assert_eq!(cloud.handle(Input::Proposed(Proposed::Lost)), [""; 0]);
    assert_eq!(cloud.says(report(3)), ["heard", "report 3"]);
    assert_eq!(cloud.done(), ["report ack 3"]);
}

#[test]
fn reports_wait_for_the_registration_and_are_not_taken_by_followers() {
    let mut cloud = Cloud::settled();
    assert_eq!(cloud.says(hello(2)), ["heard", "register"]);
    assert_eq!(cloud.says(report(1)), ["heard"]);
    assert_eq!(cloud.commit(), ["report 1"]);
    cloud.leads = false;
    cloud.done();
    assert_eq!(cloud.says(report(2)), ["heard"]);
    cloud.leads = true;
    let words = cloud.look();
    assert!(!words.contains(&"report 2".to_owned()), "{words:?}");
}

#[test]
fn a_refusal_ends_the_session() {
    let mut cloud = Cloud::settled();
    cloud.says(report(1));
    let refusal = Refusal::NotFound {
        kind: Kind::Node,
        reference: String::new(),
    };
    let refused = Proposed::Applied(refusal.into());
    let words = cloud.handle(Input::Proposed(refused));
    assert_eq!(words, ["end FailedPrecondition"]);
}

#[test]
fn the_first_message_must_be_hello() {
    let traffic = up(Up::Traffic(TrafficReport::default()));
    for message in [beat(1), report(1), traffic, AgentMessage { message: None }] {
        let mut cloud = Cloud::new(true);
        cloud.look();
        assert_eq!(cloud.says(message), ["end InvalidArgument"]);
    }
}

#[test]
fn a_lease_needs_a_confirmation_that_began_after_the_heartbeat() {
    let mut cloud = Cloud::settled();
    assert_eq!(cloud.says(beat(1)), ["confirm", "heard"]);
    // These two came after the round began: it says nothing for them, and the
    // newer one is enough to ask again for.
    assert_eq!(cloud.says(beat(2)), ["heard"]);
    assert_eq!(cloud.says(beat(3)), ["beat ack 2", "heard"]);
    assert_eq!(cloud.confirmed(true), ["beat ack 1 fence 0", "confirm"]);
    assert_eq!(cloud.confirmed(true), ["beat ack 3 fence 0"]);
    assert_eq!(cloud.confirmed(true), [""; 0]);
}

#[test]
fn without_proof_of_leadership_a_beat_proves_life_and_nothing_else() {
    let mut cloud = Cloud::settled();
    cloud.says(beat(1));
    assert_eq!(cloud.confirmed(false), ["beat ack 1"]);
    // Another member led in between and answered the read.
    cloud.says(beat(2));
    cloud.term = 4;
    let words = cloud.confirmed(true);
    let expected = ["leadership true 4", "networks", "desired", "beat ack 2"];
    assert_eq!(words, expected);
    cloud.says(beat(3));
    cloud.leads = false;
    let words = cloud.confirmed(true);
    assert_eq!(words, ["leadership false 4", "beat ack 3"]);
    assert_eq!(cloud.says(beat(4)), ["beat ack 4", "heard"]);
}

#[test]
fn a_lease_never_passes_the_list_it_belongs_to() {
    let mut cloud = Cloud::settled();
    cloud.says(beat(1));
    cloud.state.derived.node_wish.insert(NODE, 99);
    assert_eq!(cloud.confirmed(true), ["desired", "beat ack 1 fence 0"]);
    // Its facts are not committed yet, so it was told nothing.
    cloud.says(beat(2));
    cloud.says(hello(2));
    cloud.state.derived.node_wish.insert(NODE, 100);
    assert_eq!(cloud.confirmed(true), ["beat ack 2"]);
}

#[test]
fn a_host_that_is_committed_silent_gets_no_lease() {
    let mut cloud = Cloud::settled();
    cloud.says(beat(1));
    let reachable = false;
    cloud
        .state
        .nodes
        .update(&NODE, |node| node.reachable = reachable);
    assert_eq!(cloud.confirmed(true), ["beat ack 1"]);
    assert_eq!(cloud.says(beat(2)), ["confirm", "heard", "register"]);
    cloud.commit();
    assert_eq!(cloud.confirmed(true), ["beat ack 2 fence 0"]);
}

#[test]
fn a_host_under_a_pending_fence_gets_no_lease() {
    let mut cloud = Cloud::settled();
    cloud.leases.lead(Some(cloud.term), 0);
    cloud.now_ms = nube_types::limits::LEASE_WAIT_MS;
    let fence = cloud.leases.begin_fence(NODE, cloud.term, 0, cloud.now_ms);
    assert_eq!(fence, Some(1));
    cloud.says(beat(1));
    assert_eq!(cloud.confirmed(true), ["beat ack 1"]);
}

/// The session of a host with one guest, `web`, target of a load balancer.
fn serving() -> (Cloud, InstanceId, LoadBalancerId) {
    let mut town = Town::new();
    let web = town.launch("web", 1, fixture::NETWORK, &[]);
    let balancer = town.balancer("web", None);
    let mut cloud = Cloud {
        state: town.state,
        ..Cloud::new(true)
    };
    let facts = fixture::facts(NODE);
    cloud.talk.facts = Some(facts);
    assert_eq!(cloud.look(), ["leadership true 3", "networks", "desired"]);
    (cloud, web, balancer)
}

fn traffic(instance: InstanceId, placement_epoch: u32, bytes_out: u64) -> AgentMessage {
    up(Up::Traffic(TrafficReport {
        instances: vec![agent::InstanceTraffic {
            instance_id: instance.to_string(),
            placement_epoch,
            bytes_out,
            bytes_in: 0,
        }],
    }))
}

fn health(balancer: LoadBalancerId, instance: InstanceId, healthy: bool) -> AgentMessage {
    up(Up::Health(HealthReport {
        targets: vec![agent::TargetHealth {
            load_balancer_id: balancer.to_string(),
            instance_id: instance.to_string(),
            placement_epoch: 1,
            healthy,
            reason: "x".repeat(1_000),
        }],
    }))
}

#[test]
fn totals_become_an_entry_only_when_they_grew() {
    let (mut cloud, web, _) = serving();
    assert_eq!(cloud.says(traffic(web, 1, 0)), ["heard"]);
    assert_eq!(
        cloud.says(traffic(web, 2, 9)),
        ["heard"],
        "not its placement"
    );
    assert_eq!(cloud.says(traffic(InstanceId(7), 1, 9)), ["heard"]);
    assert_eq!(cloud.says(traffic(web, 1, 9)), ["heard", "traffic 1"]);
    // Repetitions wait for the one under way; the newest is enough.
    assert_eq!(cloud.says(traffic(web, 1, 9)), ["heard"]);
    assert_eq!(cloud.says(traffic(web, 1, 12)), ["heard"]);
    assert_eq!(cloud.says(report(9_999)), ["heard"]);
    cloud.apply(Command::ReportTraffic(ReportTraffic {
        node: NODE,
        instances: vec![InstanceTraffic {
            instance: web,
            epoch: PlacementEpoch(1),
            bytes_out: 9,
            bytes_in: 0,
        }],
    }));
    assert_eq!(cloud.done(), ["report 9999"], "reports come first");
    assert_eq!(cloud.done(), ["report ack 9999", "traffic 1"]);
    // It was lost: the agent says it again by itself.
    assert_eq!(cloud.handle(Input::Proposed(Proposed::Lost)), [""; 0]);
    assert_eq!(cloud.says(traffic(web, 1, 9)), ["heard"], "known already");
    assert_eq!(cloud.says(traffic(web, 1, 12)), ["heard", "traffic 1"]);
}

#[test]
fn verdicts_become_an_entry_only_when_they_turned() {
    let (mut cloud, web, balancer) = serving();
    let none = || up(Up::Health(HealthReport::default()));
    assert_eq!(cloud.says(none()), ["heard"], "none known, none said");
    assert_eq!(
        cloud.says(health(balancer, web, true)),
        ["heard", "health 1"]
    );
    let reason = "x".repeat(100);
    let verdict = |healthy| TargetVerdict {
        load_balancer: balancer,
        instance: web,
        epoch: PlacementEpoch(1),
        healthy,
        reason: reason.clone(),
    };
    cloud.apply(Command::ReportTargetHealth(ReportTargetHealth {
        node: NODE,
        targets: vec![verdict(true)],
    }));
    assert_eq!(cloud.done(), ["networks"], "its hosts hear of it");
    assert_eq!(cloud.says(health(balancer, web, true)), ["heard"]);
    assert_eq!(
        cloud.says(health(balancer, web, false)),
        ["heard", "health 1"]
    );
    assert_eq!(cloud.done(), [""; 0]);
    let strange = LoadBalancerId(99);
    assert_eq!(
        cloud.says(health(strange, web, true)),
        ["heard", "health 1"],
        "what was known is not said any more"
    );
}

#[test]
fn reports_of_networks_are_bounded_and_not_taken_by_followers() {
    let (mut cloud, web, balancer) = serving();
    let malformed = up(Up::Traffic(TrafficReport {
        instances: vec![agent::InstanceTraffic {
            instance_id: "../x".to_owned(),
            ..agent::InstanceTraffic::default()
        }],
    }));
    assert_eq!(cloud.says(malformed), ["heard", "end InvalidArgument"]);
    let (mut cloud, ..) = serving();
    let many = up(Up::Health(HealthReport {
        targets: vec![agent::TargetHealth::default(); 10_001],
    }));
    assert_eq!(cloud.says(many), ["heard", "end InvalidArgument"]);
    let (mut cloud, ..) = serving();
    cloud.leads = false;
    cloud.says(traffic(web, 1, 9));
    cloud.says(health(balancer, web, true));
    cloud.leads = true;
    let words = cloud.look();
    assert_eq!(
        words,
        ["leadership true 3"],
        "they come again by themselves"
    );
}
