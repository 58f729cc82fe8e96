//! The boundary between deciding what a host should do and doing it.
//!
//! A driver owns every side effect of one kind of guest. The reconciler calls
//! these verbs and nothing else. Each verb is safe to repeat: after a crash at
//! any point the same call finishes the work. Nothing here decides; nothing
//! here talks to a controller.

pub mod qemu;
pub mod simulated;

use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::pin::Pin;

use bytes::Bytes;
use futures::stream::BoxStream;
use nube_types::{InstanceId, NetworkId, PlacementEpoch};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// All that a guest is made of, checked. User strings are bytes for files.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GuestSpec {
    /// Names everything on the host: directory, cgroup, tap, uid.
    pub instance: InstanceId,
    /// The placement this belongs to.
    pub epoch: PlacementEpoch,
    /// RFC 1123 label; reaches the guest in the seed only.
    pub hostname: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest memory.
    pub memory_mib: u64,
    /// Size of the root disk; the overlay is grown to it.
    pub disk_mib: u64,
    /// What it boots.
    pub image: ImageSpec,
    /// Its place in the network.
    pub port: PortSpec,
    /// OpenSSH lines.
    pub authorized_keys: Vec<String>,
    /// Opaque bytes, 16 KiB at most.
    pub user_data: Vec<u8>,
    /// OpenSSH private key that the guest presents. Secret: never logged.
    pub ssh_host_private_key: String,
    /// It may run only while the host holds a lease: another host may start it
    /// when this one is lost. Older records know only guests that may always.
    #[serde(default)]
    pub leased: bool,
    /// The image looks at the metadata service alone: no seed is attached.
    #[serde(default)]
    pub metadata_only: bool,
}

/// Files of an image, by SHA-256 in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ImageSpec {
    /// Root disk.
    pub disk_sha256: String,
    /// The disk's size in bytes, checked when it is fetched.
    pub disk_size_bytes: u64,
    /// Raw or qcow2; always passed on, never probed.
    pub disk_format: DiskFormat,
    /// Direct boot when present.
    pub boot: Option<DirectBoot>,
}

/// Kernel, initrd and command line for direct boot.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DirectBoot {
    /// Kernel file.
    pub kernel_sha256: String,
    /// Its size in bytes.
    pub kernel_size_bytes: u64,
    /// Initial RAM disk.
    pub initrd_sha256: String,
    /// Its size in bytes.
    pub initrd_size_bytes: u64,
    /// From the image record, set by its publisher; printable ASCII.
    pub cmdline: String,
}

/// How a disk image is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum DiskFormat {
    /// Plain bytes.
    Raw,
    /// QEMU copy-on-write, version 2 or 3.
    Qcow2,
}

/// A guest's place in its network.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PortSpec {
    /// The network.
    pub network: NetworkId,
    /// Number of the network; names namespaces and devices.
    pub network_number: u32,
    /// The guest's address.
    pub address: Ipv4Addr,
    /// Of the subnet.
    pub prefix_length: u8,
    /// First address of the subnet; the host answers it.
    pub gateway: Ipv4Addr,
    /// The guest's MAC.
    pub mac: [u8; 6],
    /// Of the guest's interface.
    pub mtu: u16,
    /// Its address of IPv6; older records know none.
    #[serde(default)]
    pub address_v6: Option<Ipv6Addr>,
    /// Middle label of the guest's DNS name; unknown to older records.
    #[serde(default)]
    pub network_name: String,
}

/// One life of a machine process. Equal values mean the same life.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Run {
    /// Of the host.
    pub host_boot_id: String,
    /// Of the machine process.
    pub pid: u32,
    /// Field 22 of /proc/PID/stat: with boot id and pid it names one process.
    pub start_ticks: u64,
}

impl Run {
    /// As reported to the control plane.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}/{}", self.host_boot_id, self.pid, self.start_ticks)
    }
}

/// What a driver found of an instance after the agent started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovered {
    /// Prepared (disk and record are here), no process.
    Prepared(Box<GuestSpec>),
    /// It runs and is adopted.
    Running(Box<GuestSpec>, Run),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestExit {
    /// The guest switched itself off, or followed the power button.
    PoweredOff,
    /// The process ended otherwise; the text says how.
    Crashed(String),
}

