//! QEMU guests: the driver that puts the parts of this folder together.
//!
//! ```text
//!  prepare: record ─► disk (overlay) ─► cgroup ─► port
//!  start:   seed, sockets, tap ─► command_line ─► spawn ─► watch (qmp, serial)
//!  remove:  mark ─► process ─► port ─► cgroup ─► files, the record last
//!  recover: records × processes ─► adopt, finish removals, report the rest
//! ```
//!
//! One lock per guest makes its verbs follow each other; guests do not wait
//! for each other except where the host is changed (`host::port`). Dropping the
//! driver stops watching and leaves every guest running.

mod command_line;
mod complaints;
mod overlay;
mod prepare;
#[doc(hidden)]
pub mod probe;
mod qmp;
mod record;
mod recover;
mod remove;
pub(crate) mod seed;
mod serial;
mod socket;
pub(crate) mod spawn;
mod start;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use nube_types::{InstanceId, NodeId};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::record::{Directory, Record};
use self::serial::port::Port;
use self::watch::{Context, Live};
use super::{Console, Driver, DriverError, GuestEnded, GuestSpec, ImageFiles, Recovered, Run};
use crate::host::accelerator::Accelerator;
use crate::host::cgroup::Cgroups;
use crate::host::link::Prefix;
use crate::host::port::Networks;
use crate::host::{process, uid};
use crate::network::guests::Guests;
use crate::network::meter::Meter;

/// Ends that wait for the reconciler; beyond this, watchers wait with theirs.
const ENDED_QUEUED: usize = 1024;
/// A guest that listens answers in milliseconds; one that boots loses the first
/// packet and answers the second, a second later.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// What the driver must know about its host.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    /// Names namespaces, rules and cgroups.
    pub node: NodeId,
    /// Guests' directories go here; made if absent, for root only.
    pub instances_dir: PathBuf,
    /// As `/usr/bin/qemu-system-x86_64`.
    pub qemu: PathBuf,
    /// From the probe or the operator.
    pub accelerator: Accelerator,
    /// First of `uid::UIDS_PER_HOST` uids that belong to this agent alone.
    pub uid_base: u32,
    /// Emulated host to work in when the process itself has not entered it.
    pub host_namespace: Option<String>,
    /// Where guests may not go, besides the networks that the host itself is
    /// in: controllers, underlay.
    pub closed: Vec<Prefix>,
    /// Where leases of this host are prolonged; without it no leased guest
    /// starts.
    pub fence: Option<Fence>,
}

/// How leased guests are fenced.
#[derive(Debug, Clone)]
pub struct Fence {
    /// See `fencer::Deadline`.
    pub deadline: PathBuf,
    /// Makes this program a fencer; the guest's pid follows.
    pub arguments: Vec<OsString>,
}

