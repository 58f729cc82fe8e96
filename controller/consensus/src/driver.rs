//! The shell around the core: the one thread that owns raft and the state machine.
//!
//! Lives here: the loop, ticks from the real clock, and doing what the core puts out. May not:
//! decide. Started by [`start`]; talks to callers through `inbox` and to the disk through `io`.
//!
//! ```text
//! callers, peers ─► inbox ─► [driver: core + state machine] ─► log thread ─► disk
//!                                   │        ▲                      │
//!                                   ▼        └──── Persisted ───────┤
//!                               transport ◄──── votes, acks ────────┘
//! ```
//! An own thread, not a task: raft's panics must end the process, fsync back-pressure may block
//! it, and a busy async runtime must not make ticks late.

mod apply;
mod callers;
mod snapshots;
mod transfer;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::Config;
use crate::core::{Core, Input, Output};
use crate::entry::MembershipChange;
use crate::error::{Error, MembershipError, ProposeError, ReadError};
use crate::handle::{Handle, Shared};
use crate::inbox::{Control, Inbox, Limits, Taken};
use crate::io::{Log, Outside, Task};
use crate::outbox::Outbox;
use crate::state_machine::StateMachine;
use crate::status::Status;
use crate::storage::{DiskStorage, Files, SnapshotStore, Space};
use crate::transport::Transport;
use callers::Callers;
use snapshots::SnapshotJob;
use transfer::Transfers;

/// Inputs of each kind taken at once. Larger: better batching under load, later ticks.
const INPUTS_MAX: usize = 1024;
/// Proposals in the log that are not applied yet. Larger: more memory when the quorum is slow.
/// Smaller: less throughput over a long round trip.
const OPEN_PROPOSALS_MAX: usize = 65_536;

struct Driver<S: StateMachine> {
    core: Core,
    state_machine: S,
    inbox: Arc<Inbox<S::Reply>>,
    outbox: Outbox<S::Reply>,
    log: Log,
    snapshots: SnapshotStore,
    status: watch::Sender<Status>,
    space: Space,
    callers: Callers<S::Reply>,
    transfers: Transfers,
    job: SnapshotJob,
    tick: Duration,
    /// The state stands here.
    applied: u64,
    /// raft handed out everything up to here; lower than `applied` while a restart catches up.
    handed_out: u64,
    leader_ready: bool,
}

/// Opens (or forms) the member's directory, recovers, and starts its threads.
///
/// Blocks while it recovers: call it before the servers start, or on a blocking thread.
/// `transport` may be called before this returns; it queues or drops. Errors for which
/// [`Error::identity_is_lost`] holds mean: never start this id over this directory again.
pub fn start<S: StateMachine>(
    config: Config,
    state_machine: S,
    transport: Arc<dyn Transport>,
) -> Result<Handle<S::Reply>, Error> {
    start_with(config, state_machine, transport, Space::default())
}

