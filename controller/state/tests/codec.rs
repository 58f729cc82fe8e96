//! Persistent bytes: what is written today must be read, and written the same
//! way, for ever. `tests/golden/*.hex` holds each form; `UPDATE_EXPECT=1 cargo
//! test` writes new ones, and a changed line is a broken upgrade unless `FORMAT`
//! was raised. Damaged bytes are refused, never guessed and never a panic.

#![expect(
    clippy::disallowed_methods,
    reason = "golden files are compared and rewritten"
)]

mod fixture;

use std::fmt::Write as _;
use std::path::Path;

use fixture::networks as net;
use fixture::{
    ALICE, Cell, IMAGE, KEY, OTHER, PROJECT, at_ms, launch_one, observed, request, wish,
};
use nube_state::command::{InitCluster, LaunchInstances, NodeSeen, Tick, Wish};
use nube_state::eviction::ReplaceInstance;
use nube_state::hash_check::CheckStateHash;
use nube_state::join_token::{CreateJoinToken, Joined, RedeemJoinToken};
use nube_state::member::{NewMember, RegisterMembers, RemoveMember};
use nube_state::security_group::Protocol;
use nube_state::{
    Accelerator, AccessRole, CodecError, Command, Envelope, FORMAT, HostFailurePolicy, HostNeeds,
    InstanceState, Isolation, JoinRole, Kind, Outcome, Quota, Refusal, State, codec,
};
use nube_types::{
    AccessKeyId, AddressId, InstanceId, LoadBalancerId, NetworkId, NodeId, PlacementEpoch,
    SecurityGroupId, SubnetId,
};

const NODE: NodeId = NodeId(1);

