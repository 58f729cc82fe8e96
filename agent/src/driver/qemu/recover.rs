//! After the agent's start: what is on this host, and who owns it.
//!
//! Records are matched with processes (one look at /proc and the cgroups).
//! Running guests are adopted, begun removals are finished, and what nothing
//! explains is reported and left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use nube_types::InstanceId;

use super::record::{self, Record};
use super::{QemuDriver, lock};
use crate::driver::{DriverError, PortSpec, Recovered};
use crate::host::process;

fn fault(error: io::Error) -> DriverError {
    DriverError::host("recover", error)
}

impl QemuDriver {
    pub(super) async fn recover_all(&self) -> Result<(Vec<Recovered>, Vec<String>), DriverError> {
        let (instances, foreign) = record::list(&self.config.instances_dir).map_err(fault)?;
        let mut unexplained: Vec<String> = foreign
            .into_iter()
            .map(|name| format!("directory {name}"))
            .collect();
        let mut records = Vec::new();
        // Also those whose record cannot be read: their things are explained.
        let mut known = BTreeSet::new();
        for instance in instances {
            known.insert(instance.hex());
            match self.read_or_finish(instance).await {
                Ok(Some(record)) => records.push(record),
                Ok(None) => {}
                Err(error) => unexplained.push(format!("instance {instance}: {error}")),
            }
        }
        // After the removals, whose processes are no longer here.
        let mut by_uid = process::by_uid(&self.uids).map_err(fault)?;
        let mut recovered = Vec::new();
        let mut running: BTreeMap<u32, Vec<(InstanceId, PortSpec)>> = BTreeMap::new();
        for record in &records {
            let pids = by_uid.remove(&record.uid).unwrap_or_default();
            let found = self.recover_one(record, &pids).await?;
            if matches!(found, Recovered::Running(..)) {
                let port = (record.spec.instance, record.spec.port.clone());
                running.entry(port.1.network_number).or_default().push(port);
            }
            recovered.push(found);
        }
        self.repair(&running, &records, &mut unexplained).await?;
        for (uid, pids) in by_uid {
            unexplained.push(format!("processes {pids:?} of uid {uid}"));
        }
        for name in self.cgroups.list() {
            if !known.contains(&name) {
                unexplained.push(format!("cgroup {name}"));
            }
        }
        Ok((recovered, unexplained))
    }

    /// The record, unless the guest is on its way out or never came to be.
    async fn read_or_finish(&self, instance: InstanceId) -> Result<Option<Record>, DriverError> {
        let directory = self.directory(instance);
        let record = directory.read().map_err(fault)?;
        if record.is_none() || directory.is_removing() {
            self.remove_guest(instance).await?;
            return Ok(None);
        }
        Ok(record)
    }

    async fn recover_one(&self, record: &Record, pids: &[u32]) -> Result<Recovered, DriverError> {
        let mut slot = self.slot(record.spec.instance).await;
        let spec = Box::new(record.spec.clone());
        if let Some(live) = &slot.live
            && live.is_running()
        {
            return Ok(Recovered::Running(spec, live.run.clone()));
        }
        Ok(match self.adopt(&mut slot, record, pids).await? {
            Some(run) => Recovered::Running(spec, run),
            None => Recovered::Prepared(spec),
        })
    }

    /// Ports of running guests, network by network: rules may have changed with
    /// the agent's version, and a crash may have come in the middle.
    async fn repair(
        &self,
        running: &BTreeMap<u32, Vec<(InstanceId, PortSpec)>>,
        records: &[Record],
        unexplained: &mut Vec<String>,
    ) -> Result<(), DriverError> {
        for ports in running.values() {
            if let Err(error) = self.networks.ensure(ports).await {
                // The guests run; their network is looked at by people.
                unexplained.push(error.to_string());
            }
        }
        for record in records {
            let ports = running.get(&record.spec.port.network_number);
            let runs = |(instance, _): &(InstanceId, PortSpec)| *instance == record.spec.instance;
            if ports.is_some_and(|ports| ports.iter().any(runs)) {
                self.cgroups
                    .ensure(&record.spec.instance.hex(), &self.limits(&record.spec))
                    .map_err(fault)?;
                let mut slot = self.slot(record.spec.instance).await;
                slot.standing = Some(record.clone());
                self.guests.insert(&record.spec);
                if let Some(live) = &slot.live {
                    self.guests.started(record.spec.instance, &live.run);
                }
            }
        }
        let wanted = records
            .iter()
            .map(|record| record.spec.port.network_number)
            .collect();
        unexplained.extend(self.networks.sweep(&wanted).await.map_err(fault)?);
        debug_assert!(
            lock(&self.held_uids).len() >= records.len(),
            "uids are held"
        );
        Ok(())
    }
}
