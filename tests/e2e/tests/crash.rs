//! kill -9 of every process of the cloud: nothing acknowledged is lost, nothing
//! happens twice, guests go on, and the bill stays exact.

use std::time::Duration;

use anyhow::Context;
use nube_harness::{Cloud, Size, eventually, guest_of};
use serde_json::Value;

fn id_of(record: &Value) -> anyhow::Result<String> {
    Ok(record["id"].as_str().context("an id")?.to_owned())
}

fn boot_id(cloud: &Cloud, name: &str) -> anyhow::Result<String> {
    cloud.ssh(name, &["cat", "/proc/sys/kernel/random/boot_id"])
}

/// Ledger rows of one instance.
fn usage(cloud: &Cloud, id: &str) -> anyhow::Result<Vec<Value>> {
    let usage = cloud.json(&["bill", "usage"])?;
    let rows = usage["intervals"].as_array().context("intervals")?;
    Ok(rows
        .iter()
        .filter(|row| row["instance_id"] == id)
        .cloned()
        .collect())
}

#[test]
fn the_leader_dies_during_a_launch() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size::default())?;
    let before = cloud.launch("before")?;
    let guest = guest_of(&id_of(&before)?)?;
    let leader = cloud.process(&format!("controller-{}", cloud.leader()?))?;
    let mut launching = cloud.command(&["launch", "micro", "--name", "during"])?;
    let launching = launching
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    std::thread::sleep(Duration::from_millis(40));
    leader.kill()?;
    let ended = launching.wait_with_output()?;
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&ended.stdout)
    );
    // Once: one record, one machine process, one ledger row.
    let list = cloud.json(&["list"])?;
    let instances = list["instances"].as_array().context("instances")?;
    assert_eq!(instances.len(), 2, "{list:#}");
    let during = instances
        .iter()
        .find(|i| i["name"] == "during")
        .context("it is listed")?;
    guest_of(&id_of(during)?)?;
    assert_eq!(usage(&cloud, &id_of(during)?)?.len(), 1);
    // Nothing acknowledged is missing; the other guest never noticed.
    assert!(guest.is_alive());
    assert_eq!(cloud.ssh("before", &["hostname"])?, "before");
    assert!(
        cloud.json(&["ssh-key", "list"])?["ssh_keys"]
            .as_array()
            .is_some_and(|k| k.len() == 1)
    );
    cloud.verify_bill()?;
    // The dead one comes back and catches up.
    cloud.start()?;
    eventually("three controllers agree", Duration::from_secs(30), || {
        let status = cloud.ctl(&["status"])?;
        anyhow::ensure!(!status.contains("silent"), "{status}");
        Ok(())
    })
}

#[test]
fn an_agent_dies_and_its_guests_do_not_notice() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 3,
        nodes: 1,
    })?;
    let id = id_of(&cloud.launch("steady")?)?;
    let (guest, boot) = (guest_of(&id)?, boot_id(&cloud, "steady")?);
    let before = usage(&cloud, &id)?;
    cloud.process("node-1")?.kill()?;
    cloud.start()?;
    cloud.wait_state("steady", "INSTANCE_STATE_RUNNING")?;
    assert_eq!(
        guest_of(&id)?,
        guest,
        "the same process, by pid and start time"
    );
    assert_eq!(boot_id(&cloud, "steady")?, boot);
    let after = usage(&cloud, &id)?;
    assert_eq!(after.len(), 1, "{after:?}");
    assert_eq!(after[0]["start_index"], before[0]["start_index"]);
    assert_eq!(after[0]["ended_at_ms"], "0", "the run is still open");
    cloud.verify_bill()?;
    // Its hands work again.
    cloud.ctl(&["delete", "steady"])?;
    cloud.wait_state(&id, "INSTANCE_STATE_DELETED")?;
    assert!(!guest.is_alive());
    cloud.verify_bill()
}

#[test]
fn everything_dies_at_once() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size::default())?;
    let (kept, lost) = (
        id_of(&cloud.launch("kept")?)?,
        id_of(&cloud.launch("lost")?)?,
    );
    let (guest, boot) = (guest_of(&kept)?, boot_id(&cloud, "kept")?);
    let doomed = guest_of(&lost)?;
    let before = cloud.json(&["list"])?;
    for member in cloud.members() {
        cloud.process(&member)?.kill()?;
    }
    doomed.kill()?;
    cloud.start()?;
    // The one whose machine is alive is adopted, the other one boots again.
    cloud.wait_state("kept", "INSTANCE_STATE_RUNNING")?;
    assert_eq!(guest_of(&kept)?, guest);
    assert_eq!(boot_id(&cloud, "kept")?, boot);
    assert_eq!(usage(&cloud, &kept)?.len(), 1);
    eventually(
        "the dead guest boots again",
        Duration::from_secs(90),
        || {
            let rows = usage(&cloud, &lost)?;
            anyhow::ensure!(rows.len() == 2, "runs: {rows:?}");
            anyhow::ensure!(rows[0]["end_reason"] == "host-lost", "{rows:?}");
            Ok(())
        },
    )?;
    cloud.wait_state("lost", "INSTANCE_STATE_RUNNING")?;
    assert_eq!(cloud.ssh("lost", &["hostname"])?, "lost");
    let after = cloud.json(&["list"])?;
    let names = |list: &Value| -> Vec<String> {
        let rows = list["instances"].as_array().cloned().unwrap_or_default();
        rows.iter()
            .map(|i| format!("{} {} {}", i["id"], i["name"], i["private_ip"]))
            .collect()
    };
    assert_eq!(names(&before), names(&after));
    cloud.verify_bill()
}
