//! Nodes: lists, drain, uncordon.

use std::sync::Arc;

use nube_proto::v1;
use nube_proto::v1::node_service_server::NodeService;
use nube_state::Command;
use nube_state::command::SetNodeLabels;
use nube_types::limits::LABELS_MAX;
use tonic::{Request, Response, Status};

use super::mutation::{self, Mutation};
use super::{convert, field, page, resolve, status};
use crate::cell::Cell;

/// Handlers.
pub struct Service(pub Arc<Cell>);

impl Service {
    async fn set_drained(
        &self,
        request: Request<v1::ChangeNodeRequest>,
        drained: bool,
    ) -> Result<Response<v1::Node>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let state = self.0.read().await?;
        let parameters = v1::ChangeNodeRequest {
            request_id: drained.to_string(),
            ..message
        };
        let mutation = Mutation::begin(caller, &request_id, &parameters)?;
        let id = resolve::node(&state, &parameters.node)?.facts.id;
        if mutation.recall(&state)?.is_none() {
            mutation
                .commit(&self.0, Command::SetNodeDrained(id, drained))
                .await?;
        }
        let state = self.0.views.now();
        let node = resolve::node(&state, &id.to_string())?;
        Ok(Response::new(convert::node(&state, node)))
    }
}

#[tonic::async_trait]
impl NodeService for Service {
    async fn get_node(
        &self,
        request: Request<v1::GetNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        let state = self.0.read().await?;
        let node = resolve::node(&state, &request.get_ref().node)?;
        Ok(Response::new(convert::node(&state, node)))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let (_, message) = mutation::take(request)?;
        let state = self.0.read().await?;
        let (page, next_page_token) = page::cut(
            state.nodes.iter(),
            |node| node.facts.id,
            message.page_size,
            &message.page_token,
        )?;
        let nodes = page
            .into_iter()
            .map(|node| convert::node(&state, node))
            .collect();
        let revision = state.index;
        Ok(Response::new(v1::ListNodesResponse {
            nodes,
            next_page_token,
            revision,
        }))
    }

    async fn drain_node(
        &self,
        request: Request<v1::ChangeNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        self.set_drained(request, true).await
    }

    async fn uncordon_node(
        &self,
        request: Request<v1::ChangeNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        self.set_drained(request, false).await
    }

    async fn set_node_labels(
        &self,
        request: Request<v1::SetNodeLabelsRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        let (caller, mut message) = mutation::take(request)?;
        let request_id = std::mem::take(&mut message.request_id);
        let set = field::labels("labels", &message.labels)?;
        if message.remove.len() > LABELS_MAX {
            let rule = format!("at most {LABELS_MAX} keys");
            return Err(status::invalid("remove", rule));
        }
        let state = self.0.read().await?;
        let mutation = Mutation::begin(caller, &request_id, &message)?;
        let node = resolve::node(&state, &message.node)?.facts.id;
        if mutation.recall(&state)?.is_none() {
            let remove = message.remove;
            let command = SetNodeLabels { node, set, remove };
            let command = Command::SetNodeLabels(command);
            mutation.commit(&self.0, command).await?;
        }
        let state = self.0.views.now();
        let node = resolve::node(&state, &node.to_string())?;
        Ok(Response::new(convert::node(&state, node)))
    }
}
