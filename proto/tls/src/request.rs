//! A new key and the request for its certificate. The request names nobody:
//! whose certificate it becomes is the issuer's word.

use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use crate::Error;

/// A fresh key with its PKCS#10 request.
pub struct KeyRequest {
    /// PKCS#8 in PEM; goes to a file of mode 0600 and nowhere else.
    pub key_pem: String,
    /// PKCS#10 in DER, signed by the key.
    pub der: Vec<u8>,
}

impl KeyRequest {
    /// Draws a P-256 key.
    pub fn generate() -> Result<Self, Error> {
        Self::of(&KeyPair::generate().map_err(Error::Generate)?)
    }

    /// A request for a key that was drawn before: whoever asks again with the
    /// same key gets the same answer.
    pub fn from_pem(key_pem: &str) -> Result<Self, Error> {
        Self::of(&KeyPair::from_pem(key_pem).map_err(Error::Generate)?)
    }

    fn of(key: &KeyPair) -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(key).map_err(Error::Generate)?;
        Ok(Self {
            key_pem: key.serialize_pem(),
            der: request.der().to_vec(),
        })
    }
}
