//! Calls of any method with any bytes, as a client of another make would send
//! them: the contract's descriptors, and a codec that leaves bytes alone.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::door::Door;

/// Streams that say nothing are quiet, not refused.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Bytes as they are.
#[derive(Default, Clone, Copy)]
pub struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// The contract.
pub fn contract() -> DescriptorPool {
    DescriptorPool::decode(nube_proto::DESCRIPTORS).expect("built with the contract")
}

/// Every method of it.
pub fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    pool.services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect()
}

/// `/nube.v1.ImageService/GetImage`.
#[must_use]
pub fn path(method: &MethodDescriptor) -> String {
    let service = method.parent_service().full_name();
    format!("/{service}/{}", method.name())
}

/// Sends one message and waits for the first answer. Every kind of method looks
/// the same on the wire: a stream of one message up, messages down.
pub async fn call(
    channel: &Channel,
    door: &Door,
    path: &str,
    message: Bytes,
) -> Result<Option<Bytes>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    let fault = |error: &dyn std::fmt::Display| Status::new(Code::Unknown, error.to_string());
    grpc.ready().await.map_err(|error| fault(&error))?;
    let up = futures::stream::iter([message]);
    let request = door.request(up).map_err(|error| fault(&error))?;
    let uri = path.parse().map_err(|error| fault(&error))?;
    let answer = tokio::time::timeout(PATIENCE, async {
        let response = grpc.streaming(request, uri, BytesCodec).await?;
        response.into_inner().message().await
    });
    // A stream without news is open: it was let in.
    answer.await.unwrap_or(Ok(None))
}
