//! One cloud of a test, from `up` to `down --purge`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::host::Process;
use crate::run::{Finished, eventually, run};

/// Room for a dozen micro guests, and too small for an n1.large.
const NODE_MEMORY_MIB: &str = "3072";

/// How large a cloud a test needs.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Controllers.
    pub controllers: u32,
    /// Nodes.
    pub nodes: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            controllers: 3,
            nodes: 2,
        }
    }
}

/// A running cloud; removed, with all its traces, when dropped.
pub struct Cloud {
    home: tempfile::TempDir,
    size: Size,
    base_port: u16,
}

/// A binary that was built with this program: tests lie in `deps/`, below the
/// binaries, other programs beside them.
pub(crate) fn bin(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let dir = own.parent().context("a program lies in a directory")?;
    let dir = match dir.ends_with("deps") {
        true => dir.parent().context("`deps` lies in a directory")?,
        false => dir,
    };
    let path = dir.join(name);
    anyhow::ensure!(
        path.exists(),
        "{} is missing: run `cargo build`",
        path.display()
    );
    Ok(path)
}

/// The micro image, as `cargo xtask image micro` built it.
pub fn micro_image() -> anyhow::Result<PathBuf> {
    image("micro")
}

/// An image, as `cargo xtask image NAME` built it. `NUBE_MICRO_IMAGE` says where
/// micro is, and others are beside it.
pub fn image(name: &str) -> anyhow::Result<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/images/micro");
    let micro = std::env::var_os("NUBE_MICRO_IMAGE").map_or(default, PathBuf::from);
    let dir = micro.with_file_name(name);
    dir.canonicalize()
        .with_context(|| format!("no such image: run `cargo xtask image {name}`"))
}

impl Cloud {
    /// `cloudctl up`, the micro image imported, and a key to log in with.
    pub fn up(size: Size) -> anyhow::Result<Self> {
        let cloud = Self::up_bare(size)?;
        cloud.ctl(&[
            "image",
            "import",
            micro_image()?.to_str().context("a UTF-8 path")?,
        ])?;
        cloud.ctl(&["ssh-key", "generate", "me"])?;
        Ok(cloud)
    }

    /// `cloudctl up` alone: no image, no key.
    pub fn up_bare(size: Size) -> anyhow::Result<Self> {
        let cloud = Self::empty(size)?;
        cloud.start()?;
        Ok(cloud)
    }

