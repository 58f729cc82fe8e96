//! One round: clients begin, a fault comes and goes, everything settles, and the
//! judges look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Context;
use nube_harness::lab::Lab;
use nube_proto::v1;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Runtime;

use super::client::Cell;
use super::faults::{BUSY, Fault, Kind};
use super::guests::{self, Guest, Life, Trace};
use super::history::{History, Recorder};
use super::load::{self, Load};
use super::watcher::Watcher;
use super::{judge, settle};

/// Clients are under way when the fault comes.
const BEFORE: Duration = Duration::from_millis(400);
/// How long a fault lasts: several elections.
const LASTS_MS: std::ops::Range<u64> = 2_000..4_500;
const WATCHERS: usize = 2;
const GUESTS: usize = 2;
/// The host whose labels are the registers: the load's instances are there too.
const REGISTERS_OF: &str = "host-3";
const PATIENCE: Duration = Duration::from_secs(60);

/// All rounds of one cell.
pub struct Rounds<'a> {
    runtime: &'a Runtime,
    cell: &'a Cell,
    recorder: Recorder,
    watchers: Vec<Watcher>,
    guests: Vec<(Guest, Life)>,
    trace: Trace,
    /// Id of the host with the registers.
    node: String,
    /// Keys of the rounds before.
    standing: BTreeSet<String>,
    /// All before is judged.
    revision: u64,
    calls: usize,
    resumed: usize,
    crashes: BTreeMap<&'static str, usize>,
}

impl<'a> Rounds<'a> {
    /// Launches the guests and lets the watchers begin.
    pub fn begin(lab: &Lab, runtime: &'a Runtime, cell: &'a Cell) -> anyhow::Result<Self> {
        let trace = Trace::start();
        let mut guests = Vec::new();
        for number in 1..=GUESTS {
            let guest = guests::launch(lab, &format!("guest-{number}"), &[])?;
            let life = guest.lives(lab)?.pop().context("a beacon")?;
            guests.push((guest, life));
        }
        let _inside = runtime.enter();
        let watchers = (0..WATCHERS).map(|n| Watcher::start(cell.clone(), n));
        let mut rounds = Self {
            runtime,
            cell,
            recorder: Recorder::new(),
            watchers: watchers.collect(),
            guests,
            trace,
            node: runtime.block_on(settle::node(cell, REGISTERS_OF))?.id,
            standing: BTreeSet::new(),
            revision: 0,
            calls: 0,
            resumed: 0,
            crashes: BTreeMap::new(),
        };
        rounds.revision = runtime.block_on(rounds.rest())?;
        for watcher in &rounds.watchers {
            watcher.take();
        }
        Ok(rounds)
    }

