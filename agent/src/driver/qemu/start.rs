//! From a prepared guest to a running one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nube_types::InstanceId;

use super::command_line::{self, Descriptors};
use super::record::Record;
use super::serial::kept::Kept;
use super::spawn::{Launch, Launched, launch};
use super::watch::{self, Live};
use super::{QemuDriver, Slot, complaints, overlay, seed, socket};
use crate::driver::{DriverError, GuestSpec, Run};
use crate::fencer::Fencer;
use crate::host::accelerator::Accelerator;
use crate::host::process::{self, Watched};

impl QemuDriver {
    pub(super) async fn start_guest(&self, instance: InstanceId) -> Result<Run, DriverError> {
        let mut slot = self.slot(instance).await;
        let record = self.record(instance)?;
        if self.directory(instance).is_removing() {
            return Err(DriverError::host("start", "the guest is being removed"));
        }
        if let Some(live) = &slot.live
            && live.is_running()
        {
            return Ok(live.run.clone());
        }
        slot.live = None;
        // Started by an agent that died before it could tell anyone.
        if let Some(run) = self.adopt(&mut slot, &record, &[]).await? {
            return Ok(run);
        }
        self.stand(&mut slot, &record).await?;
        let (parts, kept) = self.assemble(&record).await?;
        // The guest's turn goes along: should the caller stop waiting, nobody
        // else begins before the process is where `adopt` finds it.
        let (mut slot, launched) = tokio::task::spawn_blocking(move || (slot, launch(parts)))
            .await
            .map_err(|error| DriverError::host("start process", error))?;
        let launched = launched.map_err(fault("start process"))?;
        let live = self.watch_fresh(instance, launched, kept).await?;
        self.guests.started(instance, &live.run);
        Ok(slot.live.insert(live).run.clone())
    }

    /// Finds this guest's process and watches it. `pids` are further candidates
    /// besides those in its cgroup.
    pub(super) async fn adopt(
        &self,
        slot: &mut Slot,
        record: &Record,
        pids: &[u32],
    ) -> Result<Option<Run>, DriverError> {
        let fault = |error| DriverError::host("adopt", error);
        let instance = record.spec.instance;
        let mut candidates = self.cgroups.processes(&instance.hex());
        if candidates.is_empty() && !self.cgroups.is_available() {
            let only = record.uid..record.uid + 1;
            let found = process::by_uid(&only).map_err(fault)?;
            candidates.extend(found.into_values().flatten());
        }
        candidates.extend(pids);
        for pid in candidates {
            let Some(run) = process::run_of(pid, &self.boot_id) else {
                continue;
            };
            let Some(watched) = Watched::open(&run, &self.boot_id).map_err(fault)? else {
                continue;
            };
            let context = self.context(instance);
            let greeted = watch::greet(&context.directory).await;
            let kept = adopt_log(instance, pid, &watched);
            if let Err(error) = &greeted {
                // It runs all the same: it is watched, and the power button
                // tries the channel again.
                tracing::warn!(%instance, %error, "adopted without its control channel");
            }
            let live = Live::begin(context, run, watched, greeted.ok(), None, kept);
            return Ok(Some(slot.live.insert(live).run.clone()));
        }
        Ok(None)
    }

    /// Opens all that the machine process gets.
    async fn assemble(&self, record: &Record) -> Result<(Launch, Kept), DriverError> {
        let spec = &record.spec;
        let directory = self.directory(spec.instance);
        let mut inherited = Inherited::default();
        let tap = self
            .networks
            .open_tap(spec.instance, &spec.port)
            .await
            .map_err(fault("open tap"))?;
        let tap = inherited.add(tap);
        let (base, overlay) = inherited.disks(record, &directory.overlay())?;
        let boot = inherited.boot(record)?;
        let cidata = match boot {
            Some(_) => None,
            None if spec.metadata_only => None,
            None => Some(inherited.volume(spec).map_err(fault("make seed volume"))?),
        };
        let seed = inherited.seed(spec).map_err(fault("make seed"))?;
        let (kept, serial_log) = Kept::create().map_err(fault("make serial log"))?;
        let serial_log = inherited.add(serial_log);
        let mut listen = |name| {
            let socket = socket::listen(directory.path(), name);
            let socket = socket.map_err(fault("listen for the machine"))?;
            Ok::<_, DriverError>(inherited.add(socket))
        };
        let descriptors = Descriptors {
            tap,
            base,
            overlay,
            boot,
            cidata,
            serial: listen(socket::SERIAL)?,
            serial_log,
            qmp: listen(socket::QMP)?,
            seed,
        };
        let arguments = command_line::arguments(spec, self.config.accelerator, &descriptors)
            .map_err(|error| DriverError::host("make command line", error))?;
        let launch = Launch {
            program: self.config.qemu.clone(),
            arguments,
            inherited: inherited.0,
            cgroups: self
                .cgroups
                .open_doors(&spec.instance.hex())
                .map_err(fault("open cgroup"))?,
            uid: record.uid,
            group: match self.config.accelerator {
                Accelerator::Kvm => kvm_group().map_err(fault("open /dev/kvm"))?,
                Accelerator::Tcg => None,
            },
            fencer: self.fencer(spec)?,
        };
        Ok((launch, kept))
    }

