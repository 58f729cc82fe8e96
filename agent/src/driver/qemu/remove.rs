//! The way out: from the process back to the record, which goes last. Begun
//! removals are marked, and only ever go on.

use nube_types::InstanceId;

use super::{QemuDriver, Slot, lock};
use crate::driver::DriverError;
use crate::host::process;

impl QemuDriver {
    pub(super) async fn remove_guest(&self, instance: InstanceId) -> Result<(), DriverError> {
        let mut slot = self.slot(instance).await;
        let directory = self.directory(instance);
        let record = directory.read();
        if !matches!(record, Ok(None)) {
            directory
                .mark_removing()
                .map_err(|error| DriverError::host("mark removal", error))?;
            let record = record.ok().flatten();
            let uid = record.as_ref().map(|record| record.uid);
            self.end_processes(&mut slot, instance, uid).await?;
            self.guests.remove(instance);
            match record {
                Some(record) => self.networks.remove(instance, &record.spec.port).await?,
                // A record that cannot be read must not keep its guest for ever.
                None => self.networks.remove_anywhere(instance).await?,
            }
            self.cgroups
                .remove(&instance.hex())
                .await
                .map_err(|error| DriverError::host("remove cgroup", error))?;
        }
        // Its followers hold the log's files by name: they go first.
        self.port(instance).remove();
        lock(&self.ports).remove(&instance);
        directory
            .remove()
            .map_err(|error| DriverError::host("remove files", error))?;
        *slot = Slot::default();
        lock(&self.held_uids).remove(&instance);
        lock(&self.slots).remove(&instance);
        Ok(())
    }

    /// The watched process, and any other in its cgroup or of its uid.
    pub(super) async fn end_processes(
        &self,
        slot: &mut Slot,
        instance: InstanceId,
        uid: Option<u32>,
    ) -> Result<(), DriverError> {
        let fault = |error| DriverError::host("end process", error);
        if let Some(live) = &slot.live
            && live.is_running()
        {
            live.power_cut().await.map_err(fault)?;
            live.noticed().await;
        }
        // Only now: a process that does not end stays watched.
        slot.live = None;
        let mut pids = self.cgroups.processes(&instance.hex());
        if let Some(uid) = uid {
            let by_uid = process::by_uid(&(uid..uid + 1)).map_err(fault)?;
            pids.extend(by_uid.into_values().flatten());
        }
        process::kill_all(&pids, &self.boot_id).await.map_err(fault)
    }
}
