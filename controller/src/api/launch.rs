//! Launch: fields to a checked wish, the scheduler's choice on a view, one
//! command. When the choice is stale by the time it is applied, it is made
//! again: nothing is oversubscribed, and nobody else is blocked meanwhile.

use nube_proto::v1;
use nube_scheduler::{Accelerator, Decision, Driver, Isolation, Strategy};
use nube_state::command::{LaunchInstances, NewInstance};
use nube_state::{
    Command, Explanation, HostFailurePolicy, InstanceType, Kind, Outcome, State, project, ssh_key,
};
use nube_types::limits::{
    INSTANCES_PER_LAUNCH_MAX, SSH_KEYS_PER_INSTANCE_MAX, USER_DATA_BYTES_MAX,
};
use nube_types::{
    ImageId, InstanceId, Labels, Name, NetworkId, NodeId, ProjectId, SecurityGroupId, SshKeyId,
    SubnetId,
};
use tonic::{Code, Status};

use super::mutation::Mutation;
use super::{field, placement, resolve, security_group, status};
use crate::authorise::Caller;
use crate::cell::Cell;
use crate::secret;

/// A contended placement is tried again this often before the caller is told.
const ATTEMPTS: usize = 20;
const DEFAULT_TYPE: &str = "n1.micro";

/// A launch whose fields are good.
pub struct Wish {
    /// Owner and payer.
    pub project: ProjectId,
    /// One per instance.
    pub names: Vec<Name>,
    image: ImageId,
    /// What each takes.
    pub size: InstanceType,
    ssh_keys: Vec<SshKeyId>,
    user_data_sealed: Vec<u8>,
    labels: Labels,
    placement: nube_scheduler::Request,
    if_revision: Option<u64>,
    on_host_failure: HostFailurePolicy,
    port: Port,
    sees_hosts: bool,
}

/// Where the instances get their ports.
struct Port {
    network: Option<NetworkId>,
    subnet: Option<SubnetId>,
    address: Option<u32>,
    security_groups: Vec<SecurityGroupId>,
}

