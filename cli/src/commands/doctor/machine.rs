//! Looks at this machine. Blocks; changes nothing but a small file beside each
//! log, which is removed again.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::host::{Cgroups, Disk, Facts};
use crate::commands::up::layout::{Cell, binary};
use crate::commands::up::preflight;

/// Synced writes of one measurement, and how long it may take at most.
const WRITES: usize = 21;
const MEASURE: Duration = Duration::from_secs(3);
/// Taps, and the packet filter's table.
const MODULES: [(&str, &str); 2] = [
    ("tun", "/dev/net/tun"),
    ("nf_tables", "/proc/net/netfilter"),
];

/// Everything `host` wants to know.
pub fn look(dir: &Path, cell: Option<&Cell>) -> Facts {
    let nft = version("nft");
    Facts {
        root: rustix::process::geteuid().is_root(),
        missing: preflight::programs_missing(),
        qemu: version("qemu-system-x86_64"),
        nftables: nft.map(|version| (version, runs("nft", &["list", "tables"]))),
        kvm: binary("cloud-agent")
            .ok()
            .map(|agent| preflight::probe(&agent).unwrap_or(false)),
        cgroups: cgroups(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
        namespaces_max: namespaces_max(),
        modules_missing: modules_missing(),
        files_max: rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .current
            .unwrap_or(u64::MAX),
        memory_free_mib: preflight::memory_free_mib(),
        disks: data_dirs(dir, cell).into_iter().map(disk).collect(),
    }
}

/// First line of `PROGRAM --version`.
fn version(program: &str) -> Option<String> {
    let output = Command::new(preflight::find(program)?)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned)
}

fn runs(program: &str, args: &[&str]) -> bool {
    let Some(path) = preflight::find(program) else {
        return false;
    };
    let mut command = Command::new(path);
    let command = command.args(args).stdin(Stdio::null());
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// As the agent reads it: one tree, or a tree for each of three controllers.
fn cgroups(mountinfo: &str) -> Cgroups {
    let has = |wanted: &str| {
        mountinfo.lines().any(|line| {
            let Some((_, rest)) = line.split_once(" - ") else {
                return false;
            };
            let mut fields = rest.split(' ');
            let (kind, options) = (fields.next(), fields.nth(1).unwrap_or_default());
            kind == Some("cgroup") && options.split(',').any(|option| option == wanted)
        })
    };
    if ["memory", "cpu", "pids"].into_iter().all(has) {
        return Cgroups::V1;
    }
    match mountinfo.contains(" - cgroup2 ") {
        true => Cgroups::V2,
        false => Cgroups::Missing,
    }
}

fn namespaces_max() -> Option<u64> {
    if !Path::new("/proc/self/ns/net").exists() {
        return None;
    }
    let text = fs::read_to_string("/proc/sys/user/max_net_namespaces").ok();
    // Without the limit's file there is no limit.
    Some(text.map_or(u64::from(u32::MAX), |text| text.trim().parse().unwrap_or(0)))
}

/// What works does not need a module's name in a list: it may be built in.
fn modules_missing() -> Vec<&'static str> {
    let absent = |(name, proof): &(&'static str, &str)| {
        let loaded = Path::new("/sys/module").join(name).exists() || Path::new(proof).exists();
        let lists_rules = *name == "nf_tables" && runs("nft", &["list", "tables"]);
        (!loaded && !lists_rules).then_some(*name)
    };
    MODULES.iter().filter_map(absent).collect()
}

/// Where the parts of this machine's cloud write, or the directory itself.
fn data_dirs(dir: &Path, cell: Option<&Cell>) -> Vec<(String, PathBuf)> {
    let Some(cell) = cell else {
        let existing = dir.ancestors().find(|path| path.exists());
        let existing = existing.unwrap_or(Path::new("/")).to_owned();
        return vec![(existing.display().to_string(), existing)];
    };
    // One disk is measured once, however many controllers share it.
    let mut seen = Vec::new();
    let mut dirs = Vec::new();
    for name in cell
        .controller_names(dir)
        .into_iter()
        .chain(cell.node_names())
    {
        let path = dir.join(&name).join("data");
        let Ok(stat) = rustix::fs::stat(&path) else {
            continue;
        };
        if !seen.contains(&stat.st_dev) {
            seen.push(stat.st_dev);
            dirs.push((name, path));
        }
    }
    dirs
}

fn disk((name, path): (String, PathBuf)) -> Disk {
    let mib = 1024 * 1024;
    let stat = rustix::fs::statvfs(&path).ok();
    let size = stat
        .as_ref()
        .map(|stat| stat.f_blocks * stat.f_frsize / mib);
    let free = stat
        .as_ref()
        .map(|stat| stat.f_bavail * stat.f_frsize / mib);
    Disk {
        name,
        free_mib: free.unwrap_or_default(),
        size_mib: size.unwrap_or_default(),
        sync: measure(&path).ok(),
    }
}

/// Middle and slowest of small synced writes: what each commit waits for.
fn measure(dir: &Path) -> std::io::Result<(Duration, Duration)> {
    let path = dir.join(format!(".doctor-{}", std::process::id()));
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    let measured = write_synced(file);
    fs::remove_file(&path)?;
    let mut times = measured?;
    times.sort();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok((middle, times.last().copied().unwrap_or_default()))
}

fn write_synced(mut file: fs::File) -> std::io::Result<Vec<Duration>> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while times.len() < WRITES && begun.elapsed() < MEASURE {
        let each = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(each.elapsed());
    }
    Ok(times)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn layouts_of_cgroups_are_told_apart() {
        let v1 = |name: &str| format!("1 0 0:1 / /c rw - cgroup cgroup rw,{name}\n");
        let all: String = ["cpu,cpuacct", "memory", "pids"].map(v1).concat();
        assert_eq!(cgroups(&all), Cgroups::V1);
        let two = "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroups(two), Cgroups::V2);
        assert_eq!(cgroups(&v1("memory")), Cgroups::Missing);
        assert_eq!(cgroups(""), Cgroups::Missing);
    }

    #[test]
    fn a_disk_is_measured_and_left_as_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let (middle, slowest) = measure(dir.path()).expect("writable");
        assert!(middle <= slowest && slowest > Duration::ZERO);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0);
        assert!(measure(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn every_look_at_this_machine_ends() {
        let facts = look(Path::new("/nonexistent/cloud"), None);
        assert!(facts.files_max > 0 && facts.disks.len() == 1);
    }
}
