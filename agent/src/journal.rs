//! What this agent must not forget, on disk: one small file per instance, the
//! number of this agent's life, and the highest term of a leader it obeyed.
//!
//! Every write goes beside, is synced and renamed: a crash leaves the old file
//! or the new one. What was left unfinished is swept at the start. A
//! file that cannot be read is moved aside and its instance is treated as
//! unrecorded, the careful case: a damaged file must not stop a host.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nube_types::InstanceId;

use crate::host::durable;
use crate::instance::record::Record;

/// Why the journal could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("journal: {step} `{}`", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A number file holds something else. Guessing a number could repeat one.
    #[error("journal: `{}` does not hold a number; restore it or move it away", path.display())]
    NotANumber {
        /// Which file.
        path: PathBuf,
    },
}

/// The files under `data_dir/journal`.
#[derive(Debug, Clone)]
pub struct Journal {
    dir: PathBuf,
}

impl Journal {
    /// Opens or makes the directory, for this user only.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let dir = data_dir.join("journal");
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir);
        made.map_err(|e| io_error("create", &dir, e))?;
        let journal = Self { dir };
        for path in journal.files()? {
            if path
                .extension()
                .is_some_and(|ending| ending == durable::UNFINISHED)
            {
                fs::remove_file(&path).map_err(|e| io_error("remove", &path, e))?;
            }
        }
        Ok(journal)
    }

    /// All records that can be read.
    pub fn load(&self) -> Result<BTreeMap<InstanceId, Record>, Error> {
        let mut records = BTreeMap::new();
        for path in self.files()? {
            if path.extension().is_none_or(|ending| ending != "json") {
                continue;
            }
            let bytes = fs::read(&path).map_err(|e| io_error("read", &path, e))?;
            match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) if path == self.path(record.instance) => {
                    records.insert(record.instance, record);
                }
                parsed => {
                    let error = parsed.err().map(|e| e.to_string());
                    tracing::error!(path = %path.display(), error, "unreadable record is moved aside");
                    let aside = path.with_extension("unreadable");
                    fs::rename(&path, &aside).map_err(|e| io_error("rename", &path, e))?;
                }
            }
        }
        Ok(records)
    }

    /// Makes a record durable.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let path = self.path(record.instance);
        let bytes = serde_json::to_vec(record)
            .map_err(|e| io_error("encode", &path, io::Error::other(e)))?;
        self.replace(&path, &bytes)
    }

    /// Forgets an instance. Absent is fine.
    pub fn forget(&self, instance: InstanceId) -> Result<(), Error> {
        let path = self.path(instance);
        match fs::remove_file(&path) {
            Ok(()) => {
                durable::sync_directory(&self.dir).map_err(|e| io_error("sync", &self.dir, e))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("remove", &path, error)),
        }
    }

    /// The number of this life of the agent: one more than the last. Durable
    /// before it is used, so that no two lives share a number.
    pub fn next_agent_epoch(&self) -> Result<u64, Error> {
        let epoch = self.number("agent_epoch")?.saturating_add(1);
        self.replace(&self.dir.join("agent_epoch"), epoch.to_string().as_bytes())?;
        Ok(epoch)
    }

    /// The highest term of a leader that was obeyed.
    pub fn leader_term(&self) -> Result<u64, Error> {
        self.number("leader_term")
    }

    /// Notes the term of the leader that is obeyed from now on.
    pub fn set_leader_term(&self, term: u64) -> Result<(), Error> {
        self.replace(&self.dir.join("leader_term"), term.to_string().as_bytes())
    }

    /// Where the controllers were, as the last leader said; empty before one has.
    pub fn controllers(&self) -> Result<Vec<String>, Error> {
        let path = self.dir.join("controllers");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io_error("read", &path, error)),
        }
    }

    /// Remembers where the controllers are: checked addresses, without line ends.
    pub fn set_controllers(&self, controllers: &[String]) -> Result<(), Error> {
        let text = controllers.join("\n");
        self.replace(&self.dir.join("controllers"), text.as_bytes())
    }

    fn number(&self, name: &str) -> Result<u64, Error> {
        let path = self.dir.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| Error::NotANumber { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(io_error("read", &path, error)),
        }
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        nube_failpoint::reach("journal-before");
        durable::replace(path, bytes, 0o600).map_err(|e| io_error("write", path, e))?;
        nube_failpoint::reach("journal-after");
        Ok(())
    }

    fn path(&self, instance: InstanceId) -> PathBuf {
        self.dir.join(format!("{instance}.json"))
    }

    fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let listed = fs::read_dir(&self.dir).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect()
        });
        listed.map_err(|e| io_error("list", &self.dir, e))
    }
}