    /// Plays one round and judges it.
    pub fn play(&mut self, lab: &mut Lab, seed: u64) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut random = StdRng::seed_from_u64(seed);
        let registers = self
            .runtime
            .block_on(settle::node(self.cell, REGISTERS_OF))?;
        let leader = self.runtime.block_on(settle::leader(self.cell))?;
        let running = {
            let _inside = self.runtime.enter();
            Load::start(self.cell, &self.recorder, &self.node, seed)
        };
        std::thread::sleep(BEFORE);
        let fault = self.fault(lab, seed, &mut random, &format!("controller-{leader}"))?;
        lab.heal()?;
        let healed = Instant::now();
        std::thread::sleep(BEFORE);
        self.runtime.block_on(running.stop())?;
        let answered = healed.elapsed();
        let revision = self.runtime.block_on(self.rest())?;
        let settled = healed.elapsed();
        let history = self.recorder.take();
        let calls = history.calls();
        let registers = registers.labels.into_iter().collect();
        self.judge(&history, &registers, revision)
            .with_context(|| fault.told.clone())?;
        self.judge_guests(lab).with_context(|| fault.told.clone())?;
        self.calls += calls;
        println!(
            "round {seed}: {:?}, {}: {calls} calls, answered after {} ms, settled after {} ms, \
             {} ms in all",
            fault.kind,
            fault.told,
            answered.as_millis(),
            settled.as_millis(),
            begun.elapsed().as_millis()
        );
        Ok(())
    }

    fn fault(
        &mut self,
        lab: &mut Lab,
        seed: u64,
        random: &mut StdRng,
        leader: &str,
    ) -> anyhow::Result<Fault> {
        let lasts = Duration::from_millis(random.random_range(LASTS_MS));
        let kind = Kind::of(seed);
        let fault = kind.begin(lab, random, leader)?;
        std::thread::sleep(lasts);
        if let Some(point) = fault.crashed_at {
            *self.crashes.entry(point).or_default() += 1;
        }
        if kind == Kind::CrashHost {
            lab.heal()?;
            for name in BUSY {
                lab.ctl(&["delete", name, "--wait"])?;
            }
        }
        Ok(fault)
    }

    /// Waits until the cell rests and every watcher knows all of it; the revision
    /// of the last that happened.
    async fn rest(&self) -> anyhow::Result<u64> {
        let begun = Instant::now();
        // Something that watchers are told of, after all that came before.
        let message = v1::SetNodeLabelsRequest {
            request_id: uuid::Uuid::new_v4().to_string(),
            node: self.node.clone(),
            labels: [("rest".to_owned(), uuid::Uuid::new_v4().to_string())].into(),
            remove: Vec::new(),
        };
        let revision = load::label(self.cell, message).await?.revision;
        settle::settle(self.cell).await?;
        loop {
            let behind = self.watchers.iter().find(|w| w.revision() < revision);
            let Some(behind) = behind else {
                return Ok(revision);
            };
            anyhow::ensure!(
                begun.elapsed() < PATIENCE,
                "A9: a watcher is at {} of {revision}",
                behind.revision()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn judge(
        &mut self,
        history: &History,
        registers: &BTreeMap<String, String>,
        revision: u64,
    ) -> anyhow::Result<()> {
        let said = |verdict: Result<(), String>| verdict.map_err(anyhow::Error::msg);
        said(judge::answers(history))?;
        said(judge::registers(history, registers))?;
        said(judge::keys(history, &self.standing))?;
        self.standing = judge::standing(history, &self.standing).context("a call without end")?;
        // Watchers may be ahead of `revision`: the audit is asked for after them.
        let mut streams = Vec::new();
        for watcher in &self.watchers {
            let (seen, resumed) = watcher.take();
            streams.extend(seen);
            self.resumed += resumed;
        }
        let oldest = streams.iter().map(|stream| stream.after).min();
        let from = oldest.unwrap_or(self.revision).min(self.revision);
        let audit = self.runtime.block_on(settle::audit(self.cell, from))?;
        said(judge::effects(history, &audit))?;
        said(judge::watch(&streams, &audit))?;
        self.runtime.block_on(self.keys_are(&self.standing))?;
        self.runtime.block_on(settle::verify_bill(self.cell))?;
        self.revision = revision;
        Ok(())
    }

    /// A1 at rest, as each controller says.
    async fn keys_are(&self, wanted: &BTreeSet<String>) -> anyhow::Result<()> {
        let recorder = Recorder::new();
        for _ in 0..self.cell.count() {
            load::list_keys(self.cell, &recorder, 0).await;
        }
        let found = recorder.take();
        judge::answers(&found).map_err(anyhow::Error::msg)?;
        for list in found.lists {
            anyhow::ensure!(
                list.names == *wanted,
                "A1: {:?} are not {wanted:?}",
                list.names
            );
        }
        Ok(())
    }

    fn judge_guests(&mut self, lab: &Lab) -> anyhow::Result<()> {
        for (guest, life) in &mut self.guests {
            *life = guest.runs_on(lab, life)?;
            let processes = self.trace.processes_of(&guest.id);
            anyhow::ensure!(
                processes == 1,
                "C12: {} had {processes} processes",
                guest.name
            );
        }
        self.trace.verdict()?;
        Ok(())
    }

    /// What all rounds saw together; gives the guests back (C8).
    pub fn end(self, lab: &Lab) -> anyhow::Result<()> {
        println!(
            "{} calls judged; watchers went on elsewhere {} times; machines looked at {} times",
            self.calls,
            self.resumed,
            self.trace.verdict()?
        );
        for (guest, life) in &self.guests {
            println!("{}: {} beacons in one life", guest.name, life.count + 1);
            lab.ctl(&["delete", &guest.name, "--wait"])?;
        }
        println!("crashes at failpoints: {:?}", self.crashes);
        Ok(())
    }
}
