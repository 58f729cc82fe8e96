//! Random histories of one cell: owners that change their minds and repeat
//! themselves, agents that lie, lag and restart, a leader whose clock jumps.
//! After every entry all invariants hold; at the end two replicas, a snapshot in
//! the middle, the store's rows and the bill all tell the same.

#![expect(
    clippy::disallowed_methods,
    reason = "the number of cases is asked for"
)]

mod fixture;
#[path = "property/networks.rs"]
mod networks;

use std::collections::BTreeMap;

use fixture::{BEGIN_MS, Cell, IMAGE, KEY, NETWORK};
use nube_billing::{UsageInterval, verify};
use nube_state::command::{Command, Envelope, NewInstance, Observed, Wish};
use nube_state::hash_check::CheckStateHash;
use nube_state::{
    AccessRole, HostFailurePolicy, InstanceStage, InstanceState, JoinRole, Network, Outcome, Quota,
    State, apply, codec, invariant,
};
use nube_types::limits::STOPPING_DEADLINE_MS;
use nube_types::{
    AccessKeyId, ImageId, InstanceId, Labels, Mib, NodeId, PlacementEpoch, PrincipalId, ProjectId,
    SshKeyId, TimestampMs,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

// Few of each, so that stories meet.
const NODES: std::ops::Range<u64> = 1..3;
const INSTANCES: std::ops::Range<u64> = 1..9;

fn node() -> impl Strategy<Value = NodeId> {
    NODES.prop_map(NodeId)
}

fn instance() -> impl Strategy<Value = InstanceId> {
    INSTANCES.prop_map(InstanceId)
}

/// Mostly near the story, sometimes anywhere.
fn instant() -> impl Strategy<Value = TimestampMs> {
    prop_oneof![
        8 => (0..4_000_000_u64).prop_map(|ms| TimestampMs(BEGIN_MS + ms)),
        1 => Just(TimestampMs(0)),
        1 => Just(TimestampMs(u64::MAX)),
    ]
}

fn state() -> impl Strategy<Value = InstanceState> {
    prop_oneof![
        1 => Just(InstanceState::Pending),
        2 => Just(InstanceState::Starting),
        6 => Just(InstanceState::Running),
        1 => Just(InstanceState::Stopping),
        3 => Just(InstanceState::Stopped),
        1 => Just(InstanceState::Deleting),
        3 => Just(InstanceState::Deleted),
        2 => Just(InstanceState::Failed),
    ]
}

fn observed() -> impl Strategy<Value = Observed> {
    let applied = prop_oneof![4 => 0..6_u64, 5 => Just(99), 1 => Just(u64::MAX)];
    let epoch = prop_oneof![9 => Just(1_u32), 3 => Just(2), 1 => Just(3)];
    let parts = (
        instance(),
        state(),
        applied,
        epoch,
        prop::bool::weighted(0.2),
        any::<u64>(),
    );
    parts.prop_map(
        |(instance, state, applied_generation, epoch, found_dead, reboot_count)| Observed {
            instance,
            epoch: PlacementEpoch(epoch),
            applied_generation,
            state,
            stage: InstanceStage::Boot,
            reason: "ä".repeat(400),
            found_dead,
            reboot_count,
        },
    )
}

fn report() -> impl Strategy<Value = Command> {
    let epoch = prop_oneof![8 => Just(1_u64), 3 => Just(2), 1 => Just(u64::MAX)];
    // Zero: the next one (see `history`). Others are late, repeated or absurd.
    let sequence = prop_oneof![8 => Just(0_u64), 1 => 1..80_u64, 1 => any::<u64>()];
    let seen = prop::collection::vec(observed(), 0..9);
    let parts = (node(), epoch, sequence, prop::bool::weighted(0.2), seen);
    parts.prop_map(|(node, epoch, sequence, full, seen)| {
        let mut report = fixture::report(node, epoch, sequence, seen);
        report.full = full;
        report.unknown = vec!["tap".to_owned(); 30];
        Command::ReportInstances(report)
    })
}

fn hello() -> impl Strategy<Value = Command> {
    let epoch = prop_oneof![4 => Just(1_u64), 3 => Just(2), 1 => Just(0), 1 => Just(3)];
    let memory =
        prop_oneof![6 => Just(1024_u64), 2 => Just(200), 1 => Just(0), 1 => Just(u64::MAX)];
    let vcpus = prop_oneof![6 => Just((2_u32, 400_u32)), 1 => Just((0, 0)), 1 => Just((u32::MAX, u32::MAX))];
    let parts = (node(), epoch, memory, vcpus, 0..3_usize);
    parts.prop_map(|(id, epoch, memory, (vcpus, overcommit), noise)| {
        let mut facts = fixture::facts(id, epoch);
        facts.memory = Mib(memory);
        (facts.vcpus, facts.vcpu_overcommit_percent) = (vcpus, overcommit);
        facts.zone = "é".repeat(700 * noise);
        facts.drivers = vec!["d".repeat(900); 40 * noise];
        facts.unknown = vec!["u".repeat(900); 40 * noise];
        if noise == 2 {
            facts.labels = Labels::from([("bad key".to_owned(), String::new())]);
        }
        Command::RegisterNode(facts)
    })
}

fn new_instance() -> impl Strategy<Value = NewInstance> {
    // Mostly a name of its own.
    let text = prop::option::weighted(0.3, INSTANCES);
    (instance(), text, node()).prop_map(|(id, text, node)| {
        let text = format!("web-{}", text.unwrap_or(id.0));
        fixture::new_instance(id, &text, node)
    })
}

fn launch() -> impl Strategy<Value = Command> {
    let size = prop_oneof![8 => Just("n1.micro"), 2 => Just("n1.small"), 1 => Just("n1.none")];
    let news = prop_oneof![
        30 => prop::collection::vec(new_instance(), 1..2),
        9 => prop::collection::vec(new_instance(), 2..4),
        1 => prop::collection::vec(new_instance(), 0..150),
    ];
    let keys = prop_oneof![20 => Just(1_usize), 1 => Just(17)];
    let (keep, place) = (any::<bool>(), networks::place());
    let image = prop_oneof![6 => Just(1_u64), 1 => Just(2)];
    let parts = (news, size, image, keys, keep, place);
    parts.prop_map(|(news, size, image, keys, keep, place)| {
        let mut command = fixture::launch(news);
        place.apply(&mut command);
        if !keep {
            command.on_host_failure = HostFailurePolicy::Replace;
        }
        command.instance_type = size.to_owned();
        command.image = if image == 1 { IMAGE } else { ImageId(image) };
        command.ssh_keys = vec![KEY; keys];
        Command::LaunchInstances(command)
    })
}

fn wish() -> impl Strategy<Value = Command> {
    let wish = prop_oneof![
        3 => Just(Wish::Start),
        3 => Just(Wish::Stop),
        2 => Just(Wish::Reboot),
        2 => Just(Wish::Delete),
    ];
    (instance(), wish, any::<bool>()).prop_map(|(id, wish, force)| fixture::wish(id, wish, force))
}

/// A second project and two people in it, made, changed and unmade.
fn tenancy() -> impl Strategy<Value = Command> {
    let project = || (1..4_u64).prop_map(ProjectId);
    let person = || (1..3_u64).prop_map(PrincipalId);
    let place = || prop::option::of((1..4_u64).prop_map(ProjectId));
    let role = || {
        use AccessRole::{Admin, Member, Operator, Viewer};
        prop::sample::select(vec![Viewer, Member, Operator, Admin])
    };
    let quota = (0..9_u64).prop_map(|instances| Quota {
        instances,
        ..Quota::UNLIMITED
    });
    prop_oneof![
        3 => project().prop_map(|id| fixture::project(id, &format!("p{}", id.0), None)),
        2 => (project(), quota).prop_map(|(id, quota)| Command::SetProjectQuota(id, quota)),
        2 => project().prop_map(Command::DeleteProject),
        2 => person().prop_map(|id| fixture::principal(id, &format!("u{}", id.0))),
        3 => (person(), place(), prop::option::weighted(0.8, role()))
            .prop_map(|(who, place, role)| fixture::role(who, place, role)),
        1 => person().prop_map(Command::DeletePrincipal),
        3 => (1..4_u64, person(), place(), role())
            .prop_map(|(id, who, place, role)| {
                fixture::access_key(AccessKeyId(id), who, place, role, Some(60_000))
            }),
        1 => (1..4_u64).prop_map(|id| Command::DeleteAccessKey(AccessKeyId(id))),
        1 => node().prop_map(|id| fixture::labels(id, &[("a", "b")], &["c"])),
    ]
}

/// C2 for tenants: nothing is added beyond a quota, and every mutation that
/// took effect left exactly one audit record.
fn quota_and_audit_hold(
    before: &State,
    after: &State,
    envelope: &Envelope,
    outcome: &Outcome,
) -> Result<(), TestCaseError> {
    for project in after.projects.iter() {
        let (was, is) = (
            before.project_use(project.id),
            after.project_use(project.id),
        );
        let grew = is.instances > was.instances;
        prop_assert!(!grew || is.instances <= project.quota.instances);
    }
    let known = envelope
        .request
        .and_then(|r| before.requests.get(&(r.project, r.id)));
    let effective = known.is_none() && !matches!(outcome, Outcome::Refused(_));
    let written: Vec<_> = after
        .events
        .iter()
        .filter(|event| event.index == after.index)
        .collect();
    let audits = written
        .iter()
        .filter(|event| !event.action.ends_with(".state"))
        .count();
    let internal = matches!(
        envelope.command,
        Command::InitCluster(_)
            | Command::Tick(_)
            | Command::RegisterNode(_)
            | Command::SetNodeReachable(_)
            | Command::ReportInstances(_)
            | Command::RegisterMembers(_)
            | Command::CheckStateHash(_)
            | Command::RedeemJoinToken(_)
            | Command::FenceNode(_)
            | Command::ReplaceInstance(_)
            | Command::ReportTraffic(_)
            | Command::ReportTargetHealth(_)
    );
    // A newcomer has no request: what it got is told once.
    let spent = |state: &State| {
        state
            .join_tokens
            .iter()
            .filter(|t| t.spent.is_some())
            .count()
    };
    let joined = match envelope.command {
        Command::RedeemJoinToken(_) => spent(after) - spent(before),
        _ => 0,
    };
    let expected = joined + usize::from(effective && envelope.request.is_some() && !internal);
    prop_assert_eq!(audits, expected, "{:?}", written);
    prop_assert!(effective || written.is_empty());
    Ok(())
}

/// Few secrets, keys and names, so that newcomers meet.
fn membership() -> impl Strategy<Value = Command> {
    let role = prop_oneof![Just(JoinRole::Agent), Just(JoinRole::Controller)];
    let address = prop_oneof![
        4 => Just(None),
        4 => Just(Some("c9:7000")),
        1 => Just(Some("no address")),
    ];
    let ids = prop::collection::vec(0..6_u64, 0..5);
    let text = prop_oneof![Just("n1"), Just("n2"), Just("n7"), Just("spare")];
    prop_oneof![
        3 => (0..4_u8, role, text).prop_map(|(secret, role, text)| {
            fixture::join_token(secret, role, text)
        }),
        3 => (0..4_u8, 0..3_u8, address)
            .prop_map(|(secret, key, address)| fixture::redeem(secret, key, address)),
        1 => ids.clone().prop_map(|ids| fixture::members(&ids)),
        1 => (0..9_u64, ids.clone(), ids)
            .prop_map(|(id, voters, silent)| fixture::remove_member(id, &voters, &silent)),
    ]
}

/// Hosts are lost and fenced, their instances begin anew; most guesses are wrong.
fn loss() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => (node(), 1..4_u64).prop_map(|(node, epoch)| fixture::fence(node, epoch)),
        5 => (instance(), node(), 1..4_u32, node())
            .prop_map(|(id, from, epoch, to)| fixture::replace(id, from, epoch, to)),
        2 => (node(), instant()).prop_map(|(node, at)| fixture::reachable(node, false, at)),
    ]
}