fn io_error(step: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        step,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::instance::Machine;
    use crate::instance::record::Step;

    fn record(n: u64) -> Record {
        let mut machine = Machine::new(InstanceId(n));
        machine.phase = crate::instance::Phase::Running;
        machine.record().expect("a running machine has a record")
    }

    #[test]
    fn controllers_are_remembered() {
        let dir = tempfile::tempdir().expect("dir");
        let journal = Journal::open(dir.path()).expect("open");
        assert_eq!(journal.controllers().expect("none"), Vec::<String>::new());
        let list = ["c1:7000".to_owned(), "10.0.0.2:7000".to_owned()];
        journal.set_controllers(&list).expect("write");
        let again = Journal::open(dir.path()).expect("open");
        assert_eq!(again.controllers().expect("read"), list);
        assert!(
            again.load().expect("load").is_empty(),
            "no record of a guest"
        );
    }

    #[test]
    fn records_come_back_and_are_forgotten() {
        let dir = tempfile::tempdir().expect("dir");
        let journal = Journal::open(dir.path()).expect("open");
        journal.write(&record(1)).expect("write");
        let stopping = Record {
            step: Step::Stopping,
            ..record(1)
        };
        journal.write(&stopping).expect("write");
        journal.write(&record(2)).expect("write");
        journal.forget(InstanceId(2)).expect("forget");
        journal.forget(InstanceId(3)).expect("absent is fine");
        let journal = Journal::open(dir.path()).expect("open");
        assert_eq!(
            journal.load().expect("load"),
            BTreeMap::from([(InstanceId(1), stopping)])
        );
    }

    #[test]
    fn a_crash_at_any_byte_leaves_the_old_record() {
        let dir = tempfile::tempdir().expect("dir");
        let journal = Journal::open(dir.path()).expect("open");
        journal.write(&record(1)).expect("write");
        let new = serde_json::to_vec(&Record {
            step: Step::Stopping,
            ..record(1)
        })
        .expect("json");
        let tmp = journal
            .path(InstanceId(1))
            .with_extension(durable::UNFINISHED);
        for cut in 0..=new.len() {
            // The crash came before the rename: a tmp file of any length.
            fs::write(&tmp, &new[..cut]).expect("tmp");
            let journal = Journal::open(dir.path()).expect("open");
            assert_eq!(
                journal.load().expect("load")[&InstanceId(1)],
                record(1),
                "cut {cut}"
            );
            assert!(!tmp.exists());
        }
    }

    #[test]
    fn a_damaged_record_is_moved_aside_at_any_length() {
        let bytes = serde_json::to_vec(&record(1)).expect("json");
        for cut in 0..bytes.len() {
            let dir = tempfile::tempdir().expect("dir");
            let journal = Journal::open(dir.path()).expect("open");
            journal.write(&record(2)).expect("write");
            fs::write(journal.path(InstanceId(1)), &bytes[..cut]).expect("damage");
            let loaded = journal.load().expect("load");
            assert_eq!(
                loaded.keys().collect::<Vec<_>>(),
                [&InstanceId(2)],
                "cut {cut}"
            );
            assert!(
                journal
                    .path(InstanceId(1))
                    .with_extension("unreadable")
                    .exists()
            );
        }
    }

    #[test]
    fn a_record_under_another_name_is_not_believed() {
        let dir = tempfile::tempdir().expect("dir");
        let journal = Journal::open(dir.path()).expect("open");
        let bytes = serde_json::to_vec(&record(1)).expect("json");
        fs::write(journal.path(InstanceId(9)), bytes).expect("write");
        assert!(journal.load().expect("load").is_empty());
    }

    #[test]
    fn each_life_has_its_number() {
        let dir = tempfile::tempdir().expect("dir");
        let journal = Journal::open(dir.path()).expect("open");
        assert_eq!(journal.next_agent_epoch().expect("epoch"), 1);
        let journal = Journal::open(dir.path()).expect("open");
        assert_eq!(journal.next_agent_epoch().expect("epoch"), 2);
        fs::write(dir.path().join("journal/agent_epoch"), "").expect("damage");
        assert!(matches!(
            journal.next_agent_epoch(),
            Err(Error::NotANumber { .. })
        ));
    }

    #[test]
    fn files_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("dir");
        let journal = Journal::open(dir.path()).expect("open");
        journal.write(&record(1)).expect("write");
        let mode = |path: &Path| fs::metadata(path).expect("file").permissions().mode() & 0o777;
        assert_eq!(mode(&journal.path(InstanceId(1))), 0o600);
        assert_eq!(mode(&journal.dir), 0o700);
    }
}