/// One of each, by name. The match is complete: a new command does not compile
/// before it has golden bytes.
fn commands() -> Vec<(&'static str, Command)> {
    let mut report = fixture::report(NODE, 3, 4, Vec::new());
    let mut seen = observed(InstanceId(5), InstanceState::Stopped, 6);
    (seen.reason, seen.found_dead, seen.reboot_count) = ("why".to_owned(), true, 2);
    (report.full, report.observed, report.unknown) = (true, vec![seen], vec!["tap".to_owned()]);
    let all = vec![
        fixture::init(),
        Command::Tick(Tick {
            seen: vec![NodeSeen {
                node: NODE,
                at: at_ms(9),
            }],
        }),
        fixture::ssh_key(KEY, "alice", "AAAA"),
        Command::DeleteSshKey(PROJECT, KEY),
        Command::RegisterImage(fixture::image(IMAGE, "debian")),
        Command::DeleteImage(PROJECT, IMAGE),
        fixture::node(NODE, 3),
        fixture::reachable(NODE, false, at_ms(9)),
        Command::SetNodeDrained(NODE, true),
        launch_one(InstanceId(5), NODE),
        wish(InstanceId(5), Wish::Reboot, true),
        Command::ReportInstances(report),
        fixture::project(OTHER, "other", Some(Quota::DEFAULT)),
        Command::SetProjectQuota(OTHER, Quota::UNLIMITED),
        Command::DeleteProject(OTHER),
        fixture::principal(ALICE, "alice"),
        fixture::role(ALICE, Some(OTHER), Some(AccessRole::Member)),
        Command::DeletePrincipal(ALICE),
        fixture::access_key(
            AccessKeyId(1),
            ALICE,
            Some(OTHER),
            AccessRole::Viewer,
            Some(5),
        ),
        Command::DeleteAccessKey(AccessKeyId(1)),
        fixture::labels(NODE, &[("rack", "r2")], &["row"]),
        Command::CreateJoinToken(CreateJoinToken {
            hash: [8; 32],
            role: JoinRole::Agent,
            name: fixture::name("host-1"),
        }),
        Command::RedeemJoinToken(RedeemJoinToken {
            hash: [8; 32],
            public_key_hash: [9; 32],
            address: Some("10.0.0.9:7000".to_owned()),
            node: NODE,
        }),
        Command::RegisterMembers(RegisterMembers {
            members: vec![NewMember {
                id: 1,
                address: "c1:7000".to_owned(),
                agent_address: Some("10.0.0.1:7000".to_owned()),
            }],
        }),
        Command::RemoveMember(RemoveMember {
            id: 1,
            voters: vec![1, 2, 3],
            silent: vec![3],
        }),
        fixture::launch_replaceable(InstanceId(5), NODE),
        needy(),
        fixture::fence(NODE, 3),
        Command::ReplaceInstance(ReplaceInstance {
            instance: InstanceId(5),
            from: NODE,
            epoch: PlacementEpoch(2),
            to: NodeId(2),
            explanation: Some(fixture::explanation(NodeId(2))),
        }),
        Command::CheckStateHash(CheckStateHash {
            index: 1_000,
            hash: [6; 32],
        }),
    ];
    let all = all.into_iter().chain(about_networks());
    let named = |command: Command| {
        let name = match &command {
            Command::InitCluster(_) => "init_cluster",
            Command::Tick(_) => "tick",
            Command::ImportSshKey(_) => "import_ssh_key",
            Command::DeleteSshKey(..) => "delete_ssh_key",
            Command::RegisterImage(_) => "register_image",
            Command::DeleteImage(..) => "delete_image",
            Command::RegisterNode(_) => "register_node",
            Command::SetNodeReachable(_) => "set_node_reachable",
            Command::SetNodeDrained(..) => "set_node_drained",
            Command::LaunchInstances(c) if c.network.is_some() => "launch_in_network",
            Command::LaunchInstances(c) if c.needs != HostNeeds::default() => "launch_needs",
            Command::LaunchInstances(c) if c.on_host_failure == HostFailurePolicy::Replace => {
                "launch_replaceable"
            }
            Command::LaunchInstances(_) => "launch_instances",
            Command::ChangeInstance(_) => "change_instance",
            Command::ReportInstances(_) => "report_instances",
            Command::CreateProject(_) => "create_project",
            Command::SetProjectQuota(..) => "set_project_quota",
            Command::DeleteProject(_) => "delete_project",
            Command::CreatePrincipal(_) => "create_principal",
            Command::SetRole(_) => "set_role",
            Command::DeletePrincipal(_) => "delete_principal",
            Command::CreateAccessKey(_) => "create_access_key",
            Command::DeleteAccessKey(_) => "delete_access_key",
            Command::SetNodeLabels(_) => "set_node_labels",
            Command::CreateJoinToken(_) => "create_join_token",
            Command::RedeemJoinToken(_) => "redeem_join_token",
            Command::RegisterMembers(_) => "register_members",
            Command::RemoveMember(_) => "remove_member",
            Command::FenceNode(_) => "fence_node",
            Command::ReplaceInstance(_) => "replace_instance",
            Command::CheckStateHash(_) => "check_state_hash",
            Command::CreateNetwork(_) => "create_network",
            Command::SetInternetGateway(..) => "set_internet_gateway",
            Command::DeleteNetwork(..) => "delete_network",
            Command::CreateSubnet(_) => "create_subnet",
            Command::DeleteSubnet(..) => "delete_subnet",
            Command::CreateSecurityGroup(_) => "create_security_group",
            Command::AddSecurityRule(_) => "add_security_rule",
            Command::RemoveSecurityRule(..) => "remove_security_rule",
            Command::SetInstanceSecurityGroups(..) => "set_instance_security_groups",
            Command::DeleteSecurityGroup(..) => "delete_security_group",
            Command::AddAddressPool(_) => "add_address_pool",
            Command::RemoveAddressPool(_) => "remove_address_pool",
            Command::AllocateAddress(_) => "allocate_address",
            Command::AssociateAddress(_) => "associate_address",
            Command::DisassociateAddress(..) => "disassociate_address",
            Command::ReleaseAddress(..) => "release_address",
            Command::CreateLoadBalancer(_) => "create_load_balancer",
            Command::SetTargetDraining(_) => "set_target_draining",
            Command::DeleteLoadBalancer(..) => "delete_load_balancer",
            Command::ReportTraffic(_) => "report_traffic",
            Command::ReportTargetHealth(_) => "report_target_health",
        };
        (name, command)
    };
    all.map(named).collect()
}

