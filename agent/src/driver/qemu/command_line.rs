//! From a guest to QEMU's arguments: pure, and pinned by golden files.
//!
//! QEMU opens nothing by path. Every disk, socket, tap and seed file is a
//! descriptor that the agent opened; arguments name it by number. So the
//! machine process needs no rights on any directory, and no text of a user has
//! a place in here: what reaches the arguments are numbers, ids and, for direct
//! boot, the image publisher's kernel command line as one element of its own.

use std::ffi::OsString;
use std::os::fd::RawFd;

use nube_types::InstanceId;
use nube_types::limits::CMDLINE_BYTES_MAX;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::driver::{DiskFormat, GuestSpec};
use crate::host::accelerator::Accelerator;

/// Pinned: a guest sees the same machine after any upgrade of QEMU, and may
/// move between hosts with different ones.
const MACHINE: &str = "pc-q35-7.2,usb=off,vmport=off,dump-guest-core=off";
/// Empty slots for disks and ports that are plugged in later.
const SPARE_ROOT_PORTS: u32 = 4;
/// Everything that a guest's machine never needs is a violation.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
/// Translated code kept for a small guest. QEMU's own default (1 GiB at most)
/// costs more memory than such a guest has; less than this translates kernels
/// over and over.
const TRANSLATION_MIB_MIN: u64 = 32;
/// More does not help a kernel with userland.
const TRANSLATION_MIB_MAX: u64 = 256;

/// Descriptors that the machine process inherits, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptors {
    /// The guest's end of its port.
    pub tap: RawFd,
    /// The image's disk, open for reading only.
    pub base: RawFd,
    /// The guest's own disk.
    pub overlay: RawFd,
    /// Kernel and initial RAM disk.
    pub boot: Option<(RawFd, RawFd)>,
    /// Seed volume of guests that boot from their disk.
    pub cidata: Option<RawFd>,
    /// Listening socket of the serial port.
    pub serial: RawFd,
    /// The memory file that keeps what the guest prints, write-only.
    pub serial_log: RawFd,
    /// Listening socket of the control channel.
    pub qmp: RawFd,
    /// Seed files by their names below `opt/nube/`.
    pub seed: Vec<(&'static str, RawFd)>,
}

/// Why no arguments could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It would be cut or could hide things in listings of processes.
    #[error(
        "the image's kernel command line is not printable ASCII of at most {CMDLINE_BYTES_MAX} bytes"
    )]
    CmdlineNotPrintable,
}

