//! What the kernel knows of this process and its disk, under the names that
//! Prometheus' own libraries use, so that ready-made dashboards fit.

use std::fs;
use std::path::PathBuf;

use prometheus_client::collector::Collector;

use crate::sheet::{Sheet, figures};

/// `USER_HZ`: part of the kernel's interface, the same on every machine we run on.
const HZ: f64 = 100.0;

/// Figures of this process. `data_dir` is what its disk is judged by.
pub fn collector(version: &'static str, data_dir: PathBuf) -> Box<dyn Collector> {
    figures(move |sheet| {
        sheet.gauges(
            "nube_build_info",
            "Constant 1: version of this program",
            "version",
            [(version, 1_i64)],
        );
        own(sheet);
        disk(sheet, &data_dir);
    })
}

fn own(sheet: &mut Sheet<'_>) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| field(&status, key).unwrap_or_default() * 1024;
    sheet.gauge(
        "process_resident_memory_bytes",
        "Memory of this process in RAM",
        kib("VmRSS:"),
    );
    sheet.gauge(
        "process_threads",
        "Threads of this process",
        field(&status, "Threads:").unwrap_or_default(),
    );
    // The directory being read is one of them.
    let open = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
    sheet.gauge("process_open_fds", "Open file descriptors", open);
    sheet.gauge(
        "process_max_fds",
        "Limit of open file descriptors",
        descriptors_max(),
    );
    let usage = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let (cpu, start) = times(&usage).unwrap_or_default();
    sheet.counter("process_cpu_seconds", "CPU time used", cpu);
    sheet.gauge(
        "process_start_time_seconds",
        "Start of this process, Unix time",
        booted_at() + start,
    );
}

/// The number after a key of `/proc/self/status` or `/proc/meminfo`.
#[must_use]
pub fn field(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The soft limit of `RLIMIT_NOFILE`.
#[must_use]
pub fn descriptors_max() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX)
}

/// CPU seconds used, and seconds between boot and start.
fn times(stat: &str) -> Option<(f64, f64)> {
    // The second field is the name in parentheses and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some(((ticks(11)? + ticks(12)?) / HZ, ticks(19)? / HZ))
}

fn booted_at() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    field(&stat, "btime ").unwrap_or_default() as f64
}

fn disk(sheet: &mut Sheet<'_>, dir: &std::path::Path) {
    let Ok(stat) = rustix::fs::statvfs(dir) else {
        return;
    };
    sheet.gauge(
        "nube_disk_free_bytes",
        "Free space of the file system that holds the data directory",
        stat.f_bavail.saturating_mul(stat.f_frsize),
    );
    sheet.gauge(
        "nube_disk_size_bytes",
        "Size of the file system that holds the data directory",
        stat.f_blocks.saturating_mul(stat.f_frsize),
    );
}

#[cfg(test)]
mod test {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn this_process_has_memory_files_and_a_past() {
        let mut registry = Registry::default();
        registry.register_collector(collector("1.2.3", "/".into()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string");
        let value = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            value.unwrap_or_else(|| panic!("{name} is missing:\n{text}"))
        };
        assert!(value("process_resident_memory_bytes ") > 100_000.0);
        assert!(value("process_open_fds ") >= 3.0);
        assert!(value("process_open_fds ") < value("process_max_fds "));
        assert!(value("process_start_time_seconds ") > 1.5e9);
        assert!(value("process_cpu_seconds_total ") >= 0.0);
        assert!(value("nube_disk_size_bytes ") >= value("nube_disk_free_bytes "));
        assert!(text.contains("nube_build_info{version=\"1.2.3\"} 1"));
    }

    #[test]
    fn a_name_with_parentheses_does_not_move_the_fields() {
        let rest = "S 1 1 1 0 -1 0 0 0 0 0 300 100 0 0 20 0 4 0 5000 1 1";
        let (cpu, start) = times(&format!("7 (a) b (c) {rest}")).expect("times");
        assert!((cpu - 4.0).abs() < 1e-9 && (start - 50.0).abs() < 1e-9);
    }
}