/// In the order of their numbers, with each optional field that came with them.
fn about_networks() -> Vec<Command> {
    let instance = InstanceId(5);
    let mut balancer = net::balancer(60, "front");
    balancer.elastic_address = Some(AddressId(50));
    let from_all = net::from_range("::/0");
    let mut facts = fixture::facts(NODE, 3);
    facts.overlay_address = Some(0x0a00_0001);
    vec![
        Command::InitCluster(InitCluster {
            cluster_id: [7; 16],
            project: PROJECT,
            network: fixture::NETWORK,
            network_prices: true,
        }),
        Command::RegisterNode(facts),
        in_network(),
        net::network(20, "lab", net::range("10.9.0.0/24")),
        net::gateway(20, true),
        net::delete_network(20),
        net::subnet(20, 30, "far", net::range("172.16.0.0/28")),
        net::delete_subnet(30),
        net::group(40, "web"),
        net::add_rule(40, net::rule(1, Protocol::Tcp, (22, 80), from_all)),
        net::add_rule(40, net::rule(2, Protocol::Any, (0, 0), net::from_group(40))),
        net::remove_rule(40, 1),
        net::set_groups(instance, &[1, 40]),
        net::delete_group(40),
        Command::AddAddressPool(net::range("198.18.7.0/29")),
        Command::RemoveAddressPool(net::range("198.18.7.0/29")),
        net::address(50, "www"),
        net::associate(50, instance, true),
        net::disassociate(50),
        net::release(50),
        Command::CreateLoadBalancer(balancer),
        net::drain(60, instance, true),
        net::delete_balancer(60),
        net::traffic(NODE, vec![net::totals(instance, 2, u64::MAX, 7)]),
        net::health(NODE, vec![net::verdict(60, instance, 2, false)]),
    ]
}

fn in_network() -> Command {
    let new = fixture::new_instance(InstanceId(5), "web", NODE);
    Command::LaunchInstances(LaunchInstances {
        network: Some(NetworkId(20)),
        subnet: Some(SubnetId(30)),
        address: Some(0xac10_0007),
        security_groups: vec![SecurityGroupId(40)],
        ..fixture::launch(vec![new])
    })
}

/// A launch that asks for much, and keeps the first field of the later ones at
/// its default.
fn needy() -> Command {
    Command::LaunchInstances(LaunchInstances {
        needs: HostNeeds {
            zone: Some("a".to_owned()),
            accelerator: Some(Accelerator::Kvm),
            isolation: Some(Isolation::Hardware),
            pack: Some(true),
        },
        ..fixture::launch(vec![fixture::new_instance(InstanceId(5), "web", NODE)])
    })
}

fn envelope(command: Command) -> Envelope {
    let actor = "operator/admin".to_owned();
    Envelope {
        source: Some("192.0.2.7".to_owned()),
        request: Some(request(1, 2)),
        at: at_ms(1_234),
        actor,
        command,
    }
}