/// As a leader would do it, all at once.
fn lost_host() -> impl Strategy<Value = Vec<Command>> {
    (node(), 1..3_u64, 1..3_u32).prop_map(|(lost, fence, epoch)| {
        let other = NodeId(NODES.start + NODES.end - 1 - lost.0);
        let mut all = vec![
            fixture::node(other, 2),
            Command::SetNodeDrained(other, false),
            fixture::reachable(lost, false, TimestampMs(BEGIN_MS)),
            fixture::fence(lost, fence),
        ];
        let replace = |id| fixture::replace(InstanceId(id), lost, epoch, other);
        all.extend(INSTANCES.map(replace));
        all
    })
}

/// What launches need goes seldom.
fn mostly_two() -> impl Strategy<Value = u64> {
    prop_oneof![9 => Just(2_u64), 1 => Just(1)]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => loss(),
        2 => membership(),
        8 => report(),
        6 => wish(),
        5 => launch(),
        2 => hello(),
        2 => (node(), instant()).prop_map(|(node, at)| fixture::tick_seen(node, at)),
        2 => Just(fixture::tick()),
        2 => (node(), any::<bool>(), instant())
            .prop_map(|(node, up, at)| fixture::reachable(node, up, at)),
        1 => (node(), any::<bool>()).prop_map(|(node, so)| Command::SetNodeDrained(node, so)),
        1 => (1..3_u64).prop_map(|id| Command::RegisterImage(fixture::image(ImageId(id), "other"))),
        1 => mostly_two().prop_map(|id| Command::DeleteImage(fixture::PROJECT, ImageId(id))),
        1 => (1..3_u64).prop_map(|id| fixture::ssh_key(SshKeyId(id), "bob", "BBBB")),
        1 => mostly_two().prop_map(|id| Command::DeleteSshKey(fixture::PROJECT, SshKeyId(id))),
        1 => Just(fixture::init()),
        1 => (0..3_u64, any::<u8>()).prop_map(|(n, hash)| {
            let (index, hash) = (n * 1_000, [hash; 32]);
            Command::CheckStateHash(CheckStateHash { index, hash })
        }),
        3 => tenancy(),
        20 => networks::command(),
    ]
}

