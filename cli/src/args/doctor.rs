//! Arguments of `doctor`.

use clap::Args;

/// Check this host and the cloud, and say what to do.
///
/// Looks at the client's certificates, every controller (answer, version, clock,
/// log, state hash), the margin of the quorum, the nodes, and instances that are
/// stuck; on a machine that runs a part of the cloud also at the machine. Changes
/// nothing. Ends with code 0 when no check fails, 1 otherwise.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl doctor
  cloudctl doctor --host
  cloudctl doctor -o json | jq '.checks[] | select(.verdict != \"ok\")'")]
pub struct Doctor {
    /// Look at this machine too, even when no part of the cloud lies in --dir:
    /// before it becomes a host.
    #[arg(long)]
    pub host: bool,
}
