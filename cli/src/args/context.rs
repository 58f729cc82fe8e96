//! Arguments of `context`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::complete;

/// Clouds that this user knows.
///
/// They stand in $XDG_CONFIG_HOME/nube/config.toml (~/.config/nube). Which one
/// is meant: --context; else --config or --dir; else NUBE_CONTEXT; else
/// NUBE_CONFIG or NUBE_DIR; else the one in use; else `local`, the client.toml
/// that `cloudctl up` wrote.
#[derive(Debug, Subcommand)]
pub enum Context {
    /// List contexts; the one in use is marked.
    #[command(visible_alias = "ls")]
    List,
    /// Use a context from now on; `local` is this machine's client.toml.
    Use {
        /// Its name.
        #[arg(add = complete::contexts())]
        name: String,
    },
    /// Show one context, without its secret. Default: the one that is meant.
    Show {
        /// Its name.
        #[arg(add = complete::contexts())]
        name: Option<String>,
    },
    Add(Add),
    /// Forget a context; nothing changes in the cloud.
    #[command(visible_alias = "rm")]
    Remove {
        /// Its name.
        #[arg(add = complete::contexts())]
        name: String,
    },
}

/// Remember a cloud under a name.
///
/// With an access key only the CA's certificate is needed. Files stay where they
/// are; their paths are kept. --project and -o become the context's own.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cloudctl context add work --endpoint cloud.example:7101 --ca ca.pem \\
      --token-file work.token --project web
  cloudctl context add lab --endpoint a:7101 --endpoint b:7101 --ca ca.pem \\
      --cert operator.pem --key operator.key --use")]
pub struct Add {
    /// 1 to 63 of a-z, 0-9 and '-'.
    pub name: String,

    /// A controller, as HOST:PORT; repeat for each.
    #[arg(long = "endpoint", value_name = "HOST:PORT", required = true)]
    pub endpoints: Vec<String>,

    /// PEM file of the cluster's certificate authority.
    #[arg(long, value_name = "FILE")]
    pub ca: PathBuf,

    /// PEM file of the client's certificate.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,

    /// PEM file of its private key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,

    /// File with an access key, mode 0600, instead of --cert and --key.
    #[arg(long, value_name = "FILE", conflicts_with = "cert")]
    pub token_file: Option<PathBuf>,

    /// Also use it from now on.
    #[arg(long = "use")]
    pub use_now: bool,

    /// Replace a context of this name.
    #[arg(long)]
    pub replace: bool,
}
