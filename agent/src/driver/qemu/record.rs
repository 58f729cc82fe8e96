//! A guest's directory on the host and the record in it.
//!
//! The record is written and synced before anything of the guest exists. All
//! that a guest consists of has a name that follows from it (uid, cgroup, tap,
//! namespace, files), so a crash at any later point leaves nothing that cannot
//! be found. The directory and everything in it belong to root: the machine
//! process gets open descriptors and no way to reach a file by name.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nube_types::InstanceId;
use serde::{Deserialize, Serialize};

use crate::driver::{GuestSpec, ImageFiles};
use crate::host::durable;

const VERSION: u32 = 1;

/// Files of one guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
}

/// What was promised to exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// Of the machine process.
    pub uid: u32,
    /// The guest. Holds secrets: the file is for root only.
    pub spec: GuestSpec,
    /// The image's disk.
    pub disk: PathBuf,
    /// Kernel and initial RAM disk.
    pub boot: Option<(PathBuf, PathBuf)>,
}

impl Record {
    /// A record of this guest.
    #[must_use]
    pub fn new(uid: u32, spec: &GuestSpec, files: &ImageFiles) -> Self {
        Self {
            version: VERSION,
            uid,
            spec: spec.clone(),
            disk: files.disk.clone(),
            boot: files.boot.clone(),
        }
    }
}

impl Directory {
    /// Of an instance below `instances`.
    #[must_use]
    pub fn of(instances: &Path, instance: InstanceId) -> Self {
        Self {
            path: instances.join(instance.hex()),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The guest's own disk.
    #[must_use]
    pub fn overlay(&self) -> PathBuf {
        self.path.join("root.qcow2")
    }

    fn record(&self) -> PathBuf {
        self.path.join("record.json")
    }

    fn removing(&self) -> PathBuf {
        self.path.join("removing")
    }

    /// Writes the record, making the directory if need be.
    pub fn write(&self, record: &Record) -> io::Result<()> {
        if !self.path.exists() {
            DirBuilder::new().mode(0o700).create(&self.path)?;
            self.path.parent().map_or(Ok(()), durable::sync_directory)?;
        }
        durable::replace(&self.record(), &serde_json::to_vec(record)?, 0o600)
    }

    /// The record; `None` when there is none: then nothing else was made.
    pub fn read(&self) -> io::Result<Option<Record>> {
        let bytes = match std::fs::read(self.record()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let record: Record = serde_json::from_slice(&bytes)?;
        if record.version == VERSION {
            return Ok(Some(record));
        }
        Err(io::Error::other(format!(
            "record of version {}, written by another agent",
            record.version
        )))
    }

    /// Notes that the guest is on its way out: from here there is only forward,
    /// also after a crash.
    pub fn mark_removing(&self) -> io::Result<()> {
        durable::replace(&self.removing(), b"", 0o600)
    }

    /// Whether a removal has begun.
    #[must_use]
    pub fn is_removing(&self) -> bool {
        self.removing().exists()
    }

    /// Removes all files, the record and the mark last. Absent is fine.
    pub fn remove(&self) -> io::Result<()> {
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let last = [self.record(), self.removing()];
        for entry in entries {
            let path = entry?.path();
            if !last.contains(&path) {
                std::fs::remove_file(&path)?;
            }
        }
        durable::sync_directory(&self.path)?;
        for path in last {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::remove_dir(&self.path)?;
        self.path.parent().map_or(Ok(()), durable::sync_directory)
    }
}

/// Instances that have a directory, and names that are no instance's.
pub fn list(instances: &Path) -> io::Result<(Vec<InstanceId>, Vec<String>)> {
    let mut found = Vec::new();
    let mut foreign = Vec::new();
    for entry in std::fs::read_dir(instances)? {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        match format!("{}{text}", InstanceId::PREFIX).parse() {
            Ok(instance) => found.push(instance),
            Err(_) => foreign.push(text.into_owned()),
        }
    }
    found.sort();
    foreign.sort();
    Ok((found, foreign))
}
