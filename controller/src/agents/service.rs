//! The service that agents call. The node is the certificate's, never the
//! message's.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use nube_proto::agent::v1::agent_service_server::AgentService;
use nube_proto::agent::v1::{
    AgentMessage, BlobChunk, ControllerMessage, FetchBlobRequest, StreamDown, StreamUp,
};
use nube_types::NodeId;
use nube_types::limits::CHUNK_BYTES;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::session::Session;
use super::{SESSION_QUEUE, desired};
use crate::api::field;
use crate::cell::Cell;
use crate::identity;

/// Handlers.
pub struct Service(pub Arc<Cell>);

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn node_of<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let identity = identity::of(request)?;
    identity
        .name
        .parse()
        .map_err(|_| Status::unauthenticated("the certificate names no node"))
}

#[tonic::async_trait]
impl AgentService for Service {
    type SessionStream = ReceiverStream<Result<ControllerMessage, Status>>;
    type AttachStream = ReceiverStream<Result<StreamDown, Status>>;
    type FetchBlobStream = BoxStream<BlobChunk>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let node = node_of(&request)?;
        let (down, receiver) = mpsc::channel(SESSION_QUEUE);
        let session = Session {
            cell: Arc::clone(&self.0),
            node,
            down,
        };
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn attach(
        &self,
        request: Request<Streaming<StreamUp>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let node = node_of(&request)?;
        let down = self
            .0
            .agents
            .waiting()
            .attach(node, request.into_inner())
            .await?;
        Ok(Response::new(ReceiverStream::new(down)))
    }

    async fn fetch_blob(
        &self,
        request: Request<FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        let node = node_of(&request)?;
        let message = request.into_inner();
        let sha256 = field::sha256("sha256", &message.sha256)?;
        let absent = || Status::not_found("no instance on this node needs this file");
        // A follower may be a moment behind the wish that named the file.
        if !desired::needs_blob(&self.0.views.now(), node, &sha256) {
            let state = self.0.read().await?;
            if !desired::needs_blob(&state, node, &sha256) {
                return Err(absent());
            }
        }
        let bytes = self.0.blobs.read(&sha256, message.offset_bytes).await;
        let bytes = bytes.map_err(|error| Status::not_found(error.to_string()))?;
        let chunks = bytes.flat_map(|part| {
            let parts: Vec<Result<BlobChunk, Status>> = match part {
                Ok(mut data) => {
                    let mut parts = Vec::new();
                    while !data.is_empty() {
                        let data = data.split_to(data.len().min(CHUNK_BYTES));
                        parts.push(Ok(BlobChunk { data }));
                    }
                    parts
                }
                Err(error) => vec![Err(Status::unavailable(error.to_string()))],
            };
            futures::stream::iter(parts)
        });
        Ok(Response::new(Box::pin(chunks)))
    }
}
