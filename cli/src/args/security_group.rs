//! Arguments of `security-group`.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use crate::complete;

/// What instances may send and receive.
#[derive(Debug, Subcommand)]
pub enum SecurityGroup {
    /// Make a group that lets everything out and nothing in.
    #[command(after_help = "Then: cloudctl security-group add-rule NAME --ingress …")]
    Create {
        /// 1 to 63 of a-z, 0-9 and '-', starting with a letter.
        name: String,
    },
    /// List the project's groups.
    #[command(visible_alias = "ls")]
    List,
    /// Show one group with its rules.
    Show {
        /// Name or id.
        #[arg(add = complete::security_groups())]
        group: String,
    },
    AddRule(AddRule),
    /// Take a rule away; connections that no rule allows any more are cut.
    RemoveRule {
        /// Name or id.
        #[arg(add = complete::security_groups())]
        group: String,
        /// Id of the rule, as `security-group show` prints it.
        #[arg(value_name = "RULE")]
        rule: String,
    },
    /// Give an instance further groups; it may run meanwhile.
    Attach(Members),
    /// Take groups from an instance. One without any has the group `default`.
    Detach(Members),
    /// Delete a group; refused while instances carry it or rules name it.
    #[command(visible_alias = "rm")]
    Delete {
        /// Name or id.
        #[arg(add = complete::security_groups())]
        group: String,
    },
}

/// Allow one thing more, on running guests too.
///
/// Rules are stateful: answers to what was allowed pass. Adding a rule that is
/// there already changes nothing.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("peer").required(true).args(["from", "to"])))]
#[command(after_help = "Examples:
  cloudctl security-group add-rule web --ingress --protocol tcp --port 80 --from 0.0.0.0/0
  cloudctl security-group add-rule db --ingress --protocol tcp --port 5432 --from web
  cloudctl security-group add-rule db --egress --protocol any --to 10.0.0.0/8")]
pub struct AddRule {
    /// Name or id.
    #[arg(add = complete::security_groups())]
    pub group: String,

    /// To the instances; --from says the same.
    #[arg(long, conflicts_with_all = ["egress", "to"])]
    pub ingress: bool,

    /// From the instances; --to says the same.
    #[arg(long, conflicts_with = "from")]
    pub egress: bool,

    /// Which packets; icmp and any have no ports.
    #[arg(long, value_enum)]
    pub protocol: RuleProtocol,

    /// Of the receiver, as 80 or 8000-8100. Default: all.
    #[arg(long, value_name = "PORTS", value_parser = parse_ports)]
    pub port: Option<(u32, u32)>,

    /// Who may send: a range, as 10.0.0.0/8, 192.0.2.7 or ::/0, or a group.
    #[arg(long, value_name = "RANGE|GROUP", add = complete::security_groups())]
    pub from: Option<String>,

    /// Who may receive: a range or a group.
    #[arg(long, value_name = "RANGE|GROUP", add = complete::security_groups())]
    pub to: Option<String>,
}

/// An instance and groups.
#[derive(Debug, Args)]
pub struct Members {
    /// Name or id of the instance.
    #[arg(add = complete::instances())]
    pub instance: String,

    /// Names or ids; an instance has 5 at most.
    #[arg(value_name = "GROUP", required = true, add = complete::security_groups())]
    pub groups: Vec<String>,
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RuleProtocol {
    Tcp,
    Udp,
    /// Both families.
    Icmp,
    Any,
}

impl RuleProtocol {
    /// The contract's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Any => "any",
        }
    }
}

/// What a single packet can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

impl Protocol {
    /// The contract's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// `80` or `8000-8100`; the controllers check the order.
pub fn parse_ports(text: &str) -> Result<(u32, u32), String> {
    let port = |text: &str| match text.parse::<u32>() {
        Ok(port @ 1..=65_535) => Ok(port),
        _ => Err("a port, 1 to 65535, or a range as 8000-8100".to_owned()),
    };
    match text.split_once('-') {
        None => port(text).map(|port| (port, port)),
        Some((first, last)) => Ok((port(first)?, port(last)?)),
    }
}
