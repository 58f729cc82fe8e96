//! How an agent proves itself and whom it believes: mutual TLS with the
//! cluster's own CA, and one server name for every controller.

use std::sync::Arc;
use std::time::Duration;

use nube_tls::{Dialer, Files, Identity};
use tonic::transport::{Channel, Endpoint};

use crate::config::Config;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A controller that is frozen, or behind a cut cable, is noticed after the sum
/// of the two. Shorter cuts sessions of a busy host.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for image chunks of several fetches and tunnels on one connection.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// This node's identity and the way to the controllers.
#[derive(Clone)]
pub struct Tls {
    identity: Arc<Identity>,
    dialer: Dialer,
}

impl Tls {
    /// Reads the files that the config names. An expired certificate is no
    /// reason to stop: guests need their agent.
    pub fn load(config: &Config) -> Result<Self, nube_tls::Error> {
        let identity = Identity::load(Files {
            ca: config.ca.clone(),
            certificate: config.certificate.clone(),
            key: config.key.clone(),
        })?;
        let dialer = Dialer::new(&identity)?;
        Ok(Self { identity, dialer })
    }

    /// The shared cell; a renewed certificate is used from the next connection.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Connects to a controller now.
    pub async fn connect(&self, controller: &str) -> Result<Channel, tonic::transport::Error> {
        let endpoint = tuned(Dialer::endpoint(controller)?);
        self.dialer.connect(&endpoint).await
    }
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES / 4)
}
