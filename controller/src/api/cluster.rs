//! The control plane itself: members, leader, and the state hash by which
//! replicas can be compared.

use std::sync::Arc;
use std::time::Duration;

use nube_consensus::Role;
use nube_proto::v1;
use nube_proto::v1::cluster_service_server::ClusterService;
use nube_state::join_token::CreateJoinToken;
use nube_state::member::RemoveMember;
use nube_state::{Command, InstanceState, JoinRole, Member, Outcome, State, codec, member};
use tonic::{Request, Response, Status};

use super::join::{redeem, token};
use super::mutation::{self, Mutation};
use super::{backup, field, status};
use crate::cell::Cell;
use crate::config::{self, Config};
use crate::propose::MEMBER_SILENT_MS;

/// How long a removal or a promotion is waited for before the answer says that it
/// is still under way.
const CHANGE: Duration = Duration::from_secs(5);

/// Handlers.
pub struct Service(pub Arc<Cell>);

/// Members as the table knows them, with what consensus says of each. In a cell's
/// first moments the table is empty, and the members are those it begins with.
fn members(state: &State, raft: &nube_consensus::Status, config: &Config) -> Vec<v1::Member> {
    let me = config.id;
    if state.members.is_empty() {
        let first = |seed: &config::Member| Member {
            id: seed.id,
            address: seed.address.clone(),
            agent_address: seed.agent_address.clone(),
            name: None,
            removed_at: None,
            revision: 0,
        };
        let rows = config.members.iter().map(first);
        return rows.map(|row| convert(&row, raft, me)).collect();
    }
    // Removed ones are shown until consensus has let them go.
    let shown = |row: &&Member| row.removed_at.is_none() || raft.is_member(row.id);
    let rows = state.members.iter().filter(shown);
    rows.map(|row| convert(row, raft, me)).collect()
}

fn convert(row: &Member, raft: &nube_consensus::Status, me: u64) -> v1::Member {
    let member = raft.members.iter().find(|member| member.id == row.id);
    let role = if raft.leader == Some(row.id) {
        v1::MemberRole::Leader
    } else if member.is_none_or(|member| !member.voter) {
        v1::MemberRole::Learner
    } else if row.id == me && raft.role == Role::Candidate {
        v1::MemberRole::Candidate
    } else {
        v1::MemberRole::Follower
    };
    let silent = member.and_then(|member| member.last_contact_ms);
    v1::Member {
        id: row.id,
        address: row.address.clone(),
        role: role.into(),
        reachable: row.id == me
            || raft.leader == Some(row.id)
            || silent.is_some_and(|ms| ms < MEMBER_SILENT_MS),
        matched_index: member.and_then(|member| member.matched).unwrap_or_default(),
        name: row
            .name
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        joining: row.removed_at.is_none() && member.is_none(),
        leaving: row.removed_at.is_some(),
        agent_address: row.agent_address.clone().unwrap_or_default(),
    }
}

impl Service {
    /// Waits until this controller sees the change in consensus, for a while.
    async fn wait(&self, done: impl FnMut(&nube_consensus::Status) -> bool) -> bool {
        let mut raft = self.0.raft.watch_status();
        let seen = tokio::time::timeout(CHANGE, raft.wait_for(done)).await;
        matches!(seen, Ok(Ok(_)))
    }

    /// What a learner lacks, in numbers; only the leader knows.
    fn lack(raft: &nube_consensus::Status, id: u64) -> String {
        let silent = |m: &&nube_consensus::Member| {
            m.voter && m.last_contact_ms.is_none_or(|ms| ms >= MEMBER_SILENT_MS)
        };
        let voters: Vec<_> = raft.members.iter().filter(|m| m.voter).collect();
        let silent = voters.iter().copied().filter(silent).count();
        let matched = raft.members.iter().find(|member| member.id == id);
        let matched = matched
            .and_then(|member| member.matched)
            .unwrap_or_default();
        format!(
            "member {id} cannot vote yet: it holds the log up to {matched} of {}, and {silent} of \
             {} voters do not answer",
            raft.last_index,
            voters.len()
        )
    }
}

#[tonic::async_trait]
impl ClusterService for Service {
    type BackupClusterStream = backup::Chunks;

    async fn create_join_token(
        &self,
        request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let role = match message.role() {
            v1::JoinRole::Agent => JoinRole::Agent,
            v1::JoinRole::Controller => JoinRole::Controller,
            v1::JoinRole::Unspecified => {
                return Err(status::invalid("role", "agent or controller"));
            }
        };
        let name = field::name("name", &message.name)?;
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let (project, id) = (mutation.request.project, mutation.request.id);
        let secret = self.0.secret.join_token(project, id);
        let outcome = match mutation.recall(&state)? {
            Some(outcome) => outcome,
            None => {
                let hash = token::hash(&secret);
                let command = CreateJoinToken { hash, role, name };
                let committed = mutation.commit(&self.0, Command::CreateJoinToken(command));
                committed.await?.1
            }
        };
        let Outcome::JoinToken(expires_at) = outcome else {
            return Err(status::fault(
                "creating a token",
                &format!("outcome {outcome:?}"),
            ));
        };
        Ok(Response::new(v1::CreateJoinTokenResponse {
            token: token::text(&self.0.issuer.fingerprint(), &secret),
            expires_at_ms: expires_at.0,
            controllers: redeem::addresses(&self.0.views.now(), message.role()),
        }))
    }

