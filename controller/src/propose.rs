//! The one way to change the cluster. Any controller takes a command: the
//! leader appends it, others carry it to the leader. A lost leader means an
//! unknown outcome, so the same envelope is sent again until the deadline: its
//! request id makes that harmless.

use std::sync::Arc;
use std::time::Duration;

use nube_consensus::{Handle, Member, ProposeError};
use nube_proto::peer::v1::ProposeRequest;
use nube_proto::peer::v1::peer_service_client::PeerServiceClient;
use nube_state::{Command, Envelope, Outcome, Request, codec};
use nube_telemetry::trace;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::clock::Clock;
use crate::metrics;
use crate::peer::transport::Peers;

/// A voter that the leader has not heard for this long counts as silent: longer
/// than any election.
pub const MEMBER_SILENT_MS: u64 = 1_500;
/// A status is up to a tick old and counts in whole ticks; a tick of slack more.
const STATUS_AGE_MS: u64 = 150;

/// Longer than an election, shorter than a client's patience.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two attempts: a fraction of an election timeout.
const PAUSE: Duration = Duration::from_millis(30);

/// Why a command has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It may or may not take effect later; safe to send again.
    #[error("no leader answered in time; the outcome is unknown, repeat the request")]
    Unknown,
    /// It was not taken.
    #[error("{0}")]
    Refused(ProposeError),
}

/// The leader said that nothing was done: the caller hears it at once instead
/// of waiting for a deadline.
fn is_final(error: &ProposeError) -> bool {
    matches!(
        error,
        ProposeError::StorageFull | ProposeError::Overloaded | ProposeError::BadSize { .. }
    )
}

/// How a controller that was forwarded to says what [`is_final`] knows.
#[must_use]
pub fn forwarded(error: &ProposeError) -> Status {
    let code = match error {
        ProposeError::Overloaded => Code::ResourceExhausted,
        ProposeError::StorageFull => Code::FailedPrecondition,
        _ => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}

/// A committed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its log index.
    pub index: u64,
    /// What the state machine answered.
    pub outcome: Outcome,
}

/// Proposes here or at the leader.
#[derive(Clone)]
pub struct Proposer {
    raft: Handle<Outcome>,
    peers: Arc<Peers>,
    clock: Arc<Clock>,
}

impl Proposer {
    /// `peers`: the way to the leader. `clock`: what entries are stamped with.
    #[must_use]
    pub fn new(raft: Handle<Outcome>, peers: Arc<Peers>, clock: Arc<Clock>) -> Self {
        Self { raft, peers, clock }
    }

    /// Commits a command and waits until it is applied on this controller as
    /// well, so that its caller sees what it did.
    #[tracing::instrument(name = "propose", skip_all)]
    pub async fn submit(
        &self,
        (actor, source): (String, Option<String>),
        request: Option<Request>,
        command: Command,
    ) -> Result<Committed, Error> {
        let envelope = Envelope {
            source,
            request,
            at: self.clock.now(),
            actor,
            command,
        };
        let deadline = Instant::now() + DEADLINE;
        loop {
            let attempt = tokio::time::timeout_at(deadline, self.attempt(&envelope)).await;
            match attempt {
                Ok(Ok(committed)) => return Ok(committed),
                Ok(Err(error)) if is_final(&error) => return Err(Error::Refused(error)),
                Ok(Err(_)) if Instant::now() + PAUSE < deadline => tokio::time::sleep(PAUSE).await,
                Ok(Err(_)) | Err(_) => return Err(Error::Unknown),
            }
        }
    }

    async fn attempt(&self, envelope: &Envelope) -> Result<Committed, ProposeError> {
        let status = self.raft.status();
        if status.is_leader() {
            return self.append(envelope.clone()).await;
        }
        let leader = status.leader;
        let channel = leader.and_then(|id| self.peers.channel(id));
        let channel = channel.ok_or(ProposeError::NotLeader { leader })?;
        self.forward(channel, envelope).await
    }

    /// Who votes, and who of them has not been heard since this call began: what
    /// was heard before it may have died since.
    async fn listen(&self) -> (Vec<u64>, Vec<u64>) {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(PAUSE).await;
            let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            let status = self.raft.status();
            let voters: Vec<_> = status.members.iter().filter(|m| m.voter).collect();
            let silent = |m: &&&Member| {
                m.last_contact_ms
                    .is_none_or(|ms| ms + STATUS_AGE_MS >= elapsed_ms)
            };
            let silent: Vec<u64> = voters.iter().filter(silent).map(|m| m.id).collect();
            if silent.is_empty() || elapsed_ms >= MEMBER_SILENT_MS {
                return (voters.iter().map(|m| m.id).collect(), silent);
            }
        }
    }

    /// Appends on this controller, if it leads. The leader's reading of the
    /// cell's clock is the one that counts, and its ears are.
    pub async fn append(&self, envelope: Envelope) -> Result<Committed, ProposeError> {
        self.append_when(None, envelope).await
    }

    /// The same, only while it leads in this term: what a leader decided by what
    /// it heard and granted must not be proposed by the leader of another term,
    /// even if that is the same member.
    pub async fn append_in(
        &self,
        term: u64,
        envelope: Envelope,
    ) -> Result<Committed, ProposeError> {
        self.append_when(Some(term), envelope).await
    }

    async fn append_when(
        &self,
        term: Option<u64>,
        mut envelope: Envelope,
    ) -> Result<Committed, ProposeError> {
        envelope.at = self.clock.now();
        if let Command::RemoveMember(command) = &mut envelope.command {
            (command.voters, command.silent) = self.listen().await;
        }
        let begun = Instant::now();
        let bytes = codec::encode_envelope(&envelope).into();
        let answer = match term {
            Some(term) => self.raft.propose_in(term, bytes).await,
            None => self.raft.propose(bytes).await,
        };
        let result = match &answer {
            Ok(applied) if matches!(applied.reply, Outcome::Refused(_)) => "refused",
            Ok(_) => "committed",
            Err(_) => "failed",
        };
        metrics::events().proposed(result, begun.elapsed());
        let applied = answer?;
        Ok(Committed {
            index: applied.index,
            outcome: applied.reply,
        })
    }

    async fn forward(
        &self,
        channel: Channel,
        envelope: &Envelope,
    ) -> Result<Committed, ProposeError> {
        let mut request = tonic::Request::new(ProposeRequest {
            envelope: codec::encode_envelope(envelope).into(),
        });
        if let Some(parent) = trace::parent_of(&tracing::Span::current())
            && let Ok(parent) = parent.parse()
        {
            request.metadata_mut().insert(trace::TRACEPARENT, parent);
        }
        let answer = PeerServiceClient::new(channel).propose(request).await;
        let answer = answer.map_err(|status| {
            tracing::debug!("forwarding to the leader: {status}");
            // Nothing was done, and the leader said why; everything else may
            // still take effect.
            match status.code() {
                Code::ResourceExhausted => ProposeError::Overloaded,
                Code::FailedPrecondition => ProposeError::StorageFull,
                _ => ProposeError::UnknownOutcome,
            }
        })?;
        let answer = answer.into_inner();
        let outcome = codec::decode_outcome(&answer.outcome).map_err(|error| {
            tracing::error!("the leader's answer cannot be read: {error}");
            ProposeError::UnknownOutcome
        })?;
        // Read your writes: what was committed there is applied here next.
        if self.raft.read_index().await.is_err() {
            tracing::debug!("answering before entry {} is applied here", answer.index);
        }
        Ok(Committed {
            index: answer.index,
            outcome,
        })
    }
}
