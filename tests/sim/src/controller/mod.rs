//! A simulated controller: the real consensus core, the real state machine, the real plans of
//! the leader's loops, on a simulated disk. The shells that are replaced here (driver, log
//! thread, gRPC) only move bytes.

pub mod calls;
pub mod leader;
pub mod life;
pub mod raft;
pub mod sessions;

use std::collections::{BTreeMap, VecDeque};

use nube_consensus::{Core, Persist, SnapshotMeta, Status, Ticket};
use nube_controller::agents::lease::Leases;
use nube_controller::clock::cluster::ClusterClock;
use nube_controller::fleet::Hosts;
use nube_controller::watch::{History, Recorder};
use nube_state::{Outcome, State};
use nube_types::{NodeId, TimestampMs};

use crate::agent::links::Session;
use crate::clock::Clock;
use crate::disk::MemberDisk;
use calls::Task;

/// Length of a raft tick.
pub const TICK_MS: u64 = 50;

/// What is queued for the disk.
pub enum Work {
    /// A batch of the log.
    Persist(Persist),
    /// A cut of the log.
    Compact(SnapshotMeta, u64),
}

/// Who waits for a proposal, a read or a change of membership.
pub enum Waiter {
    /// A client's call.
    Task(u64),
    /// A mutation that another controller carried here: it, its life, its task.
    Foreign(usize, u64, u64),
    /// A host's session, with a command of its agent.
    Session(u64),
    /// A host's session, with a question whether this member still leads.
    Confirm(u64),
    /// A newcomer, by its address.
    Joined(String),
    /// The fence of a host, proposed by the leader's loop.
    Fence(NodeId),
    /// Nobody: the next look is the retry.
    Nobody,
}

/// One controller, in all its lives.
pub struct Controller {
    /// Its member number.
    pub id: u64,
    /// Where agents find it.
    pub address: String,
    /// Number of its process.
    pub life: u64,
    /// Absent while it is down.
    pub core: Option<Core>,
    /// Never starts again: removed, or its disk is lost.
    pub over: bool,
    /// Its clocks.
    pub clock: Clock,
    /// It stands still until then.
    pub paused_until_ms: u64,
    pub(crate) disk: MemberDisk,
    /// What waits for the disk.
    pub(crate) queued: VecDeque<Work>,
    pub(crate) disk_busy_until_ms: u64,
    /// The replicated state.
    pub state: State,
    /// Its copy in the store: what a restart may begin with.
    pub(crate) stored: State,
    pub(crate) hosts: Hosts,
    pub(crate) recorder: Recorder,
    pub(crate) history: History,
    /// The first members; empty for one that joins.
    pub(crate) voters: Vec<u64>,
    /// The cell's clock as this process reads it.
    pub(crate) cell_clock: ClusterClock,
    pub(crate) snapshot_index: u64,
    /// A full disk took no snapshot: not again before this index.
    pub(crate) snapshot_not_before: u64,
    pub(crate) waiting: BTreeMap<Ticket, Waiter>,
    pub(crate) confirmed: Vec<(u64, Ticket)>,
    pub(crate) tasks: BTreeMap<u64, Task>,
    /// Sessions of hosts, by number, and the newest of each host.
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) by_node: BTreeMap<NodeId, u64>,
    pub(crate) leases: Leases,
    /// Index, term and readiness that sessions were told of last.
    pub(crate) told: (u64, u64, bool),
    /// When each host was last heard.
    pub(crate) heard_ms: BTreeMap<NodeId, u64>,
    /// When proof of living hosts was last proposed.
    pub(crate) seen_at_ms: u64,
    pub(crate) answers: Vec<(Waiter, u64, Outcome)>,
}

impl Controller {
    /// With an empty disk; `voters` is empty for one that joins.
    #[must_use]
    pub fn new(id: u64, voters: &[u64]) -> Self {
        let (recorder, history) = nube_controller::watch::channel(&State::default());
        Self {
            id,
            address: format!("controller-{id}:7400"),
            life: 0,
            core: None,
            over: false,
            clock: Clock::default(),
            paused_until_ms: 0,
            disk: MemberDisk::default(),
            queued: VecDeque::new(),
            voters: voters.to_vec(),
            cell_clock: ClusterClock::new(0, TimestampMs(0)),
            snapshot_not_before: 0,
            disk_busy_until_ms: 0,
            state: State::default(),
            stored: State::default(),
            hosts: Hosts::default(),
            recorder,
            history,
            snapshot_index: 0,
            waiting: BTreeMap::new(),
            confirmed: Vec::new(),
            tasks: BTreeMap::new(),
            sessions: BTreeMap::new(),
            by_node: BTreeMap::new(),
            leases: Leases::default(),
            told: (0, 0, false),
            heard_ms: BTreeMap::new(),
            seen_at_ms: 0,
            answers: Vec::new(),
        }
    }

    /// What consensus says of itself; nothing while it is down.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.core.as_ref().map(Core::status)
    }

    /// Its wall clock.
    #[must_use]
    pub fn wall(&self, now_ms: u64) -> TimestampMs {
        self.clock.wall(now_ms)
    }
}
