//! One controller or agent of a lab, as a child of the test.

use std::fs::OpenOptions;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::network::Network;

/// Which switch crashes a process at a point of its program; see the crate
/// `nube-failpoint`.
pub const FAILPOINT: &str = "NUBE_FAILPOINT";

/// A process and where it runs; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    member: String,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    pub(super) fn new(member: &str, program: PathBuf, args: Vec<String>, dir: &Path) -> Self {
        Self {
            member: member.to_owned(),
            program,
            args,
            log: dir.join("log"),
            child: None,
        }
    }

    /// Where its lines go.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Starts it unless it runs; with a failpoint it will crash there.
    pub(super) fn start(
        &mut self,
        network: &Network,
        failpoint: Option<&str>,
    ) -> anyhow::Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).env_remove(FAILPOINT);
        if let Some(point) = failpoint {
            command.env(FAILPOINT, point);
        }
        command.stdout(log.try_clone()?).stderr(log);
        // A Ctrl-C in the terminal ends the test, which then ends these.
        command.process_group(0);
        self.child = Some(network.spawn(&self.member, &mut command)?);
        Ok(())
    }

    /// It was started and has not ended.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// The signal that ended it.
    pub fn ended_by(&mut self) -> anyhow::Result<Option<i32>> {
        let ended = match &mut self.child {
            Some(child) => child.try_wait()?,
            None => None,
        };
        Ok(ended.and_then(|status| status.signal()))
    }

    /// SIGKILL, and waits for its end; fine if it has ended.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            // Ended already: nothing to kill, the wait tells.
            let _ = child.kill();
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for its end.
    pub fn terminate(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// SIGSTOP: it lives, and does nothing.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        anyhow::ensure!(self.is_running()?, "{} does not run", self.member);
        let child = self.child.as_ref().context("a child")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("pid 0")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{} was not killed: {error:#}", self.member);
        }
    }
}
