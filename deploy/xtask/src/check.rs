//! `cargo xtask check`: formatting and lints of the whole workspace.

use crate::{process, workspace};
use anyhow::Result;
use std::env;
use std::ffi::OsString;
use std::process::Command;

/// Runs both checks; the cheap one first.
pub fn run() -> Result<()> {
    let root = workspace::root()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let format = ["fmt", "--all", "--check"];
    let lint = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    for arguments in [&format[..], &lint[..]] {
        process::run(Command::new(&cargo).args(arguments).current_dir(&root))?;
    }
    Ok(())
}
