//! Requests of every kind meet the issuer: what comes out carries the caller's
//! identity or nothing.

use super::*;
use rcgen::{PKCS_ECDSA_P384_SHA384, PKCS_ED25519};
use x509_parser::extensions::GeneralName;

const CLUSTER: &str = "000102030405060708090a0b0c0d0e0f";

fn issuer() -> Issuer {
    Issuer::generate(CLUSTER).expect("a CA")
}

/// A request that claims to be somebody.
fn forged(key: &KeyPair) -> Vec<u8> {
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).expect("names");
    let uri = identity::uri(CLUSTER, Role::Operator, "admin");
    let uri = SanType::URI(uri.try_into().expect("a URI"));
    params.subject_alt_names.push(uri);
    params
        .distinguished_name
        .push(DnType::CommonName, "operator admin");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let request = params.serialize_request(key).expect("a request");
    request.der().to_vec()
}

#[test]
fn forged_names_get_the_servers_identity() {
    let key = KeyPair::generate().expect("a key");
    let pem = issuer()
        .issue(CLUSTER, Role::Agent, "n-0000000000000001", &forged(&key))
        .expect("a certificate");
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
    let certificate = pem.parse_x509().expect("X.509");
    assert!(!certificate.is_ca());
    let names = certificate.subject_alternative_name().expect("valid");
    let names = &names.expect("there").value.general_names;
    let uri = format!("nube://{CLUSTER}/agent/n-0000000000000001");
    assert_eq!(names.as_slice(), [GeneralName::URI(&uri)]);
    assert_eq!(
        certificate.subject().to_string(),
        "CN=agent n-0000000000000001"
    );
    let usage = certificate.extended_key_usage().expect("valid");
    let usage = usage.expect("there").value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    let usage = certificate
        .key_usage()
        .expect("valid")
        .expect("there")
        .value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    assert_eq!(
        *certificate.public_key().subject_public_key.data,
        *key.der_bytes()
    );
}

#[test]
fn broken_requests_are_refused_by_kind() {
    let issuer = issuer();
    let issue = |der: &[u8]| issuer.issue(CLUSTER, Role::Agent, "n-1", der);
    let good = KeyRequest::generate().expect("a request").der;
    issue(&good).expect("a certificate");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        // What the signature does not cover may change, the key may not.
        if let Ok(pem) = issue(&bad) {
            let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
            assert_eq!(same_key(&pem.contents, &good), Some(true), "byte {at}");
            assert!(at > good.len() - 90, "byte {at} is signed");
        }
        assert!(issue(&good[..at]).is_err(), "cut at {at}");
    }
    let mut unsigned = good.clone();
    *unsigned.last_mut().expect("bytes") ^= 1;
    assert!(matches!(
        issue(&unsigned),
        Err(CsrError::Signature | CsrError::Malformed)
    ));
    let mut longer = good.clone();
    longer.push(0);
    assert!(issue(&longer).is_err());
    assert!(matches!(
        issue(&vec![0x30; REQUEST_BYTES_MAX + 1]),
        Err(CsrError::TooLarge)
    ));
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key");
    assert!(matches!(issue(&forged(&p384)), Err(CsrError::Key)));
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    issue(&forged(&ed25519)).expect("a certificate");
}

#[test]
fn only_plain_names_are_certified() {
    let issuer = issuer();
    let request = KeyRequest::generate().expect("a request");
    for bad in ["", "a/b", "a b", "ä", "a\n", &"x".repeat(64)] {
        let issued = issuer.issue(CLUSTER, Role::Operator, bad, &request.der);
        assert!(matches!(issued, Err(CsrError::Name(_))), "{bad:?}");
    }
}

#[test]
fn lives_follow_roles_and_two_certificates_of_one_key_differ() {
    let issuer = issuer().with_lifetime(Duration::from_secs(120));
    let request = KeyRequest::generate().expect("a request");
    let life = |role| {
        let pem = issuer.issue(CLUSTER, role, "1", &request.der).expect("pem");
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
        let serial = pem.parse_x509().expect("X.509").raw_serial().to_vec();
        let life = nube_tls::Life::of(&pem.contents).expect("a life");
        (life.seconds(), serial)
    };
    assert_eq!(life(Role::Agent).0, 120);
    assert_eq!(life(Role::Controller).0, 120);
    assert_eq!(life(Role::Operator).0, 397 * 86_400);
    assert_ne!(life(Role::Agent).1, life(Role::Agent).1);
}

#[test]
fn a_ca_is_read_back_and_strangers_keys_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ca, key) = (dir.path().join("ca.pem"), dir.path().join("ca.key"));
    let (issuer, other) = (issuer(), self::issuer());
    std::fs::write(&ca, issuer.ca_pem()).expect("written");
    std::fs::write(&key, issuer.ca_key_pem()).expect("written");
    let again = Issuer::load(&ca, &key).expect("loaded");
    assert_eq!(again.fingerprint(), issuer.fingerprint());
    assert_eq!(again.fingerprint().len(), 64);
    assert_ne!(again.fingerprint(), other.fingerprint());
    std::fs::write(&key, other.ca_key_pem()).expect("written");
    assert!(Issuer::load(&ca, &key).is_err());
    // A leaf with its own key is no CA.
    let leaf = issuer
        .issue_with_key(CLUSTER, Role::Controller, "1")
        .expect("a leaf");
    std::fs::write(&ca, leaf.certificate).expect("written");
    std::fs::write(&key, leaf.key).expect("written");
    assert!(Issuer::load(&ca, &key).is_err());
}
