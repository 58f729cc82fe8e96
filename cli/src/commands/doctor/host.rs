//! This machine as a host of the cloud: pure, over what `machine` found.

use std::time::Duration;

use super::check::Check;

const AREA: &str = "host";
const MEMORY_MIB_MIN: u64 = 1_024;
/// Logs, snapshots and guests' disks grow; a full log stops writes.
const DISK_MIB_MIN: u64 = 2_048;
const DISK_PERCENT_MIN: u64 = 10;
/// Tunnels, sessions and guests each take some.
const FILES_MIN: u64 = 4_096;
/// etcd's advice for its own log: slower disks make slow writes.
const SYNC_SLOW: Duration = Duration::from_millis(10);
/// Near an election timeout: leaders fall.
const SYNC_BAD: Duration = Duration::from_millis(200);

/// How cgroups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// One tree.
    V2,
    /// One tree per controller.
    V1,
    Missing,
}

/// What a data directory's disk was found to be.
#[derive(Debug, Clone)]
pub struct Disk {
    /// As people know it: `controller-1`, or a path.
    pub name: String,
    pub free_mib: u64,
    pub size_mib: u64,
    /// Middle and slowest of several small synced writes; `None` when nothing
    /// may be written there.
    pub sync: Option<(Duration, Duration)>,
}

/// What was found here.
#[derive(Debug, Clone)]
pub struct Facts {
    pub root: bool,
    /// Programs that are missing, with the package of each.
    pub missing: Vec<(String, String)>,
    /// First line of `qemu-system-x86_64 --version`.
    pub qemu: Option<String>,
    /// First line of `nft --version`, and whether the kernel listed its rules.
    pub nftables: Option<(String, bool)>,
    /// The agent's probe; `None` without an agent beside cloudctl.
    pub kvm: Option<bool>,
    pub cgroups: Cgroups,
    /// Network namespaces that may be made; `None`: the kernel has none.
    pub namespaces_max: Option<u64>,
    /// Modules that are neither loaded nor built in.
    pub modules_missing: Vec<&'static str>,
    pub files_max: u64,
    pub memory_free_mib: u64,
    pub disks: Vec<Disk>,
}

/// Everything that can be said of this machine.
pub fn check(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![
        programs(facts),
        kvm(facts.kvm),
        nftables(facts),
        cgroups(facts.cgroups),
        namespaces(facts),
        modules(facts),
        limits(facts.files_max),
        memory(facts.memory_free_mib),
    ];
    for disk in &facts.disks {
        checks.push(space(disk));
        checks.push(speed(disk));
    }
    checks
}

fn programs(facts: &Facts) -> Check {
    let name = "programs";
    if !facts.missing.is_empty() {
        let pick = |which: fn(&(String, String)) -> &String| {
            let words: Vec<&str> = facts.missing.iter().map(|m| which(m).as_str()).collect();
            words.join(" ")
        };
        let (programs, packages) = (pick(|m| &m.0), pick(|m| &m.1));
        let todo = format!("apt-get install {packages}");
        return Check::fail(AREA, name, format!("missing: {programs}"), todo);
    }
    let qemu = facts.qemu.as_deref().unwrap_or("QEMU's version is unknown");
    match facts.root {
        true => Check::ok(AREA, name, qemu),
        false => {
            let todo = "run `doctor` as root: the rest of the host is looked at as root";
            Check::warn(AREA, name, format!("{qemu}; not run as root"), todo)
        }
    }
}

fn kvm(probe: Option<bool>) -> Check {
    let name = "KVM";
    match probe {
        Some(true) => Check::ok(AREA, name, "a probe guest runs on it"),
        Some(false) => {
            let todo = "enable virtualisation in the firmware or hypervisor; without it guests \
                        are slow and not isolated";
            Check::warn(
                AREA,
                name,
                "a probe guest does not run: guests are emulated",
                todo,
            )
        }
        None => {
            let todo = "install cloud-agent beside cloudctl";
            Check::warn(AREA, name, "not probed: no cloud-agent here", todo)
        }
    }
}