/// The machine's UUID: made from the id, so it can be found in a list of
/// processes and is new for each instance. cloud-init looks for EC2's metadata
/// service only in machines whose UUID begins with `ec2`.
#[must_use]
pub fn machine_uuid(instance: InstanceId, metadata_only: bool) -> uuid::Uuid {
    let digest = Sha256::digest(format!("nube machine {instance}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    if metadata_only {
        bytes[0] = 0xec;
        bytes[1] = 0x20 | (bytes[1] & 0x0f);
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Translation buffer of an emulated guest: a quarter of its memory.
#[must_use]
pub fn translation_mib(memory_mib: u64) -> u64 {
    (memory_mib / 4).clamp(TRANSLATION_MIB_MIN, TRANSLATION_MIB_MAX)
}

/// All arguments, without the program's name.
pub fn arguments(
    spec: &GuestSpec,
    accelerator: Accelerator,
    descriptors: &Descriptors,
) -> Result<Vec<OsString>, Error> {
    let mut line = Line::default();
    machine(&mut line, spec, accelerator);
    disks(&mut line, spec, descriptors);
    network(&mut line, spec, descriptors.tap);
    for number in 0..SPARE_ROOT_PORTS {
        let chassis = number + 1;
        line.pair(
            "-device",
            format!("pcie-root-port,id=spare{number},bus=pcie.0,chassis={chassis}"),
        );
    }
    line.pair("-object", "rng-builtin,id=rng");
    line.pair("-device", "virtio-rng-pci,rng=rng,disable-legacy=on");
    control(&mut line, descriptors);
    for (name, number) in &descriptors.seed {
        line.pair(
            "-fw_cfg",
            format!("name=opt/nube/{name},file={}", inherited(*number)),
        );
    }
    boot(&mut line, spec, descriptors)?;
    Ok(line.0)
}

fn machine(line: &mut Line, spec: &GuestSpec, accelerator: Accelerator) {
    let uuid = machine_uuid(spec.instance, spec.metadata_only);
    line.pair("-name", format!("guest={},debug-threads=on", spec.instance));
    line.pair("-uuid", uuid.to_string());
    line.pair("-machine", MACHINE);
    match accelerator {
        Accelerator::Kvm => {
            line.pair("-accel", "kvm");
            line.pair("-cpu", "host");
        }
        Accelerator::Tcg => {
            let mib = translation_mib(spec.memory_mib);
            line.pair("-accel", format!("tcg,thread=multi,tb-size={mib}"));
            line.pair("-cpu", "qemu64");
        }
    }
    let cores = spec.vcpus;
    line.pair(
        "-smp",
        format!("cpus={cores},sockets=1,cores={cores},threads=1"),
    );
    line.pair("-m", format!("size={}M", spec.memory_mib));
    line.one("-no-user-config");
    line.one("-nodefaults");
    line.pair("-display", "none");
    line.pair("-rtc", "base=utc");
    line.pair("-sandbox", SANDBOX);
    // The serial is what makes cloud-init look for its seed volume, or, when it is
    // the UUID once more, for EC2's metadata service.
    let serial = match spec.metadata_only {
        true => uuid.to_string(),
        false => "ds=nocloud".to_owned(),
    };
    line.pair(
        "-smbios",
        format!("type=1,manufacturer=Nube,product=Instance,uuid={uuid},serial={serial}"),
    );
}

fn disks(line: &mut Line, spec: &GuestSpec, descriptors: &Descriptors) {
    let base_format = match spec.image.disk_format {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow2 => "qcow2",
    };
    // QEMU finds a set member by access mode: the base is only ever readable.
    line.fdset(1, descriptors.base);
    line.fdset(2, descriptors.overlay);
    line.blockdev(&json!({
        "driver": "file", "node-name": "base-file", "filename": "/dev/fdset/1", "read-only": true,
    }));
    // `backing: null`: whatever the image's header claims, nothing else opens.
    let mut base = json!({
        "driver": base_format, "node-name": "base", "file": "base-file", "read-only": true,
    });
    if spec.image.disk_format == DiskFormat::Qcow2 {
        base["backing"] = Value::Null;
    }
    line.blockdev(&base);
    line.blockdev(&json!({
        "driver": "file", "node-name": "root-file", "filename": "/dev/fdset/2", "discard": "unmap",
    }));
    line.blockdev(&json!({
        "driver": "qcow2", "node-name": "root", "file": "root-file", "backing": "base",
        "discard": "unmap",
    }));
    line.pair(
        "-device",
        "virtio-blk-pci,drive=root,id=disk0,serial=root,disable-legacy=on,bootindex=1",
    );
    if let Some(number) = descriptors.cidata {
        line.fdset(3, number);
        line.blockdev(&json!({
            "driver": "file", "node-name": "seed-file", "filename": "/dev/fdset/3",
            "read-only": true,
        }));
        line.blockdev(&json!({
            "driver": "raw", "node-name": "seed", "file": "seed-file", "read-only": true,
        }));
        line.pair(
            "-device",
            "virtio-blk-pci,drive=seed,id=disk1,serial=seed,disable-legacy=on",
        );
    }
}

fn network(line: &mut Line, spec: &GuestSpec, tap: RawFd) {
    let [a, b, c, d, e, f] = spec.port.mac;
    let mtu = spec.port.mtu;
    line.pair("-netdev", format!("tap,id=port0,fd={tap}"));
    line.pair(
        "-device",
        format!(
            "virtio-net-pci,netdev=port0,id=net0,\
             mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x},\
             host_mtu={mtu},romfile=,disable-legacy=on"
        ),
    );
}

/// Serial port and control channel. Both sockets outlive a connection, so the
/// next agent finds them.
fn control(line: &mut Line, descriptors: &Descriptors) {
    let socket = |id, number| format!("socket,id={id},fd={number},server=on,wait=off");
    line.fdset(4, descriptors.serial_log);
    let serial = socket("serial", descriptors.serial);
    let log = "logfile=/dev/fdset/4,logappend=off";
    line.pair("-chardev", format!("{serial},{log}"));
    line.pair("-chardev", socket("qmp", descriptors.qmp));
    line.pair("-serial", "chardev:serial");
    line.pair("-mon", "chardev=qmp,mode=control");
}

fn boot(line: &mut Line, spec: &GuestSpec, descriptors: &Descriptors) -> Result<(), Error> {
    line.pair("-boot", "strict=on");
    let (Some(boot), Some((kernel, initrd))) = (&spec.image.boot, descriptors.boot) else {
        return Ok(());
    };
    let printable = |byte: u8| (0x20..0x7f).contains(&byte);
    if boot.cmdline.len() > CMDLINE_BYTES_MAX || !boot.cmdline.bytes().all(printable) {
        return Err(Error::CmdlineNotPrintable);
    }
    line.pair("-kernel", inherited(kernel));
    line.pair("-initrd", inherited(initrd));
    line.pair("-append", boot.cmdline.as_str());
    Ok(())
}

/// An inherited file for options that take only a path.
fn inherited(number: RawFd) -> String {
    format!("/proc/self/fd/{number}")
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn one(&mut self, option: &str) {
        self.0.push(option.into());
    }

    fn pair(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.extend([option.into(), value.into()]);
    }

    fn fdset(&mut self, set: u32, number: RawFd) {
        self.pair("-add-fd", format!("set={set},fd={number}"));
    }

    fn blockdev(&mut self, node: &Value) {
        self.pair("-blockdev", node.to_string());
    }
}

#[cfg(test)]
#[path = "command_line/test.rs"]
mod test;
