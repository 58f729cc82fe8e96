//! Instance types.

use std::sync::Arc;

use nube_proto::v1::instance_type_service_server::InstanceTypeService;
use nube_proto::v1::{ListInstanceTypesRequest, ListInstanceTypesResponse};
use tonic::{Request, Response, Status};

use super::convert;
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

#[tonic::async_trait]
impl InstanceTypeService for Service {
    async fn list_instance_types(
        &self,
        _request: Request<ListInstanceTypesRequest>,
    ) -> Result<Response<ListInstanceTypesResponse>, Status> {
        let state = self.0.read().await?;
        let mut sizes: Vec<_> = state.instance_types.iter().collect();
        sizes.sort_by_key(|size| (size.memory, size.vcpus, size.name.clone()));
        let instance_types = sizes
            .into_iter()
            .map(|size| convert::instance_type(&state, size))
            .collect();
        Ok(Response::new(ListInstanceTypesResponse { instance_types }))
    }
}