/// Guests of one host.
#[derive(Debug)]
pub struct QemuDriver {
    config: QemuConfig,
    boot_id: String,
    cgroups: Cgroups,
    networks: Arc<Networks>,
    guests: Guests,
    uids: Range<u32>,
    held_uids: Mutex<BTreeMap<InstanceId, u32>>,
    slots: Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<Slot>>>>,
    /// Outlive runs: who follows a log goes on over a stop and a start.
    ports: Mutex<HashMap<InstanceId, Arc<Port>>>,
    ended: mpsc::Sender<GuestEnded>,
    ended_taken: Mutex<Option<mpsc::Receiver<GuestEnded>>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

/// What is known of one guest in this life of the agent.
#[derive(Debug, Default)]
struct Slot {
    live: Option<Live>,
    /// Cgroup and port were made or checked in this life for this record.
    standing: Option<Record>,
}

/// State behind a lock is whole after any panic: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl QemuDriver {
    /// Opens the host. Reads which uids are taken; call `recover` next.
    pub fn open(config: QemuConfig) -> Result<Self, DriverError> {
        let uids = uid::range(config.uid_base)
            .ok_or_else(|| DriverError::host("open driver", "uid_base must be 65536 or more"))?;
        let fault = |error: io::Error| DriverError::host("open driver", error);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.instances_dir)
            .map_err(fault)?;
        let mut held = BTreeMap::new();
        for instance in record::list(&config.instances_dir).map_err(fault)?.0 {
            // A record that cannot be read is reported by `recover`.
            if let Ok(Some(record)) = Directory::of(&config.instances_dir, instance).read() {
                held.insert(instance, record.uid);
            }
        }
        let (ended, ended_taken) = mpsc::channel(ENDED_QUEUED);
        let stop = CancellationToken::new();
        Ok(Self {
            boot_id: process::boot_id().map_err(fault)?,
            cgroups: Cgroups::detect(config.node.hex()).map_err(fault)?,
            networks: Arc::new(Networks::new(
                config.node,
                config.host_namespace.as_deref(),
                config.closed.clone(),
                Meter::open(config.instances_dir.with_file_name("traffic.json")).map_err(fault)?,
            )),
            guests: Guests::default(),
            uids,
            held_uids: Mutex::new(held),
            slots: Mutex::default(),
            ports: Mutex::default(),
            ended,
            ended_taken: Mutex::new(Some(ended_taken)),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
            config,
        })
    }

    /// Networks of this host's guests, for whoever gives them their rules.
    #[must_use]
    pub fn networks(&self) -> Arc<Networks> {
        Arc::clone(&self.networks)
    }

    /// Guests with a port on this host.
    #[must_use]
    pub fn guests(&self) -> &Guests {
        &self.guests
    }

    /// The guest's turn. A slot that was removed while its lock was awaited is
    /// not used: the guest may have come back in another one.
    async fn slot(&self, instance: InstanceId) -> OwnedMutexGuard<Slot> {
        let current = || Arc::clone(lock(&self.slots).entry(instance).or_default());
        loop {
            let slot = current();
            let guard = Arc::clone(&slot).lock_owned().await;
            if Arc::ptr_eq(&slot, &current()) {
                return guard;
            }
        }
    }

    fn directory(&self, instance: InstanceId) -> Directory {
        Directory::of(&self.config.instances_dir, instance)
    }

    /// The guest's serial port.
    fn port(&self, instance: InstanceId) -> Arc<Port> {
        let open = || Arc::new(Port::of(self.directory(instance).path()));
        Arc::clone(lock(&self.ports).entry(instance).or_insert_with(open))
    }

    fn record(&self, instance: InstanceId) -> Result<Record, DriverError> {
        self.directory(instance)
            .read()
            .map_err(|error| DriverError::host("read record", error))?
            .ok_or(DriverError::Absent(instance))
    }

    fn context(&self, instance: InstanceId) -> Context {
        Context {
            instance,
            directory: self.directory(instance).path().to_owned(),
            port: self.port(instance),
            cgroups: self.cgroups.clone(),
            ended: self.ended.clone(),
            stop: self.stop.clone(),
        }
    }

    async fn dial(&self, instance: InstanceId, port: u16) -> Result<TcpStream, DriverError> {
        let fault = |error| DriverError::host("connect to guest", error);
        let place = self.record(instance)?.spec.port;
        let socket = self.networks.socket(&place).await.map_err(fault)?;
        let socket = TcpSocket::from_std_stream(socket.into());
        let source = SocketAddrV4::new(place.gateway, 0);
        let target = SocketAddrV4::new(place.address, port);
        socket.bind(SocketAddr::V4(source)).map_err(fault)?;
        let connecting = socket.connect(SocketAddr::V4(target));
        match tokio::time::timeout(CONNECT_DEADLINE, connecting).await {
            Ok(connected) => connected.map_err(fault),
            Err(_) => Err(fault(io::Error::from(io::ErrorKind::TimedOut))),
        }
    }
}

impl Driver for QemuDriver {
    fn name(&self) -> &'static str {
        "qemu"
    }

    async fn recover(&self) -> Result<(Vec<Recovered>, Vec<String>), DriverError> {
        self.recover_all().await
    }

    fn prepare(
        &self,
        spec: &GuestSpec,
        files: &ImageFiles,
    ) -> impl Future<Output = Result<(), DriverError>> + Send {
        self.prepare_guest(spec, files)
    }

    fn start(&self, instance: InstanceId) -> impl Future<Output = Result<Run, DriverError>> + Send {
        self.start_guest(instance)
    }

    async fn power_button(&self, instance: InstanceId) -> Result<(), DriverError> {
        let slot = self.slot(instance).await;
        self.record(instance)?;
        match &slot.live {
            Some(live) if live.is_running() => live
                .power_button()
                .await
                .map_err(|error| DriverError::host("press power button", error)),
            _ => Ok(()),
        }
    }

    async fn power_cut(&self, instance: InstanceId) -> Result<(), DriverError> {
        let mut slot = self.slot(instance).await;
        let uid = self.record(instance)?.uid;
        self.end_processes(&mut slot, instance, Some(uid)).await
    }

    fn remove(&self, instance: InstanceId) -> impl Future<Output = Result<(), DriverError>> + Send {
        self.remove_guest(instance)
    }

    fn connect(
        &self,
        instance: InstanceId,
        port: u16,
    ) -> impl Future<Output = Result<TcpStream, DriverError>> + Send {
        self.dial(instance, port)
    }

    async fn serial_log(
        &self,
        instance: InstanceId,
        bytes_max: u64,
    ) -> Result<Vec<u8>, DriverError> {
        self.record(instance)?;
        self.port(instance)
            .tail(bytes_max)
            .map_err(|error| DriverError::host("read serial log", error))
    }

    async fn follow_log(
        &self,
        instance: InstanceId,
        bytes_max: u64,
    ) -> Result<BoxStream<'static, Bytes>, DriverError> {
        self.record(instance)?;
        Ok(self.port(instance).follow(bytes_max))
    }

    async fn console(&self, instance: InstanceId) -> Result<Console, DriverError> {
        self.record(instance)?;
        let console = self.port(instance).console();
        console.ok_or_else(|| DriverError::host("open console", "the machine does not run"))
    }

    fn ended(&self) -> mpsc::Receiver<GuestEnded> {
        // A second taker gets a channel that is closed.
        let taken = lock(&self.ended_taken).take();
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }
}

#[cfg(test)]
mod test;
