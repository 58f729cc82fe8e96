//! The sans-I/O core: one raft member as a function from inputs to outputs.
//!
//! Lives here: everything that decides. May not: clock, thread, socket, file, tokio, randomness
//! of its own. Owned by `driver` in production and by simulators in tests; both run this code.
//!
//! ```text
//! step(Input)*  ─►  drain() ─►  Output: send now ▸ persist (+ send after) ▸ restore ▸ apply ▸ answer
//!      ▲                                            │                            │
//!      └───────────── Persisted(number) ────────────┴──────── Applied(index) ────┘
//! ```
//!
//! Design notes.
//! - Time is a count of ticks. Election timeouts come from the seed given at birth (`timeouts`).
//! - Between raft's `ready()` and `advance_append_async()` nothing else touches raft; the steps in
//!   between are the named functions of `ready.rs`, in their order.
//! - Persistence is asynchronous: raft may go on while the disk writes. Two rules keep that sound:
//!   batches are acknowledged in order, also empty ones, and messages that rest on a batch leave
//!   after it and all before it (FIFO in `io`).
//! - A member does not campaign while entries of its own are not durable yet (`tick`): its vote
//!   request would wait for them anyway, and raft asserts it.
//! - Proposals and transfers of leadership that peers forward are dropped: they would have no
//!   waiting ticket, and a lost answer would make the client propose twice.
//! - `batch_append` stays off: it joins appends to a lagging follower without looking at the size
//!   limit, which ends in a message the transport refuses for ever. One MsgPropose per drain gives
//!   the same throughput.
//! - Reads use quorum confirmation only (`ReadOnlyOption::Safe`); lease reads of raft-rs have no
//!   clock behind them and are stale after a pause.
//! - Rejected: applying on another thread. Apply takes about a microsecond; a second owner of the
//!   state would cost a lock or a copy.

mod log_view;
mod membership;
mod peers;
mod ports;
mod proposals;
mod reads;
mod ready;
mod timeouts;
mod view;

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{RawNode, ReadOnlyOption, SnapshotStatus, StateRole};

use crate::config::Config;
use crate::entry::{HardState, Membership, SnapshotMeta};
use crate::error::{Error, MembershipError, ProposeError, ReadError};
use crate::status::Role;
use crate::storage::Recovered;
use crate::wire;
use log_view::LogView;
use peers::Peers;
pub use ports::{Committed, Input, Outgoing, Output, Persist, RoleChange, Ticket};
use proposals::Proposals;
use reads::Reads;
use timeouts::{Random, Seen, Timeouts};

/// Bytes of entries in one append message. Larger: nearer to the transport's limit, and one lost
/// message costs more. Smaller: more messages for a follower that catches up.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of committed entries in one Ready. Larger: ticks wait longer behind applying. Smaller:
/// more rounds through raft for a member that catches up.
const COMMITTED_BYTES_MAX: u64 = 1 << 20;
/// Append messages under way to one follower. Times `MESSAGE_BYTES_MAX` it bounds its queue.
const INFLIGHT_MESSAGES_MAX: usize = 256;

/// One raft member without I/O.
pub struct Core {
    raw: RawNode<LogView>,
    config: CoreConfig,
    now: u64,
    timeouts: Timeouts,
    proposals: Proposals,
    reads: Reads,
    peers: Peers,
    membership: Membership,
    change: Option<membership::Pending>,
    /// Numbers of the newest batch that held entries or a snapshot, and of the newest durable one.
    data_batch: u64,
    durable_batch: u64,
    /// Number of the newest batch handed out for writing.
    written_batch: u64,
    /// A received snapshot on its way to the disk, with its batch.
    installing: Option<(u64, SnapshotMeta)>,
    /// Entries up to here are in the recovered state already.
    skip_to: u64,
    role: RoleChange,
    incarnation: u64,
    out: Output,
}

struct CoreConfig {
    id: u64,
    tick_ms: u64,
    election_ticks_max: u64,
    read_retry_ticks: u64,
    read_timeout_ticks: u64,
    snapshot_timeout_ticks: u64,
    keep_entries: u64,
}

