//! Machine processes, which are not children of the agent: found in /proc,
//! named by (boot id, pid, start time), watched and killed through a pidfd so
//! that a reused pid is never mistaken for a guest.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use crate::driver::Run;

/// Changes with each boot of the host; pids mean nothing across it.
pub fn boot_id() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// The life that has this pid now. `None` when it is gone or only a zombie.
#[must_use]
pub fn run_of(pid: u32, host_boot_id: &str) -> Option<Run> {
    let start_ticks = start_ticks(pid)?;
    Some(Run {
        host_boot_id: host_boot_id.to_owned(),
        pid,
        start_ticks,
    })
}

/// Whether this very life still goes on.
#[must_use]
pub fn is_alive(run: &Run, host_boot_id: &str) -> bool {
    run.host_boot_id == host_boot_id && start_ticks(run.pid) == Some(run.start_ticks)
}

/// When a life began, by the host's clock. The kernel counts a hundred ticks a
/// second for user space on every architecture that runs guests.
#[must_use]
pub fn started_ms(run: &Run) -> u64 {
    run.start_ticks.saturating_mul(10)
}

fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_start_ticks(&stat)
}

/// The second field is the command in brackets and may itself hold brackets and
/// blanks, so fields are counted from the last bracket.
fn parse_start_ticks(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ');
    // Z and X: ended, only not collected by its parent yet.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Living processes whose real uid lies in the range, by uid.
pub fn by_uid(uids: &Range<u32>) -> io::Result<BTreeMap<u32, Vec<u32>>> {
    let mut found: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process may end between listing and reading: then it is not there.
        let Some(uid) = real_uid(&entry.path()) else {
            continue;
        };
        if uids.contains(&uid) && start_ticks(pid).is_some() {
            found.entry(uid).or_default().push(pid);
        }
    }
    Ok(found)
}

fn real_uid(process: &Path) -> Option<u32> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// One life, held by a file descriptor that cannot come to mean another.
#[derive(Debug)]
pub struct Watched {
    pidfd: AsyncFd<OwnedFd>,
}

impl Watched {
    /// Holds on to a living run; `None` when it is gone. Call inside a runtime.
    pub fn open(run: &Run, host_boot_id: &str) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(run.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Checked after opening: if the start time is right now, the descriptor
        // was opened on the same life.
        if !is_alive(run, host_boot_id) {
            return Ok(None);
        }
        // SAFETY: an `OwnedFd` names the same open descriptor until it is
        // dropped, and nobody else can close it.
        let pidfd = unsafe { AsyncFd::register(pidfd) }?;
        Ok(Some(Self { pidfd }))
    }

    /// Returns when the process has ended.
    pub async fn gone(&self) -> io::Result<()> {
        self.pidfd.readable().await.map(|_| ())
    }

    /// Ends it now. Already gone is fine.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.get_ref().as_fd()
    }
}

/// Kills processes by pid and waits until they are gone.
pub async fn kill_all(pids: &[u32], host_boot_id: &str) -> io::Result<()> {
    for pid in pids {
        let Some(run) = run_of(*pid, host_boot_id) else {
            continue;
        };
        if let Some(watched) = Watched::open(&run, host_boot_id)? {
            watched.kill()?;
            watched.gone().await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn start_time_is_read_past_a_hostile_command_name() {
        let stat = "42 (a) Z (b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 11 12";
        assert_eq!(parse_start_ticks(stat), Some(9876));
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let stat = "42 (qemu) Z 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 11 12";
        assert_eq!(parse_start_ticks(stat), None);
    }

    #[tokio::test]
    async fn a_killed_process_is_seen_as_gone() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep starts");
        let boot_id = boot_id().expect("boot id");
        let run = run_of(child.id(), &boot_id).expect("it lives");
        let watched = Watched::open(&run, &boot_id)
            .expect("pidfd")
            .expect("it lives");
        watched.kill().expect("kill");
        watched.gone().await.expect("gone");
        assert!(!is_alive(&run, &boot_id));
        child.wait().expect("reaped");
    }
}
