//! What the cloud costs a launch: seconds from `cloudctl launch` to the SSH
//! banner, over the same guest started by hand with the same QEMU command line,
//! in turns; and where the time goes, stage by stage.
//!
//! NIC backend: tap in the cloud, user network by hand; all other arguments are
//! equal. By hand there is no cgroup, no network namespace, no user of its own.

mod hand;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use nube_harness::{Cloud, Size, guest_of};

use crate::figure::{Aim, Figure};
use hand::Recipe;

/// Ends a run that hangs; nothing is measured with it.
pub const LIMIT: Duration = Duration::from_secs(120);
/// As `cloudctl` tells them, and what had come to its end by then.
const STAGES: [(&str, &str); 6] = [
    ("placed", "stage: client, TLS, placement, commit"),
    ("image", "stage: wish to the host, image found"),
    ("prepare", "stage: disk, seed, port"),
    ("boot", "stage: machine process"),
    ("running", "stage: running, committed and told"),
    ("ssh", "stage: guest boots to its banner"),
];

pub fn run(quick: bool) -> anyhow::Result<Vec<Figure>> {
    let pairs = if quick { 5 } else { 11 };
    let cloud = Cloud::up(Size::default())?;
    let recipe = warm_up(&cloud)?;
    let mut times = Times::default();
    for pair in 1..=pairs {
        let name = format!("bench-{pair}");
        let dir = cloud.scratch().join(format!("hand-{pair}"));
        if pair % 2 == 1 {
            times.cloud(&cloud, &name)?;
            times.hand.push(recipe.run(&dir)?);
        } else {
            times.hand.push(recipe.run(&dir)?);
            times.cloud(&cloud, &name)?;
        }
        times.client_ms.push(client_start(&cloud)?);
    }
    times.figures()
}

/// One place for each pair.
#[derive(Default)]
struct Times {
    banner: Vec<f64>,
    hand: Vec<f64>,
    client_ms: Vec<f64>,
    /// Until the host's first word.
    control_ms: Vec<f64>,
    /// Of each stage; one that was skipped has no time.
    stages_ms: [Vec<f64>; STAGES.len()],
}

impl Times {
    fn cloud(&mut self, cloud: &Cloud, name: &str) -> anyhow::Result<()> {
        let told = through_cloud(cloud, name)?;
        let mut before = 0.0;
        for (word, at) in &told {
            let stage = STAGES.iter().position(|(stage, _)| stage == word);
            if let Some(stage) = stage {
                self.stages_ms[stage].push((at - before) * 1e3);
                before = *at;
            }
        }
        let hosts = |(word, _): &&(String, f64)| word != "placed";
        let first = told.iter().find(hosts).context("no stage was told")?;
        self.control_ms.push(first.1 * 1e3);
        let last = told.iter().rfind(|(word, _)| word == "ssh");
        self.banner.push(last.context("no banner was told")?.1);
        Ok(())
    }

    fn figures(&self) -> anyhow::Result<Vec<Figure>> {
        let mut figures = vec![
            Figure::beside(
                "launch to SSH banner",
                "s",
                &self.banner,
                "by hand",
                &self.hand,
            )?
            .aim(Aim::AtMost(1.10)),
            Figure::alone("control plane's part", "ms", &self.control_ms)?
                .aim(Aim::AtMost(40.0))
                .note("exec of cloudctl to the host's first word"),
            Figure::alone("stage: start of cloudctl alone", "ms", &self.client_ms)?
                .note("`cloudctl --version`; part of the next line"),
        ];
        for ((_, name), times) in STAGES.iter().zip(&self.stages_ms) {
            if !times.is_empty() {
                figures.push(Figure::alone(name, "ms", times)?);
            }
        }
        Ok(figures)
    }
}

fn client_start(cloud: &Cloud) -> anyhow::Result<f64> {
    let begun = Instant::now();
    cloud.ctl(&["--version"])?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

/// One guest on each host, so that no timed launch fetches the image, and the
/// command line of one of them.
fn warm_up(cloud: &Cloud) -> anyhow::Result<Recipe> {
    let record = cloud.launch("warm-1")?;
    cloud.launch("warm-2")?;
    let id = record["id"].as_str().context("an id")?;
    let disk_mib = record["disk_mib"].as_str().context("a disk")?.parse()?;
    let recipe = Recipe::of(guest_of(id)?.pid, disk_mib)?;
    delete(cloud, "warm-1")?;
    delete(cloud, "warm-2")?;
    Ok(recipe)
}

/// The first word of each stage that `cloudctl` told, and after how many seconds.
fn through_cloud(cloud: &Cloud, name: &str) -> anyhow::Result<Vec<(String, f64)>> {
    let mut command = cloud.command(&["launch", "micro", "--name", name])?;
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let (mut stages, mut told) = (Vec::new(), String::new());
    for line in BufReader::new(child.stderr.take().context("stderr")?).lines() {
        let line = line?;
        let stage = line.split(": ").nth(1).unwrap_or_default();
        let word = stage.split(' ').next().unwrap_or_default();
        stages.push((word.to_owned(), begun.elapsed().as_secs_f64()));
        told = told + &line + "\n";
    }
    let status = child.wait()?;
    anyhow::ensure!(status.success(), "launch: {status}\n{told}");
    delete(cloud, name)?;
    Ok(stages)
}

fn delete(cloud: &Cloud, name: &str) -> anyhow::Result<()> {
    let record = cloud.json(&["show", name])?;
    cloud.ctl(&["delete", name])?;
    cloud.wait_state(
        record["id"].as_str().context("an id")?,
        "INSTANCE_STATE_DELETED",
    )?;
    Ok(())
}
