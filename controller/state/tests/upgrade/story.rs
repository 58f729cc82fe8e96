//! A cell's life in some two hundred entries, with every command in it: what a
//! release's golden history is recorded from. A new command belongs in here.

use nube_state::command::Wish;
use nube_state::hash_check;
use nube_state::security_group::Protocol;
use nube_state::{
    AccessRole, Command, Envelope, InstanceState, JoinRole, Quota, Request, State, apply,
};
use nube_types::{
    AccessKeyId, AddressId, ImageId, InstanceId, NetworkId, NodeId, PrincipalId, ProjectId,
    SecurityGroupId, SshKeyId, SubnetId,
};

use crate::fixture::networks as net;
use crate::fixture::{self, ALICE, IMAGE, KEY, OTHER, PROJECT, at_ms};

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// A state to look at, and how it came about.
#[derive(Default)]
struct Teller {
    state: State,
    index: u64,
    now_ms: u64,
    sequence: u64,
    requests: u8,
    entries: Vec<(u64, Envelope)>,
}

impl Teller {
    fn tell_as(&mut self, request: Option<Request>, command: Command) {
        // Not every index is an entry of ours: raft has its own.
        self.index += 1 + u64::from(self.index.is_multiple_of(17));
        self.now_ms += 730;
        let envelope = Envelope {
            request,
            at: at_ms(self.now_ms),
            actor: if request.is_some() {
                "user/alice"
            } else {
                "controller/1"
            }
            .to_owned(),
            command,
            source: request.map(|_| "192.0.2.7".to_owned()),
        };
        apply(&mut self.state, self.index, &envelope);
        self.entries.push((self.index, envelope));
    }

    /// A person's mutation.
    fn ask(&mut self, command: Command) {
        self.requests = self.requests.wrapping_add(1);
        self.tell_as(Some(fixture::request(self.requests, 1)), command);
    }

    /// The control plane's own.
    fn tell(&mut self, command: Command) {
        self.tell_as(None, command);
    }

    fn wait(&mut self, seconds: u64) {
        self.now_ms += seconds * 1_000;
        self.tell(fixture::tick());
    }

    fn report(&mut self, instance: InstanceId, state: InstanceState) {
        let Some(known) = self.state.instances.get(&instance) else {
            return;
        };
        let (node, generation) = (known.node, known.generation);
        let epoch = self
            .state
            .nodes
            .get(&node)
            .map_or(1, |n| n.facts.agent_epoch);
        self.sequence += 1;
        let mut seen = vec![fixture::observed(instance, state, generation)];
        seen[0].epoch = known.epoch;
        let report = fixture::report(node, epoch, self.sequence, seen);
        self.tell(Command::ReportInstances(report));
    }

    fn launch(&mut self, id: u64, node: NodeId) {
        self.ask(fixture::launch_one(InstanceId(id), node));
        self.report(InstanceId(id), InstanceState::Starting);
        self.wait(3);
        self.report(InstanceId(id), InstanceState::Running);
    }
}

fn beginning(t: &mut Teller) {
    t.tell(fixture::init());
    t.tell(fixture::init());
    t.tell(fixture::members(&[1, 2, 3]));
    for (epoch, node) in NODES.into_iter().enumerate() {
        t.tell(fixture::node(node, 1 + epoch as u64));
        t.tell(fixture::tick_seen(node, at_ms(t.now_ms)));
    }
    t.ask(fixture::ssh_key(KEY, "alice", "AAAA"));
    t.ask(fixture::ssh_key(SshKeyId(2), "bob", "BBBB"));
    t.ask(fixture::ssh_key(SshKeyId(3), "carol", "AAAA"));
    t.ask(Command::RegisterImage(fixture::image(IMAGE, "debian")));
    t.ask(Command::RegisterImage(fixture::image(ImageId(2), "spare")));
    t.ask(fixture::labels(
        NODES[0],
        &[("rack", "r2"), ("row", "7")],
        &["none"],
    ));
}

fn tenants(t: &mut Teller) {
    t.ask(fixture::project(OTHER, "other", Some(Quota::DEFAULT)));
    t.ask(fixture::project(ProjectId(3), "empty", None));
    t.ask(Command::SetProjectQuota(OTHER, Quota::UNLIMITED));
    t.ask(fixture::principal(ALICE, "alice"));
    t.ask(fixture::principal(PrincipalId(2), "robot"));
    t.ask(fixture::role(ALICE, Some(OTHER), Some(AccessRole::Admin)));
    t.ask(fixture::role(ALICE, None, Some(AccessRole::Viewer)));
    t.ask(fixture::role(
        PrincipalId(2),
        Some(PROJECT),
        Some(AccessRole::Member),
    ));
    for id in 1..=3 {
        let (id, ttl_ms) = (AccessKeyId(id), (id == 2).then_some(60_000));
        t.ask(fixture::access_key(
            id,
            ALICE,
            Some(OTHER),
            AccessRole::Member,
            ttl_ms,
        ));
    }
    t.ask(Command::DeleteAccessKey(AccessKeyId(1)));
    t.ask(Command::DeletePrincipal(PrincipalId(2)));
    t.ask(Command::DeleteProject(ProjectId(3)));
    // Refused: it is not there, and a repetition that says something else.
    t.ask(Command::DeleteProject(ProjectId(3)));
    t.tell_as(Some(fixture::request(3, 1)), fixture::tick());
    t.tell_as(Some(fixture::request(3, 2)), fixture::tick());
}

