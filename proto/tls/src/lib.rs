//! How both ends of a connection prove themselves: one certificate and key that
//! may be renewed while everything runs, and the client's side of a connection.
//! Serving is the controller's; who may call what is decided elsewhere.
//!
//! Reading order: `identity` (the shared cell), `life` (when to renew), `dial`
//! (a client's connection), `request` (a new key), `files` (replaced whole).

pub mod dial;
pub mod files;
pub mod identity;
pub mod life;
pub mod pin;
pub mod request;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use dial::Dialer;
pub use identity::{Files, Identity};
pub use life::Life;
pub use request::KeyRequest;

/// In the certificate of every controller and of nothing else: clients trust
/// the role, not the address, and no other certificate can play a controller.
pub const SERVER_NAME: &str = "controller.nube.internal";
/// HTTP/2 and nothing else.
pub const ALPN: &[u8] = b"h2";

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot {what} `{}`", path.display())]
    File {
        /// `read` or `write`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds no certificate or no key.
    #[error("{what} holds no PEM {wanted}")]
    Pem {
        /// Which file or answer.
        what: String,
        /// `certificate` or `private key`.
        wanted: &'static str,
    },
    /// What it holds is no X.509.
    #[error("a certificate that cannot be parsed")]
    Certificate,
    /// Certificate and key do not belong together, or are of no usable kind.
    #[error("certificate and key cannot be used")]
    Key(#[source] rustls::Error),
    /// The other side was not reached, or is not who it should be.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// The key could not be made.
    #[error("cannot make a key")]
    Generate(#[source] rcgen::Error),
}

/// The one crypto backend, named so that nothing depends on what a process has
/// installed as its default.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
