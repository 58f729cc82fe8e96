//! Arguments of what tells and what follows: `events`, `why`, `explain`,
//! `watch`.

use clap::{Args, ValueEnum};

use crate::complete;

/// Who changed what, when and why; newest last.
///
/// One record per mutation, written in the same log entry, and one per change of
/// an instance's state.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl events
  cloudctl events web
  cloudctl events --actor user/alice --all-projects -o json
  cloudctl events -f")]
pub struct Events {
    /// Only about this object: id, or name of a living one.
    #[arg(value_name = "NAME", add = complete::instances())]
    pub resource: Option<String>,

    /// Every project's and the cell's own. Needs operator or admin of the cell.
    #[arg(long)]
    pub all_projects: bool,

    /// Only by this actor, as user/alice or agent/n-00c0ffee00c0ffee.
    #[arg(long, value_name = "ACTOR")]
    pub actor: Option<String>,

    /// How many of the newest, 1 to 100000.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub last: u32,

    /// Go on with those that come.
    #[arg(short, long)]
    pub follow: bool,
}

/// The story of one instance, in words.
///
/// Who launched it and when, where and why there, and each change of its state
/// with its reason; newest last. A deleted instance is found by its name as long
/// as its events are kept.
#[derive(Debug, Args)]
pub struct Why {
    /// Name or id of the instance.
    #[arg(value_name = "NAME", add = complete::instances())]
    pub instance: String,
}

/// Why an instance is where it is: the hosts that were judged.
///
/// The answer was kept at its launch. Operators see hosts by name, with
/// numbers; tenants see host-1, host-2, …
#[derive(Debug, Args)]
pub struct Explain {
    /// Name or id of the instance.
    #[arg(value_name = "NAME", add = complete::instances())]
    pub instance: String,
}

/// Follow every change, one line each.
///
/// Begins with everything as it is, or after a revision. A lost connection goes
/// on at another controller without a gap and without repetition. When changes
/// in between are no longer kept, that is said, and everything is listed anew.
/// `-o json` prints one JSON document per line, all changes of one revision in
/// it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl watch
  cloudctl watch instance node --all-projects
  cloudctl watch --after 1042 -o json")]
pub struct Watch {
    /// Only these kinds. Default: all that you may see.
    #[arg(value_name = "KIND", value_enum)]
    pub kinds: Vec<Kind>,

    /// Only changes after this revision.
    #[arg(
        long,
        value_name = "REVISION",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub after: u64,

    /// Every project's and the cell's own. Needs operator or admin of the cell.
    #[arg(long)]
    pub all_projects: bool,
}

/// What can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Kind {
    Instance,
    Image,
    SshKey,
    Node,
    Project,
    Principal,
    AccessKey,
    Event,
    Network,
    Subnet,
    SecurityGroup,
    Address,
    LoadBalancer,
}

impl Kind {
    /// The contract's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Image => "image",
            Self::SshKey => "ssh_key",
            Self::Node => "node",
            Self::Project => "project",
            Self::Principal => "principal",
            Self::AccessKey => "access_key",
            Self::Event => "event",
            Self::Network => "network",
            Self::Subnet => "subnet",
            Self::SecurityGroup => "security_group",
            Self::Address => "address",
            Self::LoadBalancer => "load_balancer",
        }
    }
}