/// A clock that mostly goes on, sometimes back, sometimes far.
fn step() -> impl Strategy<Value = i64> {
    prop_oneof![
        10 => 0..3_000_i64,
        3 => 0..100_000_i64,
        2 => -200_000..0_i64,
        1 => Just(3_600_000),
        1 => Just(25 * 3_600_000),
    ]
}

fn history() -> impl Strategy<Value = Vec<Envelope>> {
    let request = prop::option::weighted(0.3, (0..30_u8, 0..2_u8));
    let commands = prop_oneof![30 => command().prop_map(|one| vec![one]), 1 => lost_host()];
    let entry = (step(), request, commands);
    let each = |(step, request, commands): (i64, Option<(u8, u8)>, Vec<Command>)| {
        let each = commands.into_iter().enumerate();
        // A request is one command's.
        each.map(move |(n, command)| (step, request.filter(|_| n == 0), command))
            .collect::<Vec<_>>()
    };
    prop::collection::vec(entry, 1..120).prop_map(move |entries| {
        let mut now = i64::try_from(BEGIN_MS).expect("the story is in our time");
        let mut sequence = 0;
        let envelope = |(step, request, mut command): (i64, Option<(u8, u8)>, Command)| {
            now += step;
            sequence += 1;
            if let Command::ReportInstances(report) = &mut command
                && report.sequence == 0
            {
                report.sequence = sequence;
            }
            let request = request.map(|(id, parameters)| fixture::request(id, parameters));
            let at = TimestampMs(u64::try_from(now).expect("after 1970"));
            Envelope {
                source: None,
                request,
                at,
                actor: "operator/admin".to_owned(),
                command,
            }
        };
        entries.into_iter().flat_map(each).map(envelope).collect()
    })
}