fn nftables(facts: &Facts) -> Check {
    let name = "nftables";
    match &facts.nftables {
        None => Check::fail(AREA, name, "missing", "apt-get install nftables"),
        Some((version, true)) => Check::ok(AREA, name, version.as_str()),
        Some((version, false)) if !facts.root => {
            let found = format!("{version}; rules not readable without root");
            Check::warn(AREA, name, found, "run `doctor` as root")
        }
        Some((version, false)) => {
            let found = format!("{version}; the kernel refuses to list rules");
            Check::fail(AREA, name, found, "modprobe nf_tables, or another kernel")
        }
    }
}

fn cgroups(cgroups: Cgroups) -> Check {
    let name = "cgroups";
    match cgroups {
        Cgroups::V2 => Check::ok(AREA, name, "version 2"),
        Cgroups::V1 => Check::ok(AREA, name, "version 1: memory, cpu, pids"),
        Cgroups::Missing => {
            let todo = "mount the cgroup file system; guests run unlimited until then";
            Check::fail(AREA, name, "memory, cpu and pids are not limited", todo)
        }
    }
}

fn namespaces(facts: &Facts) -> Check {
    let name = "namespaces";
    match facts.namespaces_max {
        None => Check::fail(
            AREA,
            name,
            "no network namespaces",
            "another kernel is needed",
        ),
        Some(0) => {
            let todo = "sysctl user.max_net_namespaces=10000";
            Check::fail(AREA, name, "no network may be made", todo)
        }
        Some(most) if most < 64 => {
            let todo = "sysctl user.max_net_namespaces=10000";
            Check::warn(AREA, name, format!("at most {most} networks"), todo)
        }
        Some(most) => Check::ok(AREA, name, format!("up to {most} networks")),
    }
}

fn modules(facts: &Facts) -> Check {
    let name = "kernel";
    let missing = facts.modules_missing.join(" ");
    if missing.is_empty() {
        return Check::ok(AREA, name, "taps and packet filter are there");
    }
    let todo = format!("modprobe -a {missing}");
    Check::fail(AREA, name, format!("missing: {missing}"), todo)
}

fn limits(files_max: u64) -> Check {
    let found = format!("{files_max} open files");
    match files_max < FILES_MIN {
        true => {
            let todo = format!("ulimit -n {FILES_MIN}, or LimitNOFILE in the unit");
            Check::warn(AREA, "limits", found, todo)
        }
        false => Check::ok(AREA, "limits", found),
    }
}

fn memory(free_mib: u64) -> Check {
    let found = format!("{free_mib} MiB free");
    match free_mib < MEMORY_MIB_MIN {
        true => {
            let todo = "stop guests or offer less: the kernel ends processes when it runs out";
            Check::warn(AREA, "memory", found, todo)
        }
        false => Check::ok(AREA, "memory", found),
    }
}

fn space(disk: &Disk) -> Check {
    let name = format!("disk of {}", disk.name);
    let percent = (disk.free_mib * 100)
        .checked_div(disk.size_mib)
        .unwrap_or(0);
    let found = format!("{} MiB free, {percent} %", disk.free_mib);
    let todo = "free some space: a full disk stops writes";
    if disk.free_mib < DISK_MIB_MIN / 4 {
        return Check::fail(AREA, name, found, todo);
    }
    match disk.free_mib < DISK_MIB_MIN || percent < DISK_PERCENT_MIN {
        true => Check::warn(AREA, name, found, todo),
        false => Check::ok(AREA, name, found),
    }
}

fn speed(disk: &Disk) -> Check {
    let name = format!("sync of {}", disk.name);
    let Some((middle, slowest)) = disk.sync else {
        let todo = "run `doctor` as root, or make the directory writable";
        return Check::warn(
            AREA,
            name,
            "not measured: nothing may be written there",
            todo,
        );
    };
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (median, most) = (ms(middle), ms(slowest));
    let found = format!("4 KiB in {median:.1} ms (median), {most:.1} ms (slowest)");
    let todo = "put the log on a faster disk: each write waits for it";
    if middle >= SYNC_BAD {
        return Check::fail(AREA, name, found, todo);
    }
    match middle >= SYNC_SLOW || slowest >= SYNC_BAD {
        true => Check::warn(AREA, name, found, todo),
        false => Check::ok(AREA, name, found),
    }
}
