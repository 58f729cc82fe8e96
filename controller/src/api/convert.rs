//! Records to messages. Every field of every message is set here or said to be
//! input only; a new field is added here first.

mod network;

use nube_proto::v1;
use nube_state as state;
use nube_state::{DesiredState, HostFailurePolicy, InstanceStage, InstanceState, State};
use nube_types::{ProjectId, TimestampMs};

pub use network::{
    address, address_pool, elastic_of, load_balancer, network, protocol_word, security_group,
    subnet, subnet_of, subnet_record,
};

/// Price of a type now, in nano-units per hour; 0 when it has none.
pub fn price(state: &State, resource: &str, at: TimestampMs) -> i64 {
    let price = state
        .prices
        .price_at(resource, at)
        .map_or(0, |(_, nanos)| nanos);
    i64::try_from(price).unwrap_or(i64::MAX)
}

/// As in EUI-48 text.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn fingerprint(public_key: &str) -> String {
    ssh_key::PublicKey::from_openssh(public_key)
        .map(|key| key.fingerprint(ssh_key::HashAlg::Sha256).to_string())
        .unwrap_or_default()
}

/// An instance as its owner sees it; hosts are named to those who run them.
pub fn instance(state: &State, instance: &state::Instance, sees_hosts: bool) -> v1::Instance {
    let node = state.nodes.get(&instance.node);
    let image_name = state
        .images
        .get(&instance.image)
        .map(|image| image.name().to_string());
    let mut message = v1::Instance {
        id: instance.id.to_string(),
        name: instance.name.to_string(),
        project_id: instance.project.to_string(),
        instance_type: instance.instance_type.clone(),
        image_id: instance.image.to_string(),
        image_name: image_name.unwrap_or_default(),
        desired_state: desired(instance.desired).into(),
        state: instance_state(instance.state).into(),
        stage: stage(instance.stage).into(),
        reason: instance.reason.clone(),
        vcpus: instance.vcpus,
        memory_mib: instance.memory.0,
        disk_mib: instance.disk.0,
        node_id: if sees_hosts {
            instance.node.to_string()
        } else {
            String::new()
        },
        node_name: node
            .filter(|_| sees_hosts)
            .map(|node| node.facts.name.to_string())
            .unwrap_or_default(),
        placement_epoch: instance.epoch.0,
        network_id: instance.network.to_string(),
        private_ip: std::net::Ipv4Addr::from(instance.address).to_string(),
        mac_address: mac_text(instance.mac),
        ssh_key_ids: instance.ssh_keys.iter().map(ToString::to_string).collect(),
        ssh_host_public_key: instance.ssh_host_public_key.clone(),
        ssh_host_key_fingerprint: fingerprint(&instance.ssh_host_public_key),
        user: instance.user.clone(),
        labels: instance.labels.clone(),
        created_at_ms: instance.created_at.0,
        state_changed_at_ms: instance.state_changed_at.0,
        price_nanos_per_hour: price(state, &instance.instance_type, state.time),
        currency: state.prices.currency.clone(),
        revision: instance.revision,
        generation: instance.generation,
        applied_generation: instance.applied_generation,
        node_reachable: node.is_some_and(|node| node.reachable),
        zone: node.map(|node| node.facts.zone.clone()).unwrap_or_default(),
        on_host_failure: host_failure(instance.on_host_failure).into(),
        ..v1::Instance::default()
    };
    network::fill_network(state, instance, &mut message);
    message
}

/// What becomes of it when its host is lost.
pub fn host_failure(policy: HostFailurePolicy) -> v1::HostFailurePolicy {
    match policy {
        HostFailurePolicy::Keep => v1::HostFailurePolicy::Keep,
        HostFailurePolicy::Replace => v1::HostFailurePolicy::Replace,
    }
}

/// What the owner wants.
pub fn desired(desired: DesiredState) -> v1::DesiredState {
    match desired {
        DesiredState::Running => v1::DesiredState::Running,
        DesiredState::Stopped => v1::DesiredState::Stopped,
        DesiredState::Deleted => v1::DesiredState::Deleted,
    }
}

fn instance_state(state: InstanceState) -> v1::InstanceState {
    match state {
        InstanceState::Pending => v1::InstanceState::Pending,
        InstanceState::Starting => v1::InstanceState::Starting,
        InstanceState::Running => v1::InstanceState::Running,
        InstanceState::Stopping => v1::InstanceState::Stopping,
        InstanceState::Stopped => v1::InstanceState::Stopped,
        InstanceState::Deleting => v1::InstanceState::Deleting,
        InstanceState::Deleted => v1::InstanceState::Deleted,
        InstanceState::Failed => v1::InstanceState::Failed,
    }
}

