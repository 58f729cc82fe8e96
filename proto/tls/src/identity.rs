//! One certificate and key, shared by every connection of a process. A renewed
//! one is put in while connections stand: they keep the old, new ones take the
//! new. Nothing here decides when; `life` and the callers do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::files::{self, PUBLIC, SECRET};
use crate::{Error, Life, provider};

/// The new key waits under this ending until its certificate is in place.
const NEXT: &str = "next";

/// Where an identity is kept.
#[derive(Debug, Clone)]
pub struct Files {
    /// The cluster's CA (PEM).
    pub ca: PathBuf,
    /// Own certificate (PEM).
    pub certificate: PathBuf,
    /// Own key (PEM, mode 0600).
    pub key: PathBuf,
}

/// The shared cell.
#[derive(Debug)]
pub struct Identity {
    files: Files,
    ca: CertificateDer<'static>,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    life: Life,
}

impl Identity {
    /// Reads the files. An expired certificate is read like any other: its
    /// holder may be able to renew it.
    pub fn load(files: Files) -> Result<Arc<Self>, Error> {
        let ca = first_certificate(&read(&files.ca)?, &files.ca.display().to_string())?;
        let current = stored(&files, &ca)?;
        Ok(Arc::new(Self {
            files,
            ca,
            current: ArcSwap::from_pointee(current),
        }))
    }

    /// Takes a new certificate and key into use, on disk first. A crash at any
    /// step leaves a pair that fits.
    pub fn replace(&self, certificate_pem: &str, key_pem: &str) -> Result<(), Error> {
        let what = "the new identity";
        let current = Current::new(
            first_certificate(certificate_pem.as_bytes(), what)?,
            self.ca.clone(),
            private_key(key_pem.as_bytes(), what)?,
        )?;
        let files = &self.files;
        let next = files::beside(&files.key, NEXT);
        write(&next, key_pem.as_bytes(), SECRET)?;
        write(&files.certificate, certificate_pem.as_bytes(), PUBLIC)?;
        files::rename(&next, &files.key).map_err(|source| fault("write", &files.key, source))?;
        self.current.store(Arc::new(current));
        Ok(())
    }

    /// The life of the certificate in use.
    #[must_use]
    pub fn life(&self) -> Life {
        self.current.load().life
    }

    /// The cluster's CA.
    #[must_use]
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.load().key)
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Current {
    /// The CA goes along: a newcomer that knows only its fingerprint finds it
    /// in the chain.
    fn new(
        own: CertificateDer<'static>,
        ca: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, Error> {
        let life = Life::of(&own)?;
        let key = CertifiedKey::from_der(vec![own, ca], key, &provider()).map_err(Error::Key)?;
        Ok(Self {
            key: Arc::new(key),
            life,
        })
    }
}

fn stored(files: &Files, ca: &CertificateDer<'static>) -> Result<Current, Error> {
    let name = files.certificate.display().to_string();
    let own = first_certificate(&read(&files.certificate)?, &name)?;
    let with = |path: &Path| {
        let key = private_key(&read(path)?, &path.display().to_string())?;
        Current::new(own.clone(), ca.clone(), key)
    };
    let next = files::beside(&files.key, NEXT);
    match with(&files.key) {
        Ok(current) => Ok(current),
        Err(error) if !next.exists() => Err(error),
        // The process ended between certificate and key: the last step again.
        Err(_) => {
            let current = with(&next)?;
            files::rename(&next, &files.key)
                .map_err(|source| fault("write", &files.key, source))?;
            Ok(current)
        }
    }
}

fn first_certificate(pem: &[u8], what: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem).map_err(|_| Error::Pem {
        what: what.to_owned(),
        wanted: "certificate",
    })
}

fn private_key(pem: &[u8], what: &str) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| Error::Pem {
        what: what.to_owned(),
        wanted: "private key",
    })
}

fn fault(what: &'static str, path: &Path, source: std::io::Error) -> Error {
    let path = path.to_owned();
    Error::File { what, path, source }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| fault("read", path, source))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    files::replace(path, bytes, mode).map_err(|source| fault("write", path, source))
}

#[cfg(test)]
mod test {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    struct Pair {
        certificate: String,
        key: String,
    }

    fn pair() -> Pair {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["x".to_owned()]).expect("a name");
        Pair {
            certificate: params.self_signed(&key).expect("signed").pem(),
            key: key.serialize_pem(),
        }
    }

    fn files(dir: &Path, own: &Pair) -> Files {
        let files = Files {
            ca: dir.join("ca.pem"),
            certificate: dir.join("tls.pem"),
            key: dir.join("tls.key"),
        };
        std::fs::write(&files.ca, pair().certificate).expect("written");
        std::fs::write(&files.certificate, &own.certificate).expect("written");
        std::fs::write(&files.key, &own.key).expect("written");
        files
    }

    fn leaf(identity: &Identity) -> Vec<u8> {
        identity.certified().cert[0].to_vec()
    }

    #[test]
    fn a_replaced_identity_is_used_at_once_and_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path(), &pair());
        let identity = Identity::load(files.clone()).expect("loaded");
        let (old, new) = (leaf(&identity), pair());
        identity
            .replace(&new.certificate, &new.key)
            .expect("replaced");
        assert_ne!(leaf(&identity), old);
        let again = Identity::load(files).expect("loaded");
        assert_eq!(leaf(&again), leaf(&identity));
        let chain = again.certified();
        assert_eq!(chain.cert.len(), 2, "the CA is in the chain");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path(), &pair());
        let identity = Identity::load(files.clone()).expect("loaded");
        let old = leaf(&identity);
        for (certificate, key) in [
            (pair().certificate, pair().key),
            (String::new(), pair().key),
            (pair().certificate, "-----BEGIN".to_owned()),
        ] {
            assert!(identity.replace(&certificate, &key).is_err());
        }
        assert_eq!(leaf(&identity), old);
        assert_eq!(leaf(&Identity::load(files).expect("loaded")), old);
    }

    #[test]
    fn a_crash_between_certificate_and_key_is_finished_by_the_next_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path(), &pair());
        let new = pair();
        let next = files::beside(&files.key, NEXT);
        // Before the certificate: the old pair counts, the waiting key does not.
        std::fs::write(&next, &new.key).expect("written");
        Identity::load(files.clone()).expect("the old pair");
        assert!(next.exists());
        // After it: only the waiting key fits.
        std::fs::write(&files.certificate, &new.certificate).expect("written");
        Identity::load(files.clone()).expect("the new pair");
        assert!(!next.exists());
        Identity::load(files).expect("the new pair, again");
    }
}