    /// What ends a leased guest with the lease of its host.
    fn fencer(&self, spec: &GuestSpec) -> Result<Option<Fencer>, DriverError> {
        if !spec.leased {
            return Ok(None);
        }
        let unable = || DriverError::host("start fencer", "this agent was not told how");
        let fence = self.config.fence.as_ref().ok_or_else(unable)?;
        let deadline = File::open(&fence.deadline).map_err(fault("open deadline"))?;
        Ok(Some(Fencer {
            arguments: fence.arguments.clone(),
            deadline: deadline.into(),
        }))
    }

    /// Waits for the machine's first word. One that says none is ended: a start
    /// that failed leaves no process and tells no end.
    async fn watch_fresh(
        &self,
        instance: InstanceId,
        launched: Launched,
        kept: Kept,
    ) -> Result<Live, DriverError> {
        let Launched { pid, stderr } = launched;
        let Some(run) = process::run_of(pid, &self.boot_id) else {
            return Err(died(stderr).await);
        };
        let watched = Watched::open(&run, &self.boot_id).map_err(fault("watch process"))?;
        let Some(watched) = watched else {
            return Err(died(stderr).await);
        };
        let context = self.context(instance);
        match watch::greet(&context.directory).await {
            Ok(greeted) => {
                // Who answers has opened its log.
                if let Err(error) = kept.seal() {
                    tracing::warn!(%instance, %error, "serial log");
                }
                let (greeted, stderr) = (Some(greeted), Some(stderr));
                Ok(Live::begin(
                    context,
                    run,
                    watched,
                    greeted,
                    stderr,
                    Some(kept),
                ))
            }
            Err(error) => {
                tracing::warn!(%instance, %error, "the machine did not start");
                watched.kill().map_err(fault("end process"))?;
                watched.gone().await.map_err(fault("end process"))?;
                Err(died(stderr).await)
            }
        }
    }
}

/// What a machine of an earlier agent kept of its serial output, if it does.
fn adopt_log(instance: InstanceId, pid: u32, watched: &Watched) -> Option<Kept> {
    let adopted = Kept::adopt(pid, watched).and_then(|kept| {
        kept.as_ref().map_or(Ok(()), Kept::seal)?;
        Ok(kept)
    });
    adopted.unwrap_or_else(|error| {
        // The console works all the same; the log has a gap, and says so.
        tracing::warn!(%instance, %error, "adopted without what it printed meanwhile");
        None
    })
}

fn fault(step: &'static str) -> impl Fn(io::Error) -> DriverError {
    move |error| DriverError::host(step, error)
}

/// The one group that a guest on KVM must be in: this QEMU opens /dev/kvm by
/// itself, as the guest's user. `None` when everybody may.
fn kvm_group() -> io::Result<Option<u32>> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata("/dev/kvm")?;
    match device.mode() {
        mode if mode & 0o006 == 0o006 => Ok(None),
        mode if mode & 0o060 == 0o060 => Ok(Some(device.gid())),
        _ => Err(io::Error::other(
            "its group may not use it: guests run as users of their own",
        )),
    }
}

async fn died(stderr: OwnedFd) -> DriverError {
    let cause = match complaints::last(stderr).await {
        text if text.is_empty() => "the machine ended without a word".to_owned(),
        text => text,
    };
    DriverError::host("start machine", cause)
}

/// Descriptors that the machine process keeps. They have their numbers here
/// already; only the fork takes the close-on-exec mark off.
#[derive(Default)]
struct Inherited(Vec<OwnedFd>);

impl Inherited {
    fn add(&mut self, file: impl Into<OwnedFd>) -> RawFd {
        let file = file.into();
        let number = file.as_raw_fd();
        self.0.push(file);
        number
    }

    fn disks(&mut self, record: &Record, overlay: &Path) -> Result<(RawFd, RawFd), DriverError> {
        let mut base = File::open(&record.disk).map_err(fault("open image"))?;
        // Once more than at `prepare`: the cached file may have been replaced.
        overlay::base_bytes(&mut base, record.spec.image.disk_format)
            .map_err(|error| DriverError::host("open image", error))?;
        let overlay = OpenOptions::new()
            .read(true)
            .write(true)
            .open(overlay)
            .map_err(fault("open disk"))?;
        Ok((self.add(base), self.add(overlay)))
    }

    fn boot(&mut self, record: &Record) -> Result<Option<(RawFd, RawFd)>, DriverError> {
        let Some((kernel, initrd)) = &record.boot else {
            return Ok(None);
        };
        if record.spec.image.boot.is_none() {
            return Ok(None);
        }
        let kernel = open_readable_by_all(kernel).map_err(fault("open kernel"))?;
        let initrd = open_readable_by_all(initrd).map_err(fault("open initrd"))?;
        Ok(Some((self.add(kernel), self.add(initrd))))
    }

    fn volume(&mut self, spec: &GuestSpec) -> io::Result<RawFd> {
        let file = seed::in_memory(&seed::cidata(spec)?)?;
        Ok(self.add(file))
    }

    fn seed(&mut self, spec: &GuestSpec) -> io::Result<Vec<(&'static str, RawFd)>> {
        let file =
            |(name, bytes): (&'static str, Vec<u8>)| Ok((name, self.add(seed::in_memory(&bytes)?)));
        seed::files(spec).into_iter().map(file).collect()
    }
}

/// QEMU opens these once more through its own descriptor, as another user: the
/// file itself must allow it, its directories need not.
fn open_readable_by_all(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.permissions().mode() & 0o004 == 0 {
        return Err(io::Error::other(format!(
            "{} must be readable by all (mode 0444)",
            path.display()
        )));
    }
    Ok(file)
}
