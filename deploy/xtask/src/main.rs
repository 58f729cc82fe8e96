//! `cargo xtask`: the one door for developers.
//!
//! Each subcommand lives in a module of its own and only orchestrates other
//! programs. Nothing here is linked into what users run, and no rule about the
//! cloud lives here.

mod bench;
mod check;
mod deb;
mod fuzz;
mod image;
mod museum;
mod process;
mod sim;
mod tests;
mod workspace;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Developer commands of the Nube workspace")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check the formatting and run clippy with warnings as errors
    Check,
    /// Run the test suites (tests/run)
    Test(tests::Args),
    /// Measure: launches, writes, failover, placement, memory, scale
    Bench(bench::Args),
    /// Feed hostile bytes to everything that reads any, with libFuzzer
    Fuzz(fuzz::Args),
    /// Play the whole control plane under faults, from seeds
    Sim(sim::Args),
    /// Hunt known bugs with the simulator: are its judges awake?
    Museum(museum::Args),
    /// Build a guest image from Debian's packages
    Image(image::Args),
    /// Build the Debian package
    Deb(deb::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Check => check::run(),
        Command::Test(args) => tests::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Museum(args) => museum::run(&args),
        Command::Image(args) => image::run(&args),
        Command::Deb(args) => deb::run(&args),
    }
}
