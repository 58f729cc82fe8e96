//! Arguments of `project`.

use clap::{Args, Subcommand};

use crate::complete;

/// Who owns instances, keys and images, and how much of each.
#[derive(Debug, Subcommand)]
pub enum Project {
    /// Make a project with its own network.
    ///
    /// What no flag says is as the cell gives it to new projects. Needs admin of
    /// the cell.
    #[command(after_help = "Example: cloudctl project create web --instances 10 --vcpus 20")]
    Create {
        /// 1 to 63 of a-z, 0-9 and '-', starting with a letter.
        name: String,
        #[command(flatten)]
        quota: Quota,
    },
    /// List the projects that you may see: what is used, of how much.
    #[command(visible_alias = "ls")]
    List,
    /// Show one project. Default: the one that calls go to.
    Show {
        /// Name or id.
        #[arg(add = complete::projects())]
        name: Option<String>,
    },
    /// Show a quota, or set the parts of it that flags name.
    ///
    /// What exists stays, even above it. Setting needs admin of the cell.
    #[command(after_help = "Example: cloudctl project quota web --instances 20 --images unlimited")]
    Quota {
        /// Name or id. Default: the project that calls go to.
        #[arg(add = complete::projects())]
        name: Option<String>,
        #[command(flatten)]
        quota: Quota,
    },
    /// Delete a project; refused while anything is left in it.
    ///
    /// Its usage and its bill stay. Asks for the name to be typed. Needs admin of
    /// the cell.
    #[command(visible_alias = "rm")]
    Delete {
        /// Name or id.
        #[arg(add = complete::projects())]
        name: String,
        #[command(flatten)]
        confirm: super::Confirm,
    },
}

// No doc comment: clap would show it instead of the verb's own text.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
#[command(next_help_heading = "Quota (a number, or `unlimited`)")]
pub struct Quota {
    /// Instances that are not deleted.
    #[arg(long, value_name = "N", value_parser = parse_amount)]
    pub instances: Option<u64>,

    /// Virtual CPUs of those instances together.
    #[arg(long, value_name = "N", value_parser = parse_amount)]
    pub vcpus: Option<u64>,

    /// Their memory together.
    #[arg(long, value_name = "MIB", value_parser = parse_amount)]
    pub memory_mib: Option<u64>,

    /// Their disks together.
    #[arg(long, value_name = "MIB", value_parser = parse_amount)]
    pub disk_mib: Option<u64>,

    /// Registered SSH keys.
    #[arg(long, value_name = "N", value_parser = parse_amount)]
    pub ssh_keys: Option<u64>,

    /// Images.
    #[arg(long, value_name = "N", value_parser = parse_amount)]
    pub images: Option<u64>,
}

/// In the contract the largest number stands for no limit.
pub const UNLIMITED: u64 = u64::MAX;

fn parse_amount(text: &str) -> Result<u64, String> {
    match text {
        "unlimited" => Ok(UNLIMITED),
        _ => text
            .parse()
            .map_err(|_| "a whole number, or `unlimited`".to_owned()),
    }
}
