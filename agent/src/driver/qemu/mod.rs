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
mod overlay;
mod qmp;
mod record;
mod recover;
mod seed;
mod serial;
mod socket;
mod spawn;
mod start;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nube_types::{InstanceId, NodeId};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::record::{Directory, Record};
use self::serial::SerialLog;
use self::watch::{Context, Live};
use super::{Driver, DriverError, GuestEnded, GuestSpec, ImageFiles, Recovered, Run};
use crate::host::accelerator::Accelerator;
use crate::host::cgroup::{Cgroups, Limits};
use crate::host::link::Prefix;
use crate::host::port::Networks;
use crate::host::{process, uid};

/// Ends that wait for the reconciler; beyond this, watchers wait with theirs.
const ENDED_QUEUED: usize = 1024;
/// A guest that listens answers in milliseconds; one that boots loses the first
/// packet and answers the second, a second later.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// QEMU's own memory beside the guest's: code, device state, thread stacks,
/// disk caches that are charged to it. Too little kills guests under load.
const OVERHEAD_MIB: u64 = 256;
/// Threads beside the virtual CPUs: main loop, disk workers (64 at most).
const TASKS: u32 = 96;

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
}

/// Guests of one host.
#[derive(Debug)]
pub struct QemuDriver {
    config: QemuConfig,
    boot_id: String,
    cgroups: Cgroups,
    networks: Networks,
    uids: Range<u32>,
    held_uids: Mutex<BTreeMap<InstanceId, u32>>,
    slots: Mutex<HashMap<InstanceId, Arc<tokio::sync::Mutex<Slot>>>>,
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
            networks: Networks::new(
                config.node,
                config.host_namespace.as_deref(),
                config.closed.clone(),
            ),
            uids,
            held_uids: Mutex::new(held),
            slots: Mutex::default(),
            ended,
            ended_taken: Mutex::new(Some(ended_taken)),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
            config,
        })
    }

    fn slot(&self, instance: InstanceId) -> Arc<tokio::sync::Mutex<Slot>> {
        Arc::clone(lock(&self.slots).entry(instance).or_default())
    }

    fn directory(&self, instance: InstanceId) -> Directory {
        Directory::of(&self.config.instances_dir, instance)
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
            cgroups: self.cgroups.clone(),
            ended: self.ended.clone(),
            stop: self.stop.clone(),
        }
    }

    fn allocate_uid(&self, instance: InstanceId) -> Result<u32, DriverError> {
        let mut held = lock(&self.held_uids);
        if let Some(uid) = held.get(&instance) {
            return Ok(*uid);
        }
        let taken: BTreeSet<u32> = held.values().copied().collect();
        let uid = uid::lowest_free(self.uids.clone(), &taken)
            .ok_or_else(|| DriverError::host("allocate uid", "all are taken"))?;
        held.insert(instance, uid);
        Ok(uid)
    }

    fn limits(&self, spec: &GuestSpec) -> Limits {
        let translation_mib = match self.config.accelerator {
            Accelerator::Kvm => 0,
            Accelerator::Tcg => command_line::translation_mib(spec.memory_mib),
        };
        let memory_mib = spec.memory_mib + spec.memory_mib / 8 + translation_mib + OVERHEAD_MIB;
        Limits {
            memory_bytes: memory_mib << 20,
            vcpus: spec.vcpus,
            tasks: TASKS + spec.vcpus,
        }
    }

    /// Cgroup and port, once per life of the agent and record.
    async fn stand(&self, slot: &mut Slot, record: &Record) -> Result<(), DriverError> {
        if slot.standing.as_ref() == Some(record) {
            return Ok(());
        }
        let spec = &record.spec;
        self.cgroups
            .ensure(&spec.instance.hex(), &self.limits(spec))
            .map_err(|error| DriverError::host("create cgroup", error))?;
        self.networks
            .ensure(&[(spec.instance, spec.port.clone())])
            .await?;
        slot.standing = Some(record.clone());
        Ok(())
    }

    async fn prepare_guest(
        &self,
        spec: &GuestSpec,
        files: &ImageFiles,
    ) -> Result<(), DriverError> {
        let slot = self.slot(spec.instance);
        let mut slot = slot.lock().await;
        let directory = self.directory(spec.instance);
        let before = directory
            .read()
            .map_err(|error| DriverError::host("read record", error))?;
        if directory.is_removing() {
            return Err(DriverError::host("prepare", "the guest is being removed"));
        }
        let record = Record::new(self.allocate_uid(spec.instance)?, spec, files);
        if let Some(before) = &before {
            self.check_change(&slot, before, &record)?;
        }
        // From here on a crash leaves something, and the record says what.
        if before.as_ref() != Some(&record) {
            directory
                .write(&record)
                .map_err(|error| DriverError::host("write record", error))?;
        }
        if let Some(before) = before
            && before.spec.port != spec.port
        {
            self.networks
                .remove(spec.instance, &before.spec.port)
                .await?;
        }
        overlay::ensure(
            &directory.overlay(),
            spec.disk_mib,
            &files.disk,
            spec.image.disk_format,
        )
        .map_err(|error| DriverError::host("create disk", error))?;
        self.stand(&mut slot, &record).await
    }

    /// A disk stays on the image that it was made on, and the parts of a
    /// running machine stay as they are.
    fn check_change(
        &self,
        slot: &Slot,
        before: &Record,
        after: &Record,
    ) -> Result<(), DriverError> {
        if before.spec.image.disk_sha256 != after.spec.image.disk_sha256 {
            let cause = "the guest's disk was made on another image";
            return Err(DriverError::host("prepare", cause));
        }
        let running = slot.live.as_ref().is_some_and(Live::is_running);
        if running && before.spec.port != after.spec.port {
            let cause = "the guest runs with another port";
            return Err(DriverError::host("prepare", cause));
        }
        Ok(())
    }

    async fn remove_guest(&self, instance: InstanceId) -> Result<(), DriverError> {
        let slot = self.slot(instance);
        let mut slot = slot.lock().await;
        let directory = self.directory(instance);
        let record = directory
            .read()
            .map_err(|error| DriverError::host("read record", error))?;
        if let Some(record) = record {
            directory
                .mark_removing()
                .map_err(|error| DriverError::host("mark removal", error))?;
            self.end_processes(&mut slot, &record).await?;
            self.networks.remove(instance, &record.spec.port).await?;
            self.cgroups
                .remove(&instance.hex())
                .await
                .map_err(|error| DriverError::host("remove cgroup", error))?;
        }
        directory
            .remove()
            .map_err(|error| DriverError::host("remove files", error))?;
        *slot = Slot::default();
        lock(&self.held_uids).remove(&instance);
        lock(&self.slots).remove(&instance);
        Ok(())
    }

    /// The watched process, and any other in its cgroup or of its uid.
    async fn end_processes(&self, slot: &mut Slot, record: &Record) -> Result<(), DriverError> {
        let fault = |error| DriverError::host("end process", error);
        if let Some(live) = slot.live.take()
            && live.is_running()
        {
            live.power_cut().await.map_err(fault)?;
            live.told().await;
        }
        let instance = record.spec.instance;
        let only = record.uid..record.uid + 1;
        let by_uid = process::by_uid(&only).map_err(fault)?;
        let mut pids: Vec<u32> = by_uid.into_values().flatten().collect();
        pids.extend(self.cgroups.processes(&instance.hex()));
        process::kill_all(&pids, &self.boot_id).await.map_err(fault)
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

    fn start(
        &self,
        instance: InstanceId,
    ) -> impl Future<Output = Result<Run, DriverError>> + Send {
        self.start_guest(instance)
    }

    async fn power_button(&self, instance: InstanceId) -> Result<(), DriverError> {
        let slot = self.slot(instance);
        let slot = slot.lock().await;
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
        let slot = self.slot(instance);
        let mut slot = slot.lock().await;
        let record = self.record(instance)?;
        self.end_processes(&mut slot, &record).await
    }

    fn remove(
        &self,
        instance: InstanceId,
    ) -> impl Future<Output = Result<(), DriverError>> + Send {
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
        SerialLog::of(self.directory(instance).path())
            .tail(bytes_max)
            .map_err(|error| DriverError::host("read serial log", error))
    }

    fn ended(&self) -> mpsc::Receiver<GuestEnded> {
        // A second taker gets a channel that is closed.
        let taken = lock(&self.ended_taken).take();
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }
}

#[cfg(test)]
mod test;