    /// A directory and ports for a cloud, with nothing in it yet: for `cluster
    /// restore`.
    pub fn empty(size: Size) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("nube-test-").tempdir()?;
        // Clouds of parallel runs must not meet: far from well-known ports.
        let base_port = 20_000 + rand::random::<u16>() % 1_000 * 10;
        Ok(Self {
            home,
            size,
            base_port,
        })
    }

    /// `cluster restore` of a file into this cloud's directory; start it then.
    pub fn restore(&self, file: &Path, secret: &Path, replace: bool) -> anyhow::Result<Finished> {
        let port = self.base_port.to_string();
        let controllers = self.size.controllers.to_string();
        let mut command = self.command(&["cluster", "restore"])?;
        command.arg(file).arg("--secret").arg(secret);
        command.args(["--base-port", &port, "--controllers", &controllers]);
        if replace {
            command.arg("--replace");
        }
        command.args(["-o", "json"]);
        run(&mut command)
    }

    /// `cloud-controller` with these arguments.
    pub fn controller(&self, args: &[&str]) -> anyhow::Result<Finished> {
        run(Command::new(bin("cloud-controller")?).args(args))
    }

    /// `cloudctl up` again: starts what does not run.
    pub fn start(&self) -> anyhow::Result<String> {
        let (controllers, nodes) = (
            self.size.controllers.to_string(),
            self.size.nodes.to_string(),
        );
        let port = self.base_port.to_string();
        self.ctl(&[
            "up",
            "--controllers",
            &controllers,
            "--nodes",
            &nodes,
            "--base-port",
            &port,
            "--memory-mib-per-node",
            NODE_MEMORY_MIB,
        ])
    }

    /// The cloud's directory.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.home.path().join("cell")
    }

    /// A place for a test's own files, gone with the cloud.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.home.path()
    }

    /// First of the controllers' ports.
    #[must_use]
    pub fn base_port(&self) -> u16 {
        self.base_port
    }

    /// A `cloudctl` call to be run by the test itself.
    pub fn command(&self, args: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(bin("cloudctl")?);
        command
            .arg("--dir")
            .arg(self.dir())
            .args(args)
            .env("HOME", self.home.path());
        Ok(command)
    }

    /// Runs `cloudctl`, whatever comes of it.
    pub fn try_ctl(&self, args: &[&str]) -> anyhow::Result<Finished> {
        run(&mut self.command(args)?)
    }

    /// Runs `cloudctl`, which must succeed.
    pub fn ctl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.try_ctl(args)?.ok()
    }

    /// The JSON answer of a call.
    pub fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        let text = self.ctl(&all)?;
        serde_json::from_str(&text).with_context(|| format!("{args:?} printed: {text}"))
    }

    /// Launches a micro instance and waits for its SSH server; its record.
    pub fn launch(&self, name: &str) -> anyhow::Result<Value> {
        self.ctl(&["launch", "micro", "--name", name])?;
        self.json(&["show", name])
    }

    /// A command's output inside a guest.
    pub fn ssh(&self, name: &str, command: &[&str]) -> anyhow::Result<String> {
        let mut args = vec!["ssh", name, "--"];
        args.extend(command);
        Ok(self.ctl(&args)?.trim().to_owned())
    }

    /// Waits until an instance is in a state, as `INSTANCE_STATE_RUNNING`.
    pub fn wait_state(&self, instance: &str, state: &str) -> anyhow::Result<Value> {
        eventually(
            &format!("{instance} becomes {state}"),
            Duration::from_secs(120),
            || {
                let now = self.json(&["show", instance])?;
                anyhow::ensure!(
                    now["state"] == state,
                    "it is {}: {}",
                    now["state"],
                    now["reason"]
                );
                Ok(now)
            },
        )
    }

    /// The process of `controller-N` or `node-N`.
    pub fn process(&self, member: &str) -> anyhow::Result<Process> {
        let path = self.dir().join(member).join("pid");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let pid = text
            .split_whitespace()
            .next()
            .context("an empty pid file")?;
        Process::find(pid.parse()?)
    }

    /// Names of all processes of the control plane and the hosts.
    #[must_use]
    pub fn members(&self) -> Vec<String> {
        let controllers = (1..=self.size.controllers).map(|n| format!("controller-{n}"));
        controllers
            .chain((1..=self.size.nodes).map(|n| format!("node-{n}")))
            .collect()
    }

    /// The number of the leading controller.
    pub fn leader(&self) -> anyhow::Result<u64> {
        eventually("a leader", Duration::from_secs(30), || {
            let cluster = self.json(&["cluster", "status"])?;
            let id = cluster["leader_id"].as_str().unwrap_or("0").parse()?;
            anyhow::ensure!(id != 0, "no leader");
            Ok(id)
        })
    }

    /// Hash of everything the cloud knows but index and time.
    pub fn state_hash(&self) -> anyhow::Result<String> {
        let cluster = self.json(&["cluster", "status"])?;
        Ok(cluster["state_hash"]
            .as_str()
            .context("no state hash")?
            .to_owned())
    }

    /// The bill must follow from the log, to the second.
    pub fn verify_bill(&self) -> anyhow::Result<()> {
        let verified = self.json(&["bill", "verify"])?;
        anyhow::ensure!(
            verified["exact"] == true,
            "the bill is not exact: {verified:#}"
        );
        Ok(())
    }

    /// Words that name this cloud's things on this machine: its directory, its
    /// cell's id, its nodes' ids.
    pub fn marks(&self) -> anyhow::Result<Vec<String>> {
        let quoted = |file: PathBuf, key: &str| -> anyhow::Result<String> {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            let line = text.lines().find(|line| line.starts_with(key));
            let value = line.and_then(|line| line.split('"').nth(1));
            Ok(value
                .with_context(|| format!("{key} in {}", file.display()))?
                .to_owned())
        };
        let mut marks = vec![self.dir().display().to_string()];
        marks.push(quoted(self.dir().join("nube.cell"), "id")?);
        for node in 1..=self.size.nodes {
            let id = quoted(
                self.dir().join(format!("node-{node}/agent.toml")),
                "node_id",
            )?;
            marks.push(id.trim_start_matches("n-").to_owned());
        }
        Ok(marks)
    }

    /// `down --purge --yes`; what it could not remove is an error.
    pub fn purge(&self) -> anyhow::Result<String> {
        self.ctl(&["down", "--purge", "--yes"])
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        if self.dir().exists()
            && let Err(error) = self.purge()
        {
            eprintln!("the test's cloud was not removed: {error:#}");
        }
    }
}

impl Cloud {
    /// The ends of all logs: a failed test is understood from its output alone.
    fn print_logs(&self) {
        const LINES: usize = 25;
        for member in self.members() {
            let text = fs::read(self.dir().join(&member).join("log")).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- {member}");
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                eprintln!("{line}");
            }
        }
    }
}
