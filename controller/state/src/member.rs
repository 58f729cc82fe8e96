//! Controllers of the cell: number, addresses, name. Consensus decides who votes;
//! this table says who should be there and where each is reached. The leader's
//! loop brings both together.
//!
//! Numbers are never used again: a recycled one could vote twice in one term.
//! A removed member stays as a tombstone, so that every replica can tell it.

use minicbor::{Decode, Encode};
use nube_types::limits::{ADDRESS_BYTES_MAX, MEMBERS_MAX, MEMBERS_REMOVED_KEPT};
use nube_types::{Name, TimestampMs};

use crate::outcome::{Kind, Outcome, Refusal};
use crate::state::State;
use crate::table::Record;

/// One controller, present or removed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Member {
    /// Its number in consensus and in its certificate.
    #[n(0)]
    pub id: u64,
    /// `host:port` where peers and clients reach it.
    #[n(1)]
    pub address: String,
    /// `host:port` where agents reach it; absent when it is the same.
    #[n(2)]
    pub agent_address: Option<String>,
    /// Of the token it joined by; the first members have none.
    #[n(3)]
    pub name: Option<Name>,
    /// When it was removed; its number and certificate are void from then on.
    #[n(4)]
    pub removed_at: Option<TimestampMs>,
    /// Log index of the last change.
    #[n(5)]
    pub revision: u64,
}

impl Record for Member {
    type Key = u64;
    const TABLE: u8 = 16;
    fn key(&self) -> u64 {
        self.id
    }
}

impl Member {
    /// Where agents reach it.
    #[must_use]
    pub fn for_agents(&self) -> &str {
        self.agent_address.as_deref().unwrap_or(&self.address)
    }
}

/// See [`crate::Command::RegisterMembers`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RegisterMembers {
    /// All of the first members at once: a number handed out between two of them
    /// would be one of theirs.
    #[n(0)]
    pub members: Vec<NewMember>,
}

/// A member of the first hour, as its config file says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NewMember {
    /// Its number.
    #[n(0)]
    pub id: u64,
    /// `host:port` for peers and clients.
    #[n(1)]
    pub address: String,
    /// `host:port` for agents, when it is another.
    #[n(2)]
    pub agent_address: Option<String>,
}

/// See [`crate::Command::RemoveMember`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RemoveMember {
    /// Which.
    #[n(0)]
    pub id: u64,
    /// Who votes, as the leader knew when it wrote this entry.
    #[n(1)]
    pub voters: Vec<u64>,
    /// Those of them that it did not hear. Liveness comes in with the command,
    /// as time does.
    #[n(2)]
    pub silent: Vec<u64>,
}

/// Members that are not removed, in order of number.
pub fn present(state: &State) -> impl Iterator<Item = &Member> {
    state.members.iter().filter(|m| m.removed_at.is_none())
}

/// The member was removed and may not take part any more. False for one that
/// this replica has not heard of: it may lag behind.
#[must_use]
pub fn is_removed(state: &State, id: u64) -> bool {
    match state.members.get(&id) {
        Some(member) => member.removed_at.is_some(),
        // Old tombstones are dropped; their numbers lie below the newest.
        None => id < newest_id(state),
    }
}

/// The highest number ever given; zero before the first members are known.
pub(crate) fn newest_id(state: &State) -> u64 {
    state.members.iter().next_back().map_or(0, |m| m.id)
}

/// `host:port` of printable characters: it is dialled and shown, nothing else.
pub fn check_address(address: &str) -> Result<(), Refusal> {
    let fine = address.rsplit_once(':').is_some_and(|(host, port)| {
        let legal = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        !host.is_empty() && host.chars().all(legal) && port.parse::<u16>().is_ok_and(|p| p > 0)
    });
    if fine && address.len() <= ADDRESS_BYTES_MAX {
        return Ok(());
    }
    Err(Refusal::Invalid {
        field: "address".to_owned(),
        rule: format!("`host:port`, {ADDRESS_BYTES_MAX} bytes at most"),
    })
}

