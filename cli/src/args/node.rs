//! Arguments of `node`.

use clap::Subcommand;

/// Hosts that run instances.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Capacity, accelerator and state of each host.
    #[command(visible_alias = "ls")]
    List,
    /// Show one host.
    Show {
        /// Name or id.
        node: String,
    },
    /// Take no new instances; running ones stay.
    Drain {
        /// Name or id.
        node: String,
    },
    /// Take instances again.
    Uncordon {
        /// Name or id.
        node: String,
    },
}
