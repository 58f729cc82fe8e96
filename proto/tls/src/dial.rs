//! A client's connection to a controller: TCP, TLS 1.3 with the identity of the
//! moment, HTTP/2. tonic's own TLS keeps the certificate it was made with; this
//! asks for it at each connect.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::{ALPN, Error, Identity, SERVER_NAME, provider};

/// Makes channels that prove themselves with one identity.
#[derive(Clone)]
pub struct Dialer {
    connector: TlsConnector,
}

impl Dialer {
    /// Believes the identity's CA alone.
    pub fn new(identity: &Arc<Identity>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(identity.ca().clone()).map_err(Error::Key)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Error::Key)?;
        let identity = Arc::clone(identity);
        let mut config = builder
            .with_root_certificates(roots)
            .with_client_cert_resolver(identity);
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would carry on with the certificate of the first.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// An endpoint to be tuned and handed back: requests say `https`, and the
    /// transport below is this dialer's.
    pub fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
        let origin = Endpoint::from_shared(format!("https://{address}"))?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        Ok(endpoint.origin(origin.uri().clone()))
    }

    /// Connects when it is first used, and again whenever it broke.
    #[must_use]
    pub fn lazy(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(service(self.connector.clone()))
    }

    /// Connects now.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        endpoint
            .connect_with_connector(service(self.connector.clone()))
            .await
    }
}

/// What tonic connects with.
pub(crate) fn service(
    connector: TlsConnector,
) -> impl tower::Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future: Send>
+ Send
+ 'static {
    tower::service_fn(move |uri: Uri| dial(connector.clone(), uri))
}

async fn dial(
    connector: TlsConnector,
    uri: Uri,
) -> Result<TokioIo<TlsStream<TcpStream>>, io::Error> {
    let wrong = |text: &str| io::Error::new(io::ErrorKind::InvalidInput, text.to_owned());
    let address = uri.authority().ok_or_else(|| wrong("no address"))?;
    let tcp = TcpStream::connect(address.as_str()).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(SERVER_NAME).map_err(|_| wrong("no server name"))?;
    let stream = connector.connect(name, tcp).await?;
    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(io::Error::other("the other side does not speak HTTP/2"));
    }
    Ok(TokioIo::new(stream))
}
