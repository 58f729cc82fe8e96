//! Delete is accepted in every state, always finishes, and leaves nothing.

use std::time::Duration;

use anyhow::Context;
use nube_harness::{Cloud, Leftovers, Size, eventually, guest_of};

fn id_of(cloud: &Cloud, name: &str) -> anyhow::Result<String> {
    Ok(cloud.json(&["show", name])?["id"]
        .as_str()
        .context("an id")?
        .to_owned())
}

fn nothing_is_left(cloud: &Cloud, id: &str) -> anyhow::Result<()> {
    let hex = id.trim_start_matches("i-");
    let node = cloud.dir().join("node-1");
    eventually("no trace", Duration::from_secs(60), || {
        Leftovers::of(hex, &[&node]).none()
    })
}

#[test]
fn in_every_state_and_while_the_host_is_down() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 1,
        nodes: 1,
    })?;

    // Before the host has begun, and while it boots.
    for name in ["pending", "starting"] {
        cloud.ctl(&["launch", "micro", "--name", name, "--wait", "none"])?;
        let id = id_of(&cloud, name)?;
        if name == "starting" {
            eventually("a process", Duration::from_secs(60), || guest_of(&id))?;
        }
        cloud.ctl(&["delete", name])?;
        cloud.wait_state(&id, "INSTANCE_STATE_DELETED")?;
        nothing_is_left(&cloud, &id)?;
    }

    // Running, stopping, stopped, failed.
    for name in ["running", "stopping", "stopped", "failed"] {
        cloud.launch(name)?;
        let id = id_of(&cloud, name)?;
        match name {
            "stopping" => drop(cloud.ctl(&["stop", name])?),
            "stopped" => {
                cloud.ctl(&["stop", name])?;
                cloud.wait_state(name, "INSTANCE_STATE_STOPPED")?;
            }
            "failed" => {
                guest_of(&id)?.kill()?;
                cloud.wait_state(name, "INSTANCE_STATE_FAILED")?;
            }
            _ => {}
        }
        cloud.ctl(&["delete", name])?;
        // Again: harmless.
        cloud.try_ctl(&["delete", &id])?;
        cloud.wait_state(&id, "INSTANCE_STATE_DELETED")?;
        nothing_is_left(&cloud, &id)?;
    }

    // While the host is down: gone for its owner at the latest when the host is
    // known to be silent, gone for good when the host is back.
    cloud.launch("orphan")?;
    let id = id_of(&cloud, "orphan")?;
    let guest = guest_of(&id)?;
    cloud.process("node-1")?.kill()?;
    cloud.ctl(&["delete", "orphan"])?;
    cloud.wait_state(&id, "INSTANCE_STATE_DELETED")?;
    assert!(guest.is_alive(), "nobody was there to end it");
    cloud.start()?;
    eventually("the host cleans up", Duration::from_secs(60), || {
        anyhow::ensure!(!guest.is_alive(), "the guest still runs");
        Ok(())
    })?;
    nothing_is_left(&cloud, &id)?;
    cloud.verify_bill()
}
