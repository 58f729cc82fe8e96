//! Arguments of `ssh`, `scp` and the hidden `tunnel`.

use std::path::PathBuf;

use clap::Args;

use crate::complete;

/// Log in to an instance, or run one command there.
///
/// The system's OpenSSH through a tunnel of the cloud: no route to the guest is
/// needed. The host key is the one the control plane made before the guest
/// booted; a guest that shows another one is refused. Nothing is written to
/// known_hosts, and ~/.ssh/config is not read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl ssh web
  cloudctl ssh web -- uname -a
  cloudctl ssh web --ssh-arg=-L8080:127.0.0.1:80

The exit code is that of the remote command; 255 when ssh failed.")]
pub struct Ssh {
    /// Name or id of the instance.
    #[arg(value_name = "NAME", add = complete::instances())]
    pub instance: String,

    #[command(flatten)]
    pub login: Login,

    /// Ask for a terminal even when a command is given.
    #[arg(short = 't', long)]
    pub tty: bool,

    /// Command to run; ssh joins the words with spaces.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// Copy files to or from an instance.
///
/// One side has the form NAME:PATH. A local path with a colon needs a slash
/// before it, as ./a:b.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl scp ./site.tar web:/tmp/
  cloudctl scp -r web:/var/log ./logs")]
pub struct Scp {
    /// Copy directories with all that is in them.
    #[arg(short = 'r', long)]
    pub recursive: bool,

    /// Use the old scp protocol, for guests without an SFTP server.
    #[arg(short = 'O', long)]
    pub legacy: bool,

    #[command(flatten)]
    pub login: Login,

    /// Source, or several, and then the destination.
    #[arg(value_name = "SRC… DST", num_args = 2.., required = true)]
    pub paths: Vec<String>,
}

/// Who logs in, and with what.
#[derive(Debug, Args)]
pub struct Login {
    /// Login user. Default: the image's.
    #[arg(short = 'l', long, value_name = "USER")]
    pub user: Option<String>,

    /// Private key. Default: the key that `ssh-key generate` saved, if the
    /// instance has it; otherwise the agent's and ~/.ssh/id_*.
    #[arg(short = 'i', long, value_name = "FILE")]
    pub identity: Option<PathBuf>,

    /// One more argument for OpenSSH, as --ssh-arg=-v; repeat for several.
    /// Nothing given here can weaken the host key check.
    #[arg(long = "ssh-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub ssh_args: Vec<String>,

    /// Let a guest that still boots take this long, 0 to 600.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=600))]
    pub boot_wait: u32,
}

/// Splice standard input and output to a TCP port of a guest.
#[derive(Debug, Args)]
pub struct Tunnel {
    /// Name or id of the instance.
    pub instance: String,

    /// TCP port in the guest.
    #[arg(long, default_value_t = 22)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,

    /// Keep trying to connect for this long.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=600_000))]
    pub wait_ms: u32,
}
