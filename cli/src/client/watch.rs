//! Following one instance through the death of controllers: a broken or silent
//! stream is opened again elsewhere. Each stream begins with the state as it
//! is, so nothing that still matters is missed.

use std::time::Duration;

use nube_proto::v1::instance_service_client::InstanceServiceClient;
use nube_proto::v1::{GetInstanceRequest, Instance};
use tonic::Streaming;

use super::Client;
use crate::error::Result;

/// A stream that says nothing for this long is opened again: a controller may
/// live and yet have lost its cluster. Shorter only costs requests.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A controller that ends each stream at once must not be asked in a tight loop.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);

/// One instance's states, newest first known.
#[derive(Debug)]
pub struct Watch<'a> {
    client: &'a Client,
    instance: String,
    stream: Option<Streaming<Instance>>,
    opened_before: bool,
}

impl<'a> Watch<'a> {
    /// Starts at the state as it is now.
    #[must_use]
    pub fn new(client: &'a Client, instance: &str) -> Self {
        Self {
            client,
            instance: instance.to_owned(),
            stream: None,
            opened_before: false,
        }
    }

    /// The next state; it may be equal to the last one. Fails only when the
    /// instance is unknown or no controller answers any more.
    pub async fn next(&mut self) -> Result<Instance> {
        loop {
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => self.open().await?,
            };
            let message = tokio::time::timeout(SILENCE_MAX, stream.message()).await;
            if let Ok(Ok(Some(instance))) = message {
                self.stream = Some(stream);
                return Ok(instance);
            }
            // Ended, broken or silent: all the same, the next open tells.
        }
    }

    async fn open(&mut self) -> Result<Streaming<Instance>> {
        if self.opened_before {
            tokio::time::sleep(REOPEN_PAUSE).await;
        }
        self.opened_before = true;
        let request = GetInstanceRequest {
            instance: self.instance.clone(),
        };
        let open = |channel| {
            let request = request.clone();
            async move {
                InstanceServiceClient::new(channel)
                    .watch_instance(request)
                    .await
            }
        };
        self.client.call("watch", open).await
    }
}
