//! One durable, replicated write, of ours or of the peer's, over gRPC with
//! mutual TLS.
//!
//! Ours drains and uncordons a node, each with a request id of its own: a log
//! entry of about a hundred bytes, with a linearizable read before it and a
//! remembered answer after it. The peer's sets one key to as many bytes.

use nube_proto::v1::ChangeNodeRequest;
use nube_proto::v1::node_service_client::NodeServiceClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::doors::Doors;
use crate::etcd::Etcd;
use crate::etcd::api::PutRequest;
use crate::etcd::api::kv_client::KvClient;

/// As long as our log entry.
const VALUE_BYTES: usize = 100;

/// Where writes go.
pub enum Target<'a> {
    /// Ours, and the node that is drained and uncordoned.
    Nube(&'a Doors, String),
    /// The peer's.
    Etcd(&'a Etcd),
}

impl Target<'_> {
    /// A connection of its own.
    pub async fn connect(&self, address: &str) -> anyhow::Result<Channel> {
        match self {
            Self::Nube(doors, _) => doors.connect(address).await,
            Self::Etcd(etcd) => etcd.connect(address).await,
        }
    }

    /// Client number `n` on a connection.
    pub fn writer(&self, channel: Channel, n: usize) -> Writer {
        match self {
            Self::Nube(_, node) => Writer::Nube {
                client: NodeServiceClient::new(channel),
                node: node.clone(),
                drain: n.is_multiple_of(2),
            },
            Self::Etcd(_) => Writer::Etcd {
                client: KvClient::new(channel),
                key: format!("bench/{n:010}"),
            },
        }
    }
}

/// One client.
#[derive(Clone)]
pub enum Writer {
    Nube {
        client: NodeServiceClient<Channel>,
        node: String,
        drain: bool,
    },
    Etcd {
        client: KvClient<Channel>,
        key: String,
    },
}

impl Writer {
    /// Returns when the write is committed.
    pub async fn write(&mut self) -> Result<(), Status> {
        match self {
            Self::Nube {
                client,
                node,
                drain,
            } => {
                let request = ChangeNodeRequest {
                    request_id: uuid::Uuid::new_v4().to_string(),
                    node: node.clone(),
                };
                *drain = !*drain;
                match *drain {
                    false => client.drain_node(request).await?,
                    true => client.uncordon_node(request).await?,
                };
            }
            Self::Etcd { client, key } => {
                let request = PutRequest {
                    key: key.clone().into_bytes(),
                    value: vec![7; VALUE_BYTES],
                };
                client.put(request).await?;
            }
        }
        Ok(())
    }
}
