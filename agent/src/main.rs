//! `cloud-agent`: runs on every compute host, holds a session with each
//! controller, and makes the host look like the leader's wishes.
//!
//! This file only parses, enters the emulated host when one is named, and
//! starts the runtime; `run` puts the parts together.

#![deny(unsafe_op_in_unsafe_fn)]

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use nube_telemetry::log::{Format, start};
use nube_telemetry::trace::Exporter;

use nube_agent::args::{Args, Command, Testbed};
use nube_agent::config::Config;
use nube_agent::log::FILTER;
use nube_agent::{fencer, host, log, run};

fn main() -> ExitCode {
    let args = Args::parse();
    if matches!(args.command, Command::KvmProbe) {
        // Before anything else: this process may hang and be killed.
        return host::accelerator::probe_child();
    }
    if let Command::Fencer { pid } = args.command {
        return fencer::run(pid);
    }
    match execute(args.command, args.log_format) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", log::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command, format: Format) -> anyhow::Result<()> {
    let lines = || start(format, FILTER, None);
    match command {
        Command::Run { config, netns } => {
            // Lines go where the config says: until it is read, to nobody else.
            let config = Config::load(&config).inspect_err(|_| drop(lines()))?;
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
            run_logged(config, format)
        }
        Command::Clean {
            config,
            netns,
            keep_disks,
        } => {
            drop(lines());
            let config = Config::load(&config)?;
            for line in block_on(run::clean(&config, netns, keep_disks))? {
                println!("{line}");
            }
            Ok(())
        }
        Command::Testbed(command) => {
            drop(lines());
            testbed(command)
        }
        // Both came before this.
        Command::KvmProbe | Command::Fencer { .. } => Ok(()),
    }
}

/// Runs with lines and, where one is configured, with spans to a collector.
fn run_logged(config: Config, format: Format) -> anyhow::Result<()> {
    block_on(async {
        let endpoint = config.otlp_endpoint.as_deref();
        let instance = || config.node_id.to_string();
        let exporter = endpoint.map(|to| Exporter::start(to, "cloud-agent", instance()));
        let (exporter, failed) = match exporter.transpose() {
            Ok(exporter) => (exporter, None),
            Err(error) => (None, Some(error)),
        };
        // Held to the end: its drop sends the last spans.
        let _exporter = start(format, FILTER, exporter);
        match failed {
            Some(error) => Err(error),
            None => run::run(config).await,
        }
    })
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