/// A state with a row in every table.
fn full_state() -> State {
    let mut cell = Cell::with_nodes(&[NODE]);
    for id in 1..=3 {
        cell.now_ms += 1_000;
        cell.apply(
            Some(request(7, 7 + u8::try_from(id).unwrap_or(0))),
            fixture::tick(),
        );
        cell.done(launch_one(InstanceId(id), NODE));
        cell.report(
            NODE,
            vec![observed(InstanceId(id), InstanceState::Running, 1)],
        );
    }
    cell.now_ms += 90_500;
    cell.done(wish(InstanceId(1), Wish::Stop, true));
    cell.done(wish(InstanceId(2), Wish::Delete, false));
    cell.report(
        NODE,
        vec![observed(InstanceId(2), InstanceState::Deleted, 2)],
    );
    cell.done(fixture::project(OTHER, "other", None));
    cell.done(fixture::principal(ALICE, "alice"));
    cell.done(fixture::role(ALICE, Some(OTHER), Some(AccessRole::Admin)));
    let key = fixture::access_key(
        AccessKeyId(1),
        ALICE,
        Some(OTHER),
        AccessRole::Member,
        Some(60),
    );
    cell.done(key);
    cell.done(fixture::labels(NODE, &[("rack", "r2")], &[]));
    let mut explained = fixture::new_instance(InstanceId(4), "explained", NODE);
    explained.explanation = Some(fixture::explanation(NODE));
    cell.done(Command::LaunchInstances(fixture::launch(vec![explained])));
    cell.done(fixture::members(&[1, 2, 3]));
    cell.done(fixture::join_token(1, JoinRole::Controller, "spare"));
    cell.done(fixture::redeem(1, 1, Some("10.0.0.4:7000")));
    cell.done(fixture::remove_member(1, &[1, 2, 3], &[]));
    let state = cell.state;
    assert!(!state.projects.is_empty() && !state.principals.is_empty());
    assert!(!state.access_keys.is_empty() && !state.events.is_empty());
    assert!(!state.placements.is_empty());
    assert!(!state.join_tokens.is_empty() && state.members.len() == 4);
    let lengths = [
        state.ssh_keys.len(),
        state.images.len(),
        state.instance_types.len(),
    ];
    assert!(lengths.iter().all(|length| *length > 0) && !state.networks.is_empty());
    assert!(!state.released.is_empty() && !state.requests.is_empty() && !state.nodes.is_empty());
    assert!(
        !state.instances.is_empty() && !state.usage.is_empty() && !state.transitions.is_empty()
    );
    state
}

/// A state in which hosts were lost: what later versions added to records and
/// tables. The other one has the bytes that the first version wrote.
fn lost_state() -> State {
    let other = NodeId(2);
    let mut cell = Cell::with_nodes(&[NODE, other]);
    for id in 1..=2 {
        cell.done(fixture::launch_replaceable(InstanceId(id), NODE));
    }
    cell.done(needy());
    cell.report(
        NODE,
        vec![observed(InstanceId(1), InstanceState::Running, 1)],
    );
    cell.now_ms += 30_000;
    cell.done(fixture::reachable(NODE, false, at_ms(5_000)));
    cell.done(fixture::fence(NODE, 1));
    cell.done(fixture::replace(InstanceId(1), NODE, 1, other));
    assert!(cell.state.evictions.len() == 1 && cell.state.nodes.iter().any(|node| node.fenced));
    cell.state
}

/// A state with a row in every table that came with networks.
fn networked_state() -> State {
    let mut cell = Cell::with_nodes(&[NODE]);
    cell.done(net::network(20, "lab", net::range("10.9.0.0/24")));
    cell.done(net::subnet(20, 30, "far", net::range("172.16.0.0/28")));
    cell.done(net::group(40, "web"));
    let from_all = net::from_range("::/0");
    cell.done(net::add_rule(
        40,
        net::rule(1, Protocol::Tcp, (22, 80), from_all),
    ));
    cell.done(net::add_rule(
        PROJECT.0,
        net::rule(9, Protocol::Icmp, (0, 0), net::from_group(40)),
    ));
    cell.done(in_network());
    cell.done(Command::AddAddressPool(net::range("198.18.7.0/29")));
    for (id, name) in [(50, "www"), (51, "spare"), (52, "front")] {
        cell.done(net::address(id, name));
    }
    cell.done(net::associate(50, InstanceId(5), false));
    let mut balancer = net::balancer(60, "front");
    (balancer.network, balancer.elastic_address) = (NetworkId(20), Some(AddressId(52)));
    cell.done(Command::CreateLoadBalancer(balancer));
    cell.done(net::drain(60, InstanceId(5), true));
    cell.done(net::health(
        NODE,
        vec![net::verdict(60, InstanceId(5), 1, false)],
    ));
    cell.done(net::traffic(
        NODE,
        vec![net::totals(InstanceId(5), 1, 9, 7)],
    ));
    cell.done(net::release(51));
    cell.done(net::gateway(20, false));
    let state = cell.state;
    let lengths = [
        state.subnets.len(),
        state.security_groups.len(),
        state.address_pools.len(),
        state.addresses.len(),
        state.load_balancers.len(),
        state.target_health.len(),
        state.traffic_counters.len(),
        state.traffic_usage.len(),
    ];
    assert_eq!(lengths, [1, 2, 1, 2, 1, 1, 1, 1]);
    state
}

