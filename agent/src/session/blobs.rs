//! Image files from any connected controller. Blobs are named by content, so it
//! does not matter which controller serves them, leader or not.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use nube_proto::agent::v1::FetchBlobRequest;
use tokio::sync::watch;
use tonic::transport::Channel;

use super::link::client;
use super::rules::LinkId;
use crate::image::{BlobSource, BlobStream};

/// The controllers with an open session.
#[derive(Clone, Default)]
pub struct Controllers {
    channels: Arc<watch::Sender<BTreeMap<LinkId, Channel>>>,
}

impl Controllers {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A session was opened.
    pub fn insert(&self, link: LinkId, channel: Channel) {
        self.channels.send_modify(|channels| {
            channels.insert(link, channel);
        });
    }

    /// A session is over.
    pub fn remove(&self, link: LinkId) {
        self.channels.send_modify(|channels| {
            channels.remove(&link);
        });
    }

    /// Those connected at this moment, if any.
    #[must_use]
    pub fn connected_now(&self) -> Vec<(LinkId, Channel)> {
        listed(&self.channels.borrow())
    }

    /// Waits until at least one is connected: while there is none, a launch is
    /// neither failed nor counted as tried.
    async fn connected(&self) -> Vec<(LinkId, Channel)> {
        let mut seen = self.channels.subscribe();
        match seen.wait_for(|channels| !channels.is_empty()).await {
            Ok(channels) => listed(&channels),
            // The sender lives in `self`.
            Err(_closed) => Vec::new(),
        }
    }
}

fn listed(channels: &BTreeMap<LinkId, Channel>) -> Vec<(LinkId, Channel)> {
    let pair = |(link, channel): (&LinkId, &Channel)| (*link, channel.clone());
    channels.iter().map(pair).collect()
}

impl BlobSource for Controllers {
    async fn open(&self, sha256: &str, offset_bytes: u64) -> Result<BlobStream, String> {
        let mut last = "no controller is connected".to_owned();
        for (link, channel) in self.connected().await {
            let request = FetchBlobRequest {
                sha256: sha256.to_owned(),
                offset_bytes,
            };
            match client(channel).fetch_blob(request).await {
                Ok(response) => {
                    let chunks = response.into_inner().map(|chunk| {
                        chunk
                            .map(|chunk| chunk.data)
                            .map_err(|status| status.message().to_owned())
                    });
                    return Ok(Box::pin(chunks));
                }
                // The next one may have it.
                Err(status) => last = format!("controller {link}: {}", status.message()),
            }
        }
        Err(last)
    }
}
