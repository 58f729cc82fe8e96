//! Arguments of `join`.

use clap::Args;

/// Make this machine a host or a controller of a cloud, with a one-time token.
///
/// Draws a key, proves the cloud by the fingerprint in the token, and writes
/// certificate and configuration into --dir. Nothing is started: the last line
/// says how. Harmless to repeat until it has succeeded.
#[derive(Debug, Args)]
pub struct Join {
    /// From `cloudctl node add` or `cloudctl cluster add`; `-` reads it from
    /// standard input.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "NUBE_JOIN_TOKEN",
        hide_env_values = true
    )]
    pub token: String,

    /// A controller to join at, `HOST:PORT`; several are tried in turn.
    #[arg(long = "controller", value_name = "HOST:PORT", required = true)]
    pub controllers: Vec<String>,

    /// Join as a controller that peers, agents and clients reach at this
    /// address. Without it: join as a host.
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,

    /// Controllers: where to listen. [default: --address]
    #[arg(long, value_name = "HOST:PORT", requires = "address")]
    pub listen: Vec<String>,

    /// Controllers: directory of image files; one that all controllers share, or
    /// their own. [default: images in --dir]
    #[arg(long, value_name = "DIR", requires = "address")]
    pub image_dir: Option<String>,

    /// Hosts: failure domain. [default: default]
    #[arg(long, value_name = "ZONE", conflicts_with = "address")]
    pub zone: Option<String>,
}
