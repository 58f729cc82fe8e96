//! `restore`: a new cluster that begins with a backup. Everything that says who
//! somebody is gets made anew: cluster id, CA, every certificate; so nothing of
//! the old cluster can talk to it. What is kept is the secret (guests' host keys
//! and sealed user-data hang on it) and what the cell knew.
//!
//! ```text
//! read and check ─► DIR/restoring: files, seeded logs ─► old ones aside ─► new ones in place
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nube_state::{State, codec};
use serde::Serialize;

use crate::backup::{self, Backup};
use crate::bootstrap::{self, Cluster, Host};
use crate::config::Config;
use crate::secret::{self, Secret};

/// Everything is made in here first. While it exists the directory is neither
/// the old cell nor the new one.
pub const STAGING: &str = "restoring";
/// Above the terms that the old cell may have reached since the backup: agents
/// obey no leader of a lower term than the last.
const TERM_GAP: u64 = 100_000;
/// What belongs to one identity of a host; its data is not among it.
const NODE_FILES: [&str; 4] = ["ca.pem", "tls.pem", "tls.key", "agent.toml"];

/// Makes a new cluster that begins with a backup.
#[derive(Debug, clap::Args)]
// Both types are called `Args`, and clap's groups take a type's name.
#[group(skip)]
pub struct Args {
    /// The backup file.
    #[arg(long)]
    pub backup: PathBuf,
    /// The old cluster's secret: `cluster.secret` of any of its controllers.
    #[arg(long)]
    pub cluster_secret: PathBuf,
    /// The directory may hold a stopped cluster: its controllers' files are put
    /// aside, its hosts get new certificates and keep their data.
    #[arg(long)]
    pub replace: bool,
    /// The new cluster. Hosts of the backup get their directories in any case;
    /// --nodes counts those to be made when they are not in it.
    #[command(flatten)]
    pub cell: bootstrap::Args,
}

/// What a program that starts this one wants to know.
#[derive(Debug, Serialize)]
struct Restored {
    cluster_id: String,
    index: u64,
    state_hash: String,
    /// Where the replaced cluster's files are now.
    aside: Option<PathBuf>,
}

/// Shows what a backup holds, as JSON, after checking all of it.
pub fn show(file: &Path) -> anyhow::Result<()> {
    let Backup { header, state } = backup::load(file)?;
    let nodes = state.nodes.iter().map(|node| node.facts.name.to_string());
    let shown = serde_json::json!({
        "cluster_id": header.cluster_id,
        "index": header.index,
        "time_ms": header.time_ms,
        "term": header.term,
        "state_hash": header.state_hash,
        "size_bytes": header.size_bytes,
        "version": header.version,
        "nodes": nodes.collect::<Vec<_>>(),
    });
    println!("{shown}");
    Ok(())
}

/// Makes the files and the logs.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.cell.check()?;
    let Backup { header, state } = backup::load(&args.backup)?;
    let secret = read_secret(&args.cluster_secret, &state)?;
    let dir = &args.cell.dir;
    anyhow::ensure!(
        args.replace || !dir.join("pki").exists(),
        "{} has a cluster: --replace puts it aside",
        dir.display()
    );
    let mut staged = args.cell.clone();
    staged.dir = dir.join(STAGING);
    if staged.dir.exists() {
        fs::remove_dir_all(&staged.dir)
            .with_context(|| format!("removing {}", staged.dir.display()))?;
    }
    let cluster = Cluster::new(&args.cell, secret)?;
    let hosts = hosts(&args.cell, &state);
    bootstrap::write(&staged, &cluster, &hosts)?;
    let state = renamed(state, &cluster)?;
    for id in 1..=staged.controllers {
        seed(&bootstrap::controller_dir(&staged, id), &state, header.term)?;
    }
    let aside = args.replace.then(|| put_aside(dir)).transpose()?.flatten();
    install(&staged.dir, dir, &hosts, &state)?;
    let restored = Restored {
        cluster_id: cluster.id,
        index: state.index,
        state_hash: hex::encode(codec::state_hash(&state)),
        aside,
    };
    println!("{}", serde_json::to_string(&restored)?);
    Ok(())
}

/// The secret's text. A secret of another cell would leave guests whose host
/// keys nobody can vouch for.
fn read_secret(path: &Path, state: &State) -> anyhow::Result<String> {
    let opened = Secret::load(path)?;
    let foreign = state.instances.iter().find(|instance| {
        secret::public_text(&opened.ssh_host_key(instance.id)) != instance.ssh_host_public_key
    });
    if let Some(instance) = foreign {
        anyhow::bail!(
            "{}: not the secret of the cell in the backup (host key of {})",
            path.display(),
            instance.id
        );
    }
    Ok(opened.text())
}