fn guests(t: &mut Teller) {
    t.launch(1, NODES[0]);
    t.launch(2, NODES[1]);
    t.launch(3, NODES[2]);
    let mut explained = fixture::new_instance(InstanceId(4), "explained", NODES[0]);
    explained.explanation = Some(fixture::explanation(NODES[0]));
    t.ask(Command::LaunchInstances(fixture::launch(vec![explained])));
    // Refused: its name is taken; so many do not fit.
    t.ask(fixture::launch_one(InstanceId(1), NODES[0]));
    let many = (20..60).map(|n| fixture::new_instance(InstanceId(n), &format!("m{n}"), NODES[1]));
    t.ask(Command::LaunchInstances(fixture::launch(many.collect())));
    t.wait(7_200);
    t.ask(fixture::wish(InstanceId(2), Wish::Reboot, false));
    t.report(InstanceId(2), InstanceState::Running);
    t.ask(fixture::wish(InstanceId(1), Wish::Stop, false));
    t.report(InstanceId(1), InstanceState::Stopping);
    t.report(InstanceId(1), InstanceState::Stopped);
    t.wait(86_400);
    t.ask(fixture::wish(InstanceId(1), Wish::Start, false));
    t.report(InstanceId(1), InstanceState::Running);
    t.ask(fixture::wish(InstanceId(3), Wish::Delete, true));
    t.report(InstanceId(3), InstanceState::Deleted);
    t.ask(Command::DeleteImage(PROJECT, IMAGE));
    t.ask(Command::DeleteImage(PROJECT, ImageId(2)));
    t.ask(Command::DeleteSshKey(PROJECT, SshKeyId(2)));
    t.ask(Command::SetNodeDrained(NODES[2], true));
}

/// A host falls silent and comes back with a new agent that found a guest dead.
fn silence(t: &mut Teller) {
    let last_seen = at_ms(t.now_ms);
    t.now_ms += 30_000;
    t.tell(fixture::reachable(NODES[1], false, last_seen));
    t.ask(fixture::wish(InstanceId(2), Wish::Stop, true));
    t.wait(600);
    t.tell(fixture::node(NODES[1], 9));
    t.tell(fixture::reachable(NODES[1], true, at_ms(t.now_ms)));
    let mut dead = fixture::observed(InstanceId(2), InstanceState::Stopped, 1);
    (dead.found_dead, dead.reason) = (true, "it was not there any more".to_owned());
    let mut report = fixture::report(NODES[1], 9, 1, vec![dead]);
    (report.full, report.unknown) = (true, vec!["process 4711".to_owned()]);
    t.tell(Command::ReportInstances(report));
    t.report(InstanceId(2), InstanceState::Stopped);
    // A host that says of another's guest whatever it likes.
    let lie = vec![fixture::observed(InstanceId(1), InstanceState::Deleted, 9)];
    t.tell(Command::ReportInstances(fixture::report(
        NODES[2], 3, 99, lie,
    )));
}

fn newcomers(t: &mut Teller) {
    t.ask(fixture::join_token(1, JoinRole::Controller, "spare"));
    t.ask(fixture::join_token(2, JoinRole::Agent, "n7"));
    t.tell(fixture::redeem(1, 1, Some("10.0.0.4:7000")));
    t.tell(fixture::redeem(2, 2, None));
    t.tell(fixture::redeem(2, 3, None));
    t.ask(fixture::remove_member(1, &[1, 2, 3], &[]));
    t.ask(fixture::remove_member(2, &[2, 3, 4], &[3, 4]));
    t.ask(Command::SetNodeDrained(NODES[2], false));
}

/// A host is lost: one of its guests begins anew elsewhere, and what it has to clear
/// away stays until it comes back.
fn loss(t: &mut Teller) {
    t.ask(fixture::launch_replaceable(InstanceId(8), NODES[2]));
    t.report(InstanceId(8), InstanceState::Running);
    let last_seen = at_ms(t.now_ms);
    t.wait(40);
    t.tell(fixture::reachable(NODES[2], false, last_seen));
    t.tell(fixture::fence(NODES[2], 1));
    t.tell(fixture::fence(NODES[2], 1));
    t.tell(fixture::replace(InstanceId(8), NODES[2], 1, NODES[0]));
    t.wait(5);
    t.report(InstanceId(8), InstanceState::Running);
    t.tell(fixture::replace(InstanceId(8), NODES[2], 1, NODES[1]));
}