fn outcomes() -> Vec<Outcome> {
    let what = || "what".to_owned();
    let name = || fixture::name("web");
    let refusals = vec![
        Refusal::NotFound {
            kind: Kind::Instance,
            reference: what(),
        },
        Refusal::NameTaken {
            kind: Kind::Image,
            name: name(),
        },
        Refusal::DuplicateSshKey {
            name: name(),
            fingerprint: what(),
        },
        Refusal::RequestIdReused,
        Refusal::LimitReached {
            what: what(),
            limit: 4,
        },
        Refusal::StalePlacement {
            node: NODE,
            why: what(),
        },
        Refusal::InUse {
            kind: Kind::Node,
            name: name(),
            count: 2,
        },
        Refusal::WrongState {
            name: name(),
            state: what(),
            advice: what(),
        },
        Refusal::Invalid {
            field: what(),
            rule: what(),
        },
        Refusal::NoAddress,
        Refusal::Initialisation(what()),
        Refusal::IdTaken(what()),
        Refusal::QuotaExceeded {
            resource: what(),
            limit: 4,
            used: 3,
            asked: 2,
        },
        Refusal::RevisionChanged {
            asked: 4,
            changed: 5,
        },
        Refusal::NotEmpty {
            kind: Kind::Project,
            name: name(),
            what: what(),
            count: 2,
        },
        Refusal::RoleMissing {
            name: name(),
            role: what(),
        },
        Refusal::TokenRefused,
        Refusal::QuorumAtRisk(what()),
        Refusal::Fence {
            node: NODE,
            why: what(),
        },
        Refusal::NotFound {
            kind: Kind::Member,
            reference: what(),
        },
        Refusal::AddressInUse {
            address: what(),
            why: what(),
        },
        Refusal::NoElasticAddress,
    ];
    let kinds = [
        Kind::Network,
        Kind::Subnet,
        Kind::SecurityGroup,
        Kind::SecurityRule,
        Kind::Address,
        Kind::AddressPool,
        Kind::LoadBalancer,
    ];
    let of_kind = |kind| Refusal::NotFound {
        kind,
        reference: what(),
    };
    let refusals = refusals.into_iter().chain(kinds.map(of_kind));
    let kept = vec![
        Outcome::Done,
        Outcome::Instances(vec![InstanceId(1), InstanceId(2)]),
        Outcome::SshKey(KEY),
        Outcome::Image(IMAGE),
        Outcome::Project(OTHER),
        Outcome::Principal(ALICE),
        Outcome::AccessKey(AccessKeyId(1)),
        Outcome::JoinToken(at_ms(600_000)),
        Outcome::Joined(Joined::Agent {
            node: NODE,
            name: name(),
            agent_epoch: 3,
        }),
        Outcome::Joined(Joined::Controller {
            member: 4,
            name: name(),
        }),
        Outcome::Network(NetworkId(20)),
        Outcome::Subnet(SubnetId(30)),
        Outcome::SecurityGroup(SecurityGroupId(40)),
        Outcome::Address(AddressId(50)),
        Outcome::LoadBalancer(LoadBalancerId(60)),
    ];
    kept.into_iter()
        .chain(refusals.map(Outcome::Refused))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, text).expect("the source can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{name} is encoded in another way:\n{text}\nbefore:\n{kept}"
    );
}

fn with_hash(name: &str, bytes: &[u8]) -> String {
    format!("{name} blake3={}\n{}\n", blake3::hash(bytes), hex(bytes))
}

#[test]
fn every_command_has_its_bytes() {
    let mut text = String::new();
    for (name, command) in commands() {
        let envelope = envelope(command);
        let bytes = codec::encode_envelope(&envelope);
        assert_eq!(codec::decode_envelope(&bytes).as_ref(), Ok(&envelope));
        text.push_str(&with_hash(name, &bytes));
    }
    golden("envelopes.hex", &text);
}

#[test]
fn every_outcome_has_its_bytes() {
    let mut text = String::new();
    for outcome in outcomes() {
        let bytes = codec::encode_outcome(&outcome);
        assert_eq!(codec::decode_outcome(&bytes).as_ref(), Ok(&outcome));
        text.push_str(&with_hash(&format!("{outcome:?}"), &bytes));
    }
    golden("outcomes.hex", &text);
}

