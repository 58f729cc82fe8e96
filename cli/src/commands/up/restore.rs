//! `cluster restore`: a cloud of this machine that begins with a backup.
//! `cloud-controller` knows what a backup is and makes the files; here is what
//! belongs to this machine: the cell's record, its sizes, its processes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::layout::{Cell, binary};
use super::process::Process;
use super::{decide, describe, keep, output};
use crate::args::cluster::Restore;
use crate::commands::App;
use crate::error::{Context, Error, Result};
use crate::output::progress::{Progress, Track};
use crate::output::table::Fields;

/// Where `cloud-controller restore` makes everything first.
const STAGING: &str = "restoring";

/// What `cloud-controller backup-show` prints.
#[derive(Debug, Deserialize)]
struct Shown {
    cluster_id: String,
    index: u64,
    state_hash: String,
    nodes: Vec<String>,
}

/// What `cloud-controller restore` prints.
#[derive(Debug, Deserialize)]
struct Restored {
    cluster_id: String,
    index: u64,
    state_hash: String,
    aside: Option<PathBuf>,
}

/// A restore that ended half-way: `up` would take the directory for a new cloud.
pub fn refuse_half(dir: &Path) -> Result<()> {
    if !dir.join(STAGING).exists() {
        return Ok(());
    }
    let text = format!("a restore into `{}` did not finish", dir.display());
    Err(Error::failed(text).hint("repeat `cloudctl cluster restore … --replace`"))
}

/// `cluster restore`.
pub async fn run(app: &App, args: Restore) -> Result<()> {
    app.output.refuse_csv()?;
    let dir = app.cloud_dir()?;
    let program = binary("cloud-controller")?;
    let progress = Progress::new();
    let track = progress.track("restore");
    track.doing("reading the backup");
    // Before anything is touched: a damaged file ends here.
    let mut show = Command::new(&program);
    let shown = output(
        show.arg("backup-show").arg(&args.file),
        "reading the backup",
    )?;
    let shown: Shown = serde_json::from_slice(&shown).context("the backup's description")?;
    track.done(&format!(
        "backup of {} at {}",
        shown.cluster_id, shown.index
    ));
    let cell = cell(&dir, &args, &shown)?;
    if args.replace {
        stop(&dir, &cell, &track).await?;
    }
    // The record first: whatever is made from here on, `down --purge` finds it.
    cell.write(&dir)?;
    let mut command = Command::new(&program);
    command.arg("restore").arg("--backup").arg(&args.file);
    command.arg("--cluster-secret").arg(&args.secret);
    if args.replace {
        command.arg("--replace");
    }
    describe(&mut command, &dir, &cell, &args.sizes);
    let answer = output(&mut command, "making the new cluster")?;
    let restored: Restored = serde_json::from_slice(&answer).context("the restore's answer")?;
    if restored.state_hash != shown.state_hash {
        let text = "the restored state has another hash than the backup: do not start it";
        return Err(Error::failed(text));
    }
    drop(track);
    tell(app, &dir, &cell, &shown, &restored)
}

/// The cell's record: the directory's own, or a new one for the backup's hosts.
fn cell(dir: &Path, args: &Restore, shown: &Shown) -> Result<Cell> {
    match (Cell::read(dir)?, args.replace) {
        (Some(cell), true) => keep(&cell, &args.sizes),
        (Some(_), false) => Err(Error::failed(format!(
            "`{}` holds a cloud already",
            dir.display()
        ))
        .hint("--dir names another directory; --replace puts this cloud's controllers aside")),
        (None, true) => Err(
            Error::failed(format!("`{}` holds no cloud of `up`", dir.display()))
                .hint("leave --replace out to make one there"),
        ),
        (None, false) => {
            let mut cell = decide(&args.sizes)?;
            if args.sizes.nodes.is_none() {
                cell.nodes = numbered(&shown.nodes).max(1);
            }
            Ok(cell)
        }
    }
}

/// Highest N of the names `node-N`: what `up` can start.
fn numbered(nodes: &[String]) -> u32 {
    let number = |name: &String| name.strip_prefix("node-")?.parse::<u32>().ok();
    nodes
        .iter()
        .filter_map(number)
        .filter(|number| (1..=64).contains(number))
        .max()
        .unwrap_or_default()
}

/// Agents first, then controllers. Guests are nobody's children and go on.
async fn stop(dir: &Path, cell: &Cell, track: &Track<'_>) -> Result<()> {
    let names = cell
        .node_names()
        .into_iter()
        .chain(cell.controller_names(dir));
    for name in names {
        let process = Process::of(&dir.join(&name));
        if process.is_running() {
            track.doing(&format!("waiting for {name}"));
            process.terminate();
            process.ended().await?;
            track.done(&format!("{name} stopped"));
        }
    }
    Ok(())
}

fn tell(app: &App, dir: &Path, cell: &Cell, shown: &Shown, restored: &Restored) -> Result<()> {
    let foreign: Vec<&str> = {
        let local = cell.node_names();
        let others = shown.nodes.iter().filter(|name| !local.contains(name));
        others.map(String::as_str).collect()
    };
    let answer = serde_json::json!({
        "cluster_id": restored.cluster_id,
        "index": restored.index,
        "state_hash": restored.state_hash,
        "aside": restored.aside,
        "other_nodes": foreign,
    });
    let people = |_| {
        let mut fields = Fields::default();
        fields.add("cluster", &restored.cluster_id);
        fields.add("was", &shown.cluster_id);
        fields.add("index", restored.index.to_string());
        fields.add("state hash", &restored.state_hash);
        if let Some(aside) = &restored.aside {
            fields.add("put aside", aside.display().to_string());
        }
        if !foreign.is_empty() {
            fields.add("hosts to join", foreign.join(", "));
        }
        let images = dir.join("images");
        let missing = match images.exists() {
            true => String::new(),
            false => format!(
                "Image files are not part of a backup: copy the old `images` to {}, or import \
                 them again.\n",
                images.display()
            ),
        };
        let up = format!("Start it: cloudctl --dir {} up\n", dir.display());
        format!("{}{missing}{up}", fields.render())
    };
    app.output.value(&answer, people)
}

#[cfg(test)]
mod test {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn hosts_that_up_can_start_are_counted_by_their_numbers() {
        assert_eq!(numbered(&names(&["node-1", "node-3", "rack-b7"])), 3);
        assert_eq!(numbered(&names(&["rack-b7", "node-x", "node-99999"])), 0);
        assert_eq!(numbered(&[]), 0);
    }

    #[test]
    fn half_a_restore_is_not_taken_for_a_cloud() {
        let dir = tempfile::tempdir().expect("a directory");
        refuse_half(dir.path()).expect("nothing there");
        std::fs::create_dir(dir.path().join(STAGING)).expect("made");
        let error = refuse_half(dir.path()).expect_err("half");
        assert!(error.render().contains("--replace"));
    }
}
