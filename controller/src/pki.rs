//! The cluster's CA: the one place that makes certificates. An identity comes
//! from the caller of [`Issuer::issue`], never from the request for it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use nube_tls::{KeyRequest, SERVER_NAME, life};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ED25519, PublicKeyData, SanType, SerialNumber,
};
use sha2::{Digest, Sha256};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::clock;
use crate::identity::{self, Role};

const CA_DAYS: u64 = 3650;
/// Browsers' limit, and long enough that nobody is locked out by a holiday.
const OPERATOR_DAYS: u64 = 397;
const DAY: Duration = Duration::from_secs(86_400);
/// Far above a request for a P-256 key; larger ones are not parsed.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// As long as a DNS label: names are node ids, member numbers and principals.
const NAME_BYTES_MAX: usize = 63;

/// Why a request gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CsrError {
    /// Longer than any honest request.
    #[error("larger than {REQUEST_BYTES_MAX} bytes")]
    TooLarge,
    /// Not PKCS#10, or with extensions that mean nothing here.
    #[error("not a PKCS#10 request in DER")]
    Malformed,
    /// Whoever sent it does not hold the key.
    #[error("not signed by its own key")]
    Signature,
    /// Weak or unusual keys.
    #[error("the key is neither ECDSA P-256 nor Ed25519")]
    Key,
    /// The identity to be certified is none; a bug of the caller.
    #[error("`{0}` cannot be a name in a certificate")]
    Name(String),
    /// Signing failed.
    #[error("cannot issue: {0}")]
    Issue(rcgen::Error),
}

/// Signs with the cluster's CA key.
pub struct Issuer {
    issuer: rcgen::Issuer<'static, KeyPair>,
    ca_pem: String,
    fingerprint: String,
    leaf: Duration,
}

/// A certificate with its key, both in PEM.
pub struct Leaf {
    /// The certificate.
    pub certificate: String,
    /// PKCS#8.
    pub key: String,
}