fn start_with<S: StateMachine>(
    config: Config,
    mut state_machine: S,
    transport: Arc<dyn Transport>,
    space: Space,
) -> Result<Handle<S::Reply>, Error> {
    let empty_state = || state_machine.snapshot()();
    let (storage, recovered, snapshots) =
        DiskStorage::open_with(Files::real(), &config, space.clone(), empty_state)?;
    let incarnation = recovered.incarnation;
    if state_machine.applied_index() < recovered.snapshot.index {
        let path = snapshots.believed_path(&recovered.snapshot);
        apply::restore_from(&snapshots, &path, &mut state_machine)?;
    }
    let applied = state_machine.applied_index().max(recovered.snapshot.index);
    let job = SnapshotJob::new(&config, recovered.snapshot.index);
    let handed_out = recovered.snapshot.index;
    let seed = config.seed.map_or_else(random_seed, Ok)?;
    let core = Core::new(&config, recovered, applied, seed)?;

    let inbox = Inbox::new(Limits {
        messages: config.max_waiting_messages,
        proposals: config.max_waiting_proposals,
        reads: config.max_waiting_reads,
    });
    let outbox = Outbox {
        transport,
        inbox: Arc::clone(&inbox),
        snapshots: snapshots.clone(),
    };
    let log = Log::start(storage, outbox.clone(), Arc::clone(&space.stopping))?;
    let shared_space = space.clone();
    let (status, watched) = watch::channel(core.status());
    let mut driver = Driver {
        core,
        state_machine,
        inbox: Arc::clone(&inbox),
        outbox,
        log,
        snapshots: snapshots.clone(),
        status,
        space,
        callers: Callers::new(OPEN_PROPOSALS_MAX, config.max_waiting_reads),
        transfers: Transfers::default(),
        job,
        tick: Duration::from_millis(config.tick_ms),
        applied,
        handed_out,
        leader_ready: false,
    };
    driver.state_machine.applied(applied);
    driver.publish();
    let thread = std::thread::Builder::new()
        .name("consensus".to_owned())
        .spawn(move || crate::fatal::abort_on_panic("driver", || driver.run()))
        .map_err(|source| Error::Io {
            step: "start thread",
            path: "driver".into(),
            source,
        })?;
    Ok(handle(
        config,
        inbox,
        watched,
        incarnation,
        snapshots,
        shared_space,
        thread,
    ))
}

fn handle<R: Send + 'static>(
    config: Config,
    inbox: Arc<Inbox<R>>,
    status: watch::Receiver<Status>,
    incarnation: u64,
    snapshots: SnapshotStore,
    space: Space,
    thread: std::thread::JoinHandle<()>,
) -> Handle<R> {
    Handle {
        shared: Arc::new(Shared {
            inbox,
            status,
            id: config.id,
            cluster_id: config.cluster_id,
            incarnation,
            dir: config.dir,
            max_entry_bytes: config.max_entry_bytes,
            snapshots,
            space,
            peers: Mutex::new(BTreeMap::new()),
            driver: Mutex::new(Some(thread)),
        }),
    }
}

/// From the operating system. Logged, so that a run's timeouts can be drawn again.
fn random_seed() -> Result<u64, Error> {
    let path = std::path::Path::new("/dev/urandom");
    let mut bytes = [0; 8];
    std::fs::File::open(path)
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|source| Error::Io {
            step: "read",
            path: path.to_owned(),
            source,
        })?;
    let seed = u64::from_le_bytes(bytes);
    tracing::debug!(seed, "election seed");
    Ok(seed)
}

impl<S: StateMachine> Driver<S> {
    fn run(mut self) {
        let mut next_tick = Instant::now() + self.tick;
        loop {
            let deadline = if self.core.has_more() {
                Instant::now()
            } else {
                next_tick
            };
            let taken = self.inbox.take(INPUTS_MAX, deadline);
            let now = Instant::now();
            if now >= next_tick {
                next_tick += self.tick;
                // Missed ticks are not made up for: after a pause of this process they would say
                // that the leader was silent, when it was us.
                if next_tick < now {
                    next_tick = now + self.tick;
                }
                self.on_tick();
            }
            if self.take_in(taken) {
                return self.stop();
            }
            let output = self.core.drain();
            self.perform(output);
        }
    }

    fn on_tick(&mut self) {
        self.core.step(Input::Tick);
        self.transfers.tick();
        if self.space.full.load(Ordering::Relaxed) {
            self.lead_elsewhere();
        }
        self.publish();
    }

    /// Gives inputs to the core; true when asked to stop.
    fn take_in(&mut self, taken: Taken<S::Reply>) -> bool {
        if let Some(number) = taken.persisted {
            self.core.step(Input::Persisted(number));
        }
        let mut stop = false;
        for control in taken.controls {
            stop |= self.take_control(control);
        }
        for (from, bytes) in taken.messages {
            self.core.step(Input::Message { from, bytes });
        }
        // Messages went in before: this is the term that the proposals will have.
        let leads_in = self.core.leads_in();
        let proposals = self.callers.admit_proposals(taken.proposals, leads_in);
        if !proposals.is_empty() {
            self.core.step(Input::Propose(proposals));
        }
        let reads = self.callers.admit_reads(taken.reads);
        if !reads.is_empty() {
            self.core.step(Input::Read(reads));
        }
        stop
    }

