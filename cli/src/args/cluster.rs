//! Arguments of `cluster`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::cloud::Sizes;

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
    /// Who the controllers are, and what part each plays.
    Members,
    /// Let one more controller join: prints a one-time token, good for ten
    /// minutes, and the command to use it with.
    Add {
        /// RFC 1123 label, unique among the controllers.
        name: String,
    },
    /// Remove a controller for good; its certificate and number are void.
    ///
    /// Refused when the others that answer would be no quorum. A leader hands
    /// over first. The removed process ends by itself.
    Remove {
        /// Its member id, from `cloudctl cluster members`.
        #[arg(value_name = "MEMBER")]
        member: u64,
    },
    /// Make a learner a voter now; a new controller becomes one by itself as
    /// soon as it has caught up.
    Promote {
        /// Its member id, from `cloudctl cluster members`.
        #[arg(value_name = "MEMBER")]
        member: u64,
    },
    /// Hand leadership to another voter, for maintenance.
    TransferLeader {
        /// Its member id, from `cloudctl cluster status`.
        #[arg(value_name = "MEMBER")]
        member: u64,
    },
    Backup(Backup),
    Restore(Restore),
}

/// Save everything the cloud knows to one file, while it runs.
///
/// State, ledger and history at one log index, with everything acknowledged
/// before. The file has a checksum and holds no private key and no user-data in
/// clear. Not in it, and worth keeping apart from it: `cluster.secret` of any
/// controller (guests' host keys hang on it), and the image files.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl cluster backup /srv/backup/cell-2026-11-23.nube

Restore with `cloudctl cluster restore`.")]
pub struct Backup {
    /// The file to make; readable by its owner alone.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Replace the file when it exists.
    #[arg(long)]
    pub force: bool,
}

/// Make a new cloud on this machine that begins with a backup.
///
/// A new cluster id, a new CA and new certificates: nothing of the old cloud
/// can talk to the new one. State, bill and the hosts' identities are those of
/// the backup; what was changed after it is unknown to the new cloud. Start it
/// with `cloudctl up`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl --dir /srv/new cluster restore cell.nube --secret cluster.secret
  cloudctl cluster restore cell.nube --secret cluster.secret --replace

When a majority of controllers is lost for ever, make the file with
`cloud-controller backup-offline` on one that is left.")]
pub struct Restore {
    /// The backup.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// `cluster.secret` of any of the old controllers.
    #[arg(long, value_name = "FILE")]
    pub secret: PathBuf,

    /// Take the place of the cloud in --dir: its agents and controllers are
    /// stopped, its guests go on and are adopted, its certificates, logs and
    /// state are put aside. Its sizes stay.
    #[arg(long)]
    pub replace: bool,

    #[command(flatten)]
    pub sizes: Sizes,
}