/// Checks that one more may come; its number.
pub(crate) fn next_id(state: &State, name: &Name) -> Result<u64, Refusal> {
    let newest = newest_id(state);
    if newest == 0 {
        let text = "not ready: its first members are not written down yet";
        return Err(Refusal::Initialisation(text.to_owned()));
    }
    if present(state).any(|member| member.name.as_ref() == Some(name)) {
        return Err(Refusal::NameTaken {
            kind: Kind::Member,
            name: name.clone(),
        });
    }
    if present(state).count() >= MEMBERS_MAX {
        return Err(Refusal::LimitReached {
            what: "controllers in a cell".to_owned(),
            limit: MEMBERS_MAX as u64,
        });
    }
    Ok(newest + 1)
}

pub(crate) fn register(state: &mut State, command: &RegisterMembers) -> Result<Outcome, Refusal> {
    if !state.members.is_empty() {
        // Two leaders of one election may both have looked before the first.
        return Ok(Outcome::Done);
    }
    for member in &command.members {
        check_address(&member.address)?;
        check_address(member.for_agents())?;
    }
    let ids: std::collections::BTreeSet<u64> = command.members.iter().map(|m| m.id).collect();
    if ids.contains(&0) || ids.len() != command.members.len() || ids.len() > MEMBERS_MAX {
        return Err(Refusal::Invalid {
            field: "members".to_owned(),
            rule: format!("at most {MEMBERS_MAX}, each number once and not zero"),
        });
    }
    for member in &command.members {
        state.members.put(Member {
            id: member.id,
            address: member.address.clone(),
            agent_address: member.agent_address.clone(),
            name: None,
            removed_at: None,
            revision: state.index,
        });
    }
    Ok(Outcome::Done)
}

impl NewMember {
    fn for_agents(&self) -> &str {
        self.agent_address.as_deref().unwrap_or(&self.address)
    }
}

pub(crate) fn remove(state: &mut State, command: &RemoveMember) -> Result<Outcome, Refusal> {
    let id = command.id;
    let member = state.members.get(&id).filter(|m| m.removed_at.is_none());
    let Some(member) = member.cloned() else {
        return Err(Refusal::NotFound {
            kind: Kind::Member,
            reference: id.to_string(),
        });
    };
    check_quorum(state, command)?;
    if present(state).count() == 1 {
        let text = format!("member {id} is the last one");
        return Err(Refusal::QuorumAtRisk(text));
    }
    state.members.put(Member {
        removed_at: Some(state.time),
        revision: state.index,
        ..member
    });
    forget_old(state);
    Ok(Outcome::Done)
}

/// The rest must have a quorum that answers, or the cell stops with the removal.
fn check_quorum(state: &State, command: &RemoveMember) -> Result<(), Refusal> {
    let id = command.id;
    if !command.voters.contains(&id) {
        return Ok(());
    }
    // Others may be on their way out.
    let stays = |voter: &&u64| **voter != id && !is_removed(state, **voter);
    let rest = command.voters.iter().filter(stays);
    let silent: Vec<String> = rest
        .clone()
        .filter(|voter| command.silent.contains(voter))
        .map(u64::to_string)
        .collect();
    let count = rest.count();
    let (answering, quorum) = (count - silent.len(), count / 2 + 1);
    if answering >= quorum && count > 0 {
        return Ok(());
    }
    let mut text = format!(
        "without member {id}, {answering} of {count} voters would answer and {quorum} are needed"
    );
    if !silent.is_empty() {
        text.push_str(&format!("; silent: {}", silent.join(", ")));
    }
    Err(Refusal::QuorumAtRisk(text))
}

/// Drops the oldest tombstones beyond what is kept; never the newest number.
fn forget_old(state: &mut State) {
    let newest = newest_id(state);
    let removed: Vec<u64> = state
        .members
        .iter()
        .filter(|member| member.removed_at.is_some() && member.id != newest)
        .map(|member| member.id)
        .collect();
    let excess = removed.len().saturating_sub(MEMBERS_REMOVED_KEPT);
    for id in &removed[..excess] {
        state.members.remove(id);
    }
}
