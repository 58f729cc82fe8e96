//! What may be asked about projects and about who acts in them.

use minicbor::{Decode, Encode};
use nube_types::{AccessKeyId, Name, NetworkId, PrincipalId, ProjectId};

use crate::principal::{AccessRole, PrincipalKind};
use crate::project::Quota;

/// See [`crate::Command::CreateProject`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CreateProject {
    /// Drawn by the proposer.
    #[n(0)]
    pub id: ProjectId,
    /// Unique in the cell.
    #[n(1)]
    pub name: Name,
    /// Drawn by the proposer, for its network.
    #[n(2)]
    pub network: NetworkId,
    /// Absent: the default.
    #[n(3)]
    pub quota: Option<Quota>,
}

/// See [`crate::Command::CreatePrincipal`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CreatePrincipal {
    /// Drawn by the proposer.
    #[n(0)]
    pub id: PrincipalId,
    /// Unique in the cell.
    #[n(1)]
    pub name: Name,
    /// Person or program.
    #[n(2)]
    pub kind: PrincipalKind,
}

/// See [`crate::Command::SetRole`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct SetRole {
    /// Whose.
    #[n(0)]
    pub principal: PrincipalId,
    /// Where; absent: the cell.
    #[n(1)]
    pub project: Option<ProjectId>,
    /// Absent: none any more.
    #[n(2)]
    pub role: Option<AccessRole>,
}

/// See [`crate::Command::CreateAccessKey`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CreateAccessKey {
    /// Drawn by the proposer.
    #[n(0)]
    pub id: AccessKeyId,
    /// Whose.
    #[n(1)]
    pub principal: PrincipalId,
    /// Where; absent: the cell.
    #[n(2)]
    pub project: Option<ProjectId>,
    /// The most it may do there.
    #[n(3)]
    pub role: AccessRole,
    /// SHA-256 of the secret, which is never in the log.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub secret_hash: [u8; 32],
    /// From the commit on; absent: for ever.
    #[n(5)]
    pub ttl_ms: Option<u64>,
}