fn begun() -> State {
    let mut cell = Cell::with_nodes(&NODES.map(NodeId).collect::<Vec<_>>());
    networks::furnish(&mut cell);
    let mut state = cell.state;
    // Eleven addresses, so that they go round.
    let small = state
        .networks
        .get(&NETWORK)
        .expect("made at the start")
        .clone();
    state.networks.put(Network {
        prefix_length: 28,
        ..small
    });
    state
}

/// Applies the rest of a history without looking.
fn replay(mut state: State, entries: &[Envelope]) -> State {
    for envelope in entries {
        let bytes = codec::encode_envelope(envelope);
        let read = codec::decode_envelope(&bytes).expect("own bytes are read back");
        assert_eq!(&read, envelope);
        let index = state.index + 1;
        apply(&mut state, index, &read);
    }
    state
}

fn bill_is_clean(state: &State) -> Result<(), TestCaseError> {
    let transitions: Vec<_> = state.transitions.iter().cloned().collect();
    let ledger: Vec<_> = state.usage.iter().cloned().collect();
    let verified = verify(&transitions, &ledger, &state.prices, state.time);
    prop_assert!(verified.is_clean(), "{:?}", verified.findings);
    Ok(())
}

fn bounded(state: &State) -> Result<(), TestCaseError> {
    for node in state.nodes.iter() {
        prop_assert!(node.facts.zone.len() <= 500 && node.facts.drivers.len() <= 16);
        prop_assert!(node.facts.unknown.len() <= 20);
        let texts = node.facts.drivers.iter().chain(&node.facts.unknown);
        prop_assert!(texts.map(String::len).all(|length| length <= 500));
    }
    prop_assert!(
        state
            .instances
            .iter()
            .all(|instance| instance.reason.len() <= 500)
    );
    Ok(())
}

