//! The first connection of a newcomer, who has no certificate and knows the
//! cluster by the fingerprint of its CA alone. The CA must be in the chain that
//! the controller presents; then all is verified against it as ever.

use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::dial::{self, Dialer};
use crate::{ALPN, Error, provider};

/// Believes one CA, by the SHA-256 of its certificate.
#[derive(Debug)]
struct Pinned {
    fingerprint: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let stranger = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let pinned = |der: &&CertificateDer<'_>| Sha256::digest(der)[..] == self.fingerprint;
        let ca = chain.iter().find(pinned).ok_or_else(stranger)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|_| stranger())?
            .verify_server_cert(leaf, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(
            rustls::PeerIncompatible::Tls12NotOffered,
        ))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Connects to a controller of the cluster whose CA has this fingerprint.
pub async fn connect(endpoint: &Endpoint, fingerprint: [u8; 32]) -> Result<Channel, Error> {
    let provider = provider();
    let verifier = Pinned {
        fingerprint,
        provider: provider.clone(),
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Error::Key)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let service = dial::service(connector);
    endpoint
        .connect_with_connector(service)
        .await
        .map_err(|error| Error::Connect(io::Error::other(error)))
}

/// An endpoint for [`connect`].
pub fn endpoint(address: &str) -> Result<Endpoint, Error> {
    Dialer::endpoint(address).map_err(|error| Error::Connect(io::Error::other(error)))
}

#[cfg(test)]
mod test {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
    use std::time::Duration;

    struct Ca {
        der: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn ca() -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().expect("a key");
        let der = params.self_signed(&key).expect("a CA").der().clone();
        let issuer = Issuer::new(params, key);
        Ca { der, issuer }
    }

    fn leaf(ca: &Ca, name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("a name"))];
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &ca.issuer).expect("a leaf");
        leaf.der().clone()
    }

    fn verify(fingerprint: &[u8], leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> bool {
        let pinned = Pinned {
            fingerprint: Sha256::digest(fingerprint).into(),
            provider: provider(),
        };
        let name = ServerName::try_from(crate::SERVER_NAME).expect("a name");
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let seen = pinned.verify_server_cert(leaf, chain, &name, &[], now);
        seen.is_ok()
    }

    #[test]
    fn only_a_leaf_of_the_pinned_ca_with_the_servers_name_is_believed() {
        let (ours, theirs) = (ca(), ca());
        let good = leaf(&ours, crate::SERVER_NAME);
        let chain = [ours.der.clone()];
        assert!(verify(&ours.der, &good, &chain));
        assert!(!verify(&theirs.der, &good, &chain), "another CA is pinned");
        assert!(!verify(&ours.der, &good, &[]), "the CA is not shown");
        let other = leaf(&ours, "agent.nube.internal");
        assert!(!verify(&ours.der, &other, &chain), "another name");
        // The pinned CA is shown, and the leaf is somebody else's.
        let forged = leaf(&theirs, crate::SERVER_NAME);
        let shown = [theirs.der.clone(), ours.der.clone()];
        assert!(!verify(&ours.der, &forged, &shown));
        // The CA itself is no controller.
        assert!(!verify(&ours.der, &ours.der, &chain));
    }
}
