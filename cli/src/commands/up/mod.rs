//! `up` and `down`: a whole cloud on this machine, as real processes. Running
//! `up` again starts what does not run; nothing is decided twice.
//!
//! ```text
//! check machine ─► hosts (namespaces) ─► bootstrap (once) ─► controllers ─► agents ─► ready
//! ```

mod down;
pub mod layout;
pub mod preflight;
mod process;
mod restore;

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nube_proto::v1::NodeState;
use serde::Deserialize;

use self::layout::{Cell, binary};
use self::process::Process;
use super::{App, address, cluster, node};
use crate::args::Global;
use crate::args::cloud::{Sizes, Up};
use crate::client::Client;
use crate::error::{Context, Error, Exit, Result};
use crate::output::progress::{Progress, Track, warn};

pub use self::down::run as down;
pub use self::restore::run as restore;

const CONTROLLERS: u32 = 3;
const NODES: u32 = 2;
const BASE_PORT: u16 = 7101;
/// Guests get this much of what is free; the rest is for everything else.
const SHARE_NUMERATOR: u64 = 2;
const SHARE_DENOMINATOR: u64 = 3;

/// `up`.
pub async fn run(app: &App, args: Up) -> Result<()> {
    app.output.refuse_csv()?;
    let dir = app.cloud_dir()?;
    let known = Cell::read(&dir)?;
    let cell = match &known {
        Some(cell) => keep(cell, &args.sizes)?,
        None => decide(&args.sizes)?,
    };
    restore::refuse_half(&dir)?;
    let progress = Progress::new();
    let track = progress.track("up");
    track.doing("looking at this machine");
    let report = preflight::check(&dir, &cell, known.is_none());
    for line in &report.degraded {
        warn(line);
    }
    report.into_result()?;
    track.done("this machine can run a cloud");
    if args.check {
        return Ok(());
    }
    // The record first: whatever is made from here on, `down --purge` finds it.
    cell.write(&dir)?;
    let hosts = make_hosts(&cell)?;
    track.done(&format!("{} hosts on {}/24", hosts.len(), cell.subnet()));
    bootstrap(&dir, &cell, &args.sizes, &hosts)?;
    start_controllers(&dir, &cell, &track)?;
    start_agents(&dir, &hosts, &track)?;
    ready(app, &dir, &cell, &args, &track).await?;
    drop(track);
    next_steps(app, &dir, &cell)
}

/// A cloud keeps the sizes it was made with.
fn keep(cell: &Cell, args: &Sizes) -> Result<Cell> {
    let differs = |what: &str, have: u64, want: Option<u64>| match want {
        Some(want) if want != have => Err(Error::usage(format!(
            "this cloud was made with {have} {what}, not {want}"
        ))
        .hint("`cloudctl down --purge` first, or leave the flag out")),
        _ => Ok(()),
    };
    differs(
        "controllers",
        cell.controllers.into(),
        args.controllers.map(Into::into),
    )?;
    differs("nodes", cell.nodes.into(), args.nodes.map(Into::into))?;
    differs(
        "as base port",
        cell.base_port.into(),
        args.base_port.map(Into::into),
    )?;
    differs(
        "as subnet index",
        cell.subnet_index.into(),
        args.subnet_index.map(Into::into),
    )?;
    Ok(cell.clone())
}

fn decide(args: &Sizes) -> Result<Cell> {
    let subnet_index = match args.subnet_index {
        Some(index) => index,
        None => free_subnet()?,
    };
    Ok(Cell {
        id: format!("{:08x}", rand::random::<u32>()),
        controllers: args.controllers.unwrap_or(CONTROLLERS),
        nodes: args.nodes.unwrap_or(NODES),
        base_port: args.base_port.unwrap_or(BASE_PORT),
        subnet_index,
    })
}

/// A network whose first address is not this machine's already.
fn free_subnet() -> Result<u8> {
    let taken = |index: &u8| UdpSocket::bind((format!("10.213.{index}.1"), 0)).is_ok();
    (1..=254)
        .find(|index| !taken(index))
        .ok_or_else(|| Error::failed("all networks 10.213.N.0/24 are in use"))
}