/// An agent touches what is placed on it and nothing else; a place is given back
/// by the word of its own host only.
fn agents_keep_to_themselves(
    before: &State,
    after: &State,
    command: &Command,
) -> Result<(), TestCaseError> {
    let reporter = match command {
        Command::ReportInstances(report) => Some(report.node),
        // They say nothing of what instances are.
        Command::ReportTraffic(_) | Command::ReportTargetHealth(_) => Some(NodeId(u64::MAX)),
        _ => None,
    };
    for instance in before.instances.iter() {
        let now = after.instances.get(&instance.id);
        if reporter.is_some_and(|node| node != instance.node) {
            prop_assert_eq!(now, Some(instance));
        }
        let given_back = instance.holds_place() && !now.is_some_and(|now| now.holds_place());
        prop_assert!(!given_back || reporter == Some(instance.node));
    }
    Ok(())
}

/// C1: an instance changes its host by a replacement alone, and only from a
/// fenced one; a host's remains go by its own word alone.
fn hosts_change_by_replacement_alone(
    before: &State,
    after: &State,
    command: &Command,
) -> Result<(), TestCaseError> {
    for instance in before.instances.iter() {
        let Some(now) = after.instances.get(&instance.id) else {
            continue;
        };
        if (now.node, now.epoch) == (instance.node, instance.epoch) {
            continue;
        }
        let replaced = matches!(command, Command::ReplaceInstance(c) if c.instance == instance.id);
        let from = before.nodes.get(&instance.node);
        prop_assert!(replaced && from.is_some_and(|node| node.fenced && !node.reachable));
        prop_assert_eq!(now.epoch.0, instance.epoch.0 + 1);
        prop_assert_eq!(now.address, instance.address);
        let owed = after.evictions.get(&(instance.id, instance.node));
        prop_assert_eq!(owed.map(|owed| owed.epoch), Some(instance.epoch));
    }
    for owed in before.evictions.iter() {
        let gone = after.evictions.get(&(owed.instance, owed.node)).is_none();
        let told = matches!(command, Command::ReportInstances(c) if c.node == owed.node);
        prop_assert!(!gone || told);
    }
    Ok(())
}

/// What the two rules about requests and refusals allow for one entry.
fn effect_is_fair(
    before: &State,
    after: &State,
    envelope: &Envelope,
    outcome: &Outcome,
) -> Result<(), TestCaseError> {
    let known = envelope
        .request
        .and_then(|r| before.requests.get(&(r.project, r.id)));
    if known.is_some() || matches!(outcome, Outcome::Refused(_)) {
        prop_assert_eq!(codec::state_hash(before), codec::state_hash(after));
    }
    if let (Some(known), Some(request)) = (known, envelope.request) {
        let same = known.request.parameters == request.parameters;
        prop_assert_eq!(same, &known.outcome == outcome);
    }
    prop_assert!(after.time >= before.time && after.time >= envelope.at);
    // The ledger only grows, and a closed run is never written over.
    for interval in before.usage.iter() {
        let kept = after.usage.get(&(interval.subject, interval.run));
        prop_assert!(interval.is_open() && kept.is_some() || kept == Some(interval));
    }
    for transition in before.transitions.iter() {
        let key = (transition.index, transition.subject);
        prop_assert_eq!(after.transitions.get(&key), Some(transition));
    }
    Ok(())
}

