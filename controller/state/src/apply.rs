//! The one way in: an entry of the log meets the state.

use crate::command::{Command, Envelope, Tick};
use crate::outcome::{Outcome, Refusal};
use crate::state::{self, State};
use crate::{
    access_key, address, event, eviction, hash_check, image, instance, join_token, load_balancer,
    member, network, node, principal, project, request, security_group, ssh_key, subnet, traffic,
};

/// Applies the entry at `index`. Deterministic; synchronous; no I/O.
///
/// A refusal has no effect but time: nothing is half-made. An entry that is
/// applied already (a replay that starts early) must not be offered again.
///
/// # Panics
/// When `index` does not grow: the caller lost its place, and going on would
/// make this replica differ from the others.
pub fn apply(state: &mut State, index: u64, envelope: &Envelope) -> Outcome {
    assert!(index > state.index, "entry {index} after {}", state.index);
    hash_check::note(state, index);
    state.index = index;
    state.time = state.time.max(envelope.at);
    if let Some(request) = &envelope.request
        && let Some(known) = request::recall(state, request)
    {
        return known;
    }
    let before = event::Before::of(state, &envelope.command);
    match run(state, &envelope.command) {
        Ok(outcome) => {
            network::tell_hosts(state);
            event::record(state, envelope, before);
            if let Some(request) = envelope.request {
                request::remember(state, request, outcome.clone());
            }
            outcome
        }
        Err(refusal) => Outcome::Refused(refusal),
    }
}

fn run(state: &mut State, command: &Command) -> Result<Outcome, Refusal> {
    if let Command::InitCluster(command) = command {
        return state::init(state, command);
    }
    if state.cluster.is_none() {
        return Err(Refusal::Initialisation("not initialised yet".to_owned()));
    }
    match command {
        Command::InitCluster(_) => unreachable!("handled above"),
        Command::Tick(tick) => Ok(advance(state, tick)),
        Command::ImportSshKey(command) => ssh_key::import(state, command),
        Command::DeleteSshKey(project, id) => ssh_key::delete(state, *project, *id),
        Command::RegisterImage(command) => image::register(state, command),
        Command::DeleteImage(project, id) => image::delete(state, *project, *id),
        Command::RegisterNode(facts) => node::register(state, facts),
        Command::SetNodeReachable(command) => node::set_reachable(state, command),
        Command::SetNodeDrained(node, drained) => node::set_drained(state, *node, *drained),
        Command::LaunchInstances(command) => instance::launch::launch(state, command),
        Command::ChangeInstance(command) => instance::wish::change(state, command),
        Command::ReportInstances(command) => instance::observe::report(state, command),
        Command::CreateProject(command) => project::create(state, command),
        Command::SetProjectQuota(id, quota) => project::set_quota(state, *id, *quota),
        Command::DeleteProject(id) => project::delete(state, *id),
        Command::CreatePrincipal(command) => principal::create(state, command),
        Command::SetRole(command) => principal::set_role(state, command),
        Command::DeletePrincipal(id) => principal::delete(state, *id),
        Command::CreateAccessKey(command) => access_key::create(state, command),
        Command::DeleteAccessKey(id) => access_key::delete(state, *id),
        Command::SetNodeLabels(command) => node::set_labels(state, command),
        Command::CreateJoinToken(command) => join_token::create(state, command),
        Command::RedeemJoinToken(command) => join_token::redeem(state, command),
        Command::RegisterMembers(command) => member::register(state, command),
        Command::RemoveMember(command) => member::remove(state, command),
        Command::CheckStateHash(command) => Ok(hash_check::check(state, command)),
        Command::FenceNode(command) => eviction::fence(state, command),
        Command::ReplaceInstance(command) => eviction::replace(state, command),
        _ => run_on_networks(state, command),
    }
}

fn run_on_networks(state: &mut State, command: &Command) -> Result<Outcome, Refusal> {
    match command {
        Command::CreateNetwork(command) => network::create(state, command),
        Command::SetInternetGateway(project, id, attached) => {
            network::set_gateway(state, *project, *id, *attached)
        }
        Command::DeleteNetwork(project, id) => network::delete(state, *project, *id),
        Command::CreateSubnet(command) => subnet::create(state, command),
        Command::DeleteSubnet(project, id) => subnet::delete(state, *project, *id),
        Command::CreateSecurityGroup(command) => security_group::create(state, command),
        Command::AddSecurityRule(command) => security_group::add_rule(state, command),
        Command::RemoveSecurityRule(project, group, rule) => {
            security_group::remove_rule(state, *project, *group, *rule)
        }
        Command::SetInstanceSecurityGroups(project, instance, groups) => {
            security_group::set_of_instance(state, *project, *instance, groups)
        }
        Command::DeleteSecurityGroup(project, id) => security_group::delete(state, *project, *id),
        Command::AddAddressPool(range) => address::add(state, *range),
        Command::RemoveAddressPool(range) => address::remove(state, *range),
        Command::AllocateAddress(command) => address::allocate(state, command),
        Command::AssociateAddress(command) => address::associate(state, command),
        Command::DisassociateAddress(project, id) => address::disassociate(state, *project, *id),
        Command::ReleaseAddress(project, id) => address::release(state, *project, *id),
        Command::CreateLoadBalancer(command) => load_balancer::create(state, command),
        Command::SetTargetDraining(command) => load_balancer::drain(state, command),
        Command::DeleteLoadBalancer(project, id) => load_balancer::delete(state, *project, *id),
        Command::ReportTraffic(command) => traffic::report(state, command),
        Command::ReportTargetHealth(command) => load_balancer::report(state, command),
        other => unreachable!("handled before: {other:?}"),
    }
}

fn advance(state: &mut State, tick: &Tick) -> Outcome {
    let time = state.time;
    for seen in &tick.seen {
        let at = seen.at.min(time);
        if state
            .nodes
            .get(&seen.node)
            .is_some_and(|node| at > node.last_seen)
        {
            state.nodes.update(&seen.node, |node| node.prove(at));
        }
    }
    instance::life::advance(state);
    network::expire(state);
    request::expire(state);
    join_token::expire(state);
    Outcome::Done
}
