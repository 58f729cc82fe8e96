//! The one task that owns every machine of this host.
//!
//! ```text
//! wishes, ends of runs, answers of verbs, time ─► machine ─► plan ─► record ─► verb
//!                                                    └─► view (watch) ─► session
//! ```
//!
//! Design notes
//! - No locks: everything that changes a machine arrives at this task.
//! - The order is always plan, note in memory, write the record, act. A crash
//!   between any two leaves a record that recovery understands: the step is
//!   done again, and every verb may be repeated.
//! - A state is shown to the leader only after its record is durable, so the
//!   control plane never knows more than the host remembers.
//! - No retry loops: a failed verb becomes a state with a time, and the plan
//!   tries again. The common path and the recovery path are the same code.
//! - Records are written on this task: 0.2 to 4 ms each. A second task for the
//!   disk was refused: the order above would have to be rebuilt with messages.
//! - Until the leader has sent its list once, nothing is planned: the host
//!   comes back as it is and waits (no controller, no change).

#[cfg(test)]
mod test;
mod verb;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use nube_types::InstanceId;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::driver::{Driver, DriverError, GuestEnded, ImageSpec, Recovered};
use crate::image::{self, Images};
use crate::instance::record::{Found, Record};
use crate::instance::{Desire, Done, Machine, Verb, Wish};
use crate::journal::{self, Journal};
use crate::log::chain;
use crate::plan::{Action, plan};
use crate::report::{self, View};

/// A record that could not be written is tried again this soon.
const RECORD_RETRY_MS: u64 = 1_000;
/// The longest sleep: only bounds how late a missed wake-up can be.
const IDLE_MS: u64 = 60_000;

/// What the session tells the reconciler.
#[derive(Debug)]
pub enum Event {
    /// The leader's list, complete.
    Desired(Vec<Wish>),
    /// The leader has committed that these were found dead.
    Told(Vec<InstanceId>),
}

/// Why the reconciler could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The records could not be read.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The host could not be looked at.
    #[error("cannot see what is on this host: {0}")]
    Driver(DriverError),
}

/// One instance here and what is wanted of it.
struct Slot {
    machine: Machine,
    wish: Option<Wish>,
    /// What is on disk.
    durable: Option<Record>,
    /// Needed even when no wish is known: the overlay of a stopped guest.
    image: Option<ImageSpec>,
    /// Look again at this time.
    wake_at_ms: Option<u64>,
    /// Set for a fetch: it may be overtaken.
    fetch: Option<AbortHandle>,
}

/// Makes the host look like the leader's wishes.
pub struct Reconciler<D, I> {
    driver: Arc<D>,
    images: Arc<I>,
    journal: Journal,
    lanes: verb::Lanes,
    slots: BTreeMap<InstanceId, Slot>,
    /// What the driver cannot explain.
    unexplained: Vec<String>,
    /// Whether the leader's list has come.
    listed: bool,
    verbs: JoinSet<(InstanceId, u64, Done)>,
    next_token: u64,
    started: Instant,
    view: watch::Sender<View>,
    ended: mpsc::Receiver<GuestEnded>,
}

impl<D: Driver, I: Images> Reconciler<D, I> {
    /// Looks at the host and the journal; nothing is changed. The receiver
    /// shows what is here from then on.
    pub async fn recover(
        driver: Arc<D>,
        images: Arc<I>,
        journal: Journal,
    ) -> Result<(Self, watch::Receiver<View>), Error> {
        let mut records = journal.load()?;
        // Taken first: a guest that ends during recovery must not be missed.
        let ended = driver.ended();
        let (found, unexplained) = driver.recover().await.map_err(Error::Driver)?;
        let mut slots = BTreeMap::new();
        for found in found {
            let (spec, found) = match found {
                Recovered::Prepared(spec) => {
                    let found = Found::Prepared(spec.epoch);
                    (spec, found)
                }
                Recovered::Running(spec, run) => {
                    let found = Found::Running(spec.epoch, run);
                    (spec, found)
                }
            };
            let id = spec.instance;
            slots.insert(
                id,
                Slot::recovered(id, records.remove(&id), found, Some(spec.image)),
            );
        }
        for (id, record) in records {
            slots.insert(id, Slot::recovered(id, Some(record), Found::Absent, None));
        }
        tracing::info!(
            instances = slots.len(),
            unexplained = unexplained.len(),
            "looked at the host"
        );
        let (view, seen) = watch::channel(View::default());
        let reconciler = Self {
            driver,
            images,
            journal,
            lanes: verb::Lanes::new(),
            slots,
            unexplained,
            listed: false,
            verbs: JoinSet::new(),
            next_token: 0,
            started: Instant::now(),
            view,
            ended,
        };
        reconciler.pin_images();
        reconciler.show_all();
        Ok((reconciler, seen))
    }

