//! How an agent proves itself and whom it believes: mutual TLS with the
//! cluster's own CA, and one server name for every controller.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::config::Config;

/// In the certificate of every controller and of nothing else: an agent's own
/// certificate cannot play the controller.
const SERVER_NAME: &str = "controller.nube.internal";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A controller that is frozen, or behind a cut cable, is noticed after the sum
/// of the two. Shorter cuts sessions of a busy host.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for image chunks of several fetches and tunnels on one connection.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Why no connection can be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address, certificate or key makes no sense.
    #[error("cannot use controller `{controller}`")]
    Endpoint {
        /// As configured.
        controller: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// A controller's endpoint. Files are read each time, so that renewed
/// certificates are used from the next connection on.
pub fn endpoint(config: &Config, controller: &str) -> Result<Endpoint, Error> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&config.ca)?))
        .identity(Identity::from_pem(
            read(&config.certificate)?,
            read(&config.key)?,
        ))
        .domain_name(SERVER_NAME);
    let refused = |source| Error::Endpoint {
        controller: controller.to_owned(),
        source,
    };
    let endpoint = Endpoint::from_shared(format!("https://{controller}")).map_err(refused)?;
    Ok(endpoint
        .tls_config(tls)
        .map_err(refused)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES / 4))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}