impl Core {
    /// A member over its recovered log. `applied` is the index of the recovered state, at least
    /// `recovered.snapshot.index` (restore that snapshot first when it is newer).
    pub fn new(
        config: &Config,
        mut recovered: Recovered,
        applied: u64,
        seed: u64,
    ) -> Result<Self, Error> {
        config.validate()?;
        let (snapshot_index, last_index) = (recovered.snapshot.index, recovered.last_index());
        if applied > last_index {
            return Err(Error::Amnesia {
                reason: format!("state is at index {applied}, but the log ends at {last_index}"),
            });
        }
        // What was applied was committed, though its commit index may not have been durable.
        let commit = recovered.hard_state.commit.max(applied).max(snapshot_index);
        recovered.hard_state = HardState {
            commit,
            ..recovered.hard_state
        };
        let membership = recovered.snapshot.membership.clone();
        let incarnation = recovered.incarnation;
        let view = LogView::new(recovered);
        let raw = RawNode::new(
            &raft_config(config, snapshot_index),
            view,
            &crate::slog_bridge::logger(),
        )
        .map_err(|error| Error::Raft(error.to_string()))?;
        let mut core = Self {
            raw,
            config: CoreConfig::new(config),
            now: 0,
            timeouts: Timeouts::new(
                Random::new(seed),
                config.election_ticks_min,
                config.election_ticks_max,
            ),
            proposals: Proposals::default(),
            reads: Reads::new(config.id, incarnation),
            peers: Peers::default(),
            membership,
            change: None,
            data_batch: 0,
            durable_batch: 0,
            written_batch: 0,
            installing: None,
            skip_to: applied,
            role: RoleChange::default(),
            incarnation,
            out: Output::default(),
        };
        core.role = core.current_role();
        core.pin_timeout(false);
        Ok(core)
    }

    /// Takes one input in. Cheap; the work is done in [`Core::drain`]. Panics only where raft
    /// finds its own invariants broken, after which the process must not go on.
    pub fn step(&mut self, input: Input) {
        match input {
            Input::Tick => self.tick(),
            Input::Message { from, bytes } => self.receive(from, &bytes, false),
            Input::SnapshotArrived { from, bytes } => self.receive(from, &bytes, true),
            Input::Propose(proposals) => self.proposals.unsent.extend(proposals),
            Input::Read(tickets) => {
                self.reads
                    .add(tickets, self.now + self.config.read_timeout_ticks);
            }
            Input::Persisted(number) => self.persisted(number),
            Input::Applied(index) => self.raw.advance_apply_to(index),
            Input::SnapshotReady(meta) => self.snapshot_ready(&meta),
            Input::Unreachable(peer) => self.raw.report_unreachable(peer),
            Input::SnapshotReport { to, delivered } => self.snapshot_reported(to, delivered),
            Input::TransferLeader(to) => self.raw.transfer_leader(to),
            Input::Change { ticket, change } => self.propose_change(ticket, change),
        }
        self.pin_timeout(false);
    }

    /// Gives waiting proposals and reads to raft, and collects everything to do.
    pub fn drain(&mut self) -> Output {
        // First, so that proposals placed now do not share the fate of those of a lost term.
        self.note_role();
        self.send_proposals();
        self.send_reads();
        self.take_readies();
        self.note_role();
        self.pin_timeout(false);
        self.out.snapshot_wanted = self.raw.store().take_newer_wanted();
        self.out.more = self.raw.has_ready();
        std::mem::take(&mut self.out)
    }

