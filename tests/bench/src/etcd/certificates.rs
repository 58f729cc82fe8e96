//! Certificates for the peer's members and clients: a CA of its own, and keys
//! of the kind that our clusters have (ECDSA P-256).

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};

/// Writes `ca.pem`, `tls.pem` and `tls.key`: one certificate serves every
/// member on both its ports, and the clients.
pub fn write(dir: &Path) -> anyhow::Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.distinguished_name.push(DnType::CommonName, "bench CA");
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name.push(DnType::CommonName, "bench");
    let home = std::net::Ipv4Addr::LOCALHOST;
    leaf.subject_alt_names = vec![
        SanType::IpAddress(home.into()),
        SanType::DnsName("localhost".try_into()?),
    ];
    leaf.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    fs::write(dir.join("ca.pem"), ca_pem)?;
    fs::write(dir.join("tls.pem"), leaf.signed_by(&key, &issuer)?.pem())?;
    Ok(fs::write(dir.join("tls.key"), key.serialize_pem())?)
}