/// An emulated host, as the agent's testbed prints it.
#[derive(Debug, Deserialize)]
struct Host {
    node: String,
    namespace: String,
    address: String,
}

fn make_hosts(cell: &Cell) -> Result<Vec<Host>> {
    let mut command = Command::new(binary("cloud-agent")?);
    command.args([
        "testbed",
        "create",
        "--cell",
        &cell.id,
        "--subnet",
        &cell.subnet(),
    ]);
    let out = output(command.args(cell.node_names()), "making the hosts")?;
    serde_json::from_slice(&out).context("the testbed's answer")
}

/// Runs a helper to its end; its words go into the error.
fn output(command: &mut Command, what: &str) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().context(what)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let error = Error::failed(format!("{what} failed ({})", output.status));
    Err(text
        .lines()
        .rev()
        .take(5)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .fold(error, Error::detail))
}

/// CA, certificates and config files, the first time.
fn bootstrap(dir: &Path, cell: &Cell, sizes: &Sizes, hosts: &[Host]) -> Result<()> {
    if dir.join("pki").exists() {
        return Ok(());
    }
    let mut command = Command::new(binary("cloud-controller")?);
    command.arg("bootstrap");
    describe(&mut command, dir, cell, sizes);
    for host in hosts {
        command.args(["--node-address", &host.address]);
    }
    output(&mut command, "making the cluster's CA and files")?;
    Ok(())
}

/// The arguments that say what the cluster looks like.
fn describe(command: &mut Command, dir: &Path, cell: &Cell, sizes: &Sizes) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = |free: u64| free * SHARE_NUMERATOR / SHARE_DENOMINATOR / u64::from(cell.nodes);
    let memory = sizes
        .memory_mib_per_node
        .unwrap_or_else(|| share(preflight::memory_free_mib()));
    let vcpus = sizes
        .vcpus_per_node
        .unwrap_or(u32::try_from(cores).unwrap_or(1));
    command.arg("--dir").arg(dir);
    for (flag, value) in [
        ("--controllers", u64::from(cell.controllers)),
        ("--nodes", cell.nodes.into()),
        ("--base-port", cell.base_port.into()),
        ("--memory-mib-per-node", memory),
        ("--vcpus-per-node", vcpus.into()),
        ("--uid-base", cell.uid_base().into()),
        ("--disk-mib-per-node", share(preflight::disk_free_mib(dir))),
    ] {
        command.args([flag, &value.to_string()]);
    }
    command.args(["--underlay", &cell.underlay()]);
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| Error::usage(format!("`{}` is not UTF-8", path.display())))
}

fn start_controllers(dir: &Path, cell: &Cell, track: &Track<'_>) -> Result<()> {
    let program = binary("cloud-controller")?;
    for name in cell.controller_names(dir) {
        let home = dir.join(&name);
        if !Process::of(&home).is_running() {
            let config = home.join("controller.toml");
            Process::of(&home).start(&program, &["run", "--config", text(&config)?])?;
            track.done(&format!("{name} started"));
        }
    }
    Ok(())
}

/// An agent that was off for longer than its certificate lives cannot renew it.
/// On this machine lies the CA's key, so nobody has to join again by hand.
fn certify(dir: &Path, hosts: &[Host]) -> Result<()> {
    let is_off = |host: &&Host| !Process::of(&dir.join(&host.node)).is_running();
    let off: Vec<&str> = hosts
        .iter()
        .filter(is_off)
        .map(|h| h.node.as_str())
        .collect();
    if off.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(binary("cloud-controller")?);
    command.arg("certify").arg("--dir").arg(dir).args(off);
    output(&mut command, "looking at the nodes' certificates").map(|_| ())
}

fn start_agents(dir: &Path, hosts: &[Host], track: &Track<'_>) -> Result<()> {
    let program = binary("cloud-agent")?;
    certify(dir, hosts)?;
    for host in hosts {
        let home = dir.join(&host.node);
        if !Process::of(&home).is_running() {
            let config = home.join("agent.toml");
            let args = [
                "run",
                "--config",
                text(&config)?,
                "--netns",
                &host.namespace,
            ];
            Process::of(&home).start(&program, &args)?;
            track.done(&format!("{} started", host.node));
        }
    }
    Ok(())
}

