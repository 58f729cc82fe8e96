//! Launch: fields to a checked wish, the scheduler's choice on a view, one
//! command. When the choice is stale by the time it is applied, it is made
//! again: nothing is oversubscribed, and nobody else is blocked meanwhile.

use nube_proto::v1;
use nube_scheduler::{Accelerator, Driver, DriverSet, Host, Isolation, Strategy};
use nube_state::command::{LaunchInstances, NewInstance};
use nube_state::{Command, InstanceType, Kind, Outcome, State, ssh_key};
use nube_types::limits::{
    INSTANCES_PER_LAUNCH_MAX, SSH_KEYS_PER_INSTANCE_MAX, USER_DATA_BYTES_MAX,
};
use nube_types::{ImageId, InstanceId, Labels, Name, ProjectId, SshKeyId};
use tonic::{Code, Status};

use super::mutation::Mutation;
use super::{field, resolve, status};
use crate::cell::Cell;
use crate::secret;

/// A contended placement is tried again this often before the caller is told.
const ATTEMPTS: usize = 20;
const DEFAULT_TYPE: &str = "n1.micro";

/// A launch whose fields are good.
struct Wish {
    project: ProjectId,
    names: Vec<Name>,
    image: ImageId,
    size: InstanceType,
    ssh_keys: Vec<SshKeyId>,
    user_data_sealed: Vec<u8>,
    labels: Labels,
    placement: nube_scheduler::Request,
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
        let wish = check(cell, &state, mutation, request)?;
        let command = place(cell, &state, &wish)?;
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

fn check(
    cell: &Cell,
    state: &State,
    mutation: &Mutation,
    request: &v1::LaunchInstancesRequest,
) -> Result<Wish, Status> {
    let project = mutation.request.project;
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
    let placement = placement(request, &size)?;
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

fn placement(
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

/// Chooses hosts one after the other, each choice seeing those before it.
fn place(cell: &Cell, state: &State, wish: &Wish) -> Result<Command, Status> {
    let mut hosts: Vec<Host> = state.nodes.iter().map(|node| host(state, node)).collect();
    let mut instances = Vec::with_capacity(wish.names.len());
    for name in &wish.names {
        let Some((chosen, _)) = nube_scheduler::choose(&hosts, &wish.placement) else {
            return Err(refuse(&hosts, wish, instances.len()));
        };
        let host = &mut hosts[chosen];
        host.vcpus_used += wish.size.vcpus;
        host.memory_used.0 += wish.size.memory.0;
        host.disk_used.0 += wish.size.disk.0;
        host.instances += 1;
        host.same_group += 1;
        let (id, node) = (InstanceId(rand::random()), host.id);
        let ssh_host_public_key = secret::public_text(&cell.secret.ssh_host_key(id));
        instances.push(NewInstance {
            id,
            name: name.clone(),
            node,
            ssh_host_public_key,
        });
    }
    Ok(Command::LaunchInstances(LaunchInstances {
        project: wish.project,
        instance_type: wish.size.name.clone(),
        image: wish.image,
        ssh_keys: wish.ssh_keys.clone(),
        user_data_sealed: wish.user_data_sealed.clone(),
        labels: wish.labels.clone(),
        instances,
    }))
}

fn refuse(hosts: &[Host], wish: &Wish, placed: usize) -> Status {
    let decision = nube_scheduler::place(hosts, &wish.placement);
    let mut text = format!("no host can take a {}", wish.size.name);
    if placed > 0 {
        text = format!("only {placed} of {} fit; {text} more", wish.names.len());
    }
    if hosts.is_empty() {
        return status::no_capacity(format!("{text}: there are no hosts yet"));
    }
    status::no_capacity(format!("{text}:\n{}", decision.summary()))
}

fn host(state: &State, node: &nube_state::Node) -> Host {
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
        ready: node.reachable,
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
