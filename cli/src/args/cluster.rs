//! Arguments of `cluster`.

use clap::Subcommand;

/// The replicated control plane.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Members, leader, log indexes and the state hash.
    Status {
        /// Let the first controller that answers speak for itself, even when it
        /// is behind or has no leader.
        #[arg(long)]
        stale: bool,
    },
    /// Hand leadership to another voter, for maintenance.
    TransferLeader {
        /// Its member id, from `cloudctl cluster status`.
        #[arg(value_name = "MEMBER")]
        member: u64,
    },
}
