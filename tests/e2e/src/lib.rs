//! Stories with real guests: each file in `tests/` is one thing a user must be
//! able to rely on. They need root and the micro image; `tests/run` brings both.
//! Here is what several of them share.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use nube_harness::{Cloud, run};

/// A guest's tool (`guest/probe.rs`), built for any guest of this architecture.
pub struct Probe {
    path: PathBuf,
}

impl Probe {
    /// Compiles it: statically, so that it needs nothing in the guest.
    pub fn build(cloud: &Cloud) -> anyhow::Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/probe.rs");
        let path = cloud.scratch().join("probe");
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition", "2024", "-C", "target-feature=+crt-static"]);
        rustc.args([
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
        ]);
        run(rustc.arg(source).arg("-o").arg(&path))?.ok()?;
        Ok(Self { path })
    }

    /// Where it is on this machine.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Copies it into a guest.
    pub fn put(&self, cloud: &Cloud, guest: &str) -> anyhow::Result<()> {
        let here = self.path.to_str().context("a UTF-8 path")?;
        cloud.ctl(&["scp", here, &format!("{guest}:probe")])?;
        Ok(())
    }

    /// Runs it in a guest to its end.
    pub fn ask(&self, cloud: &Cloud, guest: &str, args: &[&str]) -> anyhow::Result<String> {
        cloud.ssh(guest, &[&["./probe"], args].concat())
    }

    /// Starts it in a guest; its answer comes when it has ended.
    pub fn begin(&self, cloud: &Cloud, guest: &str, args: &[&str]) -> anyhow::Result<Begun> {
        let mut command = cloud.command(&[&["ssh", guest, "--", "./probe"], args].concat())?;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Begun(command.spawn()?))
    }

    /// Starts it in a guest so that it outlives the login; what it prints goes to
    /// `said` in the guest.
    pub fn leave(&self, cloud: &Cloud, guest: &str, args: &[&str]) -> anyhow::Result<()> {
        let line = format!("./probe {} </dev/null >said 2>&1 &", args.join(" "));
        cloud.ssh(guest, &[&line])?;
        Ok(())
    }
}

/// A probe under way.
pub struct Begun(Child);

impl Begun {
    /// Waits for its end; what it printed.
    pub fn answer(self) -> anyhow::Result<String> {
        let done = self.0.wait_with_output()?;
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }
}

/// Launches micro guests, one after the other, and waits until each can be
/// logged in to.
pub fn launch(cloud: &Cloud, name: &str, more: &[&str]) -> anyhow::Result<serde_json::Value> {
    cloud.ctl(&[&["launch", "micro", "--name", name], more].concat())?;
    cloud.json(&["show", name])
}
