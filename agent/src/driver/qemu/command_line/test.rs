//! The arguments as golden files, and what must never be among them.

use std::net::Ipv4Addr;
use std::path::Path;

use nube_types::{InstanceId, NetworkId, PlacementEpoch};

use super::*;
use crate::driver::{DirectBoot, ImageSpec, PortSpec};

const HOSTILE: &str = ",file=/etc/shadow";

fn spec() -> GuestSpec {
    GuestSpec {
        instance: InstanceId(0x00c0_ffee),
        epoch: PlacementEpoch(1),
        hostname: format!("web{HOSTILE}"),
        vcpus: 2,
        memory_mib: 512,
        disk_mib: 4096,
        image: ImageSpec {
            disk_sha256: "ab".repeat(32),
            disk_size_bytes: 1 << 20,
            disk_format: DiskFormat::Qcow2,
            boot: Some(DirectBoot {
                kernel_sha256: "cd".repeat(32),
                kernel_size_bytes: 1,
                initrd_sha256: "ef".repeat(32),
                initrd_size_bytes: 1,
                cmdline: "console=ttyS0 root=/dev/vda rw, quiet".to_owned(),
            }),
        },
        port: PortSpec {
            network: NetworkId(7),
            network_number: 7,
            address: Ipv4Addr::new(10, 0, 0, 5),
            prefix_length: 16,
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            mac: [0x02, 0, 0, 0, 0, 5],
            mtu: 1450,
            address_v6: None,
            network_name: String::new(),
        },
        authorized_keys: vec![format!("ssh-ed25519 AAAA {HOSTILE}")],
        user_data: HOSTILE.as_bytes().to_vec(),
        ssh_host_private_key: format!("key {HOSTILE}"),
        leased: false,
        metadata_only: false,
    }
}

fn descriptors(spec: &GuestSpec) -> Descriptors {
    Descriptors {
        tap: 10,
        base: 11,
        overlay: 12,
        boot: spec.image.boot.as_ref().map(|_| (13, 14)),
        cidata: spec.image.boot.is_none().then_some(15),
        serial: 16,
        serial_log: 20,
        qmp: 17,
        seed: vec![("meta-data", 18), ("entropy", 19)],
    }
}

fn line(spec: &GuestSpec, accelerator: Accelerator) -> Vec<OsString> {
    arguments(spec, accelerator, &descriptors(spec)).expect("arguments")
}

/// One argument a line. `UPDATE_EXPECT=1` writes what is now; review the diff.
fn check(name: &str, line: &[OsString]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    let mut text = String::new();
    for argument in line {
        text.push_str(argument.to_str().expect("utf-8"));
        text.push('\n');
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let expected = std::fs::read_to_string(&path).expect("golden file");
    assert_eq!(text, expected, "{name}: set UPDATE_EXPECT=1 if intended");
}

#[test]
fn direct_boot_under_emulation() {
    check("direct_boot_tcg", &line(&spec(), Accelerator::Tcg));
}

#[test]
fn disk_boot_of_a_raw_image_on_hardware() {
    let mut spec = spec();
    spec.image.boot = None;
    spec.image.disk_format = DiskFormat::Raw;
    check("disk_boot_kvm", &line(&spec, Accelerator::Kvm));
}

#[test]
fn no_text_of_a_user_reaches_the_arguments() {
    for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
        for argument in line(&spec(), accelerator) {
            let text = argument.to_str().expect("utf-8");
            assert!(!text.contains("shadow"), "{text}");
            assert!(!text.contains("web"), "{text}");
        }
    }
}

#[test]
fn a_command_line_is_one_element_and_printable() {
    let spec = spec();
    let line = line(&spec, Accelerator::Tcg);
    let at = line
        .iter()
        .position(|argument| argument == "-append")
        .expect("appended");
    assert_eq!(line[at + 1], "console=ttyS0 root=/dev/vda rw, quiet");

    for bad in [
        "a\nb",
        "a\0b",
        "caf\u{e9}",
        &"x".repeat(CMDLINE_BYTES_MAX + 1),
    ] {
        let mut spec = spec.clone();
        spec.image.boot.as_mut().expect("direct").cmdline = bad.to_owned();
        let result = arguments(&spec, Accelerator::Tcg, &descriptors(&spec));
        assert_eq!(result, Err(Error::CmdlineNotPrintable), "{bad:?}");
    }
}

#[test]
fn machines_have_different_uuids() {
    let uuid = |number| machine_uuid(InstanceId(number), false);
    assert_ne!(uuid(1), uuid(2));
    assert_eq!(uuid(1), uuid(1));
}

#[test]
fn a_machine_that_asks_the_metadata_service_says_so_as_ec2_does() {
    let mut spec = spec();
    spec.metadata_only = true;
    let uuid = machine_uuid(spec.instance, true).to_string();
    assert!(uuid.starts_with("ec2"), "{uuid}");
    let line = line(&spec, Accelerator::Tcg);
    let smbios = format!("uuid={uuid},serial={uuid}");
    let says = |argument: &&OsString| argument.to_string_lossy().ends_with(&smbios);
    assert_eq!(line.iter().filter(says).count(), 1);
    let at = line.iter().position(|argument| argument == "-uuid");
    assert_eq!(line[at.expect("a uuid") + 1], OsString::from(uuid));
}

#[test]
fn translation_grows_with_the_guest_within_bounds() {
    let sizes: Vec<u64> = [64, 128, 512, 8192].map(translation_mib).into();
    assert_eq!(sizes, [32, 32, 128, 256]);
}
