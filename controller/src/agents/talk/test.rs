//! Talks as tables: what is said and done, as words. Consensus and the leader's
//! clock are played by the test.

use std::collections::BTreeMap;

use nube_proto::agent::v1::{Heartbeat, Hello};
use nube_state::command::InitCluster;
use nube_state::{Envelope, Kind, Refusal, apply};
use nube_types::{NetworkId, ProjectId, TimestampMs};

use super::*;

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
    assert_eq!(cloud.commit(), ["desired"]);
    assert_eq!(cloud.look(), [""; 0]);
    cloud.state.derived.node_wish.insert(NODE, 99);
    assert_eq!(cloud.look(), ["desired"]);
    cloud.term = 5;
    assert_eq!(cloud.look(), ["leadership true 5", "desired"]);
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
    for message in [beat(1), report(1), AgentMessage { message: None }] {
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
    assert_eq!(words, ["leadership true 4", "desired", "beat ack 2"]);
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
