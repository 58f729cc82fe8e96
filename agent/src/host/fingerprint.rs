//! What this host is: capacity and versions, as told to the control plane.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::process;

/// Longer than any start of QEMU just to print its version.
const VERSION_DEADLINE: Duration = Duration::from_secs(5);

/// Facts of a host, read once at the agent's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Processors that the agent may use.
    pub vcpus: u32,
    /// All memory.
    pub memory_mib: u64,
    /// Size of the file system that holds the data directory.
    pub disk_mib: u64,
    /// As `6.18.44`.
    pub kernel_version: String,
    /// As `QEMU 7.2.22`; empty when it is not installed.
    pub hypervisor_version: String,
    /// Changes with each boot.
    pub boot_id: String,
    /// Of the time stamp counter; guests on machine types without a timer to
    /// calibrate by need it on their command line.
    pub tsc_khz: Option<u64>,
}

impl Fingerprint {
    /// Looks at this host.
    pub async fn take(data_dir: &Path, qemu: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(data_dir)?;
        let uname = rustix::system::uname();
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo")?;
        Ok(Self {
            vcpus: std::thread::available_parallelism()?
                .get()
                .try_into()
                .unwrap_or(u32::MAX),
            memory_mib: memory_mib(&meminfo).unwrap_or(0),
            disk_mib: disk.f_blocks.saturating_mul(disk.f_frsize) >> 20,
            kernel_version: uname.release().to_string_lossy().into_owned(),
            hypervisor_version: hypervisor_version(qemu).await,
            boot_id: process::boot_id()?,
            tsc_khz: tsc_khz(&cpuinfo),
        })
    }
}

async fn hypervisor_version(qemu: &Path) -> String {
    let mut command = tokio::process::Command::new(qemu);
    command.arg("--version").kill_on_drop(true);
    match tokio::time::timeout(VERSION_DEADLINE, command.output()).await {
        Ok(Ok(output)) => parse_version(&String::from_utf8_lossy(&output.stdout)),
        _ => String::new(),
    }
}

fn parse_version(text: &str) -> String {
    let mut words = text.split_whitespace();
    match words.find(|word| *word == "version").and(words.next()) {
        Some(version) => format!("QEMU {version}"),
        None => String::new(),
    }
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

fn tsc_khz(cpuinfo: &str) -> Option<u64> {
    let line = cpuinfo.lines().find(|line| line.starts_with("cpu MHz"))?;
    let (_, mhz) = line.split_once(':')?;
    let (whole, fraction) = mhz.trim().split_once('.')?;
    let thousandths: u64 = fraction.get(..3)?.parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 1000 + thousandths)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn texts_of_the_kernel_and_qemu_are_read() {
        assert_eq!(
            parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright"),
            "QEMU 7.2.22"
        );
        assert_eq!(parse_version("nonsense"), "");
        assert_eq!(
            memory_mib("MemTotal:       24683520 kB\nMemFree: 1 kB"),
            Some(24105)
        );
        assert_eq!(
            tsc_khz("model name\t: x\ncpu MHz\t\t: 2596.120\n"),
            Some(2_596_120)
        );
    }

    #[tokio::test]
    async fn this_host_has_processors_and_memory() {
        let facts = Fingerprint::take(Path::new("/"), Path::new("/nonexistent"))
            .await
            .expect("facts");
        assert!(facts.vcpus > 0 && facts.memory_mib > 0 && facts.disk_mib > 0);
        assert_eq!(facts.hypervisor_version, "");
    }
}
