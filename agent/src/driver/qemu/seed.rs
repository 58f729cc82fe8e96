//! What a guest is told at its start, as bytes: its name, address, keys and
//! user-data. Users' texts end up here and in the guest's record (`record`, for
//! root only), and nowhere else on the host.
//!
//! Seed files live in memory (memfd) and are handed to QEMU as descriptors:
//! they are written to no disk, and nothing of them is left to remove. The
//! guest reads them through the firmware's configuration device, or, when it
//! boots from its own disk with cloud-init, from a small FAT volume.

use std::fs::{File, OpenOptions};
use std::io::{self, Cursor, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use nube_types::net::{GATEWAY_V6, RESOLVER};
use rustix::fs::MemfdFlags;

use crate::driver::{GuestSpec, PortSpec};
use crate::service::domain_of;

/// Fresh random bytes per start: a clone must not share its parent's.
const ENTROPY_BYTES: usize = 64;
/// Holds the largest user-data and keys several times over.
const VOLUME_BYTES: usize = 2 << 20;

/// Files for the configuration device, by name. None for a guest that asks the
/// metadata service: what is not attached cannot be read past it.
#[must_use]
pub fn files(spec: &GuestSpec) -> Vec<(&'static str, Vec<u8>)> {
    if spec.metadata_only {
        return Vec::new();
    }
    vec![
        ("meta-data", meta_data(spec).into_bytes()),
        ("network", network(&spec.port).into_bytes()),
        ("authorized-keys", authorized_keys(spec).into_bytes()),
        (
            "ssh-host-ed25519-key",
            spec.ssh_host_private_key.clone().into_bytes(),
        ),
        ("user-data", spec.user_data.clone()),
        ("entropy", rand::random::<[u8; ENTROPY_BYTES]>().to_vec()),
    ]
}

fn meta_data(spec: &GuestSpec) -> String {
    format!(
        "instance-id: {}\nlocal-hostname: {}\n",
        spec.instance, spec.hostname
    )
}

fn network(port: &PortSpec) -> String {
    let mut text = format!(
        "address: {}/{}\ngateway: {}\nmac: {}\nmtu: {}\n",
        port.address,
        port.prefix_length,
        port.gateway,
        mac_text(port.mac),
        port.mtu
    );
    if let Some(domain) = domain(port) {
        text.push_str(&format!("dns: {RESOLVER}\nsearch: {domain}\n"));
    }
    if let Some(address) = port.address_v6 {
        text.push_str(&format!(
            "address6: {address}/128\ngateway6: {GATEWAY_V6}\n"
        ));
    }
    text
}

/// Where short names are looked up. A record from before names knows none, and
/// its network no resolver.
fn domain(port: &PortSpec) -> Option<String> {
    (!port.network_name.is_empty()).then(|| domain_of(&port.network_name))
}

/// One key a line. A line break inside of a key would add a line of its own,
/// so only the first line of each counts.
fn authorized_keys(spec: &GuestSpec) -> String {
    let lines = key_lines(spec).into_iter();
    lines.map(|line| format!("{line}\n")).collect()
}

pub(crate) fn key_lines(spec: &GuestSpec) -> Vec<String> {
    let lines = spec.authorized_keys.iter().filter_map(|key| {
        let line = key.lines().next()?.trim();
        (!line.is_empty()).then(|| line.to_owned())
    });
    lines.collect()
}

pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// A FAT volume labelled `CIDATA`: the NoCloud source of cloud-init.
pub fn cidata(spec: &GuestSpec) -> io::Result<Vec<u8>> {
    let mut volume = Cursor::new(vec![0; VOLUME_BYTES]);
    let options = fatfs::FormatVolumeOptions::new().volume_label(*b"CIDATA     ");
    fatfs::format_volume(&mut volume, options)?;
    volume.set_position(0);
    {
        let system = fatfs::FileSystem::new(&mut volume, fatfs::FsOptions::new())?;
        let root = system.root_dir();
        let names = ["meta-data", "network-config", "vendor-data"];
        for (name, text) in names.into_iter().zip(cloud_texts(spec)) {
            root.create_file(name)?.write_all(text.as_bytes())?;
        }
        root.create_file("user-data")?.write_all(&spec.user_data)?;
    }
    Ok(volume.into_inner())
}

pub(super) fn cloud_texts(spec: &GuestSpec) -> [String; 3] {
    [
        cloud_meta_data(spec),
        cloud_network(&spec.port),
        cloud_vendor_data(&spec.ssh_host_private_key),
    ]
}

pub(crate) fn cloud_meta_data(spec: &GuestSpec) -> String {
    let mut text = meta_data(spec);
    text.push_str("public-keys:\n");
    for key in authorized_keys(spec).lines() {
        // JSON strings are YAML strings: no key's text can leave its quotes.
        text.push_str(&format!("  - {}\n", serde_json::Value::from(key)));
    }
    text
}

pub(crate) fn cloud_network(port: &PortSpec) -> String {
    let mut addresses = format!("\"{}/{}\"", port.address, port.prefix_length);
    let mut gateways = format!("    gateway4: \"{}\"\n", port.gateway);
    if let Some(address) = port.address_v6 {
        addresses.push_str(&format!(", \"{address}/128\""));
        gateways.push_str(&format!("    gateway6: \"{GATEWAY_V6}\"\n"));
    }
    let mut text = format!(
        "version: 2\nethernets:\n  port0:\n    match:\n      macaddress: \"{}\"\n    \
         addresses: [{addresses}]\n{gateways}    mtu: {}\n",
        mac_text(port.mac),
        port.mtu
    );
    if let Some(domain) = domain(port) {
        text.push_str(&format!(
            "    nameservers:\n      addresses: [\"{RESOLVER}\"]\n      search: [\"{domain}\"]\n"
        ));
    }
    text
}

/// The host key that the control plane announced. Vendor data, because
/// user-data is the tenant's.
pub(crate) fn cloud_vendor_data(ssh_host_private_key: &str) -> String {
    let mut text =
        "#cloud-config\nssh_deletekeys: true\nssh_keys:\n  ed25519_private: |\n".to_owned();
    for line in ssh_host_private_key.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

/// Bytes as a file without a name. It is opened a second time for reading
/// only: QEMU picks descriptors by access mode, and cannot change this one.
pub fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("nube-seed", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    OpenOptions::new().read(true).open(path).map(OwnedFd::from)
}

#[cfg(test)]
mod test {
    use std::io::Read;
    use std::net::Ipv4Addr;

    use nube_types::{InstanceId, NetworkId, PlacementEpoch};

    use super::*;
    use crate::driver::{DiskFormat, ImageSpec};

    fn spec() -> GuestSpec {
        GuestSpec {
            instance: InstanceId(0xaa),
            epoch: PlacementEpoch(1),
            hostname: "web".to_owned(),
            vcpus: 1,
            memory_mib: 128,
            disk_mib: 64,
            image: ImageSpec {
                disk_sha256: String::new(),
                disk_size_bytes: 0,
                disk_format: DiskFormat::Raw,
                boot: None,
            },
            port: PortSpec {
                network: NetworkId(1),
                network_number: 1,
                address: Ipv4Addr::new(10, 0, 0, 5),
                prefix_length: 16,
                gateway: Ipv4Addr::new(10, 0, 0, 1),
                mac: [2, 0, 0, 0, 0, 5],
                mtu: 1450,
                address_v6: None,
                network_name: String::new(),
            },
            authorized_keys: vec!["ssh-ed25519 AAAA a\"b\nssh-rsa injected".to_owned()],
            user_data: b"#!/bin/sh\necho '\0'\n".to_vec(),
            ssh_host_private_key: "-----BEGIN\nabc\n-----END\n".to_owned(),
            leased: false,
            metadata_only: false,
        }
    }

    fn file(name: &str) -> String {
        let files = files(&spec());
        let (_, bytes) = files.iter().find(|(of, _)| *of == name).expect("file");
        String::from_utf8(bytes.clone()).expect("utf-8")
    }

    #[test]
    fn files_have_the_lines_that_images_read() {
        assert_eq!(
            file("meta-data"),
            "instance-id: i-00000000000000aa\nlocal-hostname: web\n"
        );
        assert_eq!(
            file("network"),
            "address: 10.0.0.5/16\ngateway: 10.0.0.1\nmac: 02:00:00:00:00:05\nmtu: 1450\n"
        );
    }

    #[test]
    fn a_network_with_names_and_ipv6_says_so() {
        let mut spec = spec();
        spec.port.network_name = "prod".to_owned();
        spec.port.address_v6 = Some("fd00:1::5".parse().expect("address"));
        let text = network(&spec.port);
        let more = "dns: 169.254.169.253\nsearch: prod.internal\n\
                    address6: fd00:1::5/128\ngateway6: fe80::1\n";
        assert!(text.ends_with(more), "{text}");
        let cloud = cloud_network(&spec.port);
        let lines = [
            "addresses: [\"10.0.0.5/16\", \"fd00:1::5/128\"]\n",
            "    gateway4: \"10.0.0.1\"\n    gateway6: \"fe80::1\"\n    mtu: 1450\n",
            "      addresses: [\"169.254.169.253\"]\n      search: [\"prod.internal\"]\n",
        ];
        for line in lines {
            assert!(cloud.contains(line), "{cloud}");
        }
    }

    #[test]
    fn a_guest_of_the_metadata_service_gets_no_file() {
        let mut spec = spec();
        spec.metadata_only = true;
        assert_eq!(files(&spec), Vec::new());
    }

    #[test]
    fn a_key_cannot_add_a_line() {
        assert_eq!(file("authorized-keys"), "ssh-ed25519 AAAA a\"b\n");
    }

    #[test]
    fn entropy_is_fresh_each_time() {
        let entropy = || files(&spec()).pop().expect("entropy").1;
        assert_ne!(entropy(), entropy());
    }

    #[test]
    fn the_volume_holds_what_cloud_init_reads() {
        let mut volume = Cursor::new(cidata(&spec()).expect("volume"));
        let system =
            fatfs::FileSystem::new(&mut volume, fatfs::FsOptions::new()).expect("readable");
        assert_eq!(system.volume_label(), "CIDATA");
        let read = |name: &str| {
            let mut bytes = Vec::new();
            let mut file = system.root_dir().open_file(name).expect("file");
            file.read_to_end(&mut bytes).expect("read");
            bytes
        };
        assert_eq!(read("user-data"), spec().user_data);
        let meta_data = String::from_utf8(read("meta-data")).expect("utf-8");
        assert!(meta_data.ends_with("public-keys:\n  - \"ssh-ed25519 AAAA a\\\"b\"\n"));
        let vendor_data = String::from_utf8(read("vendor-data")).expect("utf-8");
        assert!(vendor_data.contains("  ed25519_private: |\n    -----BEGIN\n    abc\n"));
    }

    #[test]
    fn files_in_memory_can_only_be_read() {
        let mut file = File::from(in_memory(b"seed").expect("memory"));
        assert!(file.write_all(b"x").is_err());
        let mut text = String::new();
        file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "seed");
    }
}
