//! `cloud-controller`: one replica of the control plane.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use nube_controller::{backup, bootstrap, certify, config, restore, server};
use nube_telemetry::log;
use nube_telemetry::trace::Exporter;

/// One replica of Nube's control plane.
#[derive(Parser)]
#[command(name = "cloud-controller", version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Form of the log lines on standard error.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: log::Format,
}

/// What is said without `NUBE_LOG`.
const FILTER: log::Filter = log::Filter {
    variable: "NUBE_LOG",
    default: "info,raft=warn",
};

#[derive(Subcommand)]
enum Command {
    /// Runs the controller until SIGTERM.
    Run {
        /// `controller.toml`, as `bootstrap` wrote it.
        #[arg(long)]
        config: PathBuf,
    },
    /// Makes a new cluster's CA, certificates, secrets and config files.
    Bootstrap(bootstrap::Args),
    /// Gives nodes of a bootstrapped cluster new certificates, if theirs have
    /// expired: for hosts that were off for longer than a certificate lives.
    Certify(certify::Args),
    /// Makes a new cluster that begins with a backup.
    Restore(restore::Args),
    /// Makes a backup file from the data of a stopped controller, for the case
    /// that no majority is left to make one.
    BackupOffline(backup::OfflineArgs),
    /// Checks a backup file and shows what it holds, as JSON.
    BackupShow {
        /// The backup file.
        file: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // Before any TLS: with a choice of providers rustls panics instead of guessing.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("another TLS provider is installed already");
    }
    if !matches!(args.command, Command::Run { .. }) {
        // Nothing to send: these have no collector.
        drop(log::start(args.log_format, FILTER, None));
    }
    match args.command {
        Command::Bootstrap(args) => bootstrap::run(&args),
        Command::Certify(args) => certify::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::BackupOffline(args) => backup::offline(&args),
        Command::BackupShow { file } => restore::show(&file),
        Command::Run { config } => {
            let config = config::Config::load(&config)
                .with_context(|| format!("reading {}", config.display()))?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            // Outlives the server and ends before the runtime: it sends the rest.
            let _exporter = {
                let _entered = runtime.enter();
                log::start(args.log_format, FILTER, exporter(&config)?)
            };
            runtime.block_on(server::run(config))
        }
    }
}

fn exporter(config: &config::Config) -> anyhow::Result<Option<Exporter>> {
    let endpoint = config.otlp_endpoint.as_deref();
    let start = |endpoint| Exporter::start(endpoint, "cloud-controller", config.id.to_string());
    endpoint.map(start).transpose()
}
