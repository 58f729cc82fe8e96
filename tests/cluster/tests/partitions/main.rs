//! A whole cell on a wire of its own, cut, slowed, killed and paused, round after
//! round, under clients that never stop. After each round everything is whole
//! again, and the judges look: nothing acknowledged is lost (A1), reads were
//! current (A2), no request had two effects (A3), states are equal (A4), watches
//! have no gap (A9), all comes to rest (A10), no guest ran twice (C1) or noticed
//! (C12), and the bill is exact (D1).
//!
//! `NUBE_ROUNDS` says how many rounds (default 20), `NUBE_SEED` where their seeds
//! begin, `NUBE_STRIDE` how far apart they are (default 1; a seed's kind is its
//! remainder, so 19 plays one kind again and again), `NUBE_KILLS` how many leaders
//! die for the failover figure (default 50); `NUBE_REPLACE=0` leaves out the host
//! whose `replace` guest begins anew elsewhere.

mod client;
mod failover;
mod faults;
mod guests;
mod history;
mod judge;
mod load;
mod replace;
mod round;
mod settle;
mod watcher;

use std::time::Instant;

use anyhow::Context;
use nube_harness::lab::{self, Lab, Plan};
use nube_harness::micro_image;

use client::Cell;
use round::Rounds;

/// Five controllers: with three, a ring and a bridge are the same, and a minority
/// is one. Real guests on two hosts, the load's on a third.
const PLAN: Plan = Plan {
    controllers: 5,
    hosts: 2,
    simulated: 1,
    // Often enough that members which were away get one, and that crashes meet one.
    controller_settings: "snapshot_every_entries = 300",
};
const ROUNDS: u64 = 20;
const KILLS: u64 = 50;

/// A number from the environment.
fn number(name: &str, default: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}: `{text}`")),
        Err(_) => Ok(default),
    }
}

#[test]
fn a_cell_keeps_its_promises_under_every_kind_of_fault() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rounds = number("NUBE_ROUNDS", ROUNDS)?;
    let seed = number("NUBE_SEED", 0)?;
    let kills = number("NUBE_KILLS", KILLS)?;
    lab::within(PLAN, |lab| {
        // Made here: its threads live where the lab's clients do.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let cell = {
            let _inside = runtime.enter();
            Cell::of(lab)?
        };
        lab.ctl(&["image", "import", micro_image()?.to_str().context("UTF-8")?])?;
        if rounds > 0 {
            play(lab, &runtime, &cell, seed, rounds)?;
        }
        if number("NUBE_REPLACE", 1)? > 0 {
            replace::play(lab)
                .context("a host alone, and `replace`: NUBE_ROUNDS=0 NUBE_KILLS=0")?;
        }
        if kills > 0 {
            let begun = Instant::now();
            let count = usize::try_from(kills)?;
            let figures = failover::measure(lab, &runtime, &cell, count)?;
            println!(
                "{kills} leader kills in {} s: next acknowledged write after {} ms (p50), {} ms (p99)",
                begun.elapsed().as_secs(),
                figures.percentile(50).as_millis(),
                figures.percentile(99).as_millis()
            );
            runtime.block_on(settle::verify_bill(&cell))?;
        }
        Ok(())
    })
}

fn play(
    lab: &mut Lab,
    runtime: &tokio::runtime::Runtime,
    cell: &Cell,
    seed: u64,
    rounds: u64,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut played = Rounds::begin(lab, runtime, cell)?;
    let stride = usize::try_from(number("NUBE_STRIDE", 1)?.max(1))?;
    let seeds = (seed..).step_by(stride);
    for seed in seeds.take(usize::try_from(rounds)?) {
        played.play(lab, seed).with_context(|| {
            format!(
                "round {seed} ({:?}); the same faults again: NUBE_SEED={seed} NUBE_ROUNDS=1 \
                 NUBE_KILLS=0 cargo test --workspace --test partitions -- --nocapture",
                faults::Kind::of(seed)
            )
        })?;
    }
    played.end(lab)?;
    println!("{rounds} rounds in {} s", begun.elapsed().as_secs());
    Ok(())
}