fn stage(stage: InstanceStage) -> v1::InstanceStage {
    match stage {
        InstanceStage::None => v1::InstanceStage::Unspecified,
        InstanceStage::Image => v1::InstanceStage::Image,
        InstanceStage::Prepare => v1::InstanceStage::Prepare,
        InstanceStage::Boot => v1::InstanceStage::Boot,
        InstanceStage::Running => v1::InstanceStage::Running,
    }
}

/// A size with today's price.
pub fn instance_type(state: &State, size: &state::InstanceType) -> v1::InstanceType {
    let hour = price(state, &size.name, state.time);
    let hours = i64::try_from(nube_billing::price::HOURS_PER_MONTH).unwrap_or(i64::MAX);
    v1::InstanceType {
        name: size.name.clone(),
        vcpus: size.vcpus,
        memory_mib: size.memory.0,
        disk_mib: size.disk.0,
        price_nanos_per_hour: hour,
        price_nanos_per_month: hour.saturating_mul(hours),
        currency: state.prices.currency.clone(),
    }
}

/// A stored file.
pub fn blob(blob: &state::Blob) -> v1::Blob {
    v1::Blob {
        sha256: hex::encode(blob.sha256),
        size_bytes: blob.size_bytes,
    }
}

/// An image.
pub fn image(image: &state::Image) -> v1::Image {
    let spec = &image.spec;
    let format = match spec.disk_format {
        state::DiskFormat::Raw => v1::DiskFormat::Raw,
        state::DiskFormat::Qcow2 => v1::DiskFormat::Qcow2,
    };
    let datasource = match spec.datasource {
        state::Datasource::Seed => v1::Datasource::Seed,
        state::Datasource::Ec2 => v1::Datasource::Ec2,
    };
    v1::Image {
        id: image.id.to_string(),
        project_id: spec.project.to_string(),
        name: spec.name.to_string(),
        version: spec.version.clone(),
        architecture: spec.architecture.clone(),
        user: spec.user.clone(),
        disk: Some(blob(&spec.disk)),
        disk_format: format.into(),
        virtual_size_bytes: spec.virtual_size_bytes,
        kernel: spec.kernel.as_ref().map(blob),
        initrd: spec.initrd.as_ref().map(blob),
        cmdline: spec.cmdline.clone(),
        memory_mib_min: spec.memory_min.0,
        disk_mib_min: image.disk_min().0,
        created_at_ms: image.created_at.0,
        revision: image.revision,
        datasource: datasource.into(),
    }
}

/// A registered key.
pub fn ssh_key(key: &state::SshKey) -> v1::SshKey {
    v1::SshKey {
        id: key.id.to_string(),
        project_id: key.project.to_string(),
        name: key.name.to_string(),
        public_key: key.public_key.clone(),
        fingerprint: key.fingerprint.clone(),
        algorithm: key.algorithm.clone(),
        created_at_ms: key.created_at.0,
        revision: key.revision,
    }
}

/// A host with what is used of it.
pub fn node(state: &State, node: &state::Node) -> v1::Node {
    let (facts, used) = (&node.facts, state.node_use(node.facts.id));
    let health = if node.reachable {
        v1::NodeState::Ready
    } else {
        v1::NodeState::Unreachable
    };
    let isolation = match facts.isolation {
        state::Isolation::None => v1::IsolationClassOffered::None,
        state::Isolation::Hardware => v1::IsolationClassOffered::Hardware,
    };
    let accelerator = match facts.accelerator {
        state::Accelerator::Kvm => "kvm",
        state::Accelerator::Tcg => "tcg",
    };
    v1::Node {
        id: facts.id.to_string(),
        name: facts.name.to_string(),
        zone: facts.zone.clone(),
        state: health.into(),
        drained: node.drained,
        vcpus_total: facts.vcpus,
        vcpus_used: used.vcpus,
        vcpu_overcommit_percent: facts.vcpu_overcommit_percent,
        memory_mib_total: facts.memory.0,
        memory_mib_used: used.memory.0,
        disk_mib_total: facts.disk.0,
        disk_mib_used: used.disk.0,
        accelerator: accelerator.to_owned(),
        accelerator_reason: facts.accelerator_reason.clone(),
        isolation: isolation.into(),
        instances: used.instances,
        agent_version: facts.agent_version.clone(),
        hypervisor_version: facts.hypervisor_version.clone(),
        kernel_version: facts.kernel_version.clone(),
        drivers: facts.drivers.clone(),
        labels: node.labels(),
        boot_id: facts.boot_id.clone(),
        last_seen_at_ms: node.last_seen.0,
        revision: node.revision,
        unknown_resources: facts.unknown.clone(),
        fence_epoch: node.fence_epoch,
        fenced: node.fenced,
        evictions: used.evictions,
        overlay_address: facts
            .overlay_address
            .map(|address| std::net::Ipv4Addr::from(address).to_string())
            .unwrap_or_default(),
    }
}

