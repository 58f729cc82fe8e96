//! The contract, generated from `nube/**/*.proto`: what tenants and operators
//! call (`v1`), what agents and controllers say to each other (`agent`, `peer`).
//! Generated code, whose meaning and rules are in the proto comments, and the
//! container that carries a backup as a file.

pub mod backup;

/// The public API.
#[allow(clippy::all, missing_docs)]
pub mod v1 {
    tonic::include_proto!("nube.v1");
}

/// Between controllers and agents.
#[allow(clippy::all, missing_docs)]
pub mod agent {
    /// First version.
    pub mod v1 {
        tonic::include_proto!("nube.agent.v1");
    }
}

/// Between controllers.
#[allow(clippy::all, missing_docs)]
pub mod peer {
    /// First version.
    pub mod v1 {
        tonic::include_proto!("nube.peer.v1");
    }
}

/// The encoded `FileDescriptorSet` of all of the above, with comments left out.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
