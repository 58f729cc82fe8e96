//! Arguments of `network`, `subnet` and `explain-path`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::security_group::Protocol;
use crate::complete;

/// Private address space of a project, across hosts.
#[derive(Debug, Subcommand)]
pub enum Network {
    /// Make a network with its first subnet.
    ///
    /// Address space is the project's own: it may equal another project's. Guests
    /// of one network reach each other on whatever host they are, by address and
    /// as INSTANCE.NETWORK.internal.
    #[command(after_help = "Example: cloudctl network create lab --cidr 10.1.0.0/24")]
    Create {
        /// 1 to 63 of a-z, 0-9 and '-', starting with a letter.
        name: String,
        /// Range of the first subnet: /16 to /28, private. Default: 10.0.0.0/16.
        #[arg(long, value_name = "RANGE")]
        cidr: Option<String>,
        /// Begin without an internet gateway.
        #[arg(long)]
        isolated: bool,
    },
    /// List the project's networks.
    #[command(visible_alias = "ls")]
    List,
    /// Show one network with its subnets.
    Show {
        /// Name or id.
        #[arg(add = complete::networks())]
        network: String,
    },
    /// Give a network a way to the internet and back; running guests have it at
    /// once.
    AttachGateway {
        /// Name or id.
        #[arg(add = complete::networks())]
        network: String,
    },
    /// Shut a network off: nothing leaves it and nothing comes in from outside.
    DetachGateway {
        /// Name or id.
        #[arg(add = complete::networks())]
        network: String,
    },
    /// Draw what is in the project's networks.
    ///
    /// As a tree, as json, or with --svg as a picture.
    #[command(after_help = "Examples:
  cloudctl network map
  cloudctl network map lab --svg lab.svg")]
    Map {
        /// Name or id. Default: all of the project.
        #[arg(add = complete::networks())]
        network: Option<String>,
        /// Write a picture here; `-` is standard output.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Delete a network; refused while anything is in it.
    #[command(visible_alias = "rm")]
    Delete {
        /// Name or id.
        #[arg(add = complete::networks())]
        network: String,
    },
}

/// Ranges of addresses in a network, routed to each other.
#[derive(Debug, Subcommand)]
pub enum Subnet {
    /// Add a range to a network.
    #[command(after_help = "Example: cloudctl subnet create back 10.1.1.0/24 --network lab")]
    Create {
        /// 1 to 63 of a-z, 0-9 and '-', starting with a letter.
        name: String,
        /// /16 to /28, private, overlapping no subnet of the network.
        #[arg(value_name = "RANGE")]
        cidr: String,
        #[command(flatten)]
        place: Place,
    },
    /// List subnets. Default: of all networks of the project.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Show one subnet.
    Show {
        /// Id, or name within the network.
        #[arg(add = complete::subnets())]
        subnet: String,
        #[command(flatten)]
        place: Place,
    },
    /// Delete a subnet; refused while an address of it is held.
    #[command(visible_alias = "rm")]
    Delete {
        /// Id, or name within the network.
        #[arg(add = complete::subnets())]
        subnet: String,
        #[command(flatten)]
        place: Place,
    },
}

// No doc comment: clap would show it instead of the verb's own text.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
pub struct Place {
    /// Name or id. Default: the network `default`.
    #[arg(long, value_name = "NETWORK", add = complete::networks())]
    pub network: Option<String>,
}

/// Say whether a packet would pass, and why, rule by rule. Sends nothing.
///
/// Looks at state, rules, routes, gateways, addresses and load balancers in the
/// order a packet meets them, up to the first no.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl explain-path web db --port 5432
  cloudctl explain-path internet web --port 80
  cloudctl explain-path web 192.0.2.7 --protocol udp --port 53
  cloudctl explain-path web internet")]
pub struct ExplainPath {
    /// Where it begins: an instance, or `internet`.
    #[arg(value_name = "FROM", add = complete::instances())]
    pub from: String,

    /// Where it shall go: an instance, an address, or `internet`.
    #[arg(value_name = "TO", add = complete::instances())]
    pub to: String,

    /// Of the receiver, 1 to 65535. Needed with tcp and udp.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub port: Option<u32>,

    /// Default: tcp with a port, else icmp.
    #[arg(long, value_enum)]
    pub protocol: Option<Protocol>,
}
