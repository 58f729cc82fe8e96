//! A lab: a cloud over several hosts that are cut off from each other at will.
//! Each controller and each agent lives in a network namespace of its own, made
//! and joined as three hosts would be (`deploy/three-hosts.md`): bootstrap, then
//! tokens. Real programs, real TLS, real disks; only the wire is the test's.

mod cuts;
mod daemon;
mod network;
mod slow;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::cloud::bin;
use crate::host::Leftovers;
use crate::run::{Finished, eventually, run};

pub use cuts::Cuts;
pub use daemon::{Daemon, FAILPOINT};
use network::Network;
use slow::Slow;

/// As documented for hosts.
const PORT: u16 = 7101;
const FIRST_CONTROLLER: u8 = 11;
const FIRST_HOST: u8 = 31;
/// A join waits for elections, snapshots and syncs on a busy disk.
const PATIENCE: Duration = Duration::from_secs(60);
const CONTEXT: &str = "lab";
/// Uids of one host's guests, as `bootstrap` deals them out.
const UIDS_PER_HOST: u32 = 4_096;
/// Above those that `cloudctl up` gives to its clouds.
const UIDS_FROM: u32 = 500_000_000;

/// Zone of hosts that run real guests.
pub const ZONE_REAL: &str = "real";
/// Zone of hosts whose guests exist in memory only.
pub const ZONE_SIMULATED: &str = "simulated";

/// What a lab consists of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Controllers.
    pub controllers: u8,
    /// Hosts with real guests.
    pub hosts: u8,
    /// Hosts with simulated guests.
    pub simulated: u8,
    /// Lines for every `controller.toml`.
    pub controller_settings: &'static str,
}

/// A running cell on its own wire; removed, with all its traces, when dropped.
pub struct Lab {
    run: String,
    plan: Plan,
    home: tempfile::TempDir,
    daemons: BTreeMap<String, Daemon>,
    slow: Vec<Slow>,
    network: Network,
}

/// Builds a lab and works with it, on a thread that lives in the lab's hub: what
/// the work starts reaches the members, and nothing else does.
pub fn within(
    plan: Plan,
    work: impl FnOnce(&mut Lab) -> anyhow::Result<()> + Send,
) -> anyhow::Result<()> {
    let run = format!("{:06x}", rand::random::<u32>() & 0xff_ffff);
    let done = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut lab = Lab::new(&run, plan)?;
            let done = lab.build().and_then(|()| work(&mut lab));
            if done.is_err() {
                lab.print_logs();
            }
            done
        });
        match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    done?;
    Leftovers::of(
        &format!("lab-{run}"),
        &[Path::new("/run/nube"), &std::env::temp_dir()],
    )
    .none()
}

