//! Spending a join token. The state decides who the newcomer is; the certificate
//! says it. A lost answer may be asked for again with the same key.

use nube_proto::v1;
use nube_state::join_token::RedeemJoinToken;
use nube_state::{Command, Joined, Outcome, Refusal, State, member};
use nube_types::NodeId;
use nube_types::limits::ADDRESS_BYTES_MAX;
use sha2::{Digest, Sha256};
use tonic::Status;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::token;
use crate::api::{field, status};
use crate::cell::Cell;
use crate::identity::Role;
use crate::pki::CsrError;

/// Ids are drawn again when one is taken; twice in a row does not happen.
const DRAWS: usize = 3;

/// `JoinService.Join`.
pub async fn join(cell: &Cell, request: v1::JoinRequest) -> Result<v1::JoinResponse, Status> {
    let hash = token::hash_of(&request.token, &cell.issuer.fingerprint());
    let hash = hash.ok_or_else(refused)?;
    let csr = &request.certificate_signing_request;
    let address = field::printable("address", &request.address, ADDRESS_BYTES_MAX)?;
    // Signed under a name that is nobody's first: a request that cannot be
    // certified must not spend the token.
    let trial = cell
        .issuer
        .issue(&cell.config.cluster_id, Role::Agent, "trial", csr);
    trial.map_err(|error| unfit(&error))?;
    let public_key_hash = key_hash(csr).ok_or_else(|| unfit(&CsrError::Malformed))?;
    let joined = redeem(cell, hash, public_key_hash, address).await?;
    let (role, name) = match &joined {
        Joined::Agent { node, .. } => (Role::Agent, node.to_string()),
        Joined::Controller { member, .. } => (Role::Controller, member.to_string()),
    };
    let certificate = cell
        .issuer
        .issue(&cell.config.cluster_id, role, &name, csr)
        .map_err(|error| unfit(&error))?;
    tracing::info!(role = role.word(), name, "joined by token");
    Ok(answer(cell, &cell.views.now(), joined, certificate))
}

fn refused() -> Status {
    status::from_refusal(&Refusal::TokenRefused)
}

fn unfit(error: &CsrError) -> Status {
    status::invalid("certificate_signing_request", error.to_string())
}

/// SHA-256 of the public key with its kind.
fn key_hash(csr: &[u8]) -> Option<[u8; 32]> {
    let (_, request) = X509CertificationRequest::from_der(csr).ok()?;
    let key = request.certification_request_info.subject_pki.raw;
    Some(Sha256::digest(key).into())
}

async fn redeem(
    cell: &Cell,
    hash: [u8; 32],
    public_key_hash: [u8; 32],
    address: String,
) -> Result<Joined, Status> {
    for _ in 0..DRAWS {
        let command = Command::RedeemJoinToken(RedeemJoinToken {
            hash,
            public_key_hash,
            address: (!address.is_empty()).then(|| address.clone()),
            node: NodeId(rand::random()),
        });
        let committed = cell
            .proposer
            .submit(("newcomer".to_owned(), None), None, command)
            .await;
        match committed.map_err(|e| status::from_propose(&e))?.outcome {
            Outcome::Joined(joined) => return Ok(joined),
            Outcome::Refused(Refusal::IdTaken(_)) => {}
            Outcome::Refused(refusal) => return Err(status::from_refusal(&refusal)),
            other => return Err(status::fault("joining", &format!("outcome {other:?}"))),
        }
    }
    Err(status::fault("joining", &"no free id was drawn"))
}

fn answer(cell: &Cell, state: &State, joined: Joined, certificate: String) -> v1::JoinResponse {
    let common = v1::JoinResponse {
        cluster_id: cell.config.cluster_id.clone(),
        certificate,
        ca: cell.issuer.ca_pem().to_owned(),
        ..v1::JoinResponse::default()
    };
    match joined {
        Joined::Agent {
            node,
            name,
            agent_epoch,
        } => v1::JoinResponse {
            node_id: node.to_string(),
            name: name.to_string(),
            controllers: addresses(state, v1::JoinRole::Agent),
            agent_epoch,
            ..common
        },
        Joined::Controller { member, name } => v1::JoinResponse {
            name: name.to_string(),
            member_id: member,
            controllers: addresses(state, v1::JoinRole::Controller),
            cluster_secret: cell.secret.text(),
            ca_key: cell.issuer.ca_key_pem(),
            members: member::present(state)
                .map(|member| v1::JoinedMember {
                    id: member.id,
                    address: member.address.clone(),
                })
                .collect(),
            ..common
        },
    }
}

/// Where newcomers of a role reach the controllers.
#[must_use]
pub fn addresses(state: &State, role: v1::JoinRole) -> Vec<String> {
    let address = |member: &nube_state::Member| match role {
        v1::JoinRole::Agent => member.for_agents().to_owned(),
        _ => member.address.clone(),
    };
    member::present(state).map(address).collect()
}
