//! The one task that owns every machine of this host: the shell around
//! [`core::Core`]. It brings the core its news and carries out what it says, in
//! order, with the driver, the image cache and the journal.
//!
//! ```text
//! wishes, ends of runs, answers of verbs, time ─► core ─► record ─► verb
//!                                                  └─► view (watch) ─► session
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
//!   disk was refused: nothing else could go on meanwhile anyway.
//! - Until the leader has sent its list once, nothing is planned: the host
//!   comes back as it is and waits (no controller, no change).

pub mod core;
#[cfg(test)]
mod test;
mod verb;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use nube_types::InstanceId;
use nube_types::limits::LEASE_MS;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinError, JoinSet};

use self::core::{Core, Input, Output};
use crate::driver::{Driver, DriverError, GuestEnded};
use crate::fencer::Deadline;
use crate::host::clock::Clock;
use crate::image::Images;
use crate::instance::{Done, Verb, Wish};
use crate::journal::{self, Journal};
use crate::lease::Held;
use crate::log::chain;
use crate::report::View;

/// The longest sleep: only bounds how late a missed wake-up can be.
const IDLE_MS: u64 = 60_000;

/// What the session tells the reconciler.
#[derive(Debug)]
pub enum Event {
    /// The leader's list, complete.
    Desired {
        /// One for each instance of this node.
        wishes: Vec<Wish>,
        /// How often this node had been fenced when the list was read.
        fence_epoch: u64,
    },
    /// The obeyed leader granted a lease.
    Lease(Held),
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

/// Makes the host look like the leader's wishes.
pub struct Reconciler<D, I> {
    core: Core,
    driver: Arc<D>,
    images: Arc<I>,
    journal: Journal,
    lanes: verb::Lanes,
    verbs: JoinSet<(InstanceId, u64, Done)>,
    /// Fetches may be overtaken.
    fetches: BTreeMap<InstanceId, AbortHandle>,
    /// As the core said last.
    wake_at_ms: Option<u64>,
    clock: Clock,
    deadline: Deadline,
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
        deadline: Deadline,
        clock: Clock,
    ) -> Result<(Self, watch::Receiver<View>), Error> {
        let records = journal.load()?;
        // Taken first: a guest that ends during recovery must not be missed.
        let ended = driver.ended();
        let (found, unexplained) = driver.recover().await.map_err(Error::Driver)?;
        let core = Core::recover(records, found, unexplained)
            // Nothing beyond a whole lease can have been granted.
            .with_deadline(deadline.read().min(clock.now_ms().saturating_add(LEASE_MS)));
        tracing::info!(
            instances = core.view().instances.len(),
            unexplained = core.view().unknown.len(),
            "looked at the host"
        );
        let (view, seen) = watch::channel(core.view().clone());
        let reconciler = Self {
            core,
            driver,
            images,
            journal,
            lanes: verb::Lanes::new(),
            verbs: JoinSet::new(),
            fetches: BTreeMap::new(),
            wake_at_ms: None,
            clock,
            deadline,
            view,
            ended,
        };
        Ok((reconciler, seen))
    }

    /// Runs until the sender of events is gone. Guests stay as they are.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        self.feed(Input::Started);
        loop {
            let sleep = self.sleep();
            tokio::select! {
                biased;
                Some(ended) = self.ended.recv() => {
                    tracing::info!(instance = %ended.instance, run = %ended.run.id(), exit = ?ended.exit, "guest ended");
                    self.feed(Input::GuestEnded(ended));
                }
                // Every end, an aborted fetch's too: a pattern that did not match it
                // would switch this branch off, and the next verb's end would be
                // noticed only at the next event.
                joined = self.verbs.join_next(), if !self.verbs.is_empty() => self.joined(joined),
                event = events.recv() => match event {
                    Some(Event::Desired { wishes, fence_epoch }) => {
                        self.feed(Input::Desired { wishes, fence_epoch });
                    }
                    Some(Event::Lease(held)) => self.feed(Input::Lease(held)),
                    Some(Event::Told(ids)) => self.feed(Input::Told(ids)),
                    None => return,
                },
                () = tokio::time::sleep(sleep) => self.feed(Input::Wake),
            }
        }
    }

    fn sleep(&self) -> Duration {
        let wait_ms = self.wake_at_ms.map_or(IDLE_MS, |at_ms| {
            at_ms.saturating_sub(self.clock.now_ms()).min(IDLE_MS)
        });
        Duration::from_millis(wait_ms)
    }

    fn joined(&mut self, joined: Option<Result<(InstanceId, u64, Done), JoinError>>) {
        match joined {
            Some(Ok((instance, token, done))) => {
                if let Done::Failed(reason) = &done {
                    tracing::warn!(%instance, reason = %reason.escape_debug(), "step failed");
                }
                self.feed(Input::VerbFinished {
                    instance,
                    token,
                    done,
                });
            }
            Some(Err(error)) if error.is_panic() => tracing::error!(%error, "a verb panicked"),
            Some(Err(_)) | None => {}
        }
    }

    /// Gives the core its news, and the answers to what it asks for, until it
    /// asks for nothing more.
    fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.wake_at_ms = None;
            for output in self.core.handle(self.clock.now_ms(), input) {
                inputs.extend(self.carry_out(output));
            }
        }
    }

    /// Does what the core says; the answer, where there is one at once.
    fn carry_out(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::PinImages(digests) => self.images.pin(digests),
            Output::WriteRecord(record) => {
                let written = self.journal.write(&record);
                return Some(recorded(record.instance, written));
            }
            Output::Forget(id) => return Some(recorded(id, self.journal.forget(id))),
            Output::Prolong { deadline_ms } => {
                if let Err(error) = self.deadline.prolong(deadline_ms) {
                    tracing::error!(%error, "cannot tell fencers of the lease: leased guests will end");
                }
            }
            Output::AbortFetch(id) => {
                if let Some(fetch) = self.fetches.remove(&id) {
                    fetch.abort();
                }
            }
            Output::Begin {
                instance,
                token,
                verb,
                wish,
            } => self.begin(instance, token, verb, *wish),
            Output::Show(change) => self.view.send_modify(|view| view.apply(change)),
            Output::WakeAt(at_ms) => self.wake_at_ms = Some(at_ms),
        }
        None
    }

    fn begin(&mut self, instance: InstanceId, token: u64, verb: Verb, wish: Wish) {
        tracing::info!(%instance, ?verb, version = ?wish.version, "step begins");
        let work = verb::run(
            self.driver.clone(),
            self.images.clone(),
            self.lanes.clone(),
            verb,
            wish,
        );
        let handle = self
            .verbs
            .spawn(async move { (instance, token, work.await) });
        if verb == Verb::Fetch {
            self.fetches.retain(|_, fetch| !fetch.is_finished());
            self.fetches.insert(instance, handle);
        }
    }
}

fn recorded(instance: InstanceId, written: Result<(), journal::Error>) -> Input {
    if let Err(error) = &written {
        tracing::error!(%instance, error = %chain(error), "cannot write the journal");
    }
    Input::Recorded {
        instance,
        durable: written.is_ok(),
    }
}
