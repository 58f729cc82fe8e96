//! Security groups on running guests: a rule that comes or goes counts at once,
//! and a connection that lost its permission ends. An agent that starts anew cuts
//! nothing.

use std::time::{Duration, Instant};

use anyhow::Context;
use nube_e2e::{Probe, launch};
use nube_harness::{Cloud, Size, eventually};

#[test]
fn rules_reach_running_guests_and_cut_what_they_no_longer_allow() -> anyhow::Result<()> {
    let cloud = Cloud::up(Size {
        controllers: 1,
        nodes: 2,
    })?;
    cloud.ctl(&["security-group", "create", "server"])?;
    let server = launch(&cloud, "server", &["--security-group", "server"])?;
    launch(&cloud, "client", &[])?;
    let address = server["private_ip"].as_str().context("address")?;
    let probe = Probe::build(&cloud)?;
    for guest in ["server", "client"] {
        probe.put(&cloud, guest)?;
    }
    probe.leave(&cloud, "server", &["echo", "7000"])?;
    let port = || probe.ask(&cloud, "client", &["connect", address, "7000"]);
    assert_eq!(port()?, "silent", "a new group lets nothing in");
    let why = cloud.ctl(&["explain-path", "client", "server", "--port", "7000"])?;
    assert!(why.contains("no"), "{why}");

    let open = ["--ingress", "--protocol", "tcp", "--port", "7000"];
    let rule = |verb| ["security-group", verb, "server"];
    let begun = Instant::now();
    let added = cloud.json(&[&rule("add-rule")[..], &open, &["--from", "default"]].concat())?;
    eventually("the rule counts", Duration::from_secs(20), || {
        anyhow::ensure!(port()? == "open", "not yet");
        Ok(())
    })?;
    println!("a rule counts, login included, after {:?}", begun.elapsed());
    let why = cloud.ctl(&["explain-path", "client", "server", "--port", "7000"])?;
    assert!(why.contains("passes"), "{why}");

    agents_start_anew_unnoticed(&cloud, &probe, address)?;

    let rules = added["rules"].as_array().context("rules")?;
    let ingress = |rule: &&serde_json::Value| rule["direction"] == "TRAFFIC_DIRECTION_INGRESS";
    let id = rules.iter().find(ingress).context("the rule")?;
    let id = id["id"].as_str().context("its id")?;
    let held = probe.begin(&cloud, "client", &["ticks", address, "7000", "30"])?;
    std::thread::sleep(Duration::from_secs(4));
    let removed = Instant::now();
    cloud.ctl(&[&rule("remove-rule")[..], &[id]].concat())?;
    let said = held.answer()?;
    println!(
        "the connection: {said}; {:?} after the rule went",
        removed.elapsed()
    );
    assert!(said.contains("ended after"), "{said}");
    assert_eq!(port()?, "silent");
    Ok(())
}

/// Both agents are killed and started again under a connection that ticks. The
/// login goes through an agent, so the probe is left alone meanwhile.
fn agents_start_anew_unnoticed(cloud: &Cloud, probe: &Probe, server: &str) -> anyhow::Result<()> {
    probe.leave(cloud, "client", &["ticks", server, "7000", "12"])?;
    std::thread::sleep(Duration::from_secs(2));
    for node in ["node-1", "node-2"] {
        cloud.process(node)?.kill()?;
    }
    cloud.start()?;
    let said = eventually("the connection ends", Duration::from_secs(60), || {
        let said = cloud.ssh("client", &["cat", "said"])?;
        anyhow::ensure!(said.contains("lasted") || said.contains("ended"), "{said}");
        Ok(said)
    })?;
    println!("while both agents started anew: {said}");
    assert!(said.contains("lasted"), "{said}");
    Ok(())
}