/// Waits until there is a leader and every node is heard.
async fn ready(app: &App, dir: &Path, cell: &Cell, args: &Up, track: &Track<'_>) -> Result<()> {
    const POLL: Duration = Duration::from_millis(200);
    let begun = Instant::now();
    // This cloud's own file, whatever other cloud the environment names.
    let config = Some(dir.join("client.toml"));
    let client = Client::open(&Global {
        config,
        context: None,
        project: None,
        ..app.global.clone()
    })?;
    track.doing("waiting for a leader and the nodes");
    loop {
        all_alive(dir, cell)?;
        let seen = look(&client, cell).await;
        match seen {
            Ok(None) => break,
            Ok(Some(_)) | Err(_) if begun.elapsed() < args.ready_timeout => {
                tokio::time::sleep(POLL).await;
            }
            Ok(Some(lacks)) => {
                return Err(Error::new(
                    Exit::Unavailable,
                    format!("not ready in time: {lacks}"),
                ));
            }
            Err(error) => return Err(error),
        }
    }
    address::add_pool(&client, cell.address_pool()).await?;
    let leader = cluster::get(&client, false).await?.leader_id;
    track.done(&format!(
        "controller {leader} leads, {} nodes are ready",
        cell.nodes
    ));
    Ok(())
}

/// What is not ready yet.
async fn look(client: &Client, cell: &Cell) -> Result<Option<String>> {
    let cluster = cluster::get_from_all(client).await?;
    if cluster.leader_id == 0 {
        return Ok(Some("there is no leader".to_owned()));
    }
    let silent = cluster
        .members
        .iter()
        .filter(|member| !member.reachable)
        .count();
    if silent > 0 {
        return Ok(Some(format!(
            "{silent} of {} controllers do not answer",
            cluster.members.len()
        )));
    }
    let nodes = node::list_all(client).await?.nodes;
    let ready = nodes
        .iter()
        .filter(|node| node.state() == NodeState::Ready)
        .count();
    let wanted = usize::try_from(cell.nodes).unwrap_or(usize::MAX);
    Ok((ready < wanted).then(|| format!("{ready} of {wanted} nodes are ready")))
}

/// A process that ended will not become ready: say why at once.
fn all_alive(dir: &Path, cell: &Cell) -> Result<()> {
    for name in cell
        .controller_names(dir)
        .into_iter()
        .chain(cell.node_names())
    {
        let process = Process::of(&dir.join(&name));
        if !process.is_running() {
            let log = dir.join(&name).join("log");
            let error = Error::failed(format!("{name} ended"));
            let error = process.log_tail().into_iter().fold(error, Error::detail);
            return Err(error.hint(format!("the whole log is in `{}`", log.display())));
        }
    }
    Ok(())
}

fn next_steps(app: &App, dir: &Path, cell: &Cell) -> Result<()> {
    let endpoint = |number| format!("127.0.0.1:{}", cell.port(number));
    let endpoints: Vec<_> = (1..=cell.controllers).map(endpoint).collect();
    let answer = serde_json::json!({
        "cell": cell.id,
        "controllers": cell.controllers,
        "nodes": cell.nodes,
        "endpoints": endpoints,
    });
    let other = app.locations().is_ok_and(|meant| meant.context.is_some());
    let ctl = match app.global.dir {
        Some(_) => format!("cloudctl --dir {}", dir.display()),
        // Another cloud is in use: what is typed next must not go there.
        None if other => "cloudctl --context local".to_owned(),
        None => "cloudctl".to_owned(),
    };
    let people = |_| {
        let steps = [
            "status",
            "ssh-key generate me",
            "image import target/images/micro",
            "launch micro --name hello",
            "ssh hello",
        ];
        let lines: String = steps
            .iter()
            .map(|step| format!("  {ctl} {step}\n"))
            .collect();
        format!("The cloud is up. Next:\n{lines}")
    };
    app.output.value(&answer, people)
}
