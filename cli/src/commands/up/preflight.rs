//! Looks at the machine before anything is started: what is missing, with the
//! package that brings it, and what will work less well.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::layout::{Cell, binary};
use crate::error::{Error, Result};

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Without these nothing starts.
    pub missing: Vec<String>,
    /// With these it runs, but not as well as it could.
    pub degraded: Vec<String>,
}

/// A program and Debian's package that has it.
const PROGRAMS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("nft", "nftables"),
    ("ssh", "openssh-client"),
];
const MEMORY_MIB_MIN: u64 = 1024;
const DISK_MIB_MIN: u64 = 2048;

impl Report {
    /// An error that lists everything at once: nobody likes to fix one thing
    /// only to hear of the next.
    pub fn into_result(self) -> Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let error = Error::failed("this machine cannot run a cloud yet");
        let error = self
            .missing
            .iter()
            .fold(error, |error, line| error.detail(line));
        Err(error.hint("put these right and run `cloudctl up` again"))
    }
}

/// Looks at everything; changes nothing.
pub fn check(dir: &Path, cell: &Cell, starts_fresh: bool) -> Report {
    let mut report = Report::default();
    if !rustix::process::geteuid().is_root() {
        report
            .missing
            .push("root: networks and guests of other users need it".to_owned());
    }
    for (program, package) in programs_missing() {
        report
            .missing
            .push(format!("{program}: apt-get install {package}"));
    }
    for name in ["cloud-controller", "cloud-agent"] {
        if let Err(error) = binary(name) {
            report.missing.push(
                error
                    .render()
                    .trim_start_matches("error: ")
                    .trim_end()
                    .to_owned(),
            );
        }
    }
    for (path, what) in [
        ("/dev/net/tun", "taps of guests: modprobe tun"),
        ("/proc/self/ns/net", "network namespaces"),
        (
            "/sys/fs/cgroup",
            "limits of guests: mount the cgroup file system",
        ),
    ] {
        if !Path::new(path).exists() {
            report.missing.push(format!("{path}: {what}"));
        }
    }
    room(dir, &mut report);
    if starts_fresh {
        ports(cell, &mut report);
    }
    accelerator(&mut report);
    report
}

/// Programs that are not here, each with the package that brings it.
#[must_use]
pub fn programs_missing() -> Vec<(String, String)> {
    let absent = |(program, _): &(&str, &str)| find(program).is_none();
    let missing = PROGRAMS.into_iter().filter(absent);
    missing
        .map(|(program, package)| (program.to_owned(), package.to_owned()))
        .collect()
}

/// A program on the path, or where the system's own are.
#[must_use]
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// `MemAvailable` of /proc/meminfo.
#[must_use]
pub fn memory_free_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

/// Free space of the file system that will hold the directory.
#[must_use]
pub fn disk_free_mib(dir: &Path) -> u64 {
    let existing = dir
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let free = rustix::fs::statvfs(existing).map(|stat| stat.f_bavail * stat.f_frsize);
    free.unwrap_or_default() / (1024 * 1024)
}

fn room(dir: &Path, report: &mut Report) {
    let (memory, disk) = (memory_free_mib(), disk_free_mib(dir));
    if memory < MEMORY_MIB_MIN {
        report.missing.push(format!(
            "memory: {memory} MiB free, {MEMORY_MIB_MIN} MiB needed"
        ));
    }
    if disk < DISK_MIB_MIN {
        let text = format!(
            "disk: {disk} MiB free under {}, {DISK_MIB_MIN} needed",
            dir.display()
        );
        report.missing.push(text);
    }
}

fn ports(cell: &Cell, report: &mut Report) {
    for number in 1..=cell.controllers {
        let port = cell.port(number);
        if TcpListener::bind(("127.0.0.1", port)).is_err() {
            report.missing.push(format!(
                "port {port} is in use; choose another with --base-port"
            ));
        }
    }
}

/// The agent's own probe: KVM that opens is not yet KVM that works, and KVM that
/// does not work may hang who tries.
fn accelerator(report: &mut Report) {
    let Ok(agent) = binary("cloud-agent") else {
        return;
    };
    if probe(&agent).unwrap_or(false) {
        return;
    }
    report.degraded.push(
        "no working KVM: guests run emulated (tcg), slower, and isolated from each other only as \
         far as QEMU goes"
            .to_owned(),
    );
}

/// Whether a small guest runs on KVM, tried by the agent in a process of its own.
pub fn probe(agent: &Path) -> std::io::Result<bool> {
    const DEADLINE: Duration = Duration::from_secs(2);
    let mut child = Command::new(agent)
        .arg("kvm-probe")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let begun = Instant::now();
    while begun.elapsed() < DEADLINE {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn everything_missing_is_told_at_once() {
        let report = Report {
            missing: vec!["a: x".to_owned(), "b: y".to_owned()],
            ..Report::default()
        };
        let text = report.into_result().expect_err("missing").render();
        assert!(text.contains("a: x") && text.contains("b: y"), "{text}");
        assert!(Report::default().into_result().is_ok());
    }

    #[test]
    fn the_machine_has_memory_and_disk() {
        assert!(memory_free_mib() > 0);
        assert!(disk_free_mib(Path::new("/nonexistent/deep/dir")) > 0);
    }
}