impl Issuer {
    /// A new cluster's CA.
    pub fn generate(cluster_id: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Nube cluster {cluster_id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        validity(&mut params, DAY * u32::try_from(CA_DAYS)?);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Self::of(pem, key)
    }

    /// Reads the CA's certificate and key; they must belong together.
    pub fn load(ca_pem: &Path, ca_key: &Path) -> anyhow::Result<Self> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
        };
        let key = KeyPair::from_pem(&read(ca_key)?);
        let key = key.with_context(|| format!("{} holds no usable key", ca_key.display()))?;
        Self::of(read(ca_pem)?, key).with_context(|| ca_pem.display().to_string())
    }

    fn of(ca_pem: String, key: KeyPair) -> anyhow::Result<Self> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(ca_pem.as_bytes())?;
        let ca = pem.parse_x509().context("no certificate")?;
        anyhow::ensure!(ca.is_ca(), "not a CA's certificate");
        // It signed itself, so every bit of it can be checked.
        ca.verify_signature(None)
            .context("the CA's certificate is damaged: its signature does not fit")?;
        let same = *ca.public_key().subject_public_key.data == *key.der_bytes();
        anyhow::ensure!(same, "the CA's certificate and key do not belong together");
        let fingerprint = hex::encode(Sha256::digest(&pem.contents));
        Ok(Self {
            issuer: rcgen::Issuer::from_ca_cert_pem(&ca_pem, key)?,
            ca_pem,
            fingerprint,
            leaf: DAY,
        })
    }

    /// Whether the certificate in `path` is whole and this CA's.
    pub fn vouches_for(&self, path: &Path) -> anyhow::Result<bool> {
        let read = |pem: &[u8]| x509_parser::pem::parse_x509_pem(pem).map(|(_, pem)| pem);
        let what = || format!("reading {}", path.display());
        let ca = read(self.ca_pem.as_bytes())?;
        let own = read(&std::fs::read(path).with_context(what)?).with_context(what)?;
        let (ca, own) = (ca.parse_x509()?, own.parse_x509().with_context(what)?);
        Ok(own.verify_signature(Some(ca.public_key())).is_ok())
    }

    /// How long certificates of agents and controllers live; a day unless said.
    #[must_use]
    pub fn with_lifetime(mut self, leaf: Duration) -> Self {
        self.leaf = leaf;
        self
    }

    /// How long certificates of agents and controllers live.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.leaf
    }

    /// SHA-256 of the CA certificate's DER in 64 hexadecimal digits: by this a
    /// newcomer knows the cluster.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    /// The CA's certificate.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The CA's key. For new controllers and files of mode 0600 only.
    #[must_use]
    pub fn ca_key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate (PEM) for an identity and the key that signed the request.
    /// Whatever else the request says is ignored.
    pub fn issue(
        &self,
        cluster_id: &str,
        role: Role,
        name: &str,
        csr_der: &[u8],
    ) -> Result<String, CsrError> {
        let request = parse(csr_der)?;
        let params = self.params(cluster_id, role, name)?;
        let certificate = params
            .signed_by(&request.public_key, &self.issuer)
            .map_err(CsrError::Issue)?;
        // The signature's kind says nothing of the key's curve: what was
        // certified must be the very key that was sent.
        if same_key(certificate.der(), csr_der) != Some(true) {
            return Err(CsrError::Key);
        }
        Ok(certificate.pem())
    }

    /// The same with a key drawn here, for a cluster's first files.
    pub fn issue_with_key(&self, cluster_id: &str, role: Role, name: &str) -> anyhow::Result<Leaf> {
        let request = KeyRequest::generate()?;
        Ok(Leaf {
            certificate: self.issue(cluster_id, role, name, &request.der)?,
            key: request.key_pem,
        })
    }

    fn params(
        &self,
        cluster_id: &str,
        role: Role,
        name: &str,
    ) -> Result<CertificateParams, CsrError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(allowed) {
            return Err(CsrError::Name(name.chars().take(80).collect()));
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{} {name}", role.word()));
        let uri = identity::uri(cluster_id, role, name);
        let uri = uri.try_into().map_err(CsrError::Issue)?;
        params.subject_alt_names.push(SanType::URI(uri));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if role == Role::Controller {
            let dns = SERVER_NAME.try_into().map_err(CsrError::Issue)?;
            params.subject_alt_names.push(SanType::DnsName(dns));
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.serial_number = Some(serial());
        let lifetime = match role {
            Role::Operator => DAY * OPERATOR_DAYS as u32,
            Role::Agent | Role::Controller => self.leaf,
        };
        validity(&mut params, lifetime);
        Ok(params)
    }
}

/// Random, so that two certificates of one key differ; the top bits make it a
/// positive number of fixed length.
fn serial() -> SerialNumber {
    let mut bytes = rand::random::<[u8; 16]>();
    bytes[0] = bytes[0] & 0x3f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn validity(params: &mut CertificateParams, lifetime: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now_s = clock::wall().seconds();
    params.not_before = epoch + Duration::from_secs(now_s.saturating_sub(life::SLACK_S));
    params.not_after = epoch + Duration::from_secs(now_s) + lifetime;
}

fn parse(csr_der: &[u8]) -> Result<CertificateSigningRequestParams, CsrError> {
    if csr_der.len() > REQUEST_BYTES_MAX {
        return Err(CsrError::TooLarge);
    }
    let request =
        CertificateSigningRequestParams::from_der(&csr_der.into()).map_err(
            |error| match error {
                rcgen::Error::InvalidCertificationRequestSignature => CsrError::Signature,
                rcgen::Error::UnsupportedSignatureAlgorithm => CsrError::Key,
                _ => CsrError::Malformed,
            },
        )?;
    let kind = request.public_key.algorithm();
    if *kind != PKCS_ECDSA_P256_SHA256 && *kind != PKCS_ED25519 {
        return Err(CsrError::Key);
    }
    Ok(request)
}

fn same_key(certificate_der: &[u8], csr_der: &[u8]) -> Option<bool> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate_der).ok()?;
    let (rest, request) = X509CertificationRequest::from_der(csr_der).ok()?;
    let asked = &request.certification_request_info.subject_pki;
    Some(rest.is_empty() && certificate.public_key().raw == asked.raw)
}

#[cfg(test)]
mod test;
