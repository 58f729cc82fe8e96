//! From a wish to all that a guest needs but its process. Every step may be
//! repeated; the record comes before anything that it describes.

use std::collections::BTreeSet;

use nube_types::InstanceId;

use super::record::Record;
use super::watch::Live;
use super::{QemuDriver, Slot, command_line, lock, overlay};
use crate::driver::{DriverError, GuestSpec, ImageFiles};
use crate::host::accelerator::Accelerator;
use crate::host::cgroup::Limits;
use crate::host::uid;

/// QEMU's own memory beside the guest's: code, device state, thread stacks,
/// disk caches that are charged to it. Too little kills guests under load.
const OVERHEAD_MIB: u64 = 256;
/// Threads beside the virtual CPUs: main loop, disk workers (64 at most).
const TASKS: u32 = 96;

impl QemuDriver {
    pub(super) async fn prepare_guest(
        &self,
        spec: &GuestSpec,
        files: &ImageFiles,
    ) -> Result<(), DriverError> {
        let mut slot = self.slot(spec.instance).await;
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

    /// Cgroup and port, once per life of the agent and record.
    pub(super) async fn stand(&self, slot: &mut Slot, record: &Record) -> Result<(), DriverError> {
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
        self.guests.insert(spec);
        slot.standing = Some(record.clone());
        Ok(())
    }

    pub(super) fn limits(&self, spec: &GuestSpec) -> Limits {
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
}