/// The backup's hosts as they were, and as many new ones as are wanted.
fn hosts(args: &bootstrap::Args, state: &State) -> Vec<Host> {
    let known = |node: &nube_state::Node| Host {
        id: node.facts.id,
        name: node.facts.name.to_string(),
        zone: node.facts.zone.clone(),
        vcpus: node.facts.vcpus,
        memory_mib: node.facts.memory.0,
        disk_mib: node.facts.disk.0,
        labels: node.facts.labels.clone(),
    };
    let mut old: Vec<Host> = state.nodes.iter().map(known).collect();
    // In the order of their numbers: user ids go by it, as at the bootstrap.
    let mut all = Vec::new();
    for number in 1..=args.nodes {
        let fresh = Host::fresh(args, number);
        let at = old.iter().position(|host| host.name == fresh.name);
        all.push(at.map_or(fresh, |at| old.remove(at)));
    }
    all.append(&mut old);
    all
}

/// What the cell knew, under the new identity. Whatever else in the state names
/// the old cluster's own members goes here, and is left out of the state hash.
fn renamed(mut state: State, cluster: &Cluster) -> anyhow::Result<State> {
    let known = state.cluster.as_mut();
    let known = known.context("the backup is of a cell before its first entry")?;
    hex::decode_to_slice(&cluster.id, &mut known.id)?;
    // Members of the old cluster; the new one's first leader writes its own down.
    state.members = nube_state::Table::default();
    state.join_tokens = nube_state::Table::default();
    Ok(state)
}

fn seed(dir: &Path, state: &State, term: u64) -> anyhow::Result<()> {
    let config = Config::load(&dir.join("controller.toml"))?;
    let id = config.cluster_id_bytes()?;
    let mut raft = nube_consensus::Config::new(config.id, id, config.data_dir.join("raft"));
    raft.initial_voters = config.members.iter().map(|member| member.id).collect();
    let body = codec::encode_snapshot(state);
    nube_consensus::seed(&raft, state.index, term + TERM_GAP, body)
        .with_context(|| format!("seeding the log of controller {}", config.id))
}

fn names(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        // A name that is not UTF-8 is not ours.
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn is_controller(name: &str) -> bool {
    let number = name.strip_prefix("controller-");
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

/// Moves what made the old cluster into a directory of its own. Image files,
/// hosts' data and people's keys stay where they are.
fn put_aside(dir: &Path) -> anyhow::Result<Option<PathBuf>> {
    if !dir.exists() {
        return Ok(None);
    }
    let mut moves = Vec::new();
    for name in names(dir)? {
        if name == "pki" || name == "client.toml" || is_controller(&name) {
            moves.push(name);
        } else if dir.join(&name).join("agent.toml").exists() {
            let files = NODE_FILES.iter().map(|file| format!("{name}/{file}"));
            moves.extend(files.filter(|file| dir.join(file).exists()));
        }
    }
    if moves.is_empty() {
        return Ok(None);
    }
    let free = (1..).map(|number| dir.join(format!("before-restore-{number}")));
    let aside = free
        .into_iter()
        .find(|path| !path.exists())
        .context("no name is free")?;
    for name in moves {
        let to = aside.join(&name);
        fs::create_dir_all(to.parent().unwrap_or(&aside))?;
        fs::rename(dir.join(&name), &to).with_context(|| format!("putting {name} aside"))?;
    }
    Ok(Some(aside))
}

/// Moves everything from the staging directory into place, the CA last.
fn install(staging: &Path, dir: &Path, hosts: &[Host], state: &State) -> anyhow::Result<()> {
    let place = |from: PathBuf, to: PathBuf| {
        fs::rename(&from, &to).with_context(|| format!("moving {} into place", from.display()))
    };
    for host in hosts {
        let (from, to) = (staging.join(&host.name), dir.join(&host.name));
        fs::create_dir_all(&to)?;
        for file in NODE_FILES {
            place(from.join(file), to.join(file))?;
        }
        raise_agent_epoch(&to, host, state)?;
        fs::remove_dir(from)?;
    }
    for name in names(staging)? {
        if name != bootstrap::PKI_NEW {
            place(staging.join(&name), dir.join(&name))?;
        }
    }
    place(staging.join(bootstrap::PKI_NEW), dir.join("pki"))?;
    fs::remove_dir(staging)?;
    Ok(fs::File::open(dir)?.sync_all()?)
}

/// An agent's lives are numbered, and the state takes nothing from an earlier
/// one than it has seen: an agent whose data is gone must go on counting.
/// The file is the agent's journal's (`agent/src/journal.rs`).
fn raise_agent_epoch(home: &Path, host: &Host, state: &State) -> anyhow::Result<()> {
    let Some(node) = state.nodes.get(&host.id) else {
        return Ok(());
    };
    let journal = home.join("data/journal");
    let path = journal.join("agent_epoch");
    let known = fs::read_to_string(&path).ok();
    let known = known.and_then(|text| text.trim().parse::<u64>().ok());
    if known.unwrap_or_default() < node.facts.agent_epoch {
        fs::create_dir_all(&journal)?;
        bootstrap::write_public(&path, &node.facts.agent_epoch.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "restore/test.rs"]
mod test;