#[test]
fn a_snapshot_has_its_bytes() {
    let state = full_state();
    let bytes = codec::encode_snapshot(&state);
    let read = codec::decode_snapshot(&bytes).expect("own bytes");
    assert_eq!(codec::state_hash(&read), codec::state_hash(&state));
    let hash = format!("state {}\n", hex(&codec::state_hash(&state)));
    golden("snapshot.hex", &(hash + &with_hash("snapshot", &bytes)));
}

#[test]
fn a_snapshot_with_lost_hosts_has_its_bytes() {
    let state = lost_state();
    let bytes = codec::encode_snapshot(&state);
    let read = codec::decode_snapshot(&bytes).expect("own bytes");
    assert_eq!(codec::encode_snapshot(&read), bytes);
    assert_eq!(read.node_use(NODE), state.node_use(NODE));
    let hash = format!("state {}\n", hex(&codec::state_hash(&state)));
    golden(
        "snapshot_lost.hex",
        &(hash + &with_hash("snapshot", &bytes)),
    );
    // What is owed is part of what is known.
    let mut forgetful = state.clone();
    forgetful.evictions = nube_state::Table::default();
    assert_ne!(codec::state_hash(&forgetful), codec::state_hash(&state));
}

#[test]
fn a_snapshot_with_networks_has_its_bytes() {
    let state = networked_state();
    let bytes = codec::encode_snapshot(&state);
    let read = codec::decode_snapshot(&bytes).expect("own bytes");
    assert_eq!(codec::encode_snapshot(&read), bytes);
    assert_eq!(read.derived.network, state.derived.network);
    let hash = format!("state {}\n", hex(&codec::state_hash(&state)));
    golden(
        "snapshot_networks.hex",
        &(hash + &with_hash("snapshot", &bytes)),
    );
    // Each of the tables is part of what is known.
    let whole = codec::state_hash(&state);
    let without: [fn(&mut State); 8] = [
        |state| state.subnets = nube_state::Table::default(),
        |state| state.security_groups = nube_state::Table::default(),
        |state| state.address_pools = nube_state::Table::default(),
        |state| state.addresses = nube_state::Table::default(),
        |state| state.load_balancers = nube_state::Table::default(),
        |state| state.target_health = nube_state::Table::default(),
        |state| state.traffic_counters = nube_state::Table::default(),
        |state| state.traffic_usage = nube_state::Table::default(),
    ];
    for (number, forget) in without.into_iter().enumerate() {
        let mut forgetful = state.clone();
        forget(&mut forgetful);
        assert_ne!(codec::state_hash(&forgetful), whole, "table {number}");
    }
}

/// The count of later tables says up to the last one with a row, and no more: one
/// state has one form.
#[test]
fn later_tables_are_written_up_to_the_last_with_a_row() {
    let mut state = networked_state();
    state.traffic_usage = nube_state::Table::default();
    let shorter = codec::encode_snapshot(&state);
    let read = codec::decode_snapshot(&shorter).expect("own bytes");
    assert_eq!(codec::encode_snapshot(&read), shorter);
    let mut padded = shorter.clone();
    padded.push(0x80);
    assert!(codec::decode_snapshot(&padded).is_err());
}

#[test]
fn an_empty_state_is_a_snapshot_too() {
    let bytes = codec::encode_snapshot(&State::default());
    let read = codec::decode_snapshot(&bytes).expect("own bytes");
    assert_eq!(codec::encode_snapshot(&read), bytes);
}

#[test]
fn other_formats_are_refused() {
    let entry = codec::encode_envelope(&envelope(fixture::tick()));
    let snapshot = codec::encode_snapshot(&full_state());
    let outcome = codec::encode_outcome(&Outcome::Done);
    for found in (0..=u8::MAX).filter(|format| *format != FORMAT) {
        let other = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes[0] = found;
            bytes
        };
        let refused = CodecError::Format { found };
        assert_eq!(
            codec::decode_envelope(&other(&entry)).err(),
            Some(refused.clone())
        );
        assert_eq!(
            codec::decode_outcome(&other(&outcome)).err(),
            Some(refused.clone())
        );
        assert_eq!(
            codec::decode_snapshot(&other(&snapshot)).err(),
            Some(refused)
        );
    }
    assert!(codec::decode_envelope(&[]).is_err() && codec::decode_snapshot(&[]).is_err());
}

