//! From the wire to checked values. A wish that makes no sense becomes
//! [`Desire::Refused`] with the reason, so that its owner reads why; a wish
//! whose instance cannot be named is dropped and counted by the caller.

use std::net::Ipv4Addr;
use std::sync::Arc;

use nube_proto::agent::v1::{DesiredInstance, InstanceSpec, Port};
use nube_proto::v1::{
    Blob, Datasource, DesiredState, DiskFormat as WireFormat, HostFailurePolicy, Image,
};
use nube_types::limits::{
    CMDLINE_BYTES_MAX, IMAGE_FILE_BYTES_MAX, SSH_KEYS_PER_INSTANCE_MAX, USER_DATA_BYTES_MAX,
};
use nube_types::{InstanceId, Name, PlacementEpoch};

use crate::driver::{DirectBoot, DiskFormat, GuestSpec, ImageSpec, PortSpec};
use crate::instance::{Desire, Version, Wish};

/// Larger guests do not fit the machines this runs on; a typo would.
const VCPUS_MAX: u32 = 1_024;
/// As above, 64 TiB.
const MIB_MAX: u64 = 64 * 1024 * 1024;

/// An ed25519 key in OpenSSH's form has 400.
const HOST_KEY_BYTES_MAX: usize = 4_096;

/// One wish; an error names the instance id that is none.
pub fn wish(desired: DesiredInstance) -> Result<Wish, String> {
    let instance: InstanceId = desired.instance_id.parse().map_err(|e| format!("{e}"))?;
    let epoch = PlacementEpoch(desired.placement_epoch);
    let leased = match HostFailurePolicy::try_from(desired.on_host_failure) {
        Ok(HostFailurePolicy::Unspecified | HostFailurePolicy::Keep) => Ok(false),
        Ok(HostFailurePolicy::Replace) => Ok(true),
        // Running it would be a promise that this agent does not know.
        Err(_) => Err("this agent does not know what is to become of it when its host is lost"),
    };
    let desire = match DesiredState::try_from(desired.state) {
        Ok(DesiredState::Running) => match leased.map_err(str::to_owned).and_then(|leased| {
            let spec = desired
                .spec
                .ok_or("the wish to run came without a description")?;
            guest(instance, epoch, leased, spec)
        }) {
            Ok(spec) => Desire::Running(Arc::new(spec)),
            Err(reason) => Desire::Refused(reason),
        },
        Ok(DesiredState::Stopped) => Desire::Stopped,
        Ok(DesiredState::Deleted) => Desire::Deleted,
        Ok(DesiredState::Unspecified) | Err(_) => Desire::Refused(format!(
            "this agent does not know the wish {}",
            desired.state
        )),
    };
    Ok(Wish {
        instance,
        version: Version {
            epoch,
            generation: desired.generation,
        },
        desire,
        reboot_count: desired.reboot_count,
        force: desired.force,
    })
}

fn guest(
    instance: InstanceId,
    epoch: PlacementEpoch,
    leased: bool,
    spec: InstanceSpec,
) -> Result<GuestSpec, String> {
    let hostname = Name::new(&spec.hostname).map_err(|e| format!("hostname: {e}"))?;
    if spec.vcpus == 0 || spec.vcpus > VCPUS_MAX {
        return Err(format!("{} vCPUs are not 1 to {VCPUS_MAX}", spec.vcpus));
    }
    if spec.memory_mib == 0 || spec.memory_mib > MIB_MAX || spec.disk_mib > MIB_MAX {
        return Err("memory or disk is out of range".to_owned());
    }
    if spec.user_data.len() > USER_DATA_BYTES_MAX {
        return Err(format!(
            "user data is longer than {USER_DATA_BYTES_MAX} bytes"
        ));
    }
    let one_line = |key: &String| !key.chars().any(char::is_control);
    let keys = &spec.authorized_keys;
    if keys.len() > SSH_KEYS_PER_INSTANCE_MAX || !keys.iter().all(one_line) {
        return Err("SSH keys are too many or not one line each".to_owned());
    }
    let host_key = &spec.ssh_host_private_key;
    let key_text = |byte: u8| byte == b'\n' || (b' '..=b'~').contains(&byte);
    if host_key.len() > HOST_KEY_BYTES_MAX || !host_key.bytes().all(key_text) {
        return Err("the host key is too long or no text of a key".to_owned());
    }
    let image_wire = spec.image.ok_or("no image was named")?;
    let metadata_only = image_wire.datasource() == Datasource::Ec2;
    Ok(GuestSpec {
        instance,
        epoch,
        hostname: hostname.as_str().to_owned(),
        vcpus: spec.vcpus,
        memory_mib: spec.memory_mib,
        disk_mib: spec.disk_mib,
        image: image(image_wire)?,
        port: port(spec.port.ok_or("no network port was named")?)?,
        authorized_keys: spec.authorized_keys,
        user_data: spec.user_data.to_vec(),
        ssh_host_private_key: spec.ssh_host_private_key,
        leased,
        metadata_only,
    })
}

