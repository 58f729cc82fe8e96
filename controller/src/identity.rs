//! Who a certificate was made for, read from it after it was verified. What
//! that one may do is said in `authorise`.
//!
//! The name is a URI in the certificate's SAN: `nube://CLUSTER/ROLE/NAME`.

use rustls::pki_types::CertificateDer;
use tonic::{Request, Status};

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What it is.
    pub role: Role,
    /// As in the certificate; goes into the audit.
    pub name: String,
}

/// What a certificate was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A person or program that rents and runs the cloud.
    Operator,
    /// A compute host's agent.
    Agent,
    /// Another replica.
    Controller,
}

impl Role {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "operator" => Self::Operator,
            "agent" => Self::Agent,
            "controller" => Self::Controller,
            _ => return None,
        })
    }

    /// As in the certificate.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Agent => "agent",
            Self::Controller => "controller",
        }
    }
}

impl Identity {
    /// As in logs and the audit.
    #[must_use]
    pub fn actor(&self) -> String {
        format!("{}/{}", self.role.word(), self.name)
    }
}

/// The SAN of a certificate.
#[must_use]
pub fn uri(cluster_id: &str, role: Role, name: &str) -> String {
    format!("nube://{cluster_id}/{}/{name}", role.word())
}

fn parse(uri: &str, cluster_id: &str) -> Option<Identity> {
    let mut parts = uri.strip_prefix("nube://")?.split('/');
    if parts.next()? != cluster_id {
        return None;
    }
    let role = Role::parse(parts.next()?)?;
    let name = parts.next().filter(|name| !name.is_empty())?.to_owned();
    parts.next().is_none().then_some(Identity { role, name })
}

fn from_certificate(der: &[u8], cluster_id: &str) -> Option<Identity> {
    use x509_parser::extensions::GeneralName;
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::URI(uri) => parse(uri, cluster_id),
            _ => None,
        })
}

/// Of the leaf of a verified chain, if it is this cluster's.
#[must_use]
pub fn from_chain(chain: &[CertificateDer<'static>], cluster_id: &str) -> Option<Identity> {
    from_certificate(chain.first()?, cluster_id)
}

/// The process that sent a request; `authorise` has let it in.
pub fn of<T>(request: &Request<T>) -> Result<Identity, Status> {
    let identity = request.extensions().get::<Identity>().cloned();
    identity.ok_or_else(|| Status::unauthenticated("no identity"))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_exact_names_of_this_cluster_count() {
        let good = parse("nube://c1/agent/n-1", "c1").expect("a good name");
        assert_eq!((good.role, good.name.as_str()), (Role::Agent, "n-1"));
        for bad in [
            "nube://c2/agent/n-1",
            "nube://c1/root/x",
            "nube://c1/agent/",
            "nube://c1/agent",
            "nube://c1/agent/a/b",
            "http://c1/agent/a",
        ] {
            assert_eq!(parse(bad, "c1"), None, "{bad}");
        }
    }
}
