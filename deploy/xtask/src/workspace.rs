//! Where the workspace is. Every path the other modules use starts here.

use anyhow::{Context, Result};
use std::env;
use std::path::PathBuf;

/// Returns the directory that holds the workspace's `Cargo.toml`.
///
/// Cargo names this package's directory when it runs the program; a binary that
/// was started by hand looks upward from the current directory instead.
pub fn root() -> Result<PathBuf> {
    let start = match env::var_os("CARGO_MANIFEST_DIR") {
        Some(package) => PathBuf::from(package),
        None => env::current_dir().context("read the current directory")?,
    };
    let root = start
        .ancestors()
        .find(|directory| directory.join("deploy/xtask/Cargo.toml").is_file())
        .with_context(|| format!("no Nube workspace at or above `{}`", start.display()))?;
    Ok(root.to_path_buf())
}
