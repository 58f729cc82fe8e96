//! The cloud's processes: started so that they outlive this program, found
//! again by pid and start time, ended politely and then for certain.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Context, Error, Result};

/// After this a process that ignores SIGTERM gets SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A process of the cloud, known by the directory that holds its `pid` file.
#[derive(Debug, Clone)]
pub struct Process {
    dir: PathBuf,
}

/// What a pid file says: with the start time a reused pid is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    pid: i32,
    start_ticks: u64,
}

/// Field 22 of /proc/PID/stat; `None` for a dead process or a zombie.
fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and brackets: count from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn parse(text: &str) -> Option<Identity> {
    let (pid, start_ticks) = text.trim().split_once(' ')?;
    let identity = Identity {
        pid: pid.parse().ok()?,
        start_ticks: start_ticks.parse().ok()?,
    };
    (identity.pid > 1).then_some(identity)
}

impl Process {
    /// The process of a directory, running or not.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    fn identity(&self) -> Option<Identity> {
        let identity = parse(&fs::read_to_string(self.dir.join("pid")).ok()?)?;
        (start_ticks(identity.pid) == Some(identity.start_ticks)).then_some(identity)
    }

    /// The very process that was started runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.identity().is_some()
    }

    /// Starts a program with its output appended to `log`. Its own process
    /// group: a Ctrl-C in the terminal that ran `up` does not reach it.
    pub fn start(&self, program: &Path, args: &[&str]) -> Result<()> {
        let log = self.dir.join("log");
        let open = OpenOptions::new().create(true).append(true).open(&log);
        let out = open.context(format!("`{}`", log.display()))?;
        let err = out.try_clone().context(format!("`{}`", log.display()))?;
        let child = Command::new(program)
            .args(args)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .context(format!("starting `{}`", program.display()))?;
        let pid = i32::try_from(child.id()).context("a process id")?;
        let ended = || Error::failed(format!("`{}` ended at once", program.display()));
        let start_ticks = start_ticks(pid).ok_or_else(ended)?;
        fs::write(self.dir.join("pid"), format!("{pid} {start_ticks}\n"))
            .context(format!("`{}`", self.dir.join("pid").display()))
    }

    fn signal(&self, signal: Signal) {
        let pid = self
            .identity()
            .and_then(|identity| Pid::from_raw(identity.pid));
        if let Some(pid) = pid {
            // It may end between the look and the signal: then all is well.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks the process to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until it has ended, and makes it.
    pub async fn ended(&self) -> Result<()> {
        for limit in [GRACE, GRACE] {
            let begun = Instant::now();
            while self.is_running() {
                if begun.elapsed() > limit {
                    self.signal(Signal::KILL);
                    break;
                }
                tokio::time::sleep(POLL).await;
            }
        }
        if self.is_running() {
            let dir = self.dir.display();
            return Err(Error::failed(format!(
                "the process of `{dir}` does not end"
            )));
        }
        Ok(())
    }

    /// The last lines of its log, for an error.
    #[must_use]
    pub fn log_tail(&self) -> Vec<String> {
        const LINES: usize = 5;
        let bytes = fs::read(self.dir.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..]
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[tokio::test]
    async fn a_started_process_is_known_and_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let process = Process::of(dir.path());
        assert!(!process.is_running());
        process
            .start(Path::new("/bin/sleep"), &["60"])
            .expect("started");
        assert!(process.is_running());
        process.terminate();
        process.ended().await.expect("it ends");
        assert!(!process.is_running());
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let own = std::process::id();
        for text in [
            format!("{own} 1"),
            "0 1".to_owned(),
            "1 1".to_owned(),
            "x".to_owned(),
        ] {
            fs::write(dir.path().join("pid"), text).expect("written");
            assert!(!Process::of(dir.path()).is_running());
        }
    }
}
