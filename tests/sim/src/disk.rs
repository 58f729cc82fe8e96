//! A controller's disk: the real log, superblock and snapshots over simulated bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nube_consensus::{
    Config, DiskStorage, Error, LogStorage, Recovered, SimulatedDisk, SnapshotMeta, SnapshotStore,
};

use crate::judge::{fail, hold};

/// What of a controller survives its process.
pub struct MemberDisk {
    /// The bytes.
    pub bytes: SimulatedDisk,
    open: Option<(DiskStorage, SnapshotStore)>,
    /// Recovery said that memory is lost: this member must never take part again.
    pub lost: bool,
}

impl Default for MemberDisk {
    fn default() -> Self {
        Self {
            bytes: SimulatedDisk::new(),
            open: None,
            lost: false,
        }
    }
}

impl MemberDisk {
    /// What the log holds. `None` when the disk is full or fails (try again), or when this
    /// member has lost its memory (`lost`).
    pub fn start(&mut self, member: u64, config: &Config) -> Option<Recovered> {
        let disk = Arc::new(self.bytes.clone());
        match DiskStorage::open_on(disk, config, Vec::new) {
            Ok((storage, recovered, snapshots)) => {
                self.open = Some((storage, snapshots));
                Some(recovered)
            }
            Err(Error::NoSpace { .. } | Error::Io { .. }) => None,
            Err(error) if error.identity_is_lost() => {
                hold("B1", !self.bytes.atlas().is_empty(), || {
                    format!("member {member} lost its memory on a sound disk: {error}")
                });
                self.lost = true;
                None
            }
            Err(error) => fail("B4", format!("member {member} does not start: {error}")),
        }
    }

    /// The process ends; with `power` the host does as well, and what was not synced is kept,
    /// torn or lost as it says.
    pub fn end(&mut self, power: Option<&mut dyn FnMut() -> u64>) {
        self.open = None;
        if let Some(random) = power {
            self.bytes.power_cut(random);
        }
    }

    /// Time of postponed bookkeeping.
    pub fn set_now(&self, now_ms: u64) {
        self.bytes.set_now(Duration::from_millis(now_ms));
    }

    /// The log, while the process runs.
    pub fn log(&mut self) -> Option<&mut dyn LogStorage> {
        self.open
            .as_mut()
            .map(|(log, _)| log as &mut dyn LogStorage)
    }

    /// The snapshots, while the process runs.
    #[must_use]
    pub fn snapshots(&self) -> Option<&SnapshotStore> {
        self.open.as_ref().map(|(_, snapshots)| snapshots)
    }

    /// A believed snapshot's body.
    pub fn load(&self, meta: &SnapshotMeta) -> Result<Vec<u8>, Error> {
        let Some(store) = self.snapshots() else {
            fail("A5", "a snapshot is asked for while the process is down");
        };
        store.load(&store.believed_path(meta)).map(|(_, body)| body)
    }

    /// A believed snapshot's file, as it travels.
    #[must_use]
    pub fn file(&self, meta: &SnapshotMeta) -> Option<Bytes> {
        let store = self.snapshots()?;
        store
            .bytes(&store.believed_path(meta))
            .ok()
            .map(Bytes::from)
    }
}