/// Ticks alone end every delete within its deadline.
fn deletes_end(mut state: State) -> Result<(), TestCaseError> {
    let deadline = TimestampMs(state.time.0 + STOPPING_DEADLINE_MS);
    let ids: Vec<_> = state.instances.iter().map(|i| (i.id, i.project)).collect();
    for (at, id) in ids
        .iter()
        .map(|(id, _)| (state.time, *id))
        .collect::<Vec<_>>()
    {
        step_on(&mut state, at, fixture::wish(id, Wish::Delete, false));
    }
    step_on(&mut state, deadline, fixture::tick());
    let living = state
        .instances
        .iter()
        .find(|i| i.state != InstanceState::Deleted);
    prop_assert!(living.is_none(), "{living:?}");
    let running = |interval: &UsageInterval| interval.is_open() && interval.resource != "address";
    prop_assert!(!state.usage.iter().any(running));
    prop_assert!(state.target_health.is_empty());
    prop_assert_eq!(invariant::broken(&state), Vec::<String>::new());
    bill_is_clean(&state)
}

fn step_on(state: &mut State, at: TimestampMs, command: Command) {
    let index = state.index + 1;
    apply(
        state,
        index,
        &Envelope {
            source: None,
            request: None,
            at,
            actor: String::new(),
            command,
        },
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(96)
    ))]

    #[test]
    fn every_history_keeps_every_invariant(history in history(), cut in any::<prop::sample::Index>()) {
        let first = begun();
        let cut = cut.index(history.len());
        let mut state = first.clone();
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = codec::rows(&state).collect();
        state.take_changes();
        let mut middle = codec::encode_snapshot(&state);
        for (position, envelope) in history.iter().enumerate() {
            if position == cut {
                middle = codec::encode_snapshot(&state);
            }
            let before = state.clone();
            let index = state.index + 1;
            let outcome = apply(&mut state, index, envelope);
            let broken = invariant::broken(&state);
            prop_assert!(broken.is_empty(), "after {:?}: {:#?}", envelope, broken);
            agents_keep_to_themselves(&before, &state, &envelope.command)?;
            hosts_change_by_replacement_alone(&before, &state, &envelope.command)?;
            effect_is_fair(&before, &state, envelope, &outcome)?;
            networks::every_host_hears(&before, &state)?;
            networks::traffic_only_grows(&before, &state)?;
            quota_and_audit_hold(&before, &state, envelope, &outcome)?;
            for change in state.take_changes() {
                match change.value {
                    Some(value) => rows.insert(change.key, value),
                    None => rows.remove(&change.key),
                };
            }
        }
        bounded(&state)?;
        bill_is_clean(&state)?;
        let (hash, snapshot) = (codec::state_hash(&state), codec::encode_snapshot(&state));

        let twin = replay(first, &history);
        prop_assert_eq!(codec::state_hash(&twin), hash);
        prop_assert!(codec::encode_snapshot(&twin) == snapshot, "replicas differ");

        let middle = codec::decode_snapshot(&middle).expect("own snapshots are read back");
        let rest = replay(middle, &history[cut..]);
        prop_assert!(codec::encode_snapshot(&rest) == snapshot, "snapshot and rest differ");

        let kept: BTreeMap<_, _> = codec::rows(&state).collect();
        prop_assert!(kept == rows, "the store's rows differ from the state's");
        rows.insert(codec::META_KEY.to_vec(), codec::encode_meta(&state));
        let stored = codec::decode_rows(rows.iter().rev()).expect("own rows are read back");
        prop_assert_eq!(codec::state_hash(&stored), hash);
        prop_assert!(codec::encode_snapshot(&stored) == snapshot, "the store differs");

        deletes_end(state)?;
    }
}

/// A strategy whose commands are all refused finds nothing.
#[test]
fn every_command_takes_effect_somewhere() {
    let mut runner = TestRunner::deterministic();
    let mut effects: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
    for _ in 0..200 {
        let tree = history().new_tree(&mut runner).expect("a history");
        let mut state = begun();
        for envelope in tree.current() {
            let index = state.index + 1;
            let before = codec::state_hash(&state);
            apply(&mut state, index, &envelope);
            let (all, done) = effects
                .entry(networks::number(&envelope.command))
                .or_default();
            *all += 1;
            *done += u32::from(codec::state_hash(&state) != before);
        }
    }
    for number in 28..=codec::COMMAND_MAX {
        let (all, done) = effects.get(&number).copied().unwrap_or_default();
        assert!(
            done >= 5 && done * 50 >= all,
            "{number}: {done} of {all}; {effects:?}"
        );
    }
}
