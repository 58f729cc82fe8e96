//! What the cloud costs a launch: seconds from `cloudctl launch` to the SSH
//! banner, over the same guest started by hand with the same QEMU command line.
//! Pairs, interleaved in one run: absolute times of a shared machine say little.
//!
//! ```text
//! cargo run --release -p nube-harness --example launch [PAIRS]
//! ```

#[path = "launch/hand.rs"]
mod hand;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use anyhow::Context;
use hand::Recipe;
use nube_harness::{Cloud, Size, guest_of};

const PAIRS: usize = 5;

fn main() -> anyhow::Result<()> {
    let pairs = std::env::args().nth(1).map_or(Ok(PAIRS), |n| n.parse())?;
    let load_before = fs::read_to_string("/proc/loadavg")?;
    let cloud = Cloud::up(Size::default())?;
    let recipe = warm_up(&cloud)?;
    println!("NIC backend: tap in the cloud, user network by hand; all other arguments are equal.");
    println!("By hand there is no cgroup, no network namespace and no user of its own.\n");
    println!("pair first cloud s (placed running) hand s (network) ratio");
    let mut columns: [Vec<f64>; 6] = Default::default();
    for pair in 1..=pairs {
        let in_cloud = |cloud: &Cloud| through_cloud(cloud, &format!("bench-{pair}"));
        let by_hand = || recipe.run(&cloud.scratch().join(format!("hand-{pair}")));
        let cloud_first = pair % 2 == 1;
        let (stages, hand) = if cloud_first {
            (in_cloud(&cloud)?, by_hand()?)
        } else {
            let hand = by_hand()?;
            (in_cloud(&cloud)?, hand)
        };
        let stage = |name: &str| stages.get(name).copied().unwrap_or(f64::NAN);
        let (total, ratio) = (stage("end"), stage("end") / hand.banner);
        let (placed, running) = (stage("placed"), stage("running"));
        println!(
            "{pair:4} {:>5} {total:7.3} ({placed:6.3} {running:7.3}) {:6.3} ({:7.3}) {ratio:5.2}",
            if cloud_first { "cloud" } else { "hand" },
            hand.banner,
            hand.network
        );
        let row = [total, placed, running, hand.banner, hand.network, ratio];
        columns.iter_mut().zip(row).for_each(|(c, v)| c.push(v));
    }
    println!();
    let names = [
        "cloud: banner, s",
        "cloud: placed, s",
        "cloud: running, s",
        "hand: banner, s",
        "hand: network up, s",
        "ratio cloud/hand",
    ];
    for (name, values) in names.iter().zip(&mut columns) {
        values.sort_by(f64::total_cmp);
        let (min, max) = (values.first(), values.last());
        let (min, max) = min.zip(max).context("no pair was run")?;
        println!(
            "{name:20} median {:.3}  min {min:.3}  max {max:.3}",
            median(values)
        );
    }
    let load_after = fs::read_to_string("/proc/loadavg")?;
    println!(
        "load before {}, after {}",
        load_before.trim(),
        load_after.trim()
    );
    Ok(())
}

/// Of sorted values.
fn median(sorted: &[f64]) -> f64 {
    let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
    (sorted[low] + sorted[high]) / 2.0
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

/// Seconds after which `cloudctl` told each stage; `end` is its own end.
fn through_cloud(cloud: &Cloud, name: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut command = cloud.command(&["launch", "micro", "--name", name])?;
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stages = BTreeMap::new();
    let mut told = String::new();
    for line in BufReader::new(child.stderr.take().context("stderr")?).lines() {
        let line = line?;
        let stage = line.split(": ").nth(1).unwrap_or_default();
        let word = stage.split(' ').next().unwrap_or_default();
        stages.insert(word.to_owned(), begun.elapsed().as_secs_f64());
        told = told + &line + "\n";
    }
    let status = child.wait()?;
    stages.insert("end".to_owned(), begun.elapsed().as_secs_f64());
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