fn image(image: Image) -> Result<ImageSpec, String> {
    let disk_format = match WireFormat::try_from(image.disk_format) {
        Ok(WireFormat::Raw) => DiskFormat::Raw,
        Ok(WireFormat::Qcow2) => DiskFormat::Qcow2,
        _ => return Err("the image's disk format is unknown to this agent".to_owned()),
    };
    let (disk_sha256, disk_size_bytes) = blob("disk", image.disk)?;
    let boot = match (image.kernel, image.initrd) {
        (None, None) => None,
        (kernel, initrd) => {
            let (kernel_sha256, kernel_size_bytes) = blob("kernel", kernel)?;
            let (initrd_sha256, initrd_size_bytes) = blob("initrd", initrd)?;
            let printable = |b: u8| (b' '..=b'~').contains(&b);
            if image.cmdline.len() > CMDLINE_BYTES_MAX || !image.cmdline.bytes().all(printable) {
                return Err("the image's kernel command line is too long or not ASCII".to_owned());
            }
            Some(DirectBoot {
                kernel_sha256,
                kernel_size_bytes,
                initrd_sha256,
                initrd_size_bytes,
                cmdline: image.cmdline,
            })
        }
    };
    Ok(ImageSpec {
        disk_sha256,
        disk_size_bytes,
        disk_format,
        boot,
    })
}

fn blob(what: &str, blob: Option<Blob>) -> Result<(String, u64), String> {
    let blob = blob.ok_or_else(|| format!("the image has no {what}"))?;
    // The digest becomes a file name: nothing but hexadecimal digits passes.
    if !is_digest(&blob.sha256) {
        return Err(format!(
            "the {what}'s digest is not 64 lower-case hexadecimal digits"
        ));
    }
    if blob.size_bytes == 0 || blob.size_bytes > IMAGE_FILE_BYTES_MAX {
        return Err(format!(
            "the {what}'s size of {} bytes is out of range",
            blob.size_bytes
        ));
    }
    Ok((blob.sha256, blob.size_bytes))
}

/// Whether a text is a SHA-256 in lower-case hexadecimal.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn port(port: Port) -> Result<PortSpec, String> {
    let address = |text: &str| {
        text.parse::<Ipv4Addr>()
            .map_err(|_| "an address of the port is not IPv4".to_owned())
    };
    let prefix_length = u8::try_from(port.prefix_length)
        .ok()
        .filter(|length| *length <= 32);
    Ok(PortSpec {
        network: port.network_id.parse().map_err(|e| format!("{e}"))?,
        network_number: port.network_number,
        address: address(&port.address)?,
        prefix_length: prefix_length.ok_or("the port's prefix length is not 0 to 32")?,
        gateway: address(&port.gateway)?,
        mac: mac(&port.mac_address).ok_or("the port's MAC is not six hexadecimal bytes")?,
        mtu: u16::try_from(port.mtu)
            .ok()
            .filter(|mtu| *mtu >= 576)
            .ok_or("the port's MTU is out of range")?,
        address_v6: (!port.ipv6_address.is_empty())
            .then(|| port.ipv6_address.parse())
            .transpose()
            .map_err(|_| "the port's IPv6 address is none")?,
        network_name: Name::new(&port.network_name)
            .map_err(|e| format!("network_name: {e}"))?
            .to_string(),
    })
}

