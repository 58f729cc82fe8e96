//! The newcomer's story: launch, log in, copy, look, stop, start, pay, delete.

use std::collections::BTreeSet;

use anyhow::Context;
use nube_harness::{Cloud, Leftovers, Size, guest_of, run};

#[test]
fn a_newcomer_rents_a_machine_and_checks_the_bill() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size::default())?;
    let status = cloud.ctl(&["status"])?;
    assert_eq!(status.matches("leader").count(), 1, "{status}");
    assert_eq!(
        cloud.json(&["node", "list"])?["nodes"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );

    cloud.launch("web-1")?;
    cloud.launch("web-2")?;
    guests_share_no_identity(&cloud)?;
    copies_go_both_ways(&cloud)?;
    assert!(cloud.ctl(&["logs", "web-1"])?.contains("ssh ready"));
    power_and_disk(&cloud)?;
    the_bill(&cloud)?;
    deletes_leave_nothing(&cloud)?;
    let marks = cloud.marks()?;
    assert_eq!(marks.len(), 4, "{marks:?}");
    cloud.purge()?;
    let rules = run(std::process::Command::new("nft").args(["list", "tables"]))?.ok()?;
    for mark in marks {
        Leftovers::of(&mark, &[cloud.scratch()]).none()?;
        assert!(!rules.contains(&mark), "{mark}: {rules}");
    }
    Ok(())
}

/// C3 and the design's promise 2: nothing that names a guest is shared.
fn guests_share_no_identity(cloud: &Cloud) -> anyhow::Result<()> {
    let facts = |name: &str| -> anyhow::Result<Vec<String>> {
        let record = cloud.json(&["show", name])?;
        let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
        let inside = |command: &[&str]| cloud.ssh(name, command);
        let (mac, host_key) = (text("mac_address"), text("ssh_host_public_key"));
        assert_eq!(inside(&["hostname"])?, name);
        assert_eq!(inside(&["cat", "/sys/class/net/eth0/address"])?, mac);
        assert_eq!(inside(&["cat", "/var/lib/nube/instance-id"])?, text("id"));
        let machine_id = inside(&["cat", "/etc/machine-id"])?;
        assert_eq!(machine_id.len(), 32, "{machine_id}");
        Ok(vec![
            mac,
            host_key,
            machine_id,
            text("id"),
            text("private_ip"),
            name.to_owned(),
        ])
    };
    let (one, two) = (facts("web-1")?, facts("web-2")?);
    let all: BTreeSet<&String> = one.iter().chain(&two).collect();
    assert_eq!(all.len(), one.len() + two.len(), "shared: {one:?} {two:?}");
    Ok(())
}

fn copies_go_both_ways(cloud: &Cloud) -> anyhow::Result<()> {
    let (here, back) = (cloud.scratch().join("here"), cloud.scratch().join("back"));
    let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&here, &bytes)?;
    let path = |p: &std::path::Path| p.display().to_string();
    cloud.ctl(&["scp", &path(&here), "web-1:there"])?;
    cloud.ctl(&["scp", "web-1:there", &path(&back)])?;
    assert_eq!(std::fs::read(&back)?, bytes);
    assert!(
        !cloud.scratch().join(".ssh/known_hosts").exists(),
        "known_hosts was written"
    );
    Ok(())
}

fn power_and_disk(cloud: &Cloud) -> anyhow::Result<()> {
    let boot_id = || cloud.ssh("web-1", &["cat", "/proc/sys/kernel/random/boot_id"]);
    let machine_id = || cloud.ssh("web-1", &["cat", "/etc/machine-id"]);
    let (first_boot, identity) = (boot_id()?, machine_id()?);
    cloud.ctl(&["stop", "web-1"])?;
    cloud.wait_state("web-1", "INSTANCE_STATE_STOPPED")?;
    cloud.ctl(&["start", "web-1"])?;
    cloud.wait_state("web-1", "INSTANCE_STATE_RUNNING")?;
    let second_boot = boot_id()?;
    assert_ne!(first_boot, second_boot);
    assert_eq!(
        machine_id()?,
        identity,
        "a restart must keep the machine-id"
    );
    cloud
        .ssh("web-1", &["test", "-s", "there"])
        .context("the disk is kept")?;
    cloud.ctl(&["reboot", "web-1"])?;
    nube_harness::eventually("another boot", std::time::Duration::from_secs(90), || {
        anyhow::ensure!(boot_id()? != second_boot, "the old boot still answers");
        Ok(())
    })
}