/// Commits a launch; the answer is its log index and the new ids in order.
pub async fn launch(
    cell: &Cell,
    mutation: &Mutation,
    request: &v1::LaunchInstancesRequest,
) -> Result<(u64, Vec<InstanceId>), Status> {
    let mut last = status::no_capacity("no placement was tried".to_owned());
    for _ in 0..ATTEMPTS {
        let state = cell.read().await?;
        if let Some(Outcome::Instances(ids)) = mutation.recall(&state)? {
            return Ok((state.index, ids));
        }
        let wish = check(cell, &state, &mutation.caller, request)?;
        check_quota(&state, &wish)?;
        let mut placed = place(cell, &state, &wish);
        if let Some(refusal) = placed.refusal.take() {
            return Err(refusal);
        }
        let command = command(cell, &wish, placed);
        match mutation.commit(cell, command).await {
            Ok((index, Outcome::Instances(ids))) => return Ok((index, ids)),
            Ok((_, other)) => return Err(status::fault("launching", &format!("{other:?}"))),
            Err(error) if is_contended(&error) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn is_contended(error: &Status) -> bool {
    use tonic_types::StatusExt;
    error.code() == Code::Unavailable
        && error
            .get_details_error_info()
            .is_some_and(|info| info.reason == "PLACEMENT_CONTENDED")
}

/// Known before anything is proposed; apply decides again.
fn check_quota(state: &State, wish: &Wish) -> Result<(), Status> {
    let rows = project::quota_rows(state, wish.project, &wish.size, wish.names.len() as u64);
    match rows.iter().find(|row| !row.fits()) {
        Some(row) => Err(status::from_refusal(&project::exceeded(row))),
        None => Ok(()),
    }
}

/// Checks every field on a view.
pub fn check(
    cell: &Cell,
    state: &State,
    caller: &Caller,
    request: &v1::LaunchInstancesRequest,
) -> Result<Wish, Status> {
    let project = caller.project;
    let names = names(request)?;
    let labels = field::labels("labels", &request.labels)?;
    if request.user_data.len() > USER_DATA_BYTES_MAX {
        let rule = format!(
            "{} bytes are more than {USER_DATA_BYTES_MAX}",
            request.user_data.len()
        );
        return Err(status::invalid("user_data", rule));
    }
    let wanted = if request.instance_type.is_empty() {
        DEFAULT_TYPE
    } else {
        &request.instance_type
    };
    let size = state
        .instance_types
        .get(&wanted.to_owned())
        .ok_or_else(|| status::not_found(Kind::InstanceType, wanted))?
        .clone();
    let placement = wanted_placement(request, &size)?;
    let on_host_failure = host_failure(request)?;
    let image = resolve::image(state, project, &request.image)?.id;
    let ssh_keys = keys(state, project, &request.ssh_keys)?;
    let user_data_sealed = cell.secret.seal(project, &request.user_data);
    Ok(Wish {
        project,
        names,
        image,
        size,
        ssh_keys,
        user_data_sealed,
        labels,
        placement,
        if_revision: (request.if_revision != 0).then_some(request.if_revision),
        on_host_failure,
        port: port(state, project, request)?,
        sees_hosts: caller.sees_hosts(),
    })
}

fn port(
    state: &State,
    project: ProjectId,
    request: &v1::LaunchInstancesRequest,
) -> Result<Port, Status> {
    let network = match request.network.as_str() {
        "" => None,
        named => Some(resolve::network(state, project, named)?.id),
    };
    let subnet = match request.subnet.as_str() {
        "" => None,
        named => Some(resolve::subnet(state, project, &request.network, named)?),
    };
    let address = match request.ip.as_str() {
        "" => None,
        _ if request.count > 1 => {
            let rule = format!("one address for {} instances", request.count);
            return Err(status::invalid("ip", rule));
        }
        text => Some(field::ipv4("ip", text)?.to_bits()),
    };
    Ok(Port {
        network: network.or(subnet.as_ref().map(|(network, _)| *network)),
        subnet: subnet.map(|(_, found)| found.id),
        address,
        security_groups: security_group::groups(state, project, &request.security_groups)?,
    })
}

fn names(request: &v1::LaunchInstancesRequest) -> Result<Vec<Name>, Status> {
    let count = request.count.max(1);
    if count > INSTANCES_PER_LAUNCH_MAX {
        return Err(status::invalid(
            "count",
            format!("1 to {INSTANCES_PER_LAUNCH_MAX}"),
        ));
    }
    let base = if request.name.is_empty() {
        format!("vm-{:08x}", rand::random::<u32>())
    } else {
        field::name("name", &request.name)?.to_string()
    };
    if count == 1 {
        return Ok(vec![field::name("name", &base)?]);
    }
    (1..=count)
        .map(|n| field::name("name", &format!("{base}-{n}")))
        .collect()
}

fn wanted_placement(
    request: &v1::LaunchInstancesRequest,
    size: &InstanceType,
) -> Result<nube_scheduler::Request, Status> {
    let strategy = match v1::PlacementStrategy::try_from(request.strategy) {
        Ok(v1::PlacementStrategy::Unspecified | v1::PlacementStrategy::Spread) => Strategy::Spread,
        Ok(v1::PlacementStrategy::Pack) => Strategy::Pack,
        Err(_) => return Err(status::invalid("strategy", "spread or pack")),
    };
    let isolation = match v1::IsolationClass::try_from(request.isolation) {
        Ok(v1::IsolationClass::Unspecified | v1::IsolationClass::None) => Isolation::None,
        Ok(v1::IsolationClass::Hardware) => Isolation::Hardware,
        Err(_) => return Err(status::invalid("isolation", "none or hardware")),
    };
    let accelerator = match request.accelerator.as_str() {
        "" => None,
        "kvm" => Some(Accelerator::Kvm),
        "tcg" => Some(Accelerator::Tcg),
        _ => return Err(status::invalid("accelerator", "kvm, tcg, or empty for any")),
    };
    let zone = match request.zone.as_str() {
        "" => None,
        zone => Some(field::name("zone", zone)?.to_string()),
    };
    Ok(nube_scheduler::Request {
        vcpus: size.vcpus,
        memory: size.memory,
        disk: size.disk,
        accelerator,
        isolation,
        zone,
        driver: Driver::Qemu,
        strategy,
    })
}

fn host_failure(request: &v1::LaunchInstancesRequest) -> Result<HostFailurePolicy, Status> {
    match v1::HostFailurePolicy::try_from(request.on_host_failure) {
        Ok(v1::HostFailurePolicy::Unspecified | v1::HostFailurePolicy::Keep) => {
            Ok(HostFailurePolicy::Keep)
        }
        Ok(v1::HostFailurePolicy::Replace) => Ok(HostFailurePolicy::Replace),
        Err(_) => Err(status::invalid("on_host_failure", "keep or replace")),
    }
}

/// The named keys; without names the project's only key, if it has just one.
fn keys(state: &State, project: ProjectId, names: &[String]) -> Result<Vec<SshKeyId>, Status> {
    if names.len() > SSH_KEYS_PER_INSTANCE_MAX {
        return Err(status::invalid(
            "ssh_keys",
            format!("at most {SSH_KEYS_PER_INSTANCE_MAX}"),
        ));
    }
    let mut ids = Vec::with_capacity(names.len());
    for name in names {
        let id = resolve::ssh_key(state, project, name)?.id;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if names.is_empty() {
        let mut all = ssh_key::of_project(state, project);
        if let (Some(only), None) = (all.next(), all.next()) {
            ids.push(only.id);
        }
    }
    Ok(ids)
}

/// What the scheduler says of each instance, one after the other, each choice
/// seeing those before it; and why it ended early, if it did.
pub struct Placed {
    /// Host and reasons, one per instance that found a place.
    pub chosen: Vec<(NodeId, Explanation)>,
    /// Why not all did.
    pub refusal: Option<Status>,
}

/// Judgements (hosts times instances) beyond which only winners are explained: a
/// launch must not wait for reasons that nobody may read.
const JUDGED_MAX: usize = 20_000;

/// Chooses hosts on a view. Nothing stays reserved: apply does that.
pub fn place(cell: &Cell, state: &State, wish: &Wish) -> Placed {
    let mut kept = cell.hosts.at(state);
    let (fleet, request) = (&mut kept.fleet, &wish.placement);
    let judged = fleet.hosts().len().saturating_mul(wish.names.len());
    let mut chosen: Vec<(NodeId, Explanation)> = Vec::with_capacity(wish.names.len());
    let mut refusal = None;
    fleet.start_group();
    for _ in &wish.names {
        let Some((id, score)) = fleet.place(request) else {
            let (decision, hosts) = (fleet.explain(request), fleet.hosts().len());
            refusal = Some(refuse(&decision, hosts, wish, chosen.len()));
            break;
        };
        let why = if judged <= JUDGED_MAX {
            placement::explanation(state, request, &fleet.explain(request))
        } else {
            placement::winner(state, request, id, score.total())
        };
        fleet.reserve(id, request);
        chosen.push((id, why));
    }
    for (id, _) in &chosen {
        fleet.release(*id, request);
    }
    Placed { chosen, refusal }
}

fn command(cell: &Cell, wish: &Wish, placed: Placed) -> Command {
    let named = wish.names.iter().zip(placed.chosen);
    let instances = named.map(|(name, (node, why))| {
        let id = InstanceId(rand::random());
        NewInstance {
            id,
            name: name.clone(),
            node,
            ssh_host_public_key: secret::public_text(&cell.secret.ssh_host_key(id)),
            explanation: Some(placement::kept(why)),
        }
    });
    Command::LaunchInstances(LaunchInstances {
        project: wish.project,
        instance_type: wish.size.name.clone(),
        image: wish.image,
        ssh_keys: wish.ssh_keys.clone(),
        user_data_sealed: wish.user_data_sealed.clone(),
        labels: wish.labels.clone(),
        instances: instances.collect(),
        if_revision: wish.if_revision,
        on_host_failure: wish.on_host_failure,
        needs: placement::needs(&wish.placement),
        network: wish.port.network,
        subnet: wish.port.subnet,
        address: wish.port.address,
        security_groups: wish.port.security_groups.clone(),
    })
}

fn refuse(decision: &Decision, hosts: usize, wish: &Wish, placed: usize) -> Status {
    let mut text = format!("no host can take a {}", wish.size.name);
    if placed > 0 {
        text = format!("only {placed} of {} fit; {text} more", wish.names.len());
    }
    if hosts == 0 {
        return status::no_capacity(format!("{text}: there are no hosts yet"));
    }
    if !wish.sees_hosts {
        let advice = "try another size, zone or accelerator, or fewer at once";
        return status::no_capacity(format!("{text}; {advice}"));
    }
    status::no_capacity(format!("{text}:\n{}", decision.summary()))
}