    /// Runs until the sender of events is gone. Guests stay as they are.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        let ids: Vec<_> = self.slots.keys().copied().collect();
        ids.into_iter().for_each(|id| self.settle(id));
        loop {
            let sleep = self.sleep();
            tokio::select! {
                biased;
                Some(ended) = self.ended.recv() => self.guest_ended(ended),
                // Every end, an aborted fetch's too: a pattern that did not match it
                // would switch this branch off, and the next verb's end would be
                // noticed only at the next event.
                joined = self.verbs.join_next(), if !self.verbs.is_empty() => match joined {
                    Some(Ok((id, token, done))) => self.verb_finished(id, token, done),
                    Some(Err(error)) if error.is_panic() => {
                        tracing::error!(%error, "a verb panicked");
                    }
                    Some(Err(_)) | None => {}
                },
                event = events.recv() => match event {
                    Some(Event::Desired(wishes)) => self.desired(wishes),
                    Some(Event::Told(ids)) => self.told(ids),
                    None => return,
                },
                () = tokio::time::sleep(sleep) => self.wake(),
            }
        }
    }

    fn now_ms(&self) -> u64 {
        // Saturates after 584 million years.
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self) -> Duration {
        let next = self.slots.values().filter_map(|slot| slot.wake_at_ms).min();
        let wait_ms = next.map_or(IDLE_MS, |at_ms| {
            at_ms.saturating_sub(self.now_ms()).min(IDLE_MS)
        });
        Duration::from_millis(wait_ms)
    }

    fn wake(&mut self) {
        let now_ms = self.now_ms();
        let due = |slot: &Slot| slot.wake_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let ids: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| due(slot))
            .map(|(id, _)| *id)
            .collect();
        ids.into_iter().for_each(|id| self.settle(id));
    }

    fn desired(&mut self, wishes: Vec<Wish>) {
        self.listed = true;
        let listed: BTreeSet<_> = wishes.iter().map(|wish| wish.instance).collect();
        for wish in wishes {
            let id = wish.instance;
            let slot = self.slots.entry(id).or_insert_with(|| Slot::new(id));
            if slot.machine.take(&wish) {
                slot.wish = Some(wish);
            } else {
                tracing::warn!(instance = %id, wish = ?wish.version, "refused an older wish");
            }
        }
        for (id, slot) in &mut self.slots {
            if !listed.contains(id) {
                slot.wish = None;
            }
        }
        self.pin_images();
        let ids: Vec<_> = self.slots.keys().copied().collect();
        ids.into_iter().for_each(|id| self.settle(id));
        self.show_all();
    }

    fn told(&mut self, ids: Vec<InstanceId>) {
        for id in ids {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.machine.told_dead();
                self.settle(id);
            }
        }
    }

    fn guest_ended(&mut self, ended: GuestEnded) {
        tracing::info!(instance = %ended.instance, run = %ended.run.id(), exit = ?ended.exit, "guest ended");
        if let Some(slot) = self.slots.get_mut(&ended.instance) {
            slot.machine.ended(&ended.run, ended.exit);
            self.settle(ended.instance);
        }
    }

    fn verb_finished(&mut self, id: InstanceId, token: u64, done: Done) {
        let now_ms = self.now_ms();
        let Some(slot) = self.slots.get_mut(&id) else {
            return;
        };
        if let Done::Failed(reason) = &done {
            tracing::warn!(instance = %id, reason = %reason.escape_debug(), "step failed");
        }
        slot.machine
            .finished(token, done, slot.wish.as_ref(), now_ms);
        self.settle(id);
    }

    /// Takes steps until nothing is left to do now, then shows what is.
    fn settle(&mut self, id: InstanceId) {
        while self.take_step(id) {}
        if let Some(slot) = self.slots.get(&id) {
            let seen = report::observe(&slot.machine);
            self.view.send_if_modified(|view| {
                let old = view.instances.insert(id, seen.clone());
                old.as_ref() != Some(&seen)
            });
        }
    }

    /// One turn of plan, note, record, act. Answers whether to look again.
    fn take_step(&mut self, id: InstanceId) -> bool {
        let (now_ms, listed) = (self.now_ms(), self.listed);
        let Some(slot) = self.slots.get_mut(&id) else {
            return false;
        };
        slot.wake_at_ms = None;
        let planned = if listed {
            plan(slot.wish.as_ref(), &slot.machine, now_ms)
        } else {
            crate::plan::Plan::default()
        };
        let Some(action) = planned.action else {
            slot.wake_at_ms = planned.wake_at_ms;
            self.write_record(id, now_ms);
            return false;
        };
        if action == Action::Forget {
            self.forget(id);
            return false;
        }
        let Some(wish) = slot.wish.clone() else {
            return false;
        };
        self.next_token += 1;
        let token = self.next_token;
        slot.machine.begin(&action, &wish, token, now_ms);
        let recorded = self.write_record(id, now_ms);
        let Action::Do(verb) = action else {
            return recorded;
        };
        tracing::info!(instance = %id, ?verb, version = ?wish.version, "step begins");
        self.act(id, verb, &wish, token, recorded)
    }

    /// Starts a verb. Without a durable record nothing new is made; what ends
    /// or removes goes on, or a full disk could never be emptied.
    fn act(&mut self, id: InstanceId, verb: Verb, wish: &Wish, token: u64, recorded: bool) -> bool {
        let now_ms = self.now_ms();
        let Some(slot) = self.slots.get_mut(&id) else {
            return false;
        };
        if let Some(fetch) = slot.fetch.take() {
            fetch.abort();
        }
        if !recorded && matches!(verb, Verb::Prepare | Verb::Start) {
            let reason = "the agent cannot write its journal (is the host's disk full?)".to_owned();
            slot.machine
                .finished(token, Done::Failed(reason), Some(wish), now_ms);
            return true;
        }
        if let Desire::Running(spec) = &wish.desire {
            slot.image = Some(spec.image.clone());
        }
        let work = verb::run(
            self.driver.clone(),
            self.images.clone(),
            self.lanes.clone(),
            verb,
            wish.clone(),
        );
        let handle = self.verbs.spawn(async move { (id, token, work.await) });
        slot.fetch = (verb == Verb::Fetch).then_some(handle);
        false
    }

    /// Brings the file up to date with the machine; false when that failed.
    fn write_record(&mut self, id: InstanceId, now_ms: u64) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else {
            return true;
        };
        let record = slot.machine.record();
        if record == slot.durable {
            return true;
        }
        let written = match &record {
            Some(record) => self.journal.write(record),
            None => self.journal.forget(id),
        };
        match written {
            Ok(()) => slot.durable = record,
            Err(error) => {
                tracing::error!(instance = %id, error = %chain(&error), "cannot write the journal");
                let again_ms = now_ms.saturating_add(RECORD_RETRY_MS);
                slot.wake_at_ms = Some(
                    slot.wake_at_ms
                        .map_or(again_ms, |at_ms| at_ms.min(again_ms)),
                );
                return false;
            }
        }
        true
    }

    fn forget(&mut self, id: InstanceId) {
        if let Err(error) = self.journal.forget(id) {
            // The record is of an instance without traces: harmless until the
            // next start of the agent, which forgets it again.
            tracing::error!(instance = %id, error = %chain(&error), "cannot forget a record");
        }
        self.slots.remove(&id);
        self.view
            .send_if_modified(|view| view.instances.remove(&id).is_some());
    }

    fn pin_images(&self) {
        let mut pinned = BTreeSet::new();
        for slot in self.slots.values() {
            let wished = slot.wish.as_ref().and_then(|wish| match &wish.desire {
                Desire::Running(spec) => Some(&spec.image),
                _ => None,
            });
            for image in slot.image.iter().chain(wished) {
                pinned.extend(image::digests(image).cloned());
            }
        }
        self.images.pin(pinned);
    }

    fn show_all(&self) {
        let mut unknown = self.unexplained.clone();
        let quarantined = |slot: &&Slot| self.listed && slot.wish.is_none();
        unknown.extend(self.slots.values().filter(quarantined).map(|slot| {
            format!(
                "instance {} is not in the controllers' list; it is left alone",
                slot.machine.id
            )
        }));
        let shown = |(id, slot): (&InstanceId, &Slot)| (*id, report::observe(&slot.machine));
        let view = View {
            instances: self.slots.iter().map(shown).collect(),
            unknown,
        };
        self.view.send_if_modified(|old| {
            let changed = *old != view;
            *old = view;
            changed
        });
    }
}

impl Slot {
    fn new(id: InstanceId) -> Self {
        Self {
            machine: Machine::new(id),
            wish: None,
            durable: None,
            image: None,
            wake_at_ms: None,
            fetch: None,
        }
    }

    fn recovered(
        id: InstanceId,
        record: Option<Record>,
        found: Found,
        image: Option<ImageSpec>,
    ) -> Self {
        let durable = record.clone();
        let machine = Machine::recovered(id, record, found);
        Self {
            machine,
            durable,
            image,
            ..Self::new(id)
        }
    }
}
