//! Arguments of `up` and `down`: a whole cloud on this machine.

use std::time::Duration;

use clap::Args;

use super::parse_seconds;

/// Make and start a whole cloud on this machine.
///
/// Real processes: controllers that agree by Raft, and one agent per node, each
/// in its own network namespace as its own host. Checks the machine first and
/// says what is missing and what degrades. Run again, it starts what does not
/// run; sizes are decided the first time. Needs root.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl up
  cloudctl up --controllers 1 --nodes 4 --dir /srv/nube
  cloudctl up --check

Stop it with `cloudctl down`; `cloudctl down --purge` leaves nothing.")]
pub struct Up {
    #[command(flatten)]
    pub sizes: Sizes,

    /// Only check the machine; start nothing.
    #[arg(long)]
    pub check: bool,

    /// Give up when the cloud is not ready after this long, 1 to 86400.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, default_value = "120")]
    pub ready_timeout: Duration,
}

/// How large a cloud on this machine is; decided when it is made.
#[derive(Debug, Clone, Default, Args)]
pub struct Sizes {
    /// Controllers, 1, 3, 5 or 7. [default: 3]
    #[arg(long, value_name = "N", value_parser = parse_controllers)]
    pub controllers: Option<u32>,

    /// Nodes (agents), 1 to 64. [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub nodes: Option<u32>,

    /// Port of the first controller; the others follow. [default: 7101]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=65_000))]
    pub base_port: Option<u16>,

    /// Memory that each node rents out, in MiB, 256 at least. Default: an equal
    /// share of two thirds of what is free.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(256..=16_777_216))]
    pub memory_mib_per_node: Option<u64>,

    /// Cores that each node offers, before overcommit. Default: all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub vcpus_per_node: Option<u32>,

    /// Third number of the nodes' network 10.213.N.0/24, 1 to 254. Default: one
    /// that is free.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=254))]
    pub subnet_index: Option<u8>,
}

/// Stop the cloud on this machine.
///
/// Agents, guests and controllers stop; disks, state and bill stay for the next
/// `up`. Processes get SIGTERM, and SIGKILL after 10 s.
#[derive(Debug, Args)]
pub struct Down {
    /// Also delete everything: disks, state, bill, keys, networks, the
    /// directory. This cannot be undone: asks for the directory's name.
    #[arg(long)]
    pub purge: bool,

    #[command(flatten)]
    pub confirm: super::Confirm,
}

/// An even number of voters survives no more failures than one fewer.
fn parse_controllers(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(n @ (1 | 3 | 5 | 7)) => Ok(n),
        _ => Err("1, 3, 5 or 7: a majority must agree".to_owned()),
    }
}
