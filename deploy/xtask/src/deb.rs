//! `cargo xtask deb`: a Debian package of what users run.
//!
//! ```text
//! cargo build ─► stage (files with their modes) ─► control ─► dpkg-deb ─► inspect
//! ```
//! What is in it is in [`tree`]; texts are in `deploy/debian`. No privileges are
//! needed: dpkg-deb gives every file to root.

mod control;
mod inspect;
mod tree;

use crate::{process, workspace};
use anyhow::{Context, Result, ensure};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What users run.
pub const PROGRAMS: [&str; 3] = ["cloudctl", "cloud-controller", "cloud-agent"];

#[derive(clap::Args)]
pub struct Args {
    /// Cargo profile of the programs
    #[arg(long, default_value = "release")]
    profile: String,
    /// Directory of the package [default: target/debian]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What one package is made of.
struct Sources {
    /// The workspace.
    root: PathBuf,
    /// Cargo's target directory; completions and manual pages may be in it.
    target: PathBuf,
    /// Where the programs are.
    programs: PathBuf,
    /// Release packages are packed small, others quickly.
    small: bool,
}

/// Builds the programs, packs them and looks at the result.
pub fn run(args: &Args) -> Result<()> {
    let root = workspace::root()?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    build(&root, &args.profile)?;
    // Cargo's name for its own profile differs from its directory's.
    let directory = match args.profile.as_str() {
        "dev" => "debug",
        other => other,
    };
    let sources = Sources {
        programs: target.join(directory),
        small: args.profile == "release",
        root,
        target,
    };
    let out = args.out.clone().unwrap_or(sources.target.join("debian"));
    fs::create_dir_all(&out).with_context(|| format!("make `{}`", out.display()))?;
    let package = pack(&sources, &out)?;
    let said = inspect::inspect(&package)?;
    print!("{said}");
    println!("{}", package.display());
    Ok(())
}

fn build(root: &Path, profile: &str) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--profile", profile]);
    for package in ["nube-cli", "nube-controller", "nube-agent"] {
        command.args(["--package", package]);
    }
    process::run(command.current_dir(root))
}

/// Stages everything and lets dpkg-deb pack it.
fn pack(sources: &Sources, out: &Path) -> Result<PathBuf> {
    let stage = tempfile::tempdir_in(out).context("make a staging directory")?;
    let version = env!("CARGO_PKG_VERSION");
    let architecture = process::capture_text(Command::new("dpkg").arg("--print-architecture"))?;
    let architecture = architecture.trim();
    let epoch = committed_at(&sources.root)?;
    tree::stage(sources, stage.path(), &tree::changelog(version, &epoch)?)?;
    control::write(sources, stage.path(), version, architecture)?;
    let package = out.join(format!("nube_{version}_{architecture}.deb"));
    let mut command = Command::new("dpkg-deb");
    command.args(["--root-owner-group", "--build"]);
    match sources.small {
        true => command.args(["-Zxz"]),
        false => command.args(["-Zgzip", "-z1"]),
    };
    // Times inside the package: equal sources, equal bytes.
    command.env("SOURCE_DATE_EPOCH", &epoch);
    process::capture(command.arg(stage.path()).arg(&package))?;
    ensure!(
        package.is_file(),
        "dpkg-deb made no `{}`",
        package.display()
    );
    Ok(package)
}

/// Seconds since 1970 of the newest commit, unless the builder says otherwise.
fn committed_at(root: &Path) -> Result<String> {
    if let Ok(epoch) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"]).current_dir(root);
    Ok(process::capture_text(&mut git)?.trim().to_owned())
}

#[cfg(test)]
#[path = "deb/test.rs"]
mod test;