    async fn promote_member(
        &self,
        request: Request<v1::ChangeMemberRequest>,
    ) -> Result<Response<v1::Member>, Status> {
        let id = request.get_ref().member_id;
        let state = self.0.read().await?;
        let row = member::present(&state).find(|row| row.id == id);
        let row = row.ok_or_else(|| status::not_found("member", &id.to_string()))?;
        let votes = |raft: &nube_consensus::Status| {
            raft.members
                .iter()
                .any(|member| member.id == id && member.voter)
        };
        let raft = self.0.raft.status();
        if !votes(&raft) && !raft.is_leader() {
            return Err(status::unavailable(
                &nube_consensus::ProposeError::NotLeader {
                    leader: raft.leader,
                },
            ));
        }
        // The leader's loop tries at every look; the answer is only waited for.
        let done = self.wait(votes).await;
        let raft = self.0.raft.status();
        if !done {
            return Err(status::precondition("NOT_CAUGHT_UP", Self::lack(&raft, id)));
        }
        Ok(Response::new(convert(row, &raft, self.0.config.id)))
    }

    async fn remove_member(
        &self,
        request: Request<v1::ChangeMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let id = message.member_id;
        if mutation.recall(&state)?.is_none() {
            // The leader fills in who votes and who is silent.
            let command = Command::RemoveMember(RemoveMember {
                id,
                voters: Vec::new(),
                silent: Vec::new(),
            });
            mutation.commit(&self.0, command).await?;
        }
        // It is decided; consensus follows within moments. The removed one does
        // not see it happen to itself: it is about to end.
        if id != self.0.config.id {
            self.wait(|raft| !raft.is_member(id)).await;
        }
        Ok(Response::new(v1::RemoveMemberResponse {}))
    }

    async fn backup_cluster(
        &self,
        _request: Request<v1::BackupClusterRequest>,
    ) -> Result<Response<Self::BackupClusterStream>, Status> {
        backup::stream(&self.0).await.map(Response::new)
    }

    async fn get_cluster(
        &self,
        request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::Cluster>, Status> {
        let state = if request.get_ref().stale {
            self.0.views.now()
        } else {
            self.0.read().await?
        };
        let raft = self.0.raft.status();
        let count = |wanted: fn(InstanceState) -> bool| {
            let found = state
                .instances
                .iter()
                .filter(|instance| wanted(instance.state))
                .count();
            u32::try_from(found).unwrap_or(u32::MAX)
        };
        let nodes_ready = state.nodes.iter().filter(|node| node.reachable).count();
        Ok(Response::new(v1::Cluster {
            id: self.0.config.cluster_id.clone(),
            members: members(&state, &raft, &self.0.config),
            leader_id: raft.leader.unwrap_or_default(),
            term: raft.term,
            commit_index: raft.commit,
            applied_index: state.index,
            time_ms: state.time.0,
            state_hash: hex::encode(codec::state_hash(&state)),
            nodes: u32::try_from(state.nodes.len()).unwrap_or(u32::MAX),
            nodes_ready: u32::try_from(nodes_ready).unwrap_or(u32::MAX),
            instances: count(|state| state != InstanceState::Deleted),
            instances_running: count(|state| state == InstanceState::Running),
            answered_by: self.0.config.id,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            projects: u32::try_from(state.projects.len()).unwrap_or(u32::MAX),
            watchers: self.0.watchers.load(std::sync::atomic::Ordering::Relaxed),
        }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        let to = request.get_ref().member_id;
        let raft = self.0.raft.status();
        if !raft
            .members
            .iter()
            .any(|member| member.id == to && member.voter)
        {
            return Err(status::invalid("member_id", "a voter of this cluster"));
        }
        if raft.leader == Some(to) {
            return Ok(Response::new(v1::TransferLeadershipResponse {}));
        }
        if !raft.is_leader() {
            // The client goes on to the next endpoint until it meets the leader.
            return Err(status::unavailable(
                &nube_consensus::ProposeError::NotLeader {
                    leader: raft.leader,
                },
            ));
        }
        match self.0.raft.transfer_leader(Some(to)).await {
            Ok(_) => Ok(Response::new(v1::TransferLeadershipResponse {})),
            Err(error) => Err(status::unavailable(&error)),
        }
    }
}
