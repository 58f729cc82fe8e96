//! What one node should have, from a view. Secrets are put in here and nowhere
//! else: only the host that runs a guest gets its host key and user-data.

use nube_proto::agent::v1::{Desired, DesiredInstance, InstanceSpec, Port};
use nube_state::{DesiredState, Eviction, Instance, State};
use nube_types::{NodeId, net};

use crate::api::convert;
use crate::secret::{self, Secret};

/// Of guests' interfaces: VXLAN needs 50 bytes of the usual 1500.
pub const MTU: u32 = 1450;

/// Everything this node should have.
#[must_use]
pub fn of_node(state: &State, secret: &Secret, node: NodeId) -> Desired {
    let instances = state.instances_on(node).map(|i| instance(state, secret, i));
    let known = state.nodes.get(&node);
    Desired {
        revision: state.index,
        instances: instances
            .chain(state.evictions_on(node).map(eviction))
            .collect(),
        fence_epoch: known.map_or(0, |node| node.fence_epoch),
    }
}

/// What left this node has to go, disk and all.
fn eviction(eviction: &Eviction) -> DesiredInstance {
    DesiredInstance {
        instance_id: eviction.instance.to_string(),
        placement_epoch: eviction.epoch.0,
        generation: eviction.generation,
        state: convert::desired(DesiredState::Deleted).into(),
        force: true,
        ..DesiredInstance::default()
    }
}

fn instance(state: &State, secret: &Secret, instance: &Instance) -> DesiredInstance {
    let spec = match instance.desired {
        DesiredState::Deleted => None,
        _ => spec(state, secret, instance),
    };
    DesiredInstance {
        instance_id: instance.id.to_string(),
        placement_epoch: instance.epoch.0,
        generation: instance.generation,
        state: convert::desired(instance.desired).into(),
        reboot_count: instance.reboot_count,
        force: instance.force,
        spec,
        on_host_failure: convert::host_failure(instance.on_host_failure).into(),
    }
}

fn spec(state: &State, secret: &Secret, instance: &Instance) -> Option<InstanceSpec> {
    let image = state.images.get(&instance.image)?;
    let network = state.networks.get(&instance.network)?;
    let user_data = secret.open(instance.project, &instance.user_data_sealed);
    if user_data.is_none() {
        tracing::error!(
            "user-data of {} was sealed with another secret",
            instance.id
        );
    }
    Some(InstanceSpec {
        hostname: instance.name.to_string(),
        project_id: instance.project.to_string(),
        vcpus: instance.vcpus,
        memory_mib: instance.memory.0,
        disk_mib: instance.disk.0,
        image: Some(convert::image(image)),
        port: Some(Port {
            network_id: network.id.to_string(),
            network_number: network.number,
            address: std::net::Ipv4Addr::from(instance.address).to_string(),
            prefix_length: network.prefix_length.into(),
            gateway: network.gateway().to_string(),
            mac_address: convert::mac_text(instance.mac),
            mtu: MTU,
            ipv6_address: net::address_v6(network.id, instance.address.into()).to_string(),
            network_name: network.name().to_owned(),
        }),
        authorized_keys: instance.authorized_keys.clone(),
        user_data: user_data.unwrap_or_default().into(),
        ssh_host_private_key: secret::private_text(&secret.ssh_host_key(instance.id)),
    })
}

/// True when an instance on this node needs a file.
#[must_use]
pub fn needs_blob(state: &State, node: NodeId, sha256: &[u8; 32]) -> bool {
    state
        .instances_on(node)
        .filter_map(|instance| state.images.get(&instance.image))
        .any(|image| image.blobs().any(|blob| blob.sha256 == *sha256))
}
