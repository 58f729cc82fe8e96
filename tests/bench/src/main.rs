//! Measures clouds: each part is a subcommand that prints its figures as JSON.
//! `cargo xtask bench` runs them, with the disk's floor and the load around
//! each, and makes the table.
//!
//! Every figure is a ratio within one run, against a named peer or a physical
//! floor, in turns. Nothing here passes or fails: figures belong to a machine.

mod batch;
mod cell;
mod doors;
mod etcd;
mod failover;
mod figure;
mod floor;
mod launch;
mod load;
mod memory;
mod mutations;
mod scale;
mod simulated;
mod write;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

#[derive(Parser)]
#[command(name = "nube-bench", about = "Measures one part of a cloud")]
struct Args {
    part: Part,
    /// Fewer and shorter rounds
    #[arg(long)]
    quick: bool,
    /// Where the figures go [default: standard output]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Floor,
    Launch,
    Mutations,
    Failover,
    Memory,
    Scale,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let installed = rustls::crypto::ring::default_provider().install_default();
    anyhow::ensure!(installed.is_ok(), "a TLS provider was installed before");
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = match args.part {
        Part::Floor => floor::run(args.quick)?,
        Part::Launch => launch::run(args.quick)?,
        Part::Mutations => runtime.block_on(mutations::run(args.quick))?,
        Part::Failover => runtime.block_on(failover::run(args.quick))?,
        Part::Memory => memory::run(args.quick)?,
        Part::Scale => runtime.block_on(scale::run(args.quick))?,
    };
    figure::write(&figures, args.json.as_deref())
}
