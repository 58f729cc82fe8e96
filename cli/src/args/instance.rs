//! Arguments of the instance verbs and of `type`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{parse_label, parse_seconds};
use crate::complete;

/// Launch instances of an image and wait until SSH answers.
///
/// Creates `--count` instances, or none. Progress goes to standard error, one
/// line per stage with the seconds since the start; the answer to standard
/// output. A controller may die meanwhile: nothing is launched twice.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl launch micro
  cloudctl launch micro --name web --type n1.small --ssh-key me --label team=web
  cloudctl launch micro --count 3 --wait running -o json
  cloudctl launch micro --count 3 --dry-run
  cloudctl launch micro --user-data setup.sh")]
pub struct Launch {
    /// Name or id of the image (`cloudctl image list`).
    #[arg(value_name = "IMAGE", add = complete::images())]
    pub image: String,

    /// Host name: 1 to 63 of a-z, 0-9 and '-', starting with a letter. With
    /// --count it gets -1, -2, … Default: drawn.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Size, with its price: `cloudctl type list`. Default: n1.micro.
    #[arg(long = "type", value_name = "TYPE", add = complete::types())]
    pub instance_type: Option<String>,

    /// Registered key that may log in, name or id; repeat for several, 16 at
    /// most. Default: the project's only key.
    #[arg(long = "ssh-key", value_name = "KEY", add = complete::ssh_keys())]
    pub ssh_keys: Vec<String>,

    /// Handed to the guest as it is, 16 KiB at most; `-` is standard input. A
    /// text that starts with `#!` runs once as root.
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,

    /// Note on the instance, as team=web; repeat for several, 32 at most.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,

    /// How many, 1 to 100: all or none.
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    pub count: u32,

    /// Network to be in, name or id. Default: the network `default`.
    #[arg(long, value_name = "NETWORK", add = complete::networks())]
    pub network: Option<String>,

    /// Subnet of that network, name or id. Default: the first with a free address.
    #[arg(long, value_name = "SUBNET", add = complete::subnets())]
    pub subnet: Option<String>,

    /// IPv4 address to have, free in the network; only without --count. Default:
    /// the next free one.
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<std::net::Ipv4Addr>,

    /// What may pass to and from it, name or id; repeat for several, 5 at most.
    /// Default: the group `default`.
    #[arg(long = "security-group", value_name = "GROUP", add = complete::security_groups())]
    pub security_groups: Vec<String>,

    /// Only hosts of this zone.
    #[arg(long, value_name = "ZONE")]
    pub zone: Option<String>,

    /// Prefer the emptiest host (spread) or the fullest that fits (pack).
    #[arg(long, value_enum, default_value_t)]
    pub strategy: Strategy,

    /// What the host must guarantee between guests.
    #[arg(long, value_enum, default_value_t)]
    pub isolation: Isolation,

    /// Only hosts with this accelerator. tcg is emulation: slower.
    #[arg(long, value_enum)]
    pub accelerator: Option<Accelerator>,

    /// When its host is lost: keep waits for the host and its disk; replace
    /// starts it on another host, with a NEW disk from the image, under the same
    /// name, address and host key. What it wrote to its disk is gone then.
    #[arg(long, value_enum, default_value_t)]
    pub on_host_failure: OnHostFailure,

    /// Only say what would happen: price, what is left of the quota, the hosts
    /// and why; exit code 6 if it would be refused for room or quota.
    #[arg(long)]
    pub dry_run: bool,

    /// Launch exactly as --dry-run said at this revision, or not at all (exit
    /// code 5) when anything it rested on has changed.
    #[arg(
        long,
        value_name = "REVISION",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub if_revision: u64,

    /// Return when SSH answers, when the machine runs, or at once.
    #[arg(long, value_enum, default_value_t)]
    pub wait: Wait,

    /// Stop waiting after this long (the instance stays), 1 to 86400.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, default_value = "300")]
    pub wait_timeout: Duration,
}

/// Which of the fitting hosts to prefer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    #[default]
    Spread,
    Pack,
}

/// Isolation between guests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// Any host will do.
    #[default]
    Any,
    /// Emulated machines: QEMU promises no isolation there.
    None,
    /// Hardware virtualisation.
    Hardware,
}

/// What becomes of an instance whose host is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OnHostFailure {
    /// It waits for its host, with its disk.
    #[default]
    Keep,
    /// It starts anew on another host, with a new disk.
    Replace,
}

/// How the host runs guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Accelerator {
    Kvm,
    Tcg,
}

/// When `launch` returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// The guest's SSH server answers.
    #[default]
    Ssh,
    /// The machine runs.
    Running,
    /// The placement is committed.
    None,
}

/// List instances.
#[derive(Debug, Args)]
pub struct List {
    /// Only instances that carry this label; repeat for several.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub labels: Vec<(String, String)>,

    /// Also those deleted within the last hour.
    #[arg(short, long)]
    pub all: bool,
}

/// Show all that is known about one instance.
#[derive(Debug, Args)]
pub struct Show {
    /// Name or id.
    #[arg(value_name = "NAME", add = complete::instances())]
    pub instance: String,
}

// No doc comment: clap would show it instead of the verb's own text.
#[derive(Debug, Args)]
pub struct Change {
    /// Names or ids.
    #[arg(value_name = "NAME", required = true, add = complete::instances())]
    pub instances: Vec<String>,

    /// Return only when it is so.
    #[arg(long)]
    pub wait: bool,

    /// Stop waiting after this long, 1 to 86400.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, default_value = "300")]
    pub wait_timeout: Duration,
}

#[derive(Debug, Args)]
pub struct ForceChange {
    #[command(flatten)]
    pub change: Change,

    /// Skip the power button.
    #[arg(short, long)]
    pub force: bool,
}

/// Print the newest part of an instance's serial console.
///
/// Terminal escape sequences of the guest are removed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl logs web
  cloudctl logs web -f                 what is there, then each new line
  cloudctl logs web -f --raw > web.log

With --follow the log goes on over reboots and lost controllers until Ctrl-C, or
until the instance is deleted. After a lost connection it goes on behind the
last byte printed; when the guest has printed more than 64 KiB meanwhile, a line
on standard error says that something may be missing.")]
pub struct Logs {
    /// Name or id.
    #[arg(value_name = "NAME", add = complete::instances())]
    pub instance: String,

    /// Go on with what comes.
    #[arg(short, long)]
    pub follow: bool,

    /// Newest bytes to print, 1 to 1048576. [default: 65536]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=1_048_576))]
    pub bytes: u64,

    /// Print the guest's bytes as they are. They may drive your terminal.
    #[arg(long)]
    pub raw: bool,
}

/// Attach to an instance's serial console.
///
/// Works without network and keys in the guest. Press Enter for a prompt; of the
/// micro image it is a root shell. Ctrl-] leaves. One client at a time: a second
/// one takes over, and the first is told. The guest's bytes reach your terminal
/// as they are.
///
/// With a pipe or a file as standard input its bytes are typed as they are, and
/// the command ends when the guest has been quiet for a while after them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl console web
  printf '\\nuname -a\\n' | cloudctl console web --linger 5")]
pub struct Console {
    /// Name or id.
    #[arg(value_name = "NAME")]
    pub instance: String,

    /// After the end of standard input, leave when the guest has printed nothing
    /// for this long. Not for terminals. 1 to 86400.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds, default_value = "2")]
    pub linger: Duration,
}

/// Instance types.
#[derive(Debug, Subcommand)]
pub enum Type {
    /// CPU, memory, disk and price per hour and month (730 h) of each type.
    #[command(visible_alias = "ls")]
    List,
}