impl Lab {
    fn new(run: &str, plan: Plan) -> anyhow::Result<Self> {
        let prefix = format!("nube-lab-{run}-");
        let home = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        // Guests' users pass through to their files.
        fs::set_permissions(
            home.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o711),
        )?;
        let controllers = (1..=plan.controllers).zip(FIRST_CONTROLLER..);
        let controllers = controllers.map(|(n, host)| (format!("controller-{n}"), host));
        let hosts = (1..=plan.hosts + plan.simulated).zip(FIRST_HOST..);
        let hosts = hosts.map(|(n, host)| (format!("host-{n}"), host));
        let network = Network::create(run, controllers.chain(hosts).collect())?;
        network.enter_hub()?;
        Ok(Self {
            run: run.to_owned(),
            plan,
            home,
            daemons: BTreeMap::new(),
            slow: Vec::new(),
            network,
        })
    }

    /// The first controller, the others by token, then the hosts.
    fn build(&mut self) -> anyhow::Result<()> {
        self.bootstrap()?;
        for number in 2..=self.plan.controllers {
            let name = format!("controller-{number}");
            self.join_controller(&name)?;
            self.start(&name)?;
            self.voters(usize::from(number))?;
        }
        self.remember(self.plan.controllers)?;
        for number in 1..=self.plan.hosts + self.plan.simulated {
            self.join_host(number)?;
            self.start(&format!("host-{number}"))?;
        }
        let wanted = u64::from(self.plan.hosts + self.plan.simulated);
        eventually("all hosts are ready", PATIENCE, || {
            let cluster = self.json(&["cluster", "status"])?;
            anyhow::ensure!(cluster["nodes_ready"] == wanted, "{cluster:#}");
            Ok(())
        })
    }

    fn bootstrap(&mut self) -> anyhow::Result<()> {
        let name = "controller-1";
        let address = self.network.address(name)?;
        let port = PORT.to_string();
        let mut command = Command::new(bin("cloud-controller")?);
        command.arg("bootstrap").arg("--dir").arg(self.cell());
        command.args(["--controllers", "1", "--nodes", "0"]);
        command.args(["--address", &address, "--underlay", &address]);
        command.args(["--base-port", &port]);
        command.args(["--memory-mib-per-node", "1024", "--vcpus-per-node", "1"]);
        run(&mut command)?.ok()?;
        fs::rename(self.cell().join(name), self.dir(name))?;
        self.settle_controller(name)?;
        self.remember(1)?;
        self.start(name)?;
        self.voters(1)
    }

    /// A context that knows the first controllers.
    fn remember(&self, controllers: u8) -> anyhow::Result<()> {
        let pki = self.cell().join("pki");
        let mut command = Command::new(bin("cloudctl")?);
        command.args(["context", "add", CONTEXT, "--use", "--replace"]);
        for number in 1..=controllers {
            command.args([
                "--endpoint",
                &self.endpoint(&format!("controller-{number}"))?,
            ]);
        }
        command.arg("--ca").arg(pki.join("ca.pem"));
        command.arg("--cert").arg(pki.join("operator.pem"));
        command.arg("--key").arg(pki.join("operator.key"));
        run(command
            .env("HOME", self.home.path())
            .env_remove("XDG_CONFIG_HOME"))?
        .ok()?;
        Ok(())
    }

    fn join(&self, name: &str, group: &str) -> anyhow::Result<Command> {
        let made = self.json(&[group, "add", name])?;
        let token = made["token"].as_str().context("a token")?;
        let mut command = Command::new(bin("cloudctl")?);
        command.arg("join").arg("--dir").arg(self.dir(name));
        command.args([
            "--token",
            token,
            "--controller",
            &self.endpoint("controller-1")?,
        ]);
        Ok(command)
    }

    fn join_controller(&self, name: &str) -> anyhow::Result<()> {
        let address = self.endpoint(name)?;
        let mut command = self.join(name, "cluster")?;
        command.args(["--address", &address]);
        command
            .arg("--image-dir")
            .arg(self.home.path().join("images"));
        run(&mut command)?.ok()?;
        self.settle_controller(name)
    }

    /// The plan's settings instead of those that the file has.
    fn settle_controller(&self, name: &str) -> anyhow::Result<()> {
        let settings = self.plan.controller_settings;
        let key = |line: &str| line.split(" = ").next().map(str::to_owned);
        let ours: Vec<_> = settings.lines().filter_map(key).collect();
        let path = self.dir(name).join("controller.toml");
        let text = fs::read_to_string(&path)?;
        let theirs = |line: &&str| key(line).is_none_or(|key| !ours.contains(&key));
        // Keys come before the first table.
        let lines: Vec<&str> = settings
            .lines()
            .chain(text.lines().filter(theirs))
            .collect();
        Ok(fs::write(path, lines.join("\n"))?)
    }

    fn join_host(&self, number: u8) -> anyhow::Result<()> {
        let name = format!("host-{number}");
        let real = number <= self.plan.hosts;
        let zone = if real { ZONE_REAL } else { ZONE_SIMULATED };
        run(self.join(&name, "node")?.args(["--zone", zone]))?.ok()?;
        let path = self.dir(&name).join("agent.toml");
        let mut file = fs::OpenOptions::new().append(true).open(path)?;
        let driver = if real { "qemu" } else { "simulated" };
        let uid_base = UIDS_FROM + UIDS_PER_HOST * u32::from(number);
        // Several hosts share this machine: each offers a part of it.
        write!(
            file,
            "\ndriver = \"{driver}\"\nuid_base = {uid_base}\nvcpus = 4\nmemory_mib = 4096\n\
             disk_mib = 20480\nimage_cache_mib = 512\n"
        )?;
        Ok(())
    }

    fn voters(&self, wanted: usize) -> anyhow::Result<()> {
        eventually(&format!("{wanted} controllers vote"), PATIENCE, || {
            let cluster = self.json(&["cluster", "members"])?;
            let members = cluster["members"].as_array().context("members")?;
            let votes = |member: &&Value| {
                let role = member["role"].as_str().unwrap_or_default();
                role == "MEMBER_ROLE_FOLLOWER" || role == "MEMBER_ROLE_LEADER"
            };
            let voters = members.iter().filter(votes).count();
            anyhow::ensure!(voters == wanted, "{cluster:#}");
            Ok(())
        })
    }
}

impl Lab {
    /// The operator's directory: CA and certificate.
    #[must_use]
    pub fn cell(&self) -> PathBuf {
        self.home.path().join("cell")
    }

    /// A member's own directory.
    #[must_use]
    pub fn dir(&self, member: &str) -> PathBuf {
        self.home.path().join(member)
    }