#[test]
fn cut_or_longer_bytes_are_refused() {
    for (name, command) in commands() {
        let mut bytes = codec::encode_envelope(&envelope(command));
        for length in 0..bytes.len() {
            assert!(
                codec::decode_envelope(&bytes[..length]).is_err(),
                "{name} cut at {length}"
            );
        }
        bytes.push(0);
        assert!(
            codec::decode_envelope(&bytes).is_err(),
            "{name} with a byte more"
        );
    }
    for state in [full_state(), lost_state(), networked_state()] {
        let mut bytes = codec::encode_snapshot(&state);
        for length in 0..bytes.len() {
            assert!(
                codec::decode_snapshot(&bytes[..length]).is_err(),
                "snapshot cut at {length}"
            );
        }
        bytes.push(0);
        assert!(codec::decode_snapshot(&bytes).is_err());
    }
    let mut bytes = codec::encode_outcome(&Outcome::Done);
    bytes.push(0);
    assert!(codec::decode_outcome(&bytes).is_err());
}

/// Each of these bytes with each bit turned, and with each extreme value.
fn damaged(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let masks = (0..8).map(|bit| 1_u8 << bit).chain([0xff]);
    let with = |position: usize, mask: u8| {
        let mut bytes = bytes.to_vec();
        bytes[position] ^= mask;
        bytes
    };
    (0..bytes.len()).flat_map(move |position| {
        masks
            .clone()
            .map(move |mask| with(position, mask))
            .collect::<Vec<_>>()
    })
}

#[test]
fn damaged_entries_are_refused_or_are_other_entries_but_never_a_panic() {
    for (name, command) in commands() {
        let whole = envelope(command);
        for bytes in damaged(&codec::encode_envelope(&whole)) {
            if let Ok(read) = codec::decode_envelope(&bytes) {
                assert_ne!(read, whole, "{name} has two encodings");
            }
        }
    }
}

#[test]
fn damaged_snapshots_never_panic() {
    for state in [full_state(), lost_state(), networked_state()] {
        no_damage_panics(&state);
    }
}

fn no_damage_panics(state: &State) {
    let hash = codec::state_hash(state);
    for bytes in damaged(&codec::encode_snapshot(state)) {
        if let Ok(read) = codec::decode_snapshot(&bytes) {
            let id = |state: &State| state.cluster.map(|cluster| cluster.id);
            let cell = |state: &State| {
                (
                    id(state),
                    state.members.digest(),
                    state.join_tokens.digest(),
                )
            };
            let left_out = |state: &State| (state.index, state.time, cell(state));
            let canonical = codec::encode_snapshot(&read) == bytes;
            let differs = left_out(&read) != left_out(state);
            assert!(codec::state_hash(&read) != hash || differs || !canonical);
        }
    }
}

#[test]
fn the_hash_is_of_what_is_known_and_not_of_which_cell_knows_it() {
    let (mut state, hash) = (full_state(), codec::state_hash(&full_state()));
    state.cluster.as_mut().expect("initialised").id = [0xee; 16];
    state.members = nube_state::Table::default();
    state.join_tokens = nube_state::Table::default();
    assert_eq!(codec::state_hash(&state), hash, "a restored cell");
    state.cluster.as_mut().expect("initialised").created_at.0 += 1;
    assert_ne!(codec::state_hash(&state), hash, "another history");
}

#[test]
fn rows_are_bound_to_their_keys_and_to_singletons() {
    for state in [full_state(), lost_state(), networked_state()] {
        rows_are_bound(&state);
    }
}

