//! One Ready of raft, step by step.
//!
//! Lives here: the order send ─► append ─► (advance) ─► commit ─► reads, one function per step.
//! May not: decide anything raft decides. Part of `core`; called from `drain` only.

use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{ReadState, Ready};

use super::proposals::Fate;
use super::{Committed, Core, Outgoing, Persist};
use crate::entry::{HardState, LogEntry, SnapshotMeta};
use crate::error::ProposeError;
use crate::storage::PersistBatch;
use crate::wire;

/// Readies handled in one drain. Unbounded, a long replay or a fast disk could keep ticks and
/// messages waiting.
const READIES_MAX: usize = 8;

impl Core {
    pub(super) fn take_readies(&mut self) {
        for _ in 0..READIES_MAX {
            if !self.raw.has_ready() {
                return;
            }
            let mut ready = self.raw.ready();
            let number = ready.number();
            let now = self.encode_all(ready.take_messages());
            self.out.messages.extend(now);
            self.append(&mut ready);
            let committed = ready.take_committed_entries();
            let confirmed = ready.take_read_states();
            // From here on raft may be touched again.
            self.raw.advance_append_async(ready);
            self.acknowledge_if_empty(number);
            self.commit(committed);
            self.confirm(confirmed);
        }
    }

    fn encode_all(&mut self, messages: Vec<Message>) -> Vec<Outgoing> {
        messages
            .into_iter()
            .map(|message| self.encode(&message))
            .collect()
    }

    fn encode(&mut self, message: &Message) -> Outgoing {
        let snapshot = (message.get_msg_type() == MessageType::MsgSnapshot)
            .then(|| SnapshotMeta::from_raft(message.get_snapshot().get_metadata()));
        if let Some(meta) = &snapshot {
            self.peers.transfer_began(message.to, meta.index, self.now);
        }
        Outgoing {
            to: message.to,
            bytes: wire::encode(message),
            snapshot,
        }
    }

    /// raft reads the new entries back from the view at once; the disk follows.
    fn append(&mut self, ready: &mut Ready) {
        let mut batch = PersistBatch {
            number: ready.number(),
            must_sync: ready.must_sync(),
            ..PersistBatch::default()
        };
        if !ready.snapshot().is_empty() {
            let meta = SnapshotMeta::from_raft(ready.snapshot().get_metadata());
            self.raw.mut_store().install(&meta);
            self.installing = Some((batch.number, meta.clone()));
            batch.snapshot = Some(meta);
        }
        let entries = ready.take_entries();
        self.raw.mut_store().append(&entries);
        batch.entries = entries.into_iter().map(LogEntry::from_raft).collect();
        if let Some(hard_state) = ready.hs().map(HardState::from_raft) {
            self.raw.mut_store().set_hard_state(hard_state);
            batch.hard_state = Some(hard_state);
        }
        if batch.snapshot.is_some() || !batch.entries.is_empty() {
            self.data_batch = batch.number;
        }
        let messages = self.encode_all(ready.take_persisted_messages());
        self.out.persist.push(Persist { batch, messages });
    }

    /// A batch of nothing behind nothing is durable as it is (an idle leader's heartbeats make ten
    /// of them a second). With anything before it on its way, it waits its turn.
    fn acknowledge_if_empty(&mut self, number: u64) {
        let nothing = |persist: &Persist| {
            let PersistBatch {
                snapshot,
                hard_state,
                entries,
                ..
            } = &persist.batch;
            let writes = snapshot.is_some() || hard_state.is_some() || !entries.is_empty();
            !writes && persist.messages.is_empty()
        };
        let all_durable = self.durable_batch >= self.written_batch;
        if all_durable && self.out.persist.last().is_some_and(nothing) {
            self.out.persist.pop();
            self.durable_batch = number;
            self.raw.on_persist_ready(number);
        }
        self.written_batch = number;
    }

    fn commit(&mut self, entries: Vec<Entry>) {
        let Some(last) = entries.last().map(|entry| entry.index) else {
            return;
        };
        for entry in entries {
            let ticket = match self.proposals.settle(entry.index, entry.term) {
                Fate::Nobody => None,
                Fate::Applied(ticket) => Some(ticket),
                Fate::Overwritten(ticket) => {
                    self.out
                        .failed_proposals
                        .push((ticket, ProposeError::UnknownOutcome));
                    None
                }
            };
            if entry.get_entry_type() != EntryType::EntryNormal {
                self.apply_change(&entry);
            } else if !entry.data.is_empty() && entry.index > self.skip_to {
                let Entry {
                    index, term, data, ..
                } = entry;
                self.out.committed.push(Committed {
                    index,
                    term,
                    data,
                    ticket,
                });
            }
        }
        self.settle_change(last);
        self.out.applied_to = Some(last);
    }

    fn confirm(&mut self, confirmed: Vec<ReadState>) {
        for ReadState { index, request_ctx } in confirmed {
            let tickets = self.reads.confirmed(&request_ctx);
            self.out
                .reads
                .extend(tickets.into_iter().map(|ticket| (ticket, index)));
        }
    }

    /// A received snapshot is durable: the state machine takes it before anything else.
    pub(super) fn restore(&mut self, meta: SnapshotMeta) {
        for ticket in self.proposals.jump_to(meta.index) {
            self.out
                .failed_proposals
                .push((ticket, ProposeError::UnknownOutcome));
        }
        self.settle_change(meta.index);
        self.membership = meta.membership.clone();
        self.out.membership = Some(self.membership.clone());
        self.out.applied_to = Some(meta.index);
        self.out.restore = Some(meta);
    }
}