    /// A place for the test's own files.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.home.path()
    }

    /// `host:port` of a controller.
    pub fn endpoint(&self, controller: &str) -> anyhow::Result<String> {
        Ok(format!("{}:{PORT}", self.network.address(controller)?))
    }

    /// `controller-1`, `controller-2`, …: member N is `controller-N`.
    #[must_use]
    pub fn controllers(&self) -> Vec<String> {
        let numbers = 1..=self.plan.controllers;
        numbers.map(|n| format!("controller-{n}")).collect()
    }

    /// `host-1`, `host-2`, …: real ones first.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        let numbers = 1..=self.plan.hosts + self.plan.simulated;
        numbers.map(|n| format!("host-{n}")).collect()
    }

    /// Hosts with real guests.
    #[must_use]
    pub fn real_hosts(&self) -> Vec<String> {
        (1..=self.plan.hosts).map(|n| format!("host-{n}")).collect()
    }

    /// Runs `cloudctl` in the lab's context.
    pub fn try_ctl(&self, args: &[&str]) -> anyhow::Result<Finished> {
        let mut command = Command::new(bin("cloudctl")?);
        command.args(args).env("HOME", self.home.path());
        for name in ["XDG_CONFIG_HOME", "NUBE_DIR", "NUBE_CONFIG", "NUBE_CONTEXT"] {
            command.env_remove(name);
        }
        run(&mut command)
    }

    /// Runs `cloudctl`, which must succeed.
    pub fn ctl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.try_ctl(args)?.ok()
    }

    /// The JSON answer of a call.
    pub fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let text = self.ctl(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("{args:?} printed: {text}"))
    }

    /// Starts a member unless it runs.
    pub fn start(&mut self, member: &str) -> anyhow::Result<()> {
        self.start_to_crash(member, None)
    }

    /// Starts a member that will crash at a point of its program.
    pub fn start_to_crash(&mut self, member: &str, point: Option<&str>) -> anyhow::Result<()> {
        if !self.daemons.contains_key(member) {
            let made = self.describe(member)?;
            self.daemons.insert(member.to_owned(), made);
        }
        let daemon = self.daemons.get_mut(member).context("just made")?;
        daemon.start(&self.network, point)
    }

    fn describe(&self, member: &str) -> anyhow::Result<Daemon> {
        let dir = self.dir(member);
        let (program, file) = match member.starts_with("host-") {
            true => ("cloud-agent", "agent.toml"),
            false => ("cloud-controller", "controller.toml"),
        };
        let config = dir.join(file).display().to_string();
        let mut args = vec!["run".to_owned(), "--config".to_owned(), config];
        if member.starts_with("host-") {
            args.extend(["--netns".to_owned(), self.network.namespace(member)]);
        }
        Ok(Daemon::new(member, bin(program)?, args, &dir))
    }

    /// A member's process.
    pub fn daemon(&mut self, member: &str) -> anyhow::Result<&mut Daemon> {
        let daemon = self.daemons.get_mut(member);
        daemon.with_context(|| format!("{member} was never started"))
    }

    /// Makes the wire so; what was wrong before is no more.
    pub fn cut(&self, cuts: &Cuts) -> anyhow::Result<()> {
        cuts.apply(&self.network)
    }

    /// What this member sends takes longer until [`Lab::heal`].
    pub fn slow_down(&mut self, member: &str, delay: Duration) -> anyhow::Result<()> {
        self.slow.push(Slow::start(&self.network, member, delay)?);
        Ok(())
    }

    /// The wire is whole, every process runs, and none is paused.
    pub fn heal(&mut self) -> anyhow::Result<()> {
        self.slow.clear();
        self.cut(&Cuts::default())?;
        for member in self.controllers().into_iter().chain(self.hosts()) {
            let daemon = self.daemon(&member)?;
            if daemon.is_running()? {
                daemon.resume()?;
            } else {
                self.start(&member)?;
            }
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        for daemon in self.daemons.values_mut() {
            if let Err(error) = daemon.kill() {
                eprintln!("a process of the lab lives on: {error:#}");
            }
        }
        for host in self.real_hosts() {
            if let Err(error) = self.clean(&host) {
                eprintln!("guests of {host} were not removed: {error:#}");
            }
        }
    }
}

impl Lab {
    /// The agents' own command knows what belongs to a host.
    fn clean(&self, host: &str) -> anyhow::Result<()> {
        let config = self.dir(host).join("agent.toml");
        if !config.exists() {
            return Ok(());
        }
        let mut command = Command::new(bin("cloud-agent")?);
        command.arg("clean").arg("--config").arg(config);
        command.args(["--netns", &self.network.namespace(host)]);
        run(&mut command)?.ok().map(|_| ())
    }

    /// The ends of all logs: a failed test is understood from its output alone.
    pub fn print_logs(&self) {
        const LINES: usize = 30;
        for (member, daemon) in &self.daemons {
            let text = fs::read(daemon.log()).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- {member} of lab {}", self.run);
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                eprintln!("{line}");
            }
        }
    }
}