pub(crate) fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2)?;
        if !part.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    // A multicast source address is never valid on a wire.
    (parts.next().is_none() && bytes[0] & 1 == 0).then_some(bytes)
}

#[cfg(test)]
mod test {
    use super::*;

    fn desired() -> DesiredInstance {
        let blob = |digit: &str| {
            Some(Blob {
                sha256: digit.repeat(64),
                size_bytes: 10,
            })
        };
        DesiredInstance {
            instance_id: "i-0000000000000001".to_owned(),
            placement_epoch: 1,
            generation: 2,
            state: DesiredState::Running.into(),
            spec: Some(InstanceSpec {
                hostname: "web".to_owned(),
                vcpus: 1,
                memory_mib: 128,
                disk_mib: 512,
                image: Some(Image {
                    disk: blob("a"),
                    disk_format: WireFormat::Raw.into(),
                    kernel: blob("b"),
                    initrd: blob("c"),
                    cmdline: "console=ttyS0".to_owned(),
                    ..Default::default()
                }),
                port: Some(Port {
                    network_id: "net-0000000000000001".to_owned(),
                    network_number: 1,
                    address: "10.0.0.5".to_owned(),
                    prefix_length: 24,
                    gateway: "10.0.0.1".to_owned(),
                    mac_address: "02:00:00:00:00:05".to_owned(),
                    mtu: 1450,
                    ipv6_address: "fd12:3456:789a::a00:5".to_owned(),
                    network_name: "default".to_owned(),
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn spoiled(spoil: impl FnOnce(&mut InstanceSpec)) -> Desire {
        let mut desired = desired();
        spoil(desired.spec.as_mut().expect("spec"));
        wish(desired).expect("the id is fine").desire
    }

    #[test]
    fn a_whole_wish_passes() {
        let Desire::Running(spec) = wish(desired()).expect("wish").desire else {
            panic!("refused");
        };
        assert_eq!(spec.port.mac, [2, 0, 0, 0, 0, 5]);
        assert!(spec.image.boot.is_some());
    }

    #[test]
    fn what_could_leave_its_field_is_refused() {
        let port = |spec: &mut InstanceSpec, change: fn(&mut Port)| {
            change(spec.port.as_mut().expect("port"));
        };
        let image = |spec: &mut InstanceSpec, change: fn(&mut Image)| {
            change(spec.image.as_mut().expect("image"));
        };
        let cases = [
            spoiled(|s| s.hostname = "web,file=/etc/shadow".to_owned()),
            spoiled(|s| s.vcpus = 0),
            spoiled(|s| s.memory_mib = u64::MAX),
            spoiled(|s| s.user_data = vec![0; USER_DATA_BYTES_MAX + 1].into()),
            spoiled(|s| s.authorized_keys = vec!["ssh-ed25519 A\nroot".to_owned()]),
            spoiled(|s| port(s, |p| p.mac_address = "03:00:00:00:00:05".to_owned())),
            spoiled(|s| port(s, |p| p.mac_address = "+2:00:00:00:00:05".to_owned())),
            spoiled(|s| port(s, |p| p.prefix_length = 33)),
            spoiled(|s| port(s, |p| p.network_id = "../x".to_owned())),
            spoiled(|s| image(s, |i| i.cmdline = "a\nb".to_owned())),
            spoiled(|s| image(s, |i| i.disk_format = 9)),
            spoiled(|s| image(s, |i| i.initrd = None)),
            spoiled(|s| {
                image(s, |i| {
                    i.disk.as_mut().expect("disk").sha256 = "../".repeat(21) + "x"
                })
            }),
            spoiled(|s| s.port = None),
            spoiled(|s| s.image = None),
        ];
        for (n, case) in cases.into_iter().enumerate() {
            assert!(matches!(case, Desire::Refused(_)), "case {n}: {case:?}");
        }
        let nameless = DesiredInstance {
            instance_id: "i-x".to_owned(),
            ..desired()
        };
        assert!(wish(nameless).is_err());
    }
}
