//! Switches all guests of this node off and keeps their disks: `clean
//! --keep-disks`, for `cloudctl down`. The agent must be stopped. The next agent
//! finds them dead and boots those that should run.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use nube_types::InstanceId;
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::driver::qemu::{QemuConfig, QemuDriver};
use crate::driver::{Driver, Recovered};
use crate::host::accelerator::Accelerator;

/// A guest that ignores the power button for this long is cut off. Shorter than
/// for a single stop: somebody waits at a terminal.
const GRACE: Duration = Duration::from_secs(15);

/// Presses every power button, waits, and cuts off who stays. The caller holds
/// the lock of the data directory. Says what was switched off.
pub async fn halt(config: &Config, netns: Option<String>) -> anyhow::Result<Vec<String>> {
    let driver = QemuDriver::open(QemuConfig {
        node: config.node_id,
        instances_dir: config.data_dir.join("instances"),
        qemu: config.qemu.clone(),
        // Nothing is started here.
        accelerator: Accelerator::Tcg,
        uid_base: config.uid_base,
        host_namespace: netns,
        closed: Vec::new(),
        fence: None,
    })?;
    let mut ended = driver.ended();
    let (found, _unknown) = driver
        .recover()
        .await
        .context("cannot look at the guests")?;
    let mut running: BTreeSet<InstanceId> = BTreeSet::new();
    for guest in found {
        if let Recovered::Running(spec, _) = guest {
            running.insert(spec.instance);
            if let Err(error) = driver.power_button(spec.instance).await {
                tracing::warn!(instance = %spec.instance, %error, "cannot press the power button");
            }
        }
    }
    let said = running.iter().map(|id| format!("{id} is off")).collect();
    let deadline = Instant::now() + GRACE;
    while !running.is_empty() {
        match timeout_at(deadline, ended.recv()).await {
            Ok(Some(end)) => drop(running.remove(&end.instance)),
            Ok(None) | Err(_) => break,
        }
    }
    for instance in running {
        driver
            .power_cut(instance)
            .await
            .with_context(|| format!("cannot cut off {instance}"))?;
    }
    Ok(said)
}