/// Networks, and what is in them; some of it is refused, some is still there later.
fn networks(t: &mut Teller) {
    t.ask(net::network(20, "lab", net::range("10.9.0.0/24")));
    t.ask(net::network(21, "gone", net::range("192.168.0.0/16")));
    t.ask(net::gateway(20, false));
    t.ask(net::subnet(20, 30, "far", net::range("172.16.0.0/28")));
    t.ask(net::subnet(20, 31, "near", net::range("10.9.0.128/25")));
    t.ask(net::delete_subnet(31));
    t.ask(net::subnet(20, 32, "near", net::range("10.9.1.0/28")));
    t.ask(net::delete_subnet(32));
    t.ask(net::delete_network(21));
    t.ask(net::group(40, "web"));
    t.ask(net::group(41, "gone"));
    let ssh = net::rule(1, Protocol::Tcp, (22, 22), net::from_range("0.0.0.0/0"));
    t.ask(net::add_rule(40, ssh));
    t.ask(net::add_rule(
        PROJECT.0,
        net::rule(9, Protocol::Any, (0, 0), net::from_group(40)),
    ));
    t.ask(net::remove_rule(40, 4_001));
    t.ask(net::delete_group(41));
    t.ask(net::delete_group(40));
    let mut command = fixture::launch(vec![fixture::new_instance(InstanceId(9), "far", NODES[0])]);
    (command.network, command.subnet) = (Some(NetworkId(20)), Some(SubnetId(30)));
    (command.address, command.security_groups) = (Some(0xac10_0007), vec![SecurityGroupId(40)]);
    t.ask(Command::LaunchInstances(command));
    t.report(InstanceId(9), InstanceState::Running);
    t.ask(net::set_groups(InstanceId(9), &[PROJECT.0, 40]));
    t.ask(Command::AddAddressPool(net::range("198.18.7.0/29")));
    t.ask(Command::AddAddressPool(net::range("203.0.113.0/24")));
    t.ask(Command::RemoveAddressPool(net::range("203.0.113.0/24")));
    for id in 50..53 {
        t.ask(net::address(id, &format!("a{id}")));
    }
    t.ask(net::associate(50, InstanceId(9), false));
    t.ask(net::gateway(20, true));
    t.ask(net::associate(50, InstanceId(9), false));
    t.ask(net::associate(50, InstanceId(8), false));
    t.ask(net::associate(50, InstanceId(8), true));
    t.ask(net::disassociate(50));
    t.ask(net::release(52));
    let mut balancer = net::balancer(60, "front");
    balancer.elastic_address = Some(AddressId(51));
    t.ask(Command::CreateLoadBalancer(balancer));
    t.ask(Command::CreateLoadBalancer(net::balancer(61, "gone")));
    t.tell(net::health(
        NODES[0],
        vec![net::verdict(60, InstanceId(8), 2, true)],
    ));
    t.ask(net::drain(60, InstanceId(8), true));
    t.ask(net::delete_balancer(61));
    t.tell(net::traffic(
        NODES[0],
        vec![net::totals(InstanceId(8), 2, 5_000, 7_000)],
    ));
    t.wait(86_400);
    t.tell(net::traffic(
        NODES[0],
        vec![net::totals(InstanceId(8), 2, 6_000, 7_000)],
    ));
}

/// Weeks of coming and going.
fn weeks(t: &mut Teller) {
    for round in 0..8 {
        let (id, node) = (100 + round, NODES[(round % 3) as usize]);
        t.launch(id, node);
        t.wait(3_600 * (1 + round * 7));
        let wish = if round % 2 == 0 {
            Wish::Delete
        } else {
            Wish::Stop
        };
        t.ask(fixture::wish(InstanceId(id), wish, round % 3 == 0));
        if round != 4 {
            let state = [InstanceState::Deleted, InstanceState::Stopped][(round % 2) as usize];
            t.report(InstanceId(id), state);
        }
        t.wait(60 + round);
        if round == 3 {
            // Far on in the log, where replicas compare themselves.
            t.index = 1_000 + round;
            t.wait(1);
            t.tell(hash_check::due(&t.state).expect("a mark"));
        }
    }
    t.wait(90_000);
}

/// The entries with their places in the log.
pub fn entries() -> Vec<(u64, Envelope)> {
    let mut teller = Teller::default();
    beginning(&mut teller);
    tenants(&mut teller);
    guests(&mut teller);
    silence(&mut teller);
    newcomers(&mut teller);
    loss(&mut teller);
    networks(&mut teller);
    weeks(&mut teller);
    teller.entries
}
