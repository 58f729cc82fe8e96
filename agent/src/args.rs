//! The command line. Every flag's meaning is said once, here.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use nube_telemetry::log::Format;

/// Nube's agent: runs guests on this host.
#[derive(Debug, Parser)]
#[command(name = "cloud-agent", version)]
pub struct Args {
    /// How log lines look.
    #[arg(long, value_enum, default_value = "text", global = true)]
    pub log_format: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent until SIGTERM. Guests outlive it.
    Run {
        /// `agent.toml`.
        #[arg(long)]
        config: PathBuf,
        /// Live in this network namespace: an emulated host of a testbed.
        #[arg(long)]
        netns: Option<String>,
    },
    /// Try KVM with a small guest and exit. Runs in a child of the agent,
    /// because a broken KVM hangs its process.
    KvmProbe,
    /// End a leased guest when the lease of its host ends. Started beside the
    /// guest by the agent, with the deadline as standard input.
    #[command(hide = true)]
    Fencer {
        /// Of the guest, a child of this process.
        pid: u32,
    },
    /// Emulated hosts on this machine, for tests and quickstarts.
    #[command(subcommand)]
    Testbed(Testbed),
    /// Remove all guests of this node and every trace of them. The agent must
    /// be stopped. Disks are lost, unless they are kept.
    Clean {
        /// `agent.toml`.
        #[arg(long)]
        config: PathBuf,
        /// The network namespace that the agent ran in, if any.
        #[arg(long)]
        netns: Option<String>,
        /// Only switch the guests off: power button, and a power cut after 15 s.
        #[arg(long)]
        keep_disks: bool,
    },
}

/// Emulated hosts.
#[derive(Debug, Subcommand)]
pub enum Testbed {
    /// Make or repair the hosts of a cell; prints them as JSON.
    Create {
        /// Eight lower-case hexadecimal digits.
        #[arg(long)]
        cell: String,
        /// Network address of a /24 for the hosts.
        #[arg(long)]
        subnet: Ipv4Addr,
        /// One name per host.
        #[arg(required = true)]
        nodes: Vec<String>,
    },
    /// Remove the hosts of a cell. Absent is fine.
    Delete {
        /// As given to `create`.
        #[arg(long)]
        cell: String,
    },
    /// Print the hosts of a cell as JSON.
    Show {
        /// As given to `create`.
        #[arg(long)]
        cell: String,
    },
}
