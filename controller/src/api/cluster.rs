//! The control plane itself: members, leader, and the state hash by which
//! replicas can be compared.

use std::sync::Arc;

use nube_consensus::Role;
use nube_proto::v1;
use nube_proto::v1::cluster_service_server::ClusterService;
use nube_state::{InstanceState, codec};
use tonic::{Request, Response, Status};

use super::{backup, status};
use crate::cell::Cell;

/// Silence after which a member counts as unreachable for the leader.
const MEMBER_SILENT_MS: u64 = 1_500;

/// Handlers.
pub struct Service(pub Arc<Cell>);

impl Service {
    fn members(&self, raft: &nube_consensus::Status) -> Vec<v1::Member> {
        let me = self.0.config.id;
        let known = |id| raft.members.iter().find(|member| member.id == id);
        let row = |configured: &crate::config::Member| {
            let member = known(configured.id);
            let voter = member.is_none_or(|member| member.voter);
            let role = if raft.leader == Some(configured.id) {
                v1::MemberRole::Leader
            } else if !voter {
                v1::MemberRole::Learner
            } else if configured.id == me && raft.role == Role::Candidate {
                v1::MemberRole::Candidate
            } else {
                v1::MemberRole::Follower
            };
            let silent = member.and_then(|member| member.last_contact_ms);
            v1::Member {
                id: configured.id,
                address: configured.address.clone(),
                role: role.into(),
                reachable: configured.id == me
                    || raft.leader == Some(configured.id)
                    || silent.is_some_and(|ms| ms < MEMBER_SILENT_MS),
                matched_index: member.and_then(|member| member.matched).unwrap_or_default(),
                name: String::new(),
                joining: false,
            }
        };
        self.0.config.members.iter().map(row).collect()
    }
}

#[tonic::async_trait]
impl ClusterService for Service {
    type BackupClusterStream = backup::Chunks;

    async fn create_join_token(
        &self,
        _request: Request<v1::CreateJoinTokenRequest>,
    ) -> Result<Response<v1::CreateJoinTokenResponse>, Status> {
        Err(Status::unimplemented("join tokens"))
    }

    async fn promote_member(
        &self,
        _request: Request<v1::ChangeMemberRequest>,
    ) -> Result<Response<v1::Member>, Status> {
        Err(Status::unimplemented("membership"))
    }

    async fn remove_member(
        &self,
        _request: Request<v1::ChangeMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        Err(Status::unimplemented("membership"))
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
            members: self.members(&raft),
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
