//! `cargo xtask sim`: builds the simulator fast enough to play many seeds and runs it. What it
//! takes and tells is its own (`tests/sim/src/main.rs`).

use std::env;
use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::{process, workspace};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// As `cargo xtask sim --help` says
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Plays seeds.
pub fn run(args: &Args) -> Result<()> {
    let root = workspace::root()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut cargo = Command::new(cargo);
    cargo.current_dir(root).args([
        "run",
        "--quiet",
        "--locked",
        "--profile",
        "sim",
        "--package",
        "nube-sim",
        "--bin",
        "sim",
        "--",
    ]);
    process::run(cargo.args(&args.arguments))
}
