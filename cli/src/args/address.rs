//! Arguments of `address`.

use clap::Subcommand;

use crate::complete;

/// Public (elastic) addresses of a project.
#[derive(Debug, Subcommand)]
pub enum Address {
    /// Take a free public address; billed per hour until it is released.
    #[command(
        visible_alias = "create",
        after_help = "Example: cloudctl address allocate www"
    )]
    Allocate {
        /// 1 to 63 of a-z, 0-9 and '-', starting with a letter. Default: drawn.
        name: Option<String>,
    },
    /// List the project's addresses, what they point at and what they cost.
    #[command(visible_alias = "ls")]
    List,
    /// Show one address.
    Show {
        /// Name, id, or the address itself.
        #[arg(add = complete::addresses())]
        address: String,
    },
    /// Point an address at an instance; the instance also leaves by it.
    Associate {
        /// Name, id, or the address itself.
        #[arg(add = complete::addresses())]
        address: String,
        /// Name or id.
        #[arg(add = complete::instances())]
        instance: String,
        /// Take it from where it points now.
        #[arg(long = "move")]
        take: bool,
    },
    /// Point an address at nothing; it stays yours, and is billed.
    Disassociate {
        /// Name, id, or the address itself.
        #[arg(add = complete::addresses())]
        address: String,
    },
    /// Give an address back; somebody else may get it.
    #[command(visible_aliases = ["delete", "rm"])]
    Release {
        /// Name, id, or the address itself.
        #[arg(add = complete::addresses())]
        address: String,
    },
    /// Ranges that addresses come from. Needs operator of the cell.
    #[command(subcommand, arg_required_else_help = true)]
    Pool(Pool),
}

/// Ranges of the cell.
#[derive(Debug, Subcommand)]
pub enum Pool {
    /// Give the cell a range; it must be routed to the hosts' network.
    #[command(after_help = "Example: cloudctl address pool add 198.51.100.0/28")]
    Add {
        /// /8 to /32; all of its addresses are given out.
        #[arg(value_name = "RANGE")]
        cidr: String,
    },
    /// List ranges and how much of each is held.
    #[command(visible_alias = "ls")]
    List,
    /// Take a range away; refused while addresses of it are held.
    #[command(visible_alias = "rm")]
    Remove {
        /// As it was added.
        #[arg(value_name = "RANGE")]
        cidr: String,
    },
}