/// A run ended. Sent once per run that was started or adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestEnded {
    /// Which instance.
    pub instance: InstanceId,
    /// Which life of it.
    pub run: Run,
    /// How.
    pub exit: GuestExit,
}

/// Why a console session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleEnd {
    /// Another client has it now.
    TakenOver,
    /// The machine process ended.
    Stopped,
    /// The guest was removed.
    Removed,
}

/// One client's hold of a guest's serial console.
pub struct Console {
    /// What the guest prints from now on. A reader that is too slow skips, and
    /// is told so in the stream.
    pub output: BoxStream<'static, Bytes>,
    /// Keystrokes; waits while the guest does not read. Dropping it ends only
    /// this half.
    pub input: mpsc::Sender<Bytes>,
    /// Comes when the session is over; dropping it gives the console back.
    pub ended: Pin<Box<dyn Future<Output = ConsoleEnd> + Send>>,
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Something on the host refused; the text names step and thing.
    #[error("{step}: {cause}")]
    Host {
        /// The step that failed, as `create tap`.
        step: &'static str,
        /// Why, for operators and the instance's `reason`.
        cause: String,
    },
    /// The instance is not on this host.
    #[error("instance {0} is not on this host")]
    Absent(InstanceId),
}

impl DriverError {
    /// Wraps any error with the step that failed.
    pub fn host(step: &'static str, cause: impl std::fmt::Display) -> Self {
        Self::Host {
            step,
            cause: cause.to_string(),
        }
    }
}

/// Where the cached, digest-checked files of an image are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFiles {
    /// The read-only base disk.
    pub disk: PathBuf,
    /// Kernel and initrd for direct boot.
    pub boot: Option<(PathBuf, PathBuf)>,
}

/// A kind of guest on this host. Every verb may be repeated.
pub trait Driver: Send + Sync + 'static {
    /// As `qemu`.
    fn name(&self) -> &'static str;

    /// Everything on this host that belongs to the driver, running or not, and
    /// what cannot be explained (for people). Starts watching what runs.
    fn recover(
        &self,
    ) -> impl Future<Output = Result<(Vec<Recovered>, Vec<String>), DriverError>> + Send;

    /// Disk overlay, seed, port, cgroup, uid: all but the process. A changed
    /// spec (another epoch) on top of an old preparation keeps the disk.
    fn prepare(
        &self,
        spec: &GuestSpec,
        files: &ImageFiles,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Starts the machine process, unless it runs; says which life it is.
    fn start(&self, instance: InstanceId) -> impl Future<Output = Result<Run, DriverError>> + Send;

    /// Presses the power button. Does not wait.
    fn power_button(
        &self,
        instance: InstanceId,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Ends the machine process and waits until it is gone.
    fn power_cut(
        &self,
        instance: InstanceId,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Removes every trace: process, tap, cgroup, files, uid. Absent is fine.
    fn remove(&self, instance: InstanceId) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Connects to a TCP port of the guest, once.
    fn connect(
        &self,
        instance: InstanceId,
        port: u16,
    ) -> impl Future<Output = Result<TcpStream, DriverError>> + Send;

    /// The newest bytes of the serial log, at most `bytes_max`.
    fn serial_log(
        &self,
        instance: InstanceId,
        bytes_max: u64,
    ) -> impl Future<Output = Result<Vec<u8>, DriverError>> + Send;

    /// The newest bytes of the serial log, then what is added, until the guest
    /// is removed.
    fn follow_log(
        &self,
        instance: InstanceId,
        bytes_max: u64,
    ) -> impl Future<Output = Result<BoxStream<'static, Bytes>, DriverError>> + Send;

    /// Takes the serial console, from whoever has it.
    fn console(
        &self,
        instance: InstanceId,
    ) -> impl Future<Output = Result<Console, DriverError>> + Send;

    /// Ends of runs, in order. Taken once.
    fn ended(&self) -> mpsc::Receiver<GuestEnded>;
}
