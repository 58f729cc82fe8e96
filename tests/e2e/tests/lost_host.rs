//! A host is lost while its machine goes on: a leased guest ends there before it
//! begins anew elsewhere, and what is left of it goes when the host is back.

use std::time::Duration;

use anyhow::Context;
use nube_harness::{Cloud, Size, eventually, guest_of};

#[test]
fn a_leased_guest_of_a_stopped_agent_ends_and_begins_anew_on_another_host() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size::default())?;
    let launch = ["launch", "micro", "--name", "moved"];
    cloud.ctl(&[&launch[..], &["--on-host-failure", "replace"]].concat())?;
    let before = cloud.json(&["show", "moved"])?;
    let id = before["id"].as_str().context("an id")?.to_owned();
    let host = before["node_name"].as_str().context("a host")?.to_owned();
    let old = guest_of(&id)?;

    // Longer than a lease: it is prolonged while all is well.
    std::thread::sleep(Duration::from_secs(16));
    assert!(
        old.is_alive(),
        "the leader answers, and its lease is prolonged"
    );

    let agent = cloud.process(&host)?;
    agent.pause()?;
    eventually("its fencer ends it", Duration::from_secs(60), || {
        anyhow::ensure!(!old.is_alive(), "it runs on");
        Ok(())
    })?;
    let after = eventually("it is placed anew", Duration::from_secs(120), || {
        let now = cloud.json(&["show", "moved"])?;
        anyhow::ensure!(now["node_name"] != host.as_str(), "it is where it was");
        anyhow::ensure!(
            now["state"] == "INSTANCE_STATE_RUNNING",
            "it is {}: {}",
            now["state"],
            now["reason"]
        );
        Ok(now)
    })?;
    for field in ["id", "private_ip", "mac_address", "ssh_host_public_key"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let new = guest_of(&id)?;
    assert_eq!(cloud.ssh("moved", &["hostname"])?, "moved");

    agent.resume()?;
    let disk = cloud.dir().join(&host).join("instances");
    let disk = disk.join(id.trim_start_matches("i-"));
    eventually("its old disk goes", Duration::from_secs(60), || {
        anyhow::ensure!(!disk.exists(), "{} is still there", disk.display());
        Ok(())
    })?;
    assert!(new.is_alive(), "what is removed there is the old one");
    assert_eq!(guest_of(&id)?, new);
    cloud.verify_bill()
}

#[test]
fn without_controllers_only_leased_guests_end_and_they_come_back() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 1,
        nodes: 1,
    })?;
    let kept = cloud.launch("kept")?;
    let kept = guest_of(kept["id"].as_str().context("an id")?)?;
    let launch = ["launch", "micro", "--name", "leased"];
    cloud.ctl(&[&launch[..], &["--on-host-failure", "replace"]].concat())?;
    let leased = cloud.json(&["show", "leased"])?;
    let id = leased["id"].as_str().context("an id")?;
    let old = guest_of(id)?;
    // The next agent adopts both, under the lease of the one before.
    cloud.process("node-1")?.kill()?;
    cloud.start()?;
    assert!(kept.is_alive() && old.is_alive());

    cloud.process("controller-1")?.kill()?;
    eventually("its lease ends", Duration::from_secs(60), || {
        anyhow::ensure!(!old.is_alive(), "it runs on");
        Ok(())
    })?;
    assert!(kept.is_alive(), "nobody needs a controller to run on");
    cloud.start()?;
    eventually("it runs again", Duration::from_secs(120), || {
        let now = cloud.json(&["show", "leased"])?;
        anyhow::ensure!(now["state"] == "INSTANCE_STATE_RUNNING", "{now:#}");
        guest_of(id)
    })?;
    assert_eq!(cloud.ssh("leased", &["hostname"])?, "leased");
    assert!(kept.is_alive());
    cloud.verify_bill()
}
