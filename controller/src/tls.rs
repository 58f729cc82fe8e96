//! TLS of both directions, against the cluster's CA alone, from one identity
//! that may be renewed while connections stand. TLS 1.3 only; servers are known
//! by one name, whatever address they are reached at.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nube_tls::{ALPN, Dialer, Files, Identity, provider};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use tonic::transport::Channel;

use crate::config::Config;

/// This controller's identity, and what is made of it.
#[derive(Clone)]
pub struct Tls {
    identity: Arc<Identity>,
    acceptor: TlsAcceptor,
    dialer: Dialer,
}

impl Tls {
    /// Reads the files that the config names.
    pub fn load(config: &Config) -> anyhow::Result<Self> {
        let identity = Identity::load(Files {
            ca: config.ca.clone(),
            certificate: config.certificate.clone(),
            key: config.key.clone(),
        })?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(server(&identity)?)),
            dialer: Dialer::new(&identity)?,
            identity,
        })
    }

    /// The shared cell; a renewed certificate goes in here.
    #[must_use]
    pub fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// For the server side.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// A channel to another controller; connects when it is first used.
    pub fn channel(&self, address: &str) -> anyhow::Result<Channel> {
        let endpoint = Dialer::endpoint(address)
            .with_context(|| format!("address `{address}`"))?
            .connect_timeout(Duration::from_secs(2))
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2))
            .keep_alive_while_idle(true);
        Ok(self.dialer.lazy(&endpoint))
    }
}

/// A caller may come without a certificate: newcomers and holders of access
/// keys have none, and the gate decides. A certificate that is shown must be
/// the CA's, made for clients, and in force.
fn server(identity: &Arc<Identity>) -> anyhow::Result<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()?;
    let resolver = Arc::clone(identity);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would bring its first certificate back unchecked.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