    fn take_control(&mut self, control: Control) -> bool {
        match control {
            Control::SnapshotWritten(result) => self.snapshot_written(result),
            Control::SnapshotArrived {
                file,
                from,
                message,
                seen,
            } => {
                tracing::info!(from, index = file.meta.index, "received a snapshot");
                self.core.step(Input::SnapshotArrived {
                    from,
                    bytes: message,
                });
                // The sender may have stopped waiting.
                let _ = seen.send(());
            }
            Control::SnapshotReport { to, delivered } => {
                self.core.step(Input::SnapshotReport { to, delivered });
            }
            Control::Unreachable(peer) => self.core.step(Input::Unreachable(peer)),
            Control::Transfer { to, reply } => self.begin_transfer(to, reply),
            Control::Membership { change, reply } => self.begin_change(change, reply),
            Control::SnapshotNow(reply) => self.snapshot_now(reply),
            Control::Stop => return true,
        }
        false
    }

    fn begin_change(
        &mut self,
        change: MembershipChange,
        reply: tokio::sync::oneshot::Sender<Result<(), MembershipError>>,
    ) {
        let ticket = self.callers.add_change(reply);
        self.core.step(Input::Change { ticket, change });
    }

    /// Does what the core asks for, in the order it asks.
    fn perform(&mut self, output: Output) {
        if let Some(index) = output.lost {
            self.log.push(Task::Forswear(index));
            // Nothing may leave any more; the log thread ends the process.
            loop {
                std::thread::park();
            }
        }
        self.outbox.send(output.messages);
        for persist in output.persist {
            self.log.push(Task::Persist(persist));
        }
        if let Some((snapshot, to)) = output.compact {
            self.log.push(Task::Compact { snapshot, to });
        }
        if let Some(meta) = &output.restore {
            self.restore(meta);
        }
        self.apply(output.committed, output.applied_to);
        for (ticket, index) in output.reads {
            self.callers.read_confirmed(ticket, index);
        }
        self.callers.serve_reads(self.applied);
        for (ticket, error) in output.failed_proposals {
            self.callers.answer_proposal(ticket, Err(error));
        }
        for (ticket, error) in output.failed_reads {
            self.callers.answer_read(ticket, Err(error));
        }
        for (ticket, result) in output.changes {
            self.callers.answer_change(ticket, result);
        }
        let ready = self.core.leader_ready();
        let ready_changed = ready != std::mem::replace(&mut self.leader_ready, ready);
        if let Some(role) = output.role {
            tracing::info!(role = ?role.role, term = role.term, leader = role.leader, "role");
            self.transfers.leader_is(role.leader);
        }
        if ready_changed || output.role.is_some() || output.membership.is_some() {
            self.publish();
        }
        self.snapshot_when_due(output.snapshot_wanted);
    }

    fn publish(&mut self) {
        let mut status = self.core.status();
        status.applied = self.applied;
        status.storage_full = self.space.full.load(Ordering::Relaxed);
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }

    fn stop(mut self) {
        let left = self.inbox.close();
        for proposal in left.proposals {
            // The caller may be gone.
            let _ = proposal.reply.send(Err(ProposeError::Stopped));
        }
        for read in left.reads {
            let _ = read.send(Err(ReadError::Stopped));
        }
        self.job.wait();
        self.log.stop();
        let mut status = self.core.status();
        status.applied = self.applied;
        status.stopped = true;
        self.status.send_replace(status);
    }
}

#[cfg(test)]
#[path = "driver/test.rs"]
mod test;