fn rows_are_bound(state: &State) {
    let mut rows: Vec<_> = codec::rows(state).collect();
    assert!(
        codec::decode_rows(rows.clone().into_iter()).is_err(),
        "no singletons"
    );
    rows.push((codec::META_KEY.to_vec(), codec::encode_meta(state)));
    let read = codec::decode_rows(rows.clone().into_iter()).expect("own rows");
    assert_eq!(codec::encode_snapshot(&read), codec::encode_snapshot(state));

    let mut misdirected = rows.clone();
    let (first, second) = (misdirected[0].0.clone(), misdirected[1].0.clone());
    (misdirected[0].0, misdirected[1].0) = (second, first);
    assert!(codec::decode_rows(misdirected.into_iter()).is_err());

    let mut longer = rows.clone();
    longer[0].1.push(0);
    assert!(codec::decode_rows(longer.into_iter()).is_err());

    rows.push((vec![99, 1], vec![0]));
    assert!(
        codec::decode_rows(rows.into_iter()).is_err(),
        "a table of a newer version"
    );
}

#[test]
fn a_field_of_a_newer_version_stops_the_reader() {
    // The tick with one field more, as a newer version would write it: CBOR
    // readers skip what they do not know, and replicas must not.
    let mut tick = envelope(fixture::tick());
    tick.source = None;
    let bytes = codec::encode_envelope(&tick);
    let tick_of_one_field = [0x81, 0x80];
    assert!(bytes.ends_with(&tick_of_one_field), "{}", hex(&bytes));
    let mut newer = bytes[..bytes.len() - 2].to_vec();
    newer.extend([0x82, 0x80, 0x05]);
    let refused = codec::decode_envelope(&newer).expect_err("a field more");
    assert!(matches!(refused, CodecError::Newer { .. }), "{refused:?}");
    assert_says_newer(&refused);
}

/// A8: whoever stops must learn that a newer version is needed here.
fn assert_says_newer(error: &CodecError) {
    let text = error.to_string();
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    assert!(text.contains("newer"), "{text}");
}

#[test]
fn a_command_of_a_newer_version_stops_the_reader_by_its_number() {
    let number = |(_, command): (_, Command)| {
        let mut bytes = Vec::new();
        minicbor::encode(&command, &mut bytes).expect("encodes");
        let mut decoder = minicbor::Decoder::new(&bytes);
        decoder.array().expect("a command");
        decoder.u64().expect("its number")
    };
    let newest = commands().into_iter().map(number).max();
    assert_eq!(newest, Some(codec::COMMAND_MAX));
    let mut tick = envelope(fixture::tick());
    tick.source = None;
    let bytes = codec::encode_envelope(&tick);
    let tick_is_number_one = [0x82, 0x01, 0x81, 0x81, 0x80];
    assert!(bytes.ends_with(&tick_is_number_one), "{}", hex(&bytes));
    for number in [
        u8::try_from(codec::COMMAND_MAX + 1).expect("small"),
        99,
        u8::MAX,
    ] {
        let mut other = bytes[..bytes.len() - tick_is_number_one.len()].to_vec();
        other.extend([0x82, 0x18, number, 0x81, 0x80]);
        let refused = codec::decode_envelope(&other).expect_err("an unknown command");
        assert!(matches!(refused, CodecError::Newer { .. }), "{refused:?}");
        assert_says_newer(&refused);
        assert!(refused.to_string().contains(&format!("command {number} ")));
    }
}

#[test]
fn a_snapshot_of_a_newer_version_stops_the_reader() {
    let bytes = codec::encode_snapshot(&State::default());
    // One table more, empty or not, comes after those that are known.
    let mut longer = bytes.clone();
    longer.push(0x80);
    assert_says_newer(&codec::decode_snapshot(&longer).expect_err("a table more"));
    // One singleton more: the array of eight becomes one of nine.
    let eight = bytes
        .iter()
        .position(|byte| *byte == 0x88)
        .expect("singletons");
    let meta_ends = bytes.len() - 17;
    let mut wider = bytes.clone();
    wider[eight] = 0x89;
    wider.insert(meta_ends, 0x05);
    assert_says_newer(&codec::decode_snapshot(&wider).expect_err("a singleton more"));
    let mut other = bytes;
    other[0] = FORMAT + 1;
    assert_says_newer(&codec::decode_snapshot(&other).expect_err("a format more"));
}
