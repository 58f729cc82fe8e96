//! Changes of membership: what is refused before it is proposed, and what follows when it is
//! applied.
//!
//! Lives here: the guards of invariant A7. May not: addresses (the transport knows them). Part of
//! `core`.
//!
//! One change at a time, each a single step: raft replaces a second pending change silently by an
//! empty entry, so it is refused here instead. New members come in as learners; a learner becomes
//! a voter only when it has caught up, and never while that could cost the quorum (a fourth voter
//! raises the quorum to three; with one of the old three away, one more failure stops the cluster).

use raft::StateRole;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};

use super::{Core, Ticket, known};
use crate::entry::{Membership, MembershipChange};
use crate::error::MembershipError;
use crate::wire;

/// Entries a learner may lack when it is promoted. Larger: the new quorum may wait for it after
/// the change. Smaller: under load the moment never comes.
const PROMOTE_LAG_MAX: u64 = 1_000;

/// The change under way.
pub(super) struct Pending {
    ticket: Ticket,
    index: u64,
    term: u64,
    gives_up_at: Option<u64>,
}

impl Core {
    pub(super) fn propose_change(&mut self, ticket: Ticket, change: MembershipChange) {
        let proposed = self
            .check_change(change)
            .and_then(|()| self.place_change(change));
        match proposed {
            Ok((index, term)) => {
                self.change = Some(Pending {
                    ticket,
                    index,
                    term,
                    gives_up_at: None,
                });
            }
            Err(error) => self.out.changes.push((ticket, Err(error))),
        }
    }

    fn place_change(&mut self, change: MembershipChange) -> Result<(u64, u64), MembershipError> {
        let data = wire::encode_change(change);
        let mut entry = Entry {
            data,
            ..Entry::default()
        };
        entry.set_entry_type(EntryType::EntryConfChange);
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.config.id;
        message.set_entries(vec![entry]);
        let raft = &mut self.raw.raft;
        raft.step(message).map_err(|_| MembershipError::Busy)?;
        Ok((raft.raft_log.last_index(), raft.term))
    }

    fn check_change(&self, change: MembershipChange) -> Result<(), MembershipError> {
        let raft = &self.raw.raft;
        if raft.state != StateRole::Leader {
            return Err(MembershipError::NotLeader {
                leader: known(raft.leader_id),
            });
        }
        if raft.lead_transferee.is_some() || raft.has_pending_conf() || self.change.is_some() {
            return Err(MembershipError::Busy);
        }
        let id = change.subject();
        let members = &self.membership;
        let refuse = |reason: String| Err(MembershipError::Refused(reason));
        match change {
            MembershipChange::AddLearner(0) => refuse("0 is no member id".to_owned()),
            MembershipChange::AddLearner(_) if members.contains(id) => {
                refuse(format!("{id} is a member already"))
            }
            MembershipChange::AddLearner(_) => Ok(()),
            MembershipChange::Promote(_) if !members.learners.contains(&id) => {
                refuse(format!("{id} is not a learner"))
            }
            MembershipChange::Promote(_) => self.check_promotion(id),
            MembershipChange::Remove(_) if !members.contains(id) => {
                refuse(format!("{id} is not a member"))
            }
            MembershipChange::Remove(_) if id == self.config.id => {
                refuse("the leader cannot remove itself: transfer leadership first".to_owned())
            }
            MembershipChange::Remove(_) => self.check_removal(id),
        }
    }

    fn check_promotion(&self, id: u64) -> Result<(), MembershipError> {
        let raft = &self.raw.raft;
        let matched = raft.prs().get(id).map_or(0, |progress| progress.matched);
        let lag = raft.raft_log.last_index() - matched;
        if !self.answers(id) || lag > PROMOTE_LAG_MAX {
            return Err(MembershipError::Refused(format!(
                "{id} has not caught up: {lag} entries behind"
            )));
        }
        let voters = &self.membership.voters;
        let silent = voters.iter().filter(|voter| !self.answers(**voter)).count();
        if silent > 0 && (voters.len() + 1).is_multiple_of(2) {
            return Err(MembershipError::Refused(format!(
                "{silent} voters do not answer, and an even number of voters raises the quorum"
            )));
        }
        Ok(())
    }

    fn check_removal(&self, id: u64) -> Result<(), MembershipError> {
        let rest = Membership::of_voters(
            self.membership
                .voters
                .iter()
                .copied()
                .filter(|voter| *voter != id),
        );
        let answering = rest
            .voters
            .iter()
            .filter(|voter| self.answers(**voter))
            .count();
        if rest.voters.is_empty() || answering < rest.quorum() {
            return Err(MembershipError::Refused(format!(
                "without {id}, only {answering} of {} voters answer, and {} are needed",
                rest.voters.len(),
                rest.quorum()
            )));
        }
        Ok(())
    }

    /// True for this member and for those heard within an election timeout.
    fn answers(&self, id: u64) -> bool {
        let silent = self.peers.silent_for(id, self.now);
        id == self.config.id || silent.is_some_and(|t| t <= self.config.election_ticks_max)
    }

    /// The voter to hand leadership to: it answers and lacks the fewest entries.
    #[must_use]
    pub fn best_successor(&self) -> Option<u64> {
        let matched = |id: &u64| self.raw.raft.prs().get(*id).map_or(0, |p| p.matched);
        let others = self.membership.voters.iter().copied();
        others
            .filter(|id| *id != self.config.id && self.answers(*id))
            .max_by_key(matched)
    }

    /// Applies a committed membership entry. raft may refuse one that changes nothing sensible;
    /// every member refuses the same, because all judge the same membership.
    pub(super) fn apply_change(&mut self, entry: &Entry) {
        let Some(change) = wire::decode_change(&entry.data) else {
            panic!(
                "membership entry {} is not readable by this version",
                entry.index
            );
        };
        let applied = self.raw.apply_conf_change(&change);
        let result = match applied {
            Ok(state) => {
                self.membership = Membership::from_raft(&state);
                if !self.membership.contains(change.node_id) {
                    self.peers.forget(change.node_id);
                }
                self.out.membership = Some(self.membership.clone());
                Ok(())
            }
            Err(error) => Err(MembershipError::Refused(error.to_string())),
        };
        if let Some(pending) = &self.change
            && (pending.index, pending.term) == (entry.index, entry.term)
        {
            self.out.changes.push((pending.ticket, result));
            self.change = None;
        }
    }

    /// Everything up to `index` is committed: a change that should have been there by then was
    /// overwritten by another leader's entry.
    pub(super) fn settle_change(&mut self, index: u64) {
        if let Some(pending) = self.change.take_if(|pending| pending.index <= index) {
            self.out
                .changes
                .push((pending.ticket, Err(MembershipError::UnknownOutcome)));
        }
    }

    pub(super) fn orphan_change(&mut self, gives_up_at: u64) {
        if let Some(pending) = &mut self.change {
            pending.gives_up_at.get_or_insert(gives_up_at);
        }
    }

    pub(super) fn expired_change(&mut self) -> Option<Ticket> {
        let now = self.now;
        let over = |pending: &mut Pending| pending.gives_up_at.is_some_and(|at| at <= now);
        self.change.take_if(over).map(|pending| pending.ticket)
    }
}
