//! Creation: all instances of a launch, or none. The scheduler chose hosts on a
//! view; here every choice is checked again at this very log index, so nothing
//! is oversubscribed whatever was true a moment ago.

use std::collections::{BTreeMap, BTreeSet};

use nube_types::limits::{INSTANCES_MAX, INSTANCES_PER_LAUNCH_MAX, SSH_KEYS_PER_INSTANCE_MAX};
use nube_types::{Name, NetworkId, NodeId, PlacementEpoch};

use crate::command::{LaunchInstances, NewInstance};
use crate::image::Image;
use crate::instance::{self, DesiredState, Instance, InstanceStage, InstanceState};
use crate::instance_type::InstanceType;
use crate::network;
use crate::node::NodeUse;
use crate::outcome::{Kind, Outcome, Refusal};
use crate::state::State;
use crate::{eviction, placement, project, security_group, traffic};

pub(crate) fn launch(state: &mut State, command: &LaunchInstances) -> Result<Outcome, Refusal> {
    project::find(state, command.project)?;
    check_revision(state, command)?;
    check_count(state, command)?;
    let (image, size) = check_image_and_type(state, command)?;
    let count = command.instances.len() as u64;
    project::check(&project::quota_rows(state, command.project, &size, count))?;
    let authorized_keys = check_keys(state, command)?;
    check_names(state, command)?;
    check_places(state, command, &size)?;
    let groups = security_group::chosen(state, command.project, &command.security_groups)?;
    let network = find_network(state, command)?;
    let ask = network::Ask {
        network,
        subnet: command.subnet,
        address: command.address,
        count: command.instances.len(),
    };
    // The last check, and the first change: nothing below is refused.
    let addresses = network::allocate(state, &ask)?;
    for (new, address) in command.instances.iter().zip(addresses) {
        let mut instance = record(state, command, new, &image, &size);
        instance.network = network;
        instance.address = address;
        instance.authorized_keys.clone_from(&authorized_keys);
        instance.security_groups.clone_from(&groups);
        state.mac_count += 1;
        instance.mac = network::mac(state.mac_count);
        instance::store(state, instance);
        if let Some(explanation) = &new.explanation {
            placement::keep(state, new.id, explanation);
        }
    }
    Ok(Outcome::Instances(
        command.instances.iter().map(|new| new.id).collect(),
    ))
}

fn find_network(state: &State, command: &LaunchInstances) -> Result<NetworkId, Refusal> {
    match command.network {
        Some(id) => network::find(state, command.project, id).map(|network| network.id),
        None => network::default_of(state, command.project)
            .map(|network| network.id)
            .ok_or(Refusal::NoAddress),
    }
}

fn check_revision(state: &State, command: &LaunchInstances) -> Result<(), Refusal> {
    let changed = state.placement_revision;
    match command.if_revision {
        Some(asked) if changed > asked => Err(Refusal::RevisionChanged { asked, changed }),
        _ => Ok(()),
    }
}

fn check_count(state: &State, command: &LaunchInstances) -> Result<(), Refusal> {
    let count = command.instances.len();
    if count == 0 || count > INSTANCES_PER_LAUNCH_MAX as usize {
        let rule = format!("1 to {INSTANCES_PER_LAUNCH_MAX} at once");
        return Err(Refusal::Invalid {
            field: "count".to_owned(),
            rule,
        });
    }
    if state.instances.len() + count > INSTANCES_MAX {
        let limit = INSTANCES_MAX as u64;
        return Err(Refusal::LimitReached {
            what: "instances".to_owned(),
            limit,
        });
    }
    Ok(())
}

fn check_image_and_type(
    state: &State,
    command: &LaunchInstances,
) -> Result<(Image, InstanceType), Refusal> {
    let absent = |kind, reference: String| Refusal::NotFound { kind, reference };
    let image = state
        .images
        .get(&command.image)
        .filter(|image| image.spec.project == command.project)
        .ok_or_else(|| absent(Kind::Image, command.image.to_string()))?;
    let size = state
        .instance_types
        .get(&command.instance_type)
        .ok_or_else(|| absent(Kind::InstanceType, command.instance_type.clone()))?;
    if size.memory < image.spec.memory_min || size.disk < image.disk_min() {
        let rule = format!(
            "image `{}` needs {} of memory and {} of disk; {} has {} and {}",
            image.name(),
            image.spec.memory_min,
            image.disk_min(),
            size.name,
            size.memory,
            size.disk
        );
        return Err(Refusal::Invalid {
            field: "instance_type".to_owned(),
            rule,
        });
    }
    Ok((image.clone(), size.clone()))
}

