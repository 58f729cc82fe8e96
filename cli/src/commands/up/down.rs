//! `down`: stops agents, guests and controllers; with `--purge` nothing stays.

use std::path::Path;
use std::process::Command;

use super::layout::{self, Cell, binary};
use super::process::Process;
use super::{Host, output};
use crate::args::cloud::Down;
use crate::commands::App;
use crate::confirm;
use crate::error::{Context, Error, Result};
use crate::output::progress::{Progress, Track};

/// `down`.
pub async fn run(app: &App, args: &Down) -> Result<()> {
    let dir = app.cloud_dir()?;
    let Some(cell) = Cell::read(&dir)? else {
        if args.purge && !dir.exists() {
            return Ok(());
        }
        return Err(
            Error::failed(format!("`{}` holds no cloud of `up`", dir.display()))
                .hint("--dir or NUBE_DIR names another directory"),
        );
    };
    if args.purge {
        let name = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy();
        let loss = format!(
            "the cloud in {} with its disks, its state and its bill",
            dir.display()
        );
        confirm::ask(args.confirm, &loss, &name)?;
    }
    let progress = Progress::new();
    let track = progress.track("down");
    // Agents first: without them nobody starts again what is being stopped.
    stop(&dir, &cell.node_names(), &track).await?;
    stop_guests(&dir, &cell, args.purge, &track)?;
    stop(&dir, &cell.controller_names(&dir), &track).await?;
    if args.purge {
        purge(&dir, &cell, &track)?;
    }
    Ok(())
}

async fn stop(dir: &Path, names: &[String], track: &Track<'_>) -> Result<()> {
    let running: Vec<(&String, Process)> = names
        .iter()
        .map(|name| (name, Process::of(&dir.join(name))))
        .filter(|(_, process)| process.is_running())
        .collect();
    for (_, process) in &running {
        process.terminate();
    }
    for (name, process) in running {
        track.doing(&format!("waiting for {name}"));
        process.ended().await?;
        track.done(&format!("{name} stopped"));
    }
    Ok(())
}

/// The agents' own command knows what belongs to a node.
fn stop_guests(dir: &Path, cell: &Cell, purge: bool, track: &Track<'_>) -> Result<()> {
    for host in hosts(cell)? {
        let config = dir.join(&host.node).join("agent.toml");
        if !config.exists() {
            continue;
        }
        track.doing(&format!("ending the guests of {}", host.node));
        let mut command = Command::new(binary("cloud-agent")?);
        command
            .arg("clean")
            .arg("--config")
            .arg(&config)
            .args(["--netns", &host.namespace]);
        if !purge {
            command.arg("--keep-disks");
        }
        output(&mut command, &format!("ending the guests of {}", host.node))?;
    }
    Ok(())
}

/// None when `up` ended before it made any.
fn hosts(cell: &Cell) -> Result<Vec<Host>> {
    let mut command = Command::new(binary("cloud-agent")?);
    command.args(["testbed", "show", "--cell", &cell.id]);
    match output(&mut command, "looking for the hosts") {
        Ok(out) => serde_json::from_slice(&out).context("the testbed's answer"),
        Err(_) => Ok(Vec::new()),
    }
}

fn purge(dir: &Path, cell: &Cell, track: &Track<'_>) -> Result<()> {
    let mut command = Command::new(binary("cloud-agent")?);
    output(
        command.args(["testbed", "delete", "--cell", &cell.id]),
        "removing the hosts",
    )?;
    layout::remove(dir)?;
    track.done("disks, state, networks and files are gone");
    Ok(())
}
