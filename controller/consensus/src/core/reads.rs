//! Linearizable reads: rounds of confirmation, each with a context never used before.
//!
//! Lives here: which reads wait in which round, retries and deadlines. May not: raft calls.
//! Used by `core` only.
//!
//! raft drops a read request silently when there is no leader, when the leader has not committed
//! in its term yet, and at each leader change; hence retries. A retry must not use the context of
//! an earlier attempt again: answers to the two could be mixed up and a stale index be taken for a
//! confirmed one (measured with 0.7.0). A late answer to a given-up round is ignored.

use std::collections::VecDeque;

use super::ports::Ticket;

/// Rounds under way at a time. One would add up to a round trip of waiting to each read; many
/// would send a broadcast per handful of reads.
const ROUNDS_MAX: usize = 4;

#[derive(Clone, Copy)]
struct Waiting {
    ticket: Ticket,
    gives_up_at: u64,
}

struct Round {
    context: [u8; 24],
    sent_at: u64,
    reads: Vec<Waiting>,
}

pub(super) struct Reads {
    id: u64,
    incarnation: u64,
    counter: u64,
    waiting: Vec<Waiting>,
    rounds: VecDeque<Round>,
}

impl Reads {
    pub(super) fn new(id: u64, incarnation: u64) -> Self {
        Self {
            id,
            incarnation,
            counter: 0,
            waiting: Vec::new(),
            rounds: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, tickets: Vec<Ticket>, gives_up_at: u64) {
        self.waiting
            .extend(tickets.into_iter().map(|ticket| Waiting {
                ticket,
                gives_up_at,
            }));
    }

    /// All waiting reads as one new round; its context for raft. `None` when there is nothing to
    /// send or enough is under way.
    pub(super) fn begin_round(&mut self, now: u64) -> Option<Vec<u8>> {
        if self.waiting.is_empty() || self.rounds.len() >= ROUNDS_MAX {
            return None;
        }
        self.counter += 1;
        let mut context = [0; 24];
        context[..8].copy_from_slice(&self.id.to_le_bytes());
        context[8..16].copy_from_slice(&self.incarnation.to_le_bytes());
        context[16..].copy_from_slice(&self.counter.to_le_bytes());
        let reads = std::mem::take(&mut self.waiting);
        self.rounds.push_back(Round {
            context,
            sent_at: now,
            reads,
        });
        Some(context.to_vec())
    }

    /// raft confirmed a context. Empty for a round that was given up.
    pub(super) fn confirmed(&mut self, context: &[u8]) -> Vec<Ticket> {
        let Some(at) = self
            .rounds
            .iter()
            .position(|round| round.context == context)
        else {
            return Vec::new();
        };
        let round = self.rounds.remove(at);
        round
            .into_iter()
            .flat_map(|round| round.reads)
            .map(|read| read.ticket)
            .collect()
    }

    /// Gives up all rounds: their reads wait for a new one. For changes of leader or term.
    pub(super) fn restart_rounds(&mut self) {
        for round in self.rounds.drain(..) {
            self.waiting.extend(round.reads);
        }
    }

    /// Gives up rounds older than `retry_ticks`; returns the reads whose time is over.
    pub(super) fn expire(&mut self, now: u64, retry_ticks: u64) -> Vec<Ticket> {
        while let Some(round) = self.rounds.front()
            && round.sent_at + retry_ticks <= now
        {
            if let Some(round) = self.rounds.pop_front() {
                self.waiting.extend(round.reads);
            }
        }
        let expired = self
            .waiting
            .iter()
            .filter(|r| r.gives_up_at <= now)
            .map(|r| r.ticket)
            .collect();
        self.waiting.retain(|read| read.gives_up_at > now);
        expired
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a2_a_retried_read_has_a_new_context_and_the_old_answer_counts_for_nothing() {
        let mut reads = Reads::new(1, 2);
        reads.add(vec![Ticket(1), Ticket(2)], 100);
        let first = reads.begin_round(0).expect("a round");
        assert!(reads.begin_round(0).is_none(), "nothing waits");
        assert!(reads.expire(8, 8).is_empty());
        let second = reads.begin_round(8).expect("the retry");
        assert_ne!(first, second);
        assert!(reads.confirmed(&first).is_empty());
        assert_eq!(reads.confirmed(&second), vec![Ticket(1), Ticket(2)]);
        assert!(reads.confirmed(&second).is_empty());
    }

    #[test]
    fn a_read_fails_at_its_deadline_and_not_before() {
        let mut reads = Reads::new(1, 2);
        reads.add(vec![Ticket(1)], 10);
        assert!(reads.expire(9, 8).is_empty());
        assert_eq!(reads.expire(10, 8), vec![Ticket(1)]);
        assert!(reads.expire(11, 8).is_empty());
    }
}