fn the_bill(cloud: &Cloud) -> anyhow::Result<()> {
    let bill = cloud.json(&["bill"])?;
    let lines = bill["lines"].as_array().context("lines")?;
    assert!(lines.len() >= 2, "{bill:#}");
    let sum: i64 = lines
        .iter()
        .filter_map(|l| l["amount_nanos"].as_str()?.parse::<i64>().ok())
        .sum();
    assert_eq!(bill["total_nanos"].as_str(), Some(sum.to_string().as_str()));
    assert!(sum > 0);
    let line = lines[0]["id"].as_str().context("a line id")?;
    assert!(cloud.ctl(&["bill", "explain", line])?.contains("run 1"));
    assert!(cloud.ctl(&["bill", "-o", "csv"])?.lines().count() > 2);
    cloud.verify_bill()
}

fn deletes_leave_nothing(cloud: &Cloud) -> anyhow::Result<()> {
    let id = cloud.json(&["show", "web-1"])?["id"]
        .as_str()
        .context("an id")?
        .to_owned();
    let guest = guest_of(&id)?;
    cloud.ctl(&["delete", "web-1"])?;
    cloud.wait_state(&id, "INSTANCE_STATE_DELETED")?;
    assert!(!guest.is_alive());
    let hex = id.trim_start_matches("i-");
    let hosts = [cloud.dir().join("node-1"), cloud.dir().join("node-2")];
    Leftovers::of(hex, &[&hosts[0], &hosts[1]]).none()?;
    let missing = cloud.try_ctl(&["ssh", "web-1", "--", "true"])?;
    assert_ne!(missing.code, Some(0));
    cloud.verify_bill()
}

/// Everyone who holds the guest's disk could change its host key: then the
/// cloud's word must not be lent to it any more.
#[test]
fn a_swapped_host_key_is_refused() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 1,
        nodes: 1,
    })?;
    cloud.launch("victim")?;
    let swap = "dropbearkey -t ed25519 -f /run/other >/dev/null 2>&1; \
                cp /run/other /run/nube/host-key; killall dropbear";
    // The connection may end with the server that is being replaced.
    let _ = cloud.try_ctl(&["ssh", "victim", "--", swap])?;
    let refused =
        nube_harness::eventually("ssh refuses", std::time::Duration::from_secs(30), || {
            let answer = cloud.try_ctl(&["ssh", "victim", "--", "true"])?;
            anyhow::ensure!(answer.code != Some(0), "the new key was accepted");
            anyhow::ensure!(answer.err.contains("verification failed"), "{}", answer.err);
            Ok(answer.err)
        })?;
    assert!(refused.contains("ost key verification failed"), "{refused}");
    Ok(())
}

/// Works from a machine that cannot reach the guest network.
#[test]
fn the_guest_network_is_out_of_reach_and_ssh_works() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 1,
        nodes: 1,
    })?;
    let record = cloud.launch("inside")?;
    let address = record["private_ip"].as_str().context("an address")?;
    let direct = run(std::process::Command::new("timeout").args([
        "2",
        "ssh",
        "-oBatchMode=yes",
        "-oConnectTimeout=1",
        address,
        "true",
    ]))?;
    assert_ne!(direct.code, Some(0), "there is a route to {address}");
    assert_eq!(cloud.ssh("inside", &["hostname"])?, "inside");
    Ok(())
}
