//! TLS of both directions: every connection is mutual, against the cluster's CA
//! alone. Servers are known by one name, whatever address they are reached at.

use std::time::Duration;

use anyhow::Context;
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Endpoint, Identity, ServerTlsConfig,
};

use crate::config::Config;

/// The name in every controller's certificate.
pub const SERVER_NAME: &str = "controller.nube.internal";

/// This controller's certificate, key and CA.
#[derive(Clone)]
pub struct Tls {
    ca: Certificate,
    identity: Identity,
}

impl Tls {
    /// Reads the files that the config names.
    pub fn load(config: &Config) -> anyhow::Result<Self> {
        let read = |path: &std::path::Path| {
            std::fs::read(path).with_context(|| format!("reading {}", path.display()))
        };
        let (certificate, key) = (read(&config.certificate)?, read(&config.key)?);
        Ok(Self {
            ca: Certificate::from_pem(read(&config.ca)?),
            identity: Identity::from_pem(certificate, key),
        })
    }

    /// For the server side: callers without a certificate of the CA are turned
    /// away in the handshake.
    #[must_use]
    pub fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(self.identity.clone())
            .client_ca_root(self.ca.clone())
    }

    /// A channel to another controller; connects when it is first used.
    pub fn channel(&self, address: &str) -> anyhow::Result<Channel> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(self.ca.clone())
            .identity(self.identity.clone())
            .domain_name(SERVER_NAME);
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .with_context(|| format!("address `{address}`"))?
            .tls_config(tls)?
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(2))
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2))
            .keep_alive_while_idle(true);
        Ok(endpoint.connect_lazy())
    }
}
