//! How hosts and controllers get certificates. The identity comes from what the
//! caller proves (a token, or its present certificate), never from the request.

pub mod redeem;
pub mod token;

use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::join_service_server::JoinService;
use nube_state::State;
use nube_types::NodeId;
use tonic::{Request, Response, Status};

use super::status;
use crate::cell::Cell;
use crate::identity::{self, Identity, Role};

/// Anonymous callers reach this service: requests are small.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Handlers.
pub struct Service(pub Arc<Cell>);

#[tonic::async_trait]
impl JoinService for Service {
    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        redeem::join(&self.0, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        let caller = identity::of(&request)?;
        let request = request.into_inner();
        // Linearizable: a controller that was cut off does not know yet who was
        // removed.
        let state = self.0.read().await?;
        if !may_renew(&state, &self.0.raft.status(), &caller) {
            let text = format!("{} is not part of this cluster any more", caller.actor());
            return Err(Status::permission_denied(text));
        }
        let certificate = self
            .0
            .issuer
            .issue(
                &self.0.config.cluster_id,
                caller.role,
                &caller.name,
                &request.certificate_signing_request,
            )
            .map_err(|error| status::invalid("certificate_signing_request", error.to_string()))?;
        tracing::info!(actor = caller.actor(), "certificate renewed");
        Ok(Response::new(v1::RenewCertificateResponse {
            certificate,
            ca: self.0.issuer.ca_pem().to_owned(),
        }))
    }
}

/// Who may carry on: any node, known or not yet registered, and the members of
/// the cell. People's certificates are made by people.
fn may_renew(_state: &State, raft: &nube_consensus::Status, caller: &Identity) -> bool {
    match caller.role {
        Role::Agent => caller.name.parse::<NodeId>().is_ok(),
        Role::Controller => caller.name.parse().is_ok_and(|id| raft.is_member(id)),
        Role::Operator => false,
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use nube_consensus::Member;

    #[test]
    fn removed_members_and_people_do_not_renew() {
        let raft = nube_consensus::Status {
            members: vec![Member {
                id: 2,
                voter: true,
                matched: None,
                last_contact_ms: None,
            }],
            ..Default::default()
        };
        let may = |role, name: &str| {
            let name = name.to_owned();
            may_renew(&State::default(), &raft, &Identity { role, name })
        };
        assert!(may(Role::Controller, "2"));
        assert!(!may(Role::Controller, "3"));
        assert!(!may(Role::Controller, "x"));
        assert!(may(Role::Agent, "n-0000000000000001"));
        assert!(!may(Role::Agent, "node-1"));
        assert!(!may(Role::Operator, "admin"));
    }
}