fn check_keys(state: &State, command: &LaunchInstances) -> Result<Vec<String>, Refusal> {
    if command.ssh_keys.len() > SSH_KEYS_PER_INSTANCE_MAX {
        let rule = format!("at most {SSH_KEYS_PER_INSTANCE_MAX}");
        return Err(Refusal::Invalid {
            field: "ssh_keys".to_owned(),
            rule,
        });
    }
    let line = |id| {
        state
            .ssh_keys
            .get(id)
            .filter(|key| key.project == command.project)
            .map(|key| key.public_key.clone())
            .ok_or_else(|| Refusal::NotFound {
                kind: Kind::SshKey,
                reference: id.to_string(),
            })
    };
    command.ssh_keys.iter().map(line).collect()
}

fn check_names(state: &State, command: &LaunchInstances) -> Result<(), Refusal> {
    let mut fresh: BTreeSet<&Name> = BTreeSet::new();
    let mut fresh_ids = BTreeSet::new();
    for new in &command.instances {
        let taken = instance::by_name(state, command.project, &new.name).is_some();
        if taken || !fresh.insert(&new.name) {
            return Err(Refusal::NameTaken {
                kind: Kind::Instance,
                name: new.name.clone(),
            });
        }
        // The ledger outlives the record: its runs must not be written over.
        let known = state.instances.get(&new.id).is_some()
            || state.usage.get(&(new.id.into(), 1)).is_some()
            || traffic::is_known(state, new.id)
            || eviction::is_owed(state, new.id);
        if known || !fresh_ids.insert(new.id) {
            return Err(Refusal::IdTaken(new.id.to_string()));
        }
    }
    Ok(())
}

/// Every host must carry all that this launch puts on it, together.
fn check_places(
    state: &State,
    command: &LaunchInstances,
    size: &InstanceType,
) -> Result<(), Refusal> {
    let mut used: BTreeMap<NodeId, NodeUse> = BTreeMap::new();
    for new in &command.instances {
        let stale = |why| Refusal::StalePlacement {
            node: new.node,
            why,
        };
        let node = state
            .nodes
            .get(&new.node)
            .ok_or_else(|| stale("it is gone".to_owned()))?;
        let used = used
            .entry(new.node)
            .or_insert_with(|| state.node_use(new.node));
        if let Some(why) = node.misfit(used, size.vcpus, size.memory, size.disk) {
            return Err(stale(why));
        }
        used.vcpus += size.vcpus;
        used.memory.0 += size.memory.0;
        used.disk.0 += size.disk.0;
    }
    Ok(())
}

fn record(
    state: &State,
    command: &LaunchInstances,
    new: &NewInstance,
    image: &Image,
    size: &InstanceType,
) -> Instance {
    Instance {
        id: new.id,
        project: command.project,
        name: new.name.clone(),
        instance_type: size.name.clone(),
        image: command.image,
        desired: DesiredState::Running,
        state: InstanceState::Pending,
        stage: InstanceStage::None,
        reason: String::new(),
        vcpus: size.vcpus,
        memory: size.memory,
        disk: size.disk,
        node: new.node,
        epoch: PlacementEpoch(1),
        network: NetworkId(0),
        address: 0,
        mac: [0; 6],
        ssh_keys: command.ssh_keys.clone(),
        authorized_keys: Vec::new(),
        ssh_host_public_key: new.ssh_host_public_key.clone(),
        user_data_sealed: command.user_data_sealed.clone(),
        labels: command.labels.clone(),
        created_at: state.time,
        state_changed_at: state.time,
        generation: 1,
        applied_generation: 0,
        reboot_count: 0,
        force: false,
        runs: 0,
        host_owes_cleanup: false,
        revision: state.index,
        user: image.spec.user.clone(),
        on_host_failure: command.on_host_failure,
        needs: command.needs.clone(),
        security_groups: Vec::new(),
    }
}