    /// True when [`Core::drain`] would have something to hand out.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.raw.has_ready()
    }

    fn tick(&mut self) {
        self.now += 1;
        let leads = self.raw.raft.state == StateRole::Leader;
        // The disk is behind: see the design notes.
        if leads || self.durable_batch >= self.data_batch {
            self.raw.tick();
            let campaigned = !leads && self.raw.raft.election_elapsed == 0;
            self.pin_timeout(campaigned);
        }
        for ticket in self.reads.expire(self.now, self.config.read_retry_ticks) {
            let error = ReadError::Unavailable {
                leader: self.leader(),
            };
            self.out.failed_reads.push((ticket, error));
        }
        for ticket in self.proposals.expire(self.now) {
            self.out
                .failed_proposals
                .push((ticket, ProposeError::UnknownOutcome));
        }
        if let Some(ticket) = self.expired_change() {
            self.out
                .changes
                .push((ticket, Err(MembershipError::UnknownOutcome)));
        }
        for to in self
            .peers
            .overdue(self.now, self.config.snapshot_timeout_ticks)
        {
            tracing::warn!(to, "nobody reported the end of a snapshot transfer");
            self.snapshot_reported(to, false);
        }
    }

    fn receive(&mut self, from: u64, bytes: &[u8], body_is_here: bool) {
        let Some(message) = wire::decode(bytes) else {
            tracing::warn!(from, "dropped a message that is none");
            return;
        };
        if message.from != from || message.to != self.config.id {
            tracing::warn!(
                from,
                claimed = message.from,
                to = message.to,
                "dropped a message"
            );
            return;
        }
        let acceptable = match message.get_msg_type() {
            MessageType::MsgPropose | MessageType::MsgTransferLeader => false,
            // Without its body a snapshot would leave a log that nothing can restore.
            MessageType::MsgSnapshot => body_is_here,
            _ => true,
        };
        if !acceptable {
            return;
        }
        // A heartbeat's commit index is one this member acknowledged to that leader (or lower), and
        // what is committed is never cut. raft would panic here, and forget by the next start.
        let last_index = self.raw.raft.raft_log.last_index();
        if message.get_msg_type() == MessageType::MsgHeartbeat
            && message.term >= self.raw.raft.term
            && message.commit > last_index
        {
            self.out.lost = Some(message.commit);
            return;
        }
        self.peers.heard(from, self.now);
        // The errors are "local message" and "response of a stranger": nothing to do for either.
        if let Err(error) = self.raw.step(message) {
            tracing::debug!(from, %error, "raft refused a message");
        }
    }

    fn persisted(&mut self, number: u64) {
        self.durable_batch = self.durable_batch.max(number);
        self.raw.on_persist_ready(number);
        if let Some((_, meta)) = self.installing.take_if(|(batch, _)| *batch <= number) {
            self.restore(meta);
        }
    }

    fn snapshot_reported(&mut self, to: u64, delivered: bool) {
        if self.peers.transfer_ended(to) {
            let status = if delivered {
                SnapshotStatus::Finish
            } else {
                SnapshotStatus::Failure
            };
            self.raw.report_snapshot(to, status);
        }
    }

    /// An own snapshot is safe: keep a tail of entries for followers that lag a little, and
    /// whatever the receiver of a running transfer will ask for next.
    fn snapshot_ready(&mut self, meta: &SnapshotMeta) {
        let view = self.raw.mut_store();
        if meta.index <= view.snapshot_meta().index {
            return;
        }
        let mut to = meta.index.saturating_sub(self.config.keep_entries);
        if let Some(index) = self.peers.lowest_transfer() {
            to = to.min(index);
        }
        view.compact(meta, to);
        self.out.compact = Some((meta.clone(), to));
    }

    fn send_proposals(&mut self) {
        let unsent = std::mem::take(&mut self.proposals.unsent);
        if unsent.is_empty() {
            return;
        }
        let raft = &mut self.raw.raft;
        let refusal = if raft.state != StateRole::Leader {
            Some(ProposeError::NotLeader {
                leader: known(raft.leader_id),
            })
        } else {
            raft.lead_transferee
                .map(|to| ProposeError::NotLeader { leader: Some(to) })
        };
        if let Some(error) = refusal {
            return self.fail_proposals(unsent.into_iter().map(|(ticket, _)| ticket), error);
        }
        let (term, last) = (raft.term, raft.raft_log.last_index());
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.config.id;
        let (tickets, entries): (Vec<_>, Vec<_>) = unsent
            .into_iter()
            .map(|(ticket, data)| (ticket, normal_entry(&data)))
            .unzip();
        message.set_entries(entries);
        match raft.step(message) {
            Ok(()) => {
                assert_eq!(raft.raft_log.last_index(), last + tickets.len() as u64);
                for (ticket, index) in tickets.into_iter().zip(last + 1..) {
                    if let Some(orphan) = self.proposals.place(index, term, ticket) {
                        let unknown = ProposeError::UnknownOutcome;
                        self.out.failed_proposals.push((orphan, unknown));
                    }
                }
            }
            // The only reason left: too much is uncommitted.
            Err(_) => self.fail_proposals(tickets, ProposeError::Overloaded),
        }
    }

    fn fail_proposals(&mut self, tickets: impl IntoIterator<Item = Ticket>, error: ProposeError) {
        let failed = tickets.into_iter().map(|ticket| (ticket, error.clone()));
        self.out.failed_proposals.extend(failed);
    }

    fn send_reads(&mut self) {
        let raft = &self.raw.raft;
        let leads = raft.state == StateRole::Leader;
        // raft would drop it silently; it waits here instead of for a retry.
        if raft.leader_id == raft::INVALID_ID || (leads && !raft.commit_to_current_term()) {
            return;
        }
        if let Some(context) = self.reads.begin_round(self.now) {
            self.raw.read_index(context);
        }
    }

    fn note_role(&mut self) {
        let role = self.current_role();
        if role == self.role {
            return;
        }
        if self.role.role == Role::Leader {
            let gives_up_at = self.now + self.config.election_ticks_max;
            self.proposals.orphan(gives_up_at);
            self.orphan_change(gives_up_at);
        }
        // The old leader's answers count no more, the new one never got the question.
        self.reads.restart_rounds();
        self.role = role;
        self.out.role = Some(role);
    }

    fn current_role(&self) -> RoleChange {
        let raft = &self.raw.raft;
        let role = match raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        RoleChange {
            role,
            term: raft.term,
            leader: known(raft.leader_id),
        }
    }

    fn pin_timeout(&mut self, campaigned: bool) {
        let RoleChange { role, term, .. } = self.current_role();
        let leader_known = self.leader().is_some();
        let seen = Seen {
            term,
            role,
            leader_known,
            campaigned,
        };
        let pinned = self.timeouts.pin(seen);
        self.raw
            .raft
            .set_randomized_election_timeout(pinned.timeout);
        if let Some(elapsed) = pinned.elapsed {
            self.raw.raft.election_elapsed = elapsed;
        }
    }
}

