//! Arguments of `load-balancer`.

use clap::{Args, Subcommand};

use super::parse_label;
use crate::complete;

/// Connections spread over instances, layer 4.
#[derive(Debug, Subcommand)]
pub enum LoadBalancer {
    Create(Create),
    /// List the project's load balancers.
    #[command(visible_alias = "ls")]
    List,
    /// Show one load balancer with its targets and why each is as it is.
    Show {
        /// Name or id.
        #[arg(add = complete::load_balancers())]
        load_balancer: String,
    },
    /// Take an instance out: no new connections; those it has go on.
    Drain(Target),
    /// Take a drained instance in again.
    Undrain(Target),
    /// Delete a load balancer; its elastic address stays yours.
    #[command(visible_alias = "rm")]
    Delete {
        /// Name or id.
        #[arg(add = complete::load_balancers())]
        load_balancer: String,
    },
}

/// Make a load balancer.
///
/// It has an address of its own in the network, and listens on an elastic one as
/// well if one is named. Targets are the instances of the network that carry all
/// target labels and accept connections on the health port.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  cloudctl load-balancer create front --listener tcp:80:8080 \\
    --target-label app=web --address www")]
pub struct Create {
    /// 1 to 63 of a-z, 0-9 and '-', starting with a letter.
    pub name: String,

    /// PROTOCOL:PORT[:TARGET-PORT], as tcp:80:8080; repeat for several, 10 at
    /// most.
    #[arg(long = "listener", value_name = "LISTENER", value_parser = parse_listener)]
    #[arg(required = true)]
    pub listeners: Vec<(String, u32, u32)>,

    /// Label of the targets, as app=web; repeat for several: all must be there.
    #[arg(long = "target-label", value_name = "KEY=VALUE", value_parser = parse_label)]
    #[arg(required = true)]
    pub target_labels: Vec<(String, String)>,

    /// Name or id. Default: the network `default`.
    #[arg(long, value_name = "NETWORK", add = complete::networks())]
    pub network: Option<String>,

    /// Elastic address to listen on: name, id or the address itself. Default:
    /// only guests of the network reach it.
    #[arg(long, value_name = "ADDRESS", add = complete::addresses())]
    pub address: Option<String>,

    /// TCP port that targets must accept connections on. Default: the first
    /// listener's target port.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub health_port: Option<u32>,

    /// Between two checks, 1 to 300. [default: 1]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=300))]
    pub health_interval: Option<u32>,

    /// Equal answers in a row that change the verdict, 1 to 10. [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10))]
    pub health_threshold: Option<u32>,
}

/// One target of one load balancer.
#[derive(Debug, Args)]
pub struct Target {
    /// Name or id.
    #[arg(add = complete::load_balancers())]
    pub load_balancer: String,

    /// Name or id of the instance.
    #[arg(add = complete::instances())]
    pub instance: String,
}

/// `tcp:80` or `tcp:80:8080`.
pub fn parse_listener(text: &str) -> Result<(String, u32, u32), String> {
    let refuse = || "PROTOCOL:PORT[:TARGET-PORT], as tcp:80:8080; tcp or udp".to_owned();
    let port = |text: &str| match text.parse::<u32>() {
        Ok(port @ 1..=65_535) => Ok(port),
        _ => Err(refuse()),
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [protocol @ ("tcp" | "udp"), own] => Ok(((*protocol).to_owned(), port(own)?, 0)),
        [protocol @ ("tcp" | "udp"), own, target] => {
            Ok(((*protocol).to_owned(), port(own)?, port(target)?))
        }
        _ => Err(refuse()),
    }
}
