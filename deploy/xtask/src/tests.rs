//! `cargo xtask test`: hands over to `tests/run`, which knows the suites.

use crate::{process, workspace};
use anyhow::Result;
use std::ffi::OsString;
use std::process::Command;

#[derive(clap::Args)]
pub struct Args {
    /// Passed on to tests/run
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs `tests/run` in the workspace's root.
pub fn run(args: &Args) -> Result<()> {
    let root = workspace::root()?;
    process::run(
        Command::new(root.join("tests/run"))
            .args(&args.arguments)
            .current_dir(&root),
    )
}
