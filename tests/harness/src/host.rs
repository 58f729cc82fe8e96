//! Looking at this machine: processes, and what a cloud could leave behind.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// One process, by pid and start time: a reused pid is another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Field 22 of /proc/PID/stat.
    pub start_ticks: u64,
}

impl Process {
    /// The process that has this pid now.
    pub fn find(pid: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The command name may hold spaces: count from its closing bracket.
        let rest = stat.rsplit_once(')').context("no command name")?.1;
        let start = rest.split_whitespace().nth(19).context("no start time")?;
        Ok(Self {
            pid,
            start_ticks: start.parse()?,
        })
    }

    /// It still runs. A zombie does not, once its last thread is gone: the first
    /// thread of a killed process is one while others still hold its sockets.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let dead = fs::read_to_string(format!("/proc/{}/stat", self.pid)).is_ok_and(|stat| {
            stat.rsplit_once(')')
                .is_some_and(|(_, r)| r.starts_with(" Z"))
        });
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid));
        let zombie = dead && threads.map_or(0, Iterator::count) <= 1;
        !zombie && Self::find(self.pid).is_ok_and(|now| now == *self)
    }

    /// Sends SIGKILL to this very process.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.signal(rustix::process::Signal::KILL)?;
        // Its ports are free only when it is gone.
        for _ in 0..1_000 {
            if !self.is_alive() {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        anyhow::bail!("process {} did not die", self.pid)
    }

    /// Sends SIGSTOP: it lives, and does nothing.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(rustix::process::Signal::STOP)
    }

    /// Sends SIGCONT.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(rustix::process::Signal::CONT)
    }

    /// Asks this very process to end.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal(rustix::process::Signal::TERM)
    }

    fn signal(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        anyhow::ensure!(self.is_alive(), "process {} is gone already", self.pid);
        let raw = i32::try_from(self.pid)?;
        let pid = rustix::process::Pid::from_raw(raw).context("pid 0")?;
        Ok(rustix::process::kill_process(pid, signal)?)
    }
}

fn processes() -> impl Iterator<Item = (u32, String)> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
        })
}

/// The machine process of an instance.
pub fn guest_of(instance_id: &str) -> anyhow::Result<Process> {
    let hex = instance_id.trim_start_matches("i-");
    let mut found = processes()
        .filter(|(_, line)| line.contains("qemu-system") && line.contains(hex))
        .map(|(pid, _)| pid);
    let pid = found
        .next()
        .with_context(|| format!("no machine process of {instance_id}"))?;
    anyhow::ensure!(
        found.next().is_none(),
        "{instance_id} has two machine processes"
    );
    Process::find(pid)
}

/// Every machine process of this host: the instance's id, and the process.
#[must_use]
pub fn machines() -> Vec<(String, Process)> {
    let named = processes().filter_map(|(pid, line)| {
        let (_, rest) = line.split_once(" guest=")?;
        let (instance, _) = rest.split_once(',')?;
        // One that ended meanwhile is no machine.
        Some((instance.to_owned(), Process::find(pid).ok()?))
    });
    named.filter(|(_, process)| process.is_alive()).collect()
}

/// Everything on this machine whose name holds a text: processes, files under
/// the given directories, network namespaces, cgroups.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers(pub Vec<String>);

impl Leftovers {
    /// Looks for a text (an instance's hexadecimal digits, a cloud's directory).
    #[must_use]
    pub fn of(text: &str, dirs: &[&Path]) -> Self {
        let mut found = Vec::new();
        let own = std::process::id();
        for (pid, line) in processes() {
            if pid != own && line.contains(text) {
                found.push(format!("process {pid}: {line}"));
            }
        }
        // Devices of this namespace; those of others go with their namespaces.
        let places = ["/run/netns", "/sys/fs/cgroup", "/sys/class/net"].map(PathBuf::from);
        for place in places
            .iter()
            .map(PathBuf::as_path)
            .chain(dirs.iter().copied())
        {
            walk(place, text, 8, &mut found);
        }
        Self(found)
    }

    /// An error that lists what was found.
    pub fn none(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.0.is_empty(), "left behind:\n{}", self.0.join("\n"));
        Ok(())
    }
}

fn walk(dir: &Path, text: &str, depth: u32, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains(text) {
            found.push(path.display().to_string());
        }
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir && depth > 0 {
            walk(&path, text, depth - 1, found);
        }
    }
}
