//! `cloud-controller`: one replica of the control plane.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use nube_controller::{backup, bootstrap, config, restore, server};

/// One replica of Nube's control plane.
#[derive(Parser)]
#[command(name = "cloud-controller", version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Form of the log lines on standard error.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

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
    let filter = tracing_subscriber::EnvFilter::try_from_env("NUBE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,raft=warn"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    // Before any TLS: with a choice of providers rustls panics instead of guessing.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("another TLS provider is installed already");
    }
    match args.command {
        Command::Bootstrap(args) => bootstrap::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::BackupOffline(args) => backup::offline(&args),
        Command::BackupShow { file } => restore::show(&file),
        Command::Run { config } => {
            let config = config::Config::load(&config)
                .with_context(|| format!("reading {}", config.display()))?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            runtime.block_on(server::run(config))
        }
    }
}
