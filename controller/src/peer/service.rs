//! The service that other controllers call. The sender is the certificate's
//! member, and its greeting must say the same.

use std::sync::Arc;

use nube_consensus::PeerHello;
use nube_proto::peer::v1::peer_service_server::PeerService;
use nube_proto::peer::v1::{
    InstallSnapshotResponse, PeerMessages, PeerMessagesEnd, ProposeRequest, ProposeResponse,
    ReadClockRequest, ReadClockResponse, SnapshotChunk,
};
use nube_state::codec;
use tonic::{Request, Response, Status, Streaming};

use crate::api::status;
use crate::cell::Cell;
use crate::clock;
use crate::identity;
use crate::peer::directory;
use crate::propose;

/// Handlers.
pub struct Service(pub Arc<Cell>);

fn member_of<T>(request: &Request<T>) -> Result<u64, Status> {
    let identity = identity::of(request)?;
    identity
        .name
        .parse()
        .map_err(|_| Status::unauthenticated("the certificate names no member"))
}

impl Service {
    fn check(&self, member: u64, hello: &[u8]) -> Result<PeerHello, Status> {
        let refuse = |text: String| Status::permission_denied(text);
        let hello = PeerHello::decode(hello).map_err(|error| refuse(error.to_string()))?;
        if hello.from != member {
            return Err(refuse(format!(
                "member {member}'s certificate, not {}'s",
                hello.from
            )));
        }
        self.0
            .raft
            .check_peer(&hello)
            .map_err(|error| refuse(error.to_string()))?;
        Ok(hello)
    }

    /// Refuses a member that was removed: an old log must not vote again. Who is
    /// merely unknown is heard, for this replica may lag behind.
    fn check_removed(&self, member: u64) -> Result<(), Status> {
        let (state, raft) = (self.0.views.now(), self.0.raft.status());
        if directory::is_out(&state, &raft, member) {
            return Err(status::member_removed(member));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl PeerService for Service {
    async fn messages(
        &self,
        request: Request<Streaming<PeerMessages>>,
    ) -> Result<Response<PeerMessagesEnd>, Status> {
        let member = member_of(&request)?;
        let mut frames = request.into_inner();
        let mut hello = None;
        while let Some(frame) = frames.message().await? {
            self.check_removed(member)?;
            let known = match &hello {
                None => {
                    let known = self.check(member, &frame.hello)?;
                    self.0.peers.introduce(member, &frame.address);
                    known
                }
                // A newer life of the peer may have spoken since.
                Some(known) => {
                    let known: &PeerHello = known;
                    self.0
                        .raft
                        .check_peer(known)
                        .map_err(|error| Status::permission_denied(error.to_string()))?;
                    known.clone()
                }
            };
            hello = Some(known);
            let refused = self.0.raft.step_peer(member, frame.messages);
            if refused > 0 {
                tracing::debug!(member, refused, "inbox full, messages dropped");
            }
        }
        Ok(Response::new(PeerMessagesEnd {}))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<InstallSnapshotResponse>, Status> {
        let member = member_of(&request)?;
        self.check_removed(member)?;
        let mut chunks = request.into_inner();
        let first = chunks.message().await?;
        let first = first.ok_or_else(|| Status::invalid_argument("no first chunk"))?;
        self.check(member, &first.hello)?;
        let wrong =
            |error: nube_consensus::ReceiveError| status::fault("receiving a snapshot", &error);
        let mut receiver = self
            .0
            .raft
            .receive_snapshot(member, first.preamble)
            .map_err(wrong)?;
        receiver = write(receiver, first.data).await?;
        while let Some(chunk) = chunks.message().await? {
            receiver = write(receiver, chunk.data).await?;
        }
        receiver.finish().await.map_err(wrong)?;
        Ok(Response::new(InstallSnapshotResponse {}))
    }

    async fn read_clock(
        &self,
        request: Request<ReadClockRequest>,
    ) -> Result<Response<ReadClockResponse>, Status> {
        self.check_removed(member_of(&request)?)?;
        let wall_ms = clock::wall().0;
        Ok(Response::new(ReadClockResponse { wall_ms }))
    }

    async fn propose(
        &self,
        request: Request<ProposeRequest>,
    ) -> Result<Response<ProposeResponse>, Status> {
        self.check_removed(member_of(&request)?)?;
        // Decoded before it enters the log: an entry that nobody can read would
        // stop every replica.
        let envelope = codec::decode_envelope(&request.get_ref().envelope)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        match self.0.proposer.append(envelope).await {
            Ok(committed) => Ok(Response::new(ProposeResponse {
                index: committed.index,
                outcome: codec::encode_outcome(&committed.outcome).into(),
            })),
            Err(error) => Err(propose::forwarded(&error)),
        }
    }
}

async fn write(
    mut receiver: nube_consensus::SnapshotReceiver,
    data: bytes::Bytes,
) -> Result<nube_consensus::SnapshotReceiver, Status> {
    let written = tokio::task::spawn_blocking(move || {
        let result = receiver.chunk(&data);
        (receiver, result)
    });
    let (receiver, result) = written
        .await
        .map_err(|error| status::fault("receiving a snapshot", &error))?;
    result.map_err(|error| status::fault("receiving a snapshot", &error))?;
    Ok(receiver)
}
