//! What a guest may read below `meta-data/`, as paths with values: the part of
//! EC2's tree that means something here.
//!
//! The private host key has a path of its own that no listing shows. cloud-init
//! walks through every listing and keeps what it finds in a file that every user
//! of the guest may read.

use std::collections::{BTreeMap, BTreeSet};

use nube_types::InstanceId;

use super::About;
use crate::driver::qemu::seed;
use crate::network::spec::{ElasticTarget, NetworkSpec};
use crate::service::subnet_of;

/// How long a run's host key can be had. It is there for the first program of a
/// boot; later any process of the guest could ask for it, and need not.
pub const HOST_KEY_SHOWN_MS: u64 = 10 * 60 * 1_000;
/// Below `meta-data/`.
const HOST_KEY: &str = "nube/ssh-host-key";

/// The value or the listing at a path below `meta-data/`.
#[must_use]
pub fn get(about: &About<'_>, path: &str) -> Option<String> {
    if path == HOST_KEY {
        return host_key(about);
    }
    let leaves = leaves(about);
    if let Some(value) = leaves.get(path) {
        return Some(value.clone());
    }
    let directory = path.strip_suffix('/').unwrap_or(path);
    if directory == "public-keys" {
        return key_names(about);
    }
    let prefix = match directory {
        "" => String::new(),
        directory => format!("{directory}/"),
    };
    let children: BTreeSet<String> = leaves
        .keys()
        .filter_map(|leaf| leaf.strip_prefix(&prefix))
        .map(|rest| match rest.split_once('/') {
            Some((child, _)) => format!("{child}/"),
            None => rest.to_owned(),
        })
        .collect();
    (!children.is_empty()).then(|| Vec::from_iter(children).join("\n"))
}

/// Only while its run is young; unknown age is old age.
#[must_use]
pub fn host_key(about: &About<'_>) -> Option<String> {
    let key = &about.guest.ssh_host_private_key;
    let young = about.run_age_ms.is_some_and(|age| age < HOST_KEY_SHOWN_MS);
    (young && !key.is_empty()).then(|| key.clone())
}

/// EC2 lists keys by number and name, not by paths.
fn key_names(about: &About<'_>) -> Option<String> {
    let count = seed::key_lines(about.guest).len();
    let names: Vec<String> = (0..count).map(|at| format!("{at}=key-{at}")).collect();
    (!names.is_empty()).then(|| names.join("\n"))
}

fn leaves(about: &About<'_>) -> BTreeMap<String, String> {
    let guest = about.guest;
    let port = &guest.port;
    let mac = seed::mac_text(port.mac);
    let name = format!("{}.{}.internal", guest.hostname, about.network.name);
    let mut leaves = BTreeMap::new();
    let mut put = |path: &str, value: String| leaves.insert(path.to_owned(), value);
    put("ami-id", image_id(&guest.image.disk_sha256));
    put("hostname", name.clone());
    put("local-hostname", name.clone());
    put("instance-id", guest.instance.to_string());
    put("local-ipv4", port.address.to_string());
    put("mac", mac.clone());
    if let Some(zone) = about.zone {
        put("placement/availability-zone", zone.to_owned());
    }
    let public = public_address(about.network, guest.instance);
    if let Some(public) = &public {
        put("public-ipv4", public.clone());
    }
    for (at, key) in seed::key_lines(guest).into_iter().enumerate() {
        put(&format!("public-keys/{at}/openssh-key"), key);
    }
    let mut of_interface = |leaf: &str, value: String| {
        put(&format!("network/interfaces/macs/{mac}/{leaf}"), value);
    };
    of_interface("device-number", "0".to_owned());
    of_interface("mac", mac.clone());
    of_interface("local-hostname", name);
    of_interface("local-ipv4s", port.address.to_string());
    let subnet = subnet_of(port).to_string();
    of_interface("subnet-ipv4-cidr-block", subnet);
    if let Some(address) = port.address_v6 {
        of_interface("ipv6s", address.to_string());
    }
    if let Some(public) = public {
        of_interface("public-ipv4s", public);
    }
    leaves
}

/// Which image it runs, in EC2's form: the beginning of its disk's digest.
fn image_id(disk_sha256: &str) -> String {
    format!("ami-{}", disk_sha256.get(..16).unwrap_or("unknown"))
}

/// The elastic address that points at the instance.
pub fn public_address(network: &NetworkSpec, instance: InstanceId) -> Option<String> {
    let points = |target| target == ElasticTarget::Instance(instance);
    let mut all = network.elastic.iter();
    let (address, _) = all.find(|(_, elastic)| points(elastic.target))?;
    Some(address.to_string())
}
