//! `cloud-agent`: runs on every compute host, holds a session with each
//! controller, and makes the host look like the leader's wishes.
//!
//! ```text
//! controllers ─► session ─► reconciler ─► plan (pure) ─► driver ─► host
//!                   ▲            │  ▲                        │
//!                   └── report ◄─┘  └──────── ends, results ◄┘
//! ```
//!
//! This file only parses, enters the emulated host when one is named, and
//! starts the runtime; `run` puts the parts together.

#![deny(unsafe_op_in_unsafe_fn)]

mod args;
mod config;
mod convert;
mod driver;
mod halt;
mod host;
mod image;
mod instance;
mod journal;
mod log;
mod plan;
mod reconciler;
mod report;
mod run;
mod session;
mod stream;
mod tls;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use args::{Args, Command, Testbed};
use config::Config;

fn main() -> ExitCode {
    let args = Args::parse();
    if matches!(args.command, Command::KvmProbe) {
        // Before anything else: this process may hang and be killed.
        return host::accelerator::probe_child();
    }
    log::start(args.log_format);
    match execute(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", log::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run { config, netns } => {
            let config = Config::load(&config)?;
            if let Some(name) = &netns {
                // Before the runtime starts its threads: they inherit it.
                host::namespace::enter(name)
                    .with_context(|| format!("cannot enter network namespace `{name}`"))?;
            }
            // One TLS implementation, chosen once, before any connection.
            if rustls::crypto::ring::default_provider()
                .install_default()
                .is_err()
            {
                anyhow::bail!("a TLS implementation was chosen already");
            }
            block_on(run::run(config))
        }
        Command::Clean {
            config,
            netns,
            keep_disks,
        } => {
            let config = Config::load(&config)?;
            for line in block_on(run::clean(&config, netns, keep_disks))? {
                println!("{line}");
            }
            Ok(())
        }
        Command::Testbed(command) => testbed(command),
        Command::KvmProbe => Ok(()),
    }
}

fn testbed(command: Testbed) -> anyhow::Result<()> {
    let hosts = match command {
        Testbed::Create {
            cell,
            subnet,
            nodes,
        } => host::testbed::create(&cell, &nodes, subnet)?,
        Testbed::Show { cell } => host::testbed::hosts(&cell)?,
        Testbed::Delete { cell } => return Ok(host::testbed::delete(&cell)?),
    };
    println!("{}", serde_json::to_string_pretty(&hosts)?);
    Ok(())
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(run::SHUTDOWN);
    done
}
