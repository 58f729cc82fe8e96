//! What a guest's QEMU says, and what users' texts become in a guest's seed.

use nube_agent::convert;
use nube_agent::driver::GuestSpec;
use nube_agent::driver::qemu::probe;
use nube_agent::instance::Desire;
use nube_proto::agent::v1::DesiredInstance;
use prost::Message;

/// Lines of the control channel.
pub fn qmp(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        probe::qmp_line(line);
    }
}

/// A wish as an agent gets it. Whatever was accepted makes files in which each text
/// stays where it belongs.
pub fn seed(bytes: &[u8]) {
    let Ok(desired) = DesiredInstance::decode(bytes) else {
        return;
    };
    let Ok(wish) = convert::wish(desired) else {
        return;
    };
    let Desire::Running(spec) = wish.desire else {
        return;
    };
    direct(&spec);
    cloud(&spec);
}

fn direct(spec: &GuestSpec) {
    for (name, contents) in probe::seed_files(spec) {
        let text = String::from_utf8_lossy(&contents);
        match name {
            "meta-data" => assert_eq!(text.lines().count(), 2, "{text:?}"),
            "network" => {
                let names = if spec.port.network_name.is_empty() {
                    0
                } else {
                    2
                };
                let ipv6 = if spec.port.address_v6.is_some() { 2 } else { 0 };
                assert_eq!(text.lines().count(), 4 + names + ipv6, "{text:?}");
            }
            "authorized-keys" => {
                let given = &spec.authorized_keys;
                assert!(text.lines().count() <= given.len(), "{text:?}");
                for line in text.lines() {
                    assert!(given.iter().any(|key| key.trim() == line), "{line:?}");
                }
            }
            "user-data" => assert_eq!(contents, spec.user_data),
            _ => {}
        }
    }
}

fn cloud(spec: &GuestSpec) {
    let [meta, network, vendor] = probe::cloud_texts(spec);
    let meta = yaml("meta-data", &meta);
    assert_eq!(meta["local-hostname"], spec.hostname.as_str());
    assert_eq!(
        meta.as_object().map(serde_json::Map::len),
        Some(3),
        "{meta}"
    );
    let keys = meta["public-keys"].as_array().map_or(0, Vec::len);
    assert!(keys <= spec.authorized_keys.len(), "{meta}");
    let network = yaml("network-config", &network);
    assert_eq!(network["version"], 2);
    // The key's block is indented: nothing of it may become another key.
    let vendor = yaml("vendor-data", &vendor);
    assert!(
        vendor.as_object().is_some_and(|all| all.len() == 2),
        "{vendor}"
    );
}

fn yaml(name: &str, text: &str) -> serde_json::Value {
    serde_yaml_ng::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}: {text:?}"))
}
