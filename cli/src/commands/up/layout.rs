//! Where the parts of a local cloud lie, and the record that says what it is.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};

/// A controller that was removed leaves this beside its data and never starts.
const REMOVED: &str = "removed";
/// Marks a directory as a local cloud's; `down --purge` deletes no other.
const MARKER: &str = "nube.cell";

/// Sizes and names, decided the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Eight hexadecimal digits: names bridges and namespaces on this machine.
    pub id: String,
    /// How many controllers.
    pub controllers: u32,
    /// How many nodes.
    pub nodes: u32,
    /// Port of the first controller.
    pub base_port: u16,
    /// The nodes' network is 10.213.THIS.0/24.
    pub subnet_index: u8,
}

impl Cell {
    /// Reads the record; `None` when the directory holds no cloud.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(MARKER);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.context(format!("`{}`", path.display()))?,
        };
        let cell: Self = toml::from_str(&text).context(format!("`{}`", path.display()))?;
        Ok(Some(cell))
    }

    /// Writes the record, whole or not at all. A directory that holds other
    /// things is refused: `down --purge` would delete them.
    pub fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).context(format!("`{}`", dir.display()))?;
        let mut entries = fs::read_dir(dir).context(format!("`{}`", dir.display()))?;
        if entries.next().is_some() && Self::read(dir)?.is_none() {
            let text = format!("`{}` is not empty and holds no cloud", dir.display());
            return Err(Error::failed(text).hint("--dir or NUBE_DIR names another directory"));
        }
        let (path, fresh) = (dir.join(MARKER), dir.join("nube.cell.new"));
        let text = toml::to_string(self).context("encoding the cell's record")?;
        fs::File::create(&fresh)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())
                    .and_then(|()| file.sync_all())
            })
            .and_then(|()| fs::rename(&fresh, &path))
            .context(format!("`{}`", path.display()))
    }

    /// First address of the nodes' network: agents reach the controllers there.
    #[must_use]
    pub fn underlay(&self) -> String {
        format!("10.213.{}.1", self.subnet_index)
    }

    /// The nodes' network.
    #[must_use]
    pub fn subnet(&self) -> String {
        format!("10.213.{}.0", self.subnet_index)
    }

    /// Elastic addresses, which the testbed routes to the hosts' network.
    #[must_use]
    pub fn address_pool(&self) -> String {
        format!("198.18.{}.0/24", self.subnet_index)
    }

    /// First user id of this cell's guests: 64 nodes of 4096 for each network,
    /// so that two clouds on one machine never share a user.
    #[must_use]
    pub fn uid_base(&self) -> u32 {
        1_000_000 + u32::from(self.subnet_index) * 64 * 4096
    }

    /// `node-1`, `node-2`, …
    #[must_use]
    pub fn node_names(&self) -> Vec<String> {
        (1..=self.nodes)
            .map(|number| format!("node-{number}"))
            .collect()
    }

    /// `controller-1`, `controller-2`, … and those that have joined into this
    /// directory since; without those that were removed from the cluster.
    #[must_use]
    pub fn controller_names(&self, dir: &Path) -> Vec<String> {
        let first = (1..=self.controllers).map(|number| format!("controller-{number}"));
        let mut names: Vec<String> = first.collect();
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let joined = name.starts_with("controller-") && !names.contains(&name);
            if joined && entry.path().join("controller.toml").exists() {
                names.push(name);
            }
        }
        names.retain(|name| !dir.join(name).join(REMOVED).exists());
        names.sort();
        names
    }

    /// Port of a controller, counted from 1.
    #[must_use]
    pub fn port(&self, number: u32) -> u16 {
        self.base_port
            .saturating_add(u16::try_from(number - 1).unwrap_or(u16::MAX))
    }
}

/// Deletes the directory. The record goes last: a purge that failed half-way
/// can be repeated.
pub fn remove(dir: &Path) -> Result<()> {
    let what = || format!("removing `{}`", dir.display());
    for entry in fs::read_dir(dir).context(what())? {
        let entry = entry.context(what())?;
        let is_dir = entry.file_type().context(what())?.is_dir();
        if entry.file_name() == MARKER {
            continue;
        }
        let removed = match is_dir {
            true => fs::remove_dir_all(entry.path()),
            false => fs::remove_file(entry.path()),
        };
        removed.context(what())?;
    }
    fs::remove_dir_all(dir).context(what())
}

/// A binary that was installed beside this one.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program's own path")?;
    let path = own.with_file_name(name);
    if path.exists() {
        return Ok(path);
    }
    Err(Error::failed(format!("`{}` is missing", path.display()))
        .hint("build or install cloudctl, cloud-controller and cloud-agent together"))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_record_reads_back_and_unknown_keys_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(Cell::read(dir.path()).expect("readable"), None);
        let cell = Cell {
            id: "00c0ffee".to_owned(),
            controllers: 3,
            nodes: 2,
            base_port: 7101,
            subnet_index: 7,
        };
        cell.write(dir.path()).expect("written");
        assert_eq!(
            Cell::read(dir.path()).expect("readable"),
            Some(cell.clone())
        );
        assert_eq!(
            (cell.underlay().as_str(), cell.port(3)),
            ("10.213.7.1", 7103)
        );
        fs::write(dir.path().join("disk"), "x").expect("written");
        cell.write(dir.path()).expect("again");
        fs::write(dir.path().join(MARKER), "color = 1").expect("written");
        assert!(Cell::read(dir.path()).is_err());
    }

    #[test]
    fn controllers_come_and_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let cell = Cell {
            id: "00c0ffee".to_owned(),
            controllers: 2,
            nodes: 0,
            base_port: 7101,
            subnet_index: 7,
        };
        let file = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, "").expect("written");
        };
        file("controller-9/controller.toml");
        file("controller-8/tls.key");
        assert_eq!(
            cell.controller_names(dir.path()),
            ["controller-1", "controller-2", "controller-9"]
        );
        file("controller-1/removed");
        assert_eq!(
            cell.controller_names(dir.path()),
            ["controller-2", "controller-9"]
        );
    }

    #[test]
    fn somebody_elses_directory_is_left_alone_and_ours_goes_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cell");
        let cell = Cell {
            id: "00c0ffee".to_owned(),
            controllers: 1,
            nodes: 1,
            base_port: 7101,
            subnet_index: 1,
        };
        fs::write(dir.path().join("thesis.tex"), "x").expect("written");
        assert!(cell.write(dir.path()).is_err());
        cell.write(&path).expect("a fresh directory");
        fs::create_dir(path.join("data")).expect("made");
        remove(&path).expect("removed");
        assert!(!path.exists());
    }
}
