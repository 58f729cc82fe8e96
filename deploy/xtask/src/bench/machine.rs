//! What a reader must know of the machine: figures mean nothing without it.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;

/// The class of a machine, not its name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
}

pub fn describe() -> Result<Machine> {
    let line = |file: &str, key: &str| -> Result<String> {
        let text = fs::read_to_string(file).with_context(|| format!("read `{file}`"))?;
        let line = text.lines().find(|line| line.starts_with(key));
        let value = line.and_then(|line| line.split_once(':'));
        Ok(value
            .map_or("unknown", |(_, value)| value.trim())
            .to_owned())
    };
    let memory = line("/proc/meminfo", "MemTotal")?;
    let memory = memory.split_whitespace().next().unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("read the release")?;
    Ok(Machine {
        processor: line("/proc/cpuinfo", "model name")?,
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        memory_mib: memory.parse::<u64>().unwrap_or(0) / 1024,
        kernel: kernel.trim().to_owned(),
    })
}

/// The first two load averages: of one minute and of five.
pub fn load() -> Result<[f64; 2]> {
    let text = fs::read_to_string("/proc/loadavg").context("read the load")?;
    let mut words = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || -> Result<f64> { Ok(words.next().context("a load average")??) };
    Ok([next()?, next()?])
}