impl CoreConfig {
    fn new(config: &Config) -> Self {
        Self {
            id: config.id,
            tick_ms: config.tick_ms,
            election_ticks_max: config.election_ticks_max as u64,
            read_retry_ticks: config.read_retry_ticks,
            read_timeout_ticks: config.read_timeout_ticks,
            snapshot_timeout_ticks: config.snapshot_timeout_ticks,
            keep_entries: config.keep_entries,
        }
    }
}

/// raft's own defaults are traps: one entry per message, no pre-vote, no quorum check, no limits.
fn raft_config(config: &Config, snapshot_index: u64) -> raft::Config {
    raft::Config {
        id: config.id,
        election_tick: config.election_ticks_min,
        heartbeat_tick: config.heartbeat_ticks,
        min_election_tick: config.election_ticks_min,
        max_election_tick: config.election_ticks_max + 1,
        // Not the state's own index: raft then hands out every entry above the snapshot again, and
        // membership entries take the same path after a restart as ever. What the state has
        // already is skipped (`skip_to`).
        applied: snapshot_index,
        max_size_per_msg: MESSAGE_BYTES_MAX.min(config.max_uncommitted_bytes),
        max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
        check_quorum: true,
        pre_vote: true,
        read_only_option: ReadOnlyOption::Safe,
        skip_bcast_commit: false,
        batch_append: false,
        priority: 0,
        max_uncommitted_size: config.max_uncommitted_bytes,
        max_committed_size_per_ready: COMMITTED_BYTES_MAX,
    }
}

fn known(id: u64) -> Option<u64> {
    (id != raft::INVALID_ID).then_some(id)
}

fn normal_entry(data: &Bytes) -> Entry {
    Entry {
        data: data.to_vec(),
        ..Entry::default()
    }
}
