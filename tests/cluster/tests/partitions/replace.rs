//! `replace` on real hosts: a host that reaches no controller stops its
//! `replace` guest by itself, and only then does a second copy start elsewhere
//! (C1). Its `keep` guests do not notice.

use std::time::Duration;

use anyhow::Context;
use nube_harness::eventually;
use nube_harness::lab::{Cuts, Lab};

use super::guests::{self, Guest, Life, Trace};

/// A lease, its wait, the detection, an image, a boot: on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const NAME: &str = "replaced";

/// Cuts the host of a `replace` guest off until the guest runs elsewhere.
pub fn play(lab: &mut Lab) -> anyhow::Result<()> {
    let trace = Trace::start();
    let guest = guests::launch(lab, NAME, &["--on-host-failure", "replace"])?;
    let kept = guests::launch_on(lab, "kept", &guest.host)?;
    let before = kept.lives(lab)?.pop().context("a beacon")?;
    let mut cuts = Cuts::default();
    cuts.between(std::slice::from_ref(&guest.host), &lab.controllers());
    lab.cut(&cuts)?;
    let (second, host) = second_life(lab, &guest)?;
    // Before the cut heals: then the old host clears away what it had.
    let first = guest.lives(lab)?.pop().context("a first life")?;
    println!(
        "{NAME}: on {} until {}, on {host} from {}",
        guest.host, first.last_s, second.first_s
    );
    anyhow::ensure!(first.boot != second.boot, "C1: one boot on two hosts");
    // Their clocks are this machine's. The guest's is set from it at the boot, in
    // whole seconds.
    anyhow::ensure!(
        first.last_s <= second.first_s,
        "C1: {first:?} overlaps {second:?}"
    );
    trace.verdict()?;
    anyhow::ensure!(
        trace.processes_of(&guest.id) == 2,
        "a life without a process"
    );
    kept.runs_on(lab, &before)
        .context("C12: cut off with its host")?;
    lab.heal()?;
    eventually("the old host gives up what it had", PATIENCE, || {
        anyhow::ensure!(guest.lives(lab)?.is_empty(), "its files are there");
        Ok(())
    })?;
    trace.verdict()?;
    for name in [NAME, "kept"] {
        lab.ctl(&["delete", name, "--wait"])?;
    }
    Ok(())
}

/// The first life on another host, and that host.
fn second_life(lab: &Lab, guest: &Guest) -> anyhow::Result<(Life, String)> {
    eventually(&format!("{NAME} runs elsewhere"), PATIENCE, || {
        let shown = lab.json(&["show", NAME])?;
        let host = shown["node_name"].as_str().context("a host")?;
        anyhow::ensure!(host != guest.host, "it is still on {host}");
        let life = guest.lives_on(lab, host)?.into_iter().next();
        Ok((life.context("no beacon yet")?, host.to_owned()))
    })
}
