//! Who waits for what.
//!
//! Lives here: tickets and reply channels. May not: raft. Used by `driver` only.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use tokio::sync::oneshot::Sender;

use crate::core::Ticket;
use crate::error::{MembershipError, ProposeError, ReadError};
use crate::handle::Applied;
use crate::inbox::Proposal;

type ProposalReply<R> = Sender<Result<Applied<R>, ProposeError>>;
type ReadReply = Sender<Result<u64, ReadError>>;
type ChangeReply = Sender<Result<(), MembershipError>>;

/// Every reply may find its caller gone (a dropped future); that is no error, so the results of
/// `send` are not looked at.
pub(super) struct Callers<R> {
    next: u64,
    proposals_max: usize,
    reads_max: usize,
    proposals: HashMap<Ticket, ProposalReply<R>>,
    reads: HashMap<Ticket, ReadReply>,
    changes: HashMap<Ticket, ChangeReply>,
    /// Confirmed reads that wait for the state to reach their index.
    confirmed: BTreeMap<u64, Vec<ReadReply>>,
}

impl<R> Callers<R> {
    pub(super) fn new(proposals_max: usize, reads_max: usize) -> Self {
        Self {
            next: 0,
            proposals_max,
            reads_max,
            proposals: HashMap::new(),
            reads: HashMap::new(),
            changes: HashMap::new(),
            confirmed: BTreeMap::new(),
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// Gives tickets to proposals as long as not too many are open; the rest is refused at once
    /// (invariant F5: without a quorum nothing else would bound them).
    pub(super) fn admit_proposals(
        &mut self,
        proposals: Vec<Proposal<R>>,
        leads_in: Option<u64>,
    ) -> Vec<(Ticket, Bytes)> {
        let mut admitted = Vec::with_capacity(proposals.len());
        for Proposal { data, term, reply } in proposals {
            if term.is_some() && term != leads_in {
                let _ = reply.send(Err(ProposeError::NotLeader { leader: None }));
                continue;
            }
            if self.proposals.len() >= self.proposals_max {
                let _ = reply.send(Err(ProposeError::Overloaded));
                continue;
            }
            let ticket = self.ticket();
            self.proposals.insert(ticket, reply);
            admitted.push((ticket, data));
        }
        admitted
    }

    /// The same for reads.
    pub(super) fn admit_reads(&mut self, reads: Vec<ReadReply>) -> Vec<Ticket> {
        let mut admitted = Vec::with_capacity(reads.len());
        for reply in reads {
            if self.reads.len() >= self.reads_max {
                let _ = reply.send(Err(ReadError::Overloaded));
                continue;
            }
            let ticket = self.ticket();
            self.reads.insert(ticket, reply);
            admitted.push(ticket);
        }
        admitted
    }

    pub(super) fn add_change(&mut self, reply: ChangeReply) -> Ticket {
        let ticket = self.ticket();
        self.changes.insert(ticket, reply);
        ticket
    }

    pub(super) fn answer_proposal(
        &mut self,
        ticket: Ticket,
        result: Result<Applied<R>, ProposeError>,
    ) {
        if let Some(reply) = self.proposals.remove(&ticket) {
            let _ = reply.send(result);
        }
    }

    pub(super) fn answer_read(&mut self, ticket: Ticket, result: Result<u64, ReadError>) {
        if let Some(reply) = self.reads.remove(&ticket) {
            let _ = reply.send(result);
        }
    }

    pub(super) fn answer_change(&mut self, ticket: Ticket, result: Result<(), MembershipError>) {
        if let Some(reply) = self.changes.remove(&ticket) {
            let _ = reply.send(result);
        }
    }

    pub(super) fn read_confirmed(&mut self, ticket: Ticket, index: u64) {
        if let Some(reply) = self.reads.remove(&ticket) {
            self.confirmed.entry(index).or_default().push(reply);
        }
    }

    /// Answers confirmed reads whose index the state has reached.
    pub(super) fn serve_reads(&mut self, applied: u64) {
        while let Some(first) = self.confirmed.first_entry()
            && *first.key() <= applied
        {
            let (index, replies) = first.remove_entry();
            for reply in replies {
                let _ = reply.send(Ok(index));
            }
        }
    }
}
