//! One-time tokens: by each, one host or one controller joins within ten
//! minutes. Only the hash of the secret is here, and the identity that it gives
//! is decided here, whatever the newcomer says of itself.
//!
//! The first key to present the secret wins; the same key gets the same answer
//! again until the token's end, so that a lost answer costs nothing.

use minicbor::{Decode, Encode};
use nube_types::limits::{JOIN_TOKEN_LIFE_MS, JOIN_TOKENS_MAX};
use nube_types::{Name, NodeId, TimestampMs};

use crate::event;
use crate::member::{self, Member};
use crate::outcome::{Kind, Outcome, Refusal};
use crate::state::State;
use crate::table::Record;

/// What may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum JoinRole {
    /// A compute host.
    #[n(0)]
    Agent,
    /// A replica of the control plane.
    #[n(1)]
    Controller,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct JoinToken {
    /// SHA-256 of the secret.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub hash: [u8; 32],
    /// What joins by it.
    #[n(1)]
    pub role: JoinRole,
    /// Under this name.
    #[n(2)]
    pub name: Name,
    /// Void from this instant on, also for repetitions.
    #[n(3)]
    pub expires_at: TimestampMs,
    /// Who joined by it.
    #[n(4)]
    pub spent: Option<Spent>,
}

impl Record for JoinToken {
    type Key = [u8; 32];
    const TABLE: u8 = 15;
    fn key(&self) -> [u8; 32] {
        self.hash
    }
}

/// The use of a token.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Spent {
    /// SHA-256 of the newcomer's public key.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub public_key_hash: [u8; 32],
    /// What it became.
    #[n(1)]
    pub joined: Joined,
}

/// The identity that a newcomer got.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Joined {
    /// A compute host.
    #[n(0)]
    Agent {
        /// Its id: a new one, or that of the silent host of this name.
        #[n(0)]
        node: NodeId,
        /// The name bound to the token.
        #[n(1)]
        name: Name,
        /// Of the installation before it, zero without one: the new agent counts
        /// on from here, and the old one is not listened to any more.
        #[n(2)]
        agent_epoch: u64,
    },
    /// A controller.
    #[n(1)]
    Controller {
        /// Its number.
        #[n(0)]
        member: u64,
        /// The name bound to the token.
        #[n(1)]
        name: Name,
    },
}

/// See [`crate::Command::CreateJoinToken`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CreateJoinToken {
    /// SHA-256 of the secret.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub hash: [u8; 32],
    /// What may join by it.
    #[n(1)]
    pub role: JoinRole,
    /// Under this name.
    #[n(2)]
    pub name: Name,
}

/// See [`crate::Command::RedeemJoinToken`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RedeemJoinToken {
    /// SHA-256 of the secret that was presented.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub hash: [u8; 32],
    /// SHA-256 of the newcomer's public key.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub public_key_hash: [u8; 32],
    /// Controllers: `host:port`. A host gives none: whoever gives one asks to be
    /// a controller.
    #[n(2)]
    pub address: Option<String>,
    /// Drawn by the proposer, for a host that is new.
    #[n(3)]
    pub node: NodeId,
}

pub(crate) fn create(state: &mut State, command: &CreateJoinToken) -> Result<Outcome, Refusal> {
    if state.join_tokens.get(&command.hash).is_some() {
        return Err(Refusal::IdTaken("of the join token".to_owned()));
    }
    match command.role {
        JoinRole::Controller => {
            member::next_id(state, &command.name)?;
        }
        JoinRole::Agent => check_host(state, &command.name)?,
    }
    // The newest token for a name is the only one: the one before was lost.
    let twin = |token: &&JoinToken| token.role == command.role && token.name == command.name;
    let older = state.join_tokens.iter().find(twin).map(|token| token.hash);
    if older.is_none() && state.join_tokens.len() >= JOIN_TOKENS_MAX {
        let limit = JOIN_TOKENS_MAX as u64;
        return Err(Refusal::LimitReached {
            what: "join tokens".to_owned(),
            limit,
        });
    }
    if let Some(older) = older {
        state.join_tokens.remove(&older);
    }
    let expires_at = TimestampMs(state.time.0.saturating_add(JOIN_TOKEN_LIFE_MS));
    state.join_tokens.put(JoinToken {
        hash: command.hash,
        role: command.role,
        name: command.name.clone(),
        expires_at,
        spent: None,
    });
    Ok(Outcome::JoinToken(expires_at))
}

/// A host that answers keeps its name.
fn check_host(state: &State, name: &Name) -> Result<(), Refusal> {
    let answers = |node: &crate::Node| node.facts.name == *name && node.reachable;
    if state.nodes.iter().any(answers) {
        return Err(Refusal::NameTaken {
            kind: Kind::Node,
            name: name.clone(),
        });
    }
    Ok(())
}

pub(crate) fn redeem(state: &mut State, command: &RedeemJoinToken) -> Result<Outcome, Refusal> {
    let token = state.join_tokens.get(&command.hash);
    let token = token.filter(|token| state.time < token.expires_at);
    let token = token.ok_or(Refusal::TokenRefused)?.clone();
    let wants = match command.address {
        Some(_) => JoinRole::Controller,
        None => JoinRole::Agent,
    };
    if token.role != wants {
        return Err(Refusal::TokenRefused);
    }
    if let Some(spent) = token.spent {
        let removed = match spent.joined {
            Joined::Controller { member, .. } => member::is_removed(state, member),
            Joined::Agent { .. } => false,
        };
        if spent.public_key_hash != command.public_key_hash || removed {
            return Err(Refusal::TokenRefused);
        }
        return Ok(Outcome::Joined(spent.joined));
    }
    let joined = match &command.address {
        Some(address) => join_controller(state, &token.name, address)?,
        None => join_agent(state, &token.name, command.node)?,
    };
    let spent = Spent {
        public_key_hash: command.public_key_hash,
        joined: joined.clone(),
    };
    state.join_tokens.update(&command.hash, |token| {
        token.spent = Some(spent);
    });
    event::note_joined(state, &joined);
    Ok(Outcome::Joined(joined))
}

fn join_controller(state: &mut State, name: &Name, address: &str) -> Result<Joined, Refusal> {
    member::check_address(address)?;
    let id = member::next_id(state, name)?;
    state.members.put(Member {
        id,
        address: address.to_owned(),
        agent_address: None,
        name: Some(name.clone()),
        removed_at: None,
        revision: state.index,
    });
    Ok(Joined::Controller {
        member: id,
        name: name.clone(),
    })
}

fn join_agent(state: &State, name: &Name, drawn: NodeId) -> Result<Joined, Refusal> {
    let known = state.nodes.iter().find(|node| node.facts.name == *name);
    let (node, agent_epoch) = match known {
        // It came back by itself since the token was made.
        Some(known) if known.reachable => return Err(Refusal::TokenRefused),
        Some(known) => (known.facts.id, known.facts.agent_epoch),
        None if state.nodes.get(&drawn).is_some() => {
            return Err(Refusal::IdTaken(drawn.to_string()));
        }
        None => (drawn, 0),
    };
    let name = name.clone();
    Ok(Joined::Agent {
        node,
        name,
        agent_epoch,
    })
}

/// Forgets tokens whose time is over.
pub(crate) fn expire(state: &mut State) {
    let now = state.time;
    let over: Vec<_> = state
        .join_tokens
        .iter()
        .filter(|token| now >= token.expires_at)
        .map(|token| token.hash)
        .collect();
    for hash in over {
        state.join_tokens.remove(&hash);
    }
}
