//! C1 and D3 on real processes: a host is lost, what may be replaced begins anew
//! elsewhere, the rest waits, and the host that returns clears away what left.

use std::time::Duration;

use anyhow::Context;
use nube_harness::{Cloud, Size, eventually, guest_of};
use serde_json::Value;

/// Silence, every lease, a round of the leader, a boot; several times over.
const FAILOVER: Duration = Duration::from_secs(120);

fn launch(cloud: &Cloud, name: &str, policy: &str) -> anyhow::Result<Value> {
    let pack = ["--strategy", "pack", "--wait", "running"];
    let mut args = vec!["launch", "micro", "--name", name];
    args.extend(["--on-host-failure", policy]);
    args.extend(pack);
    cloud.ctl(&args)?;
    cloud.json(&["show", name])
}

fn text<'a>(instance: &'a Value, field: &str) -> anyhow::Result<&'a str> {
    instance[field].as_str().context(field.to_owned())
}

/// Runs on another host than this one.
fn moved(cloud: &Cloud, name: &str, from: &str) -> anyhow::Result<Value> {
    let now = cloud.json(&["show", name])?;
    let runs = now["state"] == "INSTANCE_STATE_RUNNING" && now["node_reachable"] == true;
    anyhow::ensure!(runs && now["node_name"] != from, "{now:#}");
    Ok(now)
}

#[test]
fn a_lost_host_is_fenced_and_its_instance_begins_anew_elsewhere() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 3,
        nodes: 2,
    })?;
    let web = launch(&cloud, "web", "replace")?;
    let pet = launch(&cloud, "pet", "keep")?;
    let (id, host) = (text(&web, "id")?, text(&web, "node_name")?);
    assert_eq!(text(&pet, "node_name")?, host, "packed");

    // Its agent stands still. The guest that needs a lease ends without it; the
    // other one goes on.
    let (web_ran, pet_runs) = (guest_of(id)?, guest_of(text(&pet, "id")?)?);
    let agent = cloud.process(host)?;
    agent.pause()?;
    let placed = eventually("web has a new place", FAILOVER, || {
        let now = cloud.json(&["show", "web"])?;
        anyhow::ensure!(now["node_name"] != host, "{now:#}");
        Ok(())
    });
    placed?;
    assert!(!web_ran.is_alive(), "it ends before it begins elsewhere");
    let now = eventually("web runs", FAILOVER, || moved(&cloud, "web", host))?;
    assert_eq!(now["private_ip"], web["private_ip"]);
    assert_eq!(now["ssh_host_public_key"], web["ssh_host_public_key"]);
    assert_eq!(now["placement_epoch"], 2);
    cloud.ssh("web", &["true"])?;
    let pet = cloud.json(&["show", "pet"])?;
    assert_eq!(text(&pet, "node_name")?, host, "it waits for its host");
    let lost = cloud.json(&["node", "show", host])?;
    assert!(lost["fenced"] == true && lost["evictions"] == 1, "{lost:#}");
    let story = cloud.ctl(&["why", "web"])?;
    assert!(story.contains("placed anew on"), "{story}");

    // It is back: its own instance never stopped, what left is cleared away, and
    // one machine alone has the replaced one's id.
    agent.resume()?;
    eventually("the host is ready and clean", FAILOVER, || {
        let node = cloud.json(&["node", "show", host])?;
        let ready = node["state"] == "NODE_STATE_READY" && node["evictions"] == 0;
        anyhow::ensure!(ready && node["fenced"] == false, "{node:#}");
        Ok(())
    })?;
    assert!(pet_runs.is_alive());
    cloud.wait_state("pet", "INSTANCE_STATE_RUNNING")?;
    guest_of(id)?;
    moved(&cloud, "web", host)?;
    cloud.verify_bill()?;
    cloud.ctl(&["delete", "web", "pet", "--wait"])?;
    Ok(())
}