fn quota(quota: &state::Quota) -> v1::Quota {
    v1::Quota {
        instances: quota.instances,
        vcpus: quota.vcpus,
        memory_mib: quota.memory_mib,
        disk_mib: quota.disk_mib,
        ssh_keys: quota.ssh_keys,
        images: quota.images,
        addresses: quota.addresses_max(),
    }
}

/// A project with what exists in it.
pub fn project(state: &State, project: &state::Project) -> v1::Project {
    let used = state.project_use(project.id);
    let keys = state::ssh_key::of_project(state, project.id).count();
    let images = state::image::of_project(state, project.id).count();
    let addresses = state::address::of_project(state, project.id).count();
    v1::Project {
        id: project.id.to_string(),
        name: project.name.to_string(),
        quota: Some(quota(&project.quota)),
        used: Some(v1::Quota {
            instances: used.instances,
            vcpus: used.vcpus,
            memory_mib: used.memory_mib,
            disk_mib: used.disk_mib,
            ssh_keys: keys as u64,
            images: images as u64,
            addresses: addresses as u64,
        }),
        created_at_ms: project.created_at.0,
        revision: project.revision,
    }
}

/// A role as the contract numbers it.
pub fn role(role: state::AccessRole) -> v1::AccessRole {
    match role {
        state::AccessRole::Viewer => v1::AccessRole::Viewer,
        state::AccessRole::Member => v1::AccessRole::Member,
        state::AccessRole::Operator => v1::AccessRole::Operator,
        state::AccessRole::Admin => v1::AccessRole::Admin,
    }
}

fn project_name(state: &State, id: Option<ProjectId>) -> String {
    let project = id.and_then(|id| state.projects.get(&id));
    project.map(|p| p.name.to_string()).unwrap_or_default()
}

/// A principal; `only` leaves out its roles elsewhere.
pub fn principal(
    state: &State,
    principal: &state::Principal,
    only: Option<ProjectId>,
) -> v1::Principal {
    let kind = match principal.kind {
        state::PrincipalKind::User => v1::PrincipalKind::User,
        state::PrincipalKind::Service => v1::PrincipalKind::Service,
    };
    let bound = principal.roles.iter();
    let bound = bound.filter(|binding| only.is_none() || binding.project == only);
    let roles = bound.map(|binding| v1::RoleBinding {
        project_id: binding.project.map(|id| id.to_string()).unwrap_or_default(),
        project_name: project_name(state, binding.project),
        role: role(binding.role).into(),
    });
    v1::Principal {
        id: principal.id.to_string(),
        name: principal.name.to_string(),
        kind: kind.into(),
        roles: roles.collect(),
        created_at_ms: principal.created_at.0,
        revision: principal.revision,
    }
}

/// An access key, without its secret.
pub fn access_key(state: &State, key: &state::AccessKey) -> v1::AccessKey {
    let principal = state.principals.get(&key.principal);
    v1::AccessKey {
        id: key.id.to_string(),
        principal_id: key.principal.to_string(),
        principal_name: principal.map(|p| p.name.to_string()).unwrap_or_default(),
        project_id: key.project.map(|id| id.to_string()).unwrap_or_default(),
        project_name: project_name(state, key.project),
        role: role(key.role).into(),
        created_at_ms: key.created_at.0,
        expires_at_ms: key.expires_at.map_or(0, |end| end.0),
        revision: key.revision,
    }
}

/// An audit record. Tenants do not learn which host or controller acted, nor
/// where operators came from.
pub fn event(event: &state::Event, sees_hosts: bool) -> v1::Event {
    let kind = event.actor.split('/').next().unwrap_or_default();
    let own = sees_hosts || matches!(kind, "user" | "service");
    let (actor, source) = if own {
        (
            event.actor.clone(),
            event.source.clone().unwrap_or_default(),
        )
    } else {
        (kind.to_owned(), String::new())
    };
    let detail = match event.detail.as_str() {
        detail if sees_hosts => detail,
        detail if detail.starts_with("placed on ") => "placed on a host",
        detail if detail.starts_with("placed anew on ") => {
            "placed anew on another host: its host was lost"
        }
        detail => detail,
    };
    v1::Event {
        id: format!("{}.{}", event.index, event.ordinal),
        revision: event.index,
        time_ms: event.at.0,
        actor,
        request_id: event
            .request
            .map(|id| hex::encode(id.0))
            .unwrap_or_default(),
        source,
        project_id: event.project.map(|id| id.to_string()).unwrap_or_default(),
        action: event.action.clone(),
        resource_kind: event.kind.to_string().replace(' ', "_"),
        resource_id: event.id.clone(),
        resource_name: event.name.clone(),
        detail: detail.to_owned(),
    }
}
