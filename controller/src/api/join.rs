//! Placeholder, replaced by the merge.
use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::join_service_server::JoinService;
use tonic::{Request, Response, Status};

use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

#[tonic::async_trait]
impl JoinService for Service {
    async fn join(
        &self,
        _request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        Err(Status::unimplemented("join"))
    }

    async fn renew_certificate(
        &self,
        _request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        Err(Status::unimplemented("renew"))
    }
}
