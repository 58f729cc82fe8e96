//! One member's disk: the real log over simulated bytes, and the register's form on it.
//!
//! Lives here: opening, ending and damaging a member's storage. May not: time, the network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nube_consensus::{
    Config, DiskStorage, Error, LogStorage, Recovered, SimulatedDisk, SnapshotMeta, SnapshotStore,
};

/// The replicated register: the newest write and where it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Register {
    pub applied: u64,
    pub revision: u64,
    pub log: BTreeMap<u64, Vec<u8>>,
}

impl Register {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.applied.to_le_bytes());
        out.extend_from_slice(&self.revision.to_le_bytes());
        for (index, data) in &self.log {
            out.extend_from_slice(&index.to_le_bytes());
            out.extend_from_slice(&(data.len() as u64).to_le_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    pub fn decode(mut bytes: &[u8]) -> Self {
        let mut number = || {
            let (head, rest) = bytes.split_at(8);
            bytes = rest;
            u64::from_le_bytes(head.try_into().expect("eight bytes"))
        };
        let (applied, revision) = (number(), number());
        let mut log = BTreeMap::new();
        while !bytes.is_empty() {
            let (index, rest) = bytes.split_at(8);
            let (len, rest) = rest.split_at(8);
            let len = u64::from_le_bytes(len.try_into().expect("eight bytes")) as usize;
            let index = u64::from_le_bytes(index.try_into().expect("eight bytes"));
            log.insert(index, rest[..len].to_vec());
            bytes = &rest[len..];
        }
        Self {
            applied,
            revision,
            log,
        }
    }
}

/// What of a member survives its lives.
pub struct Store {
    pub disk: SimulatedDisk,
    /// The disk is an older one than the member's last life had.
    pub turned_back: bool,
    open: Option<(DiskStorage, SnapshotStore)>,
    /// Recovery said that memory is lost: this member must never take part again.
    pub lost: Option<String>,
}

impl Store {
    pub fn new() -> Self {
        Self {
            disk: SimulatedDisk::new(),
            turned_back: false,
            open: None,
            lost: None,
        }
    }

    /// `None` when the disk is full or fails, or this member is lost.
    pub fn start(&mut self, config: &Config) -> Option<Recovered> {
        let disk = Arc::new(self.disk.clone());
        let genesis = Register {
            applied: 1,
            ..Register::default()
        };
        match DiskStorage::open_on(disk, config, || genesis.encode()) {
            Ok((storage, recovered, snapshots)) => {
                self.open = Some((storage, snapshots));
                Some(recovered)
            }
            Err(Error::NoSpace { .. } | Error::Io { .. }) => None,
            Err(error) if error.identity_is_lost() => {
                let sound = self.disk.atlas().is_empty() && !self.turned_back;
                assert!(!sound, "a sound disk: {error}");
                self.lost = Some(error.to_string());
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The process dies; with `power` also the host.
    pub fn end(&mut self, power: Option<&mut dyn FnMut() -> u64>) {
        self.open = None;
        if let Some(random) = power {
            self.disk.power_cut(random);
        }
    }

    pub fn log(&mut self) -> &mut dyn LogStorage {
        &mut self.open.as_mut().expect("it runs").0
    }

    pub fn snapshots(&self) -> &SnapshotStore {
        &self.open.as_ref().expect("it runs").1
    }

    pub fn set_now(&self, now_ms: u64) {
        self.disk.set_now(Duration::from_millis(now_ms));
    }

    pub fn load(&self, meta: &SnapshotMeta) -> Result<Register, Error> {
        let store = self.snapshots();
        let (file, body) = store.load(&store.believed_path(meta))?;
        assert_eq!(file.meta, *meta);
        Ok(Register::decode(&body))
    }
}
