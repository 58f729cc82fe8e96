//! What is in the package and where, as Debian's policy wants it.

use super::{PROGRAMS, Sources};
use crate::process;
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Files of the repository: from, to. Missing ones fail the build.
const FILES: &[(&str, &str)] = &[
    (
        "deploy/systemd/cloud-controller.service",
        "usr/lib/systemd/system/cloud-controller.service",
    ),
    (
        "deploy/systemd/cloud-agent.service",
        "usr/lib/systemd/system/cloud-agent.service",
    ),
    (
        "deploy/config/controller.toml",
        "usr/share/doc/nube/examples/controller.toml",
    ),
    (
        "deploy/config/agent.toml",
        "usr/share/doc/nube/examples/agent.toml",
    ),
    (
        "deploy/config/client.toml",
        "usr/share/doc/nube/examples/client.toml",
    ),
    ("deploy/three-hosts.md", "usr/share/doc/nube/three-hosts.md"),
    ("deploy/lost-quorum.md", "usr/share/doc/nube/lost-quorum.md"),
    ("deploy/debian/copyright", "usr/share/doc/nube/copyright"),
];

/// Made by other commands, below the target directory; taken when there.
const OPTIONAL: &[(&str, &str)] = &[
    (
        "completions/cloudctl.bash",
        "usr/share/bash-completion/completions/cloudctl",
    ),
    (
        "completions/_cloudctl",
        "usr/share/zsh/vendor-completions/_cloudctl",
    ),
    (
        "completions/cloudctl.fish",
        "usr/share/fish/vendor_completions.d/cloudctl.fish",
    ),
];

/// Puts everything but `DEBIAN/` into the staging directory.
pub fn stage(sources: &Sources, stage: &Path, changelog: &str) -> Result<()> {
    for program in PROGRAMS {
        let to = stage.join("usr/bin").join(program);
        place(&sources.programs.join(program), &to, 0o755)?;
    }
    for (from, to) in FILES {
        place(&sources.root.join(from), &stage.join(to), 0o644)?;
    }
    for (from, to) in OPTIONAL {
        let from = sources.target.join(from);
        if from.exists() {
            place(&from, &stage.join(to), 0o644)?;
        }
    }
    manual_pages(&sources.target.join("man"), stage)?;
    let path = stage.join("usr/share/doc/nube/changelog");
    fs::write(&path, changelog).with_context(|| format!("write `{}`", path.display()))?;
    compress(&path)?;
    directories(stage)
}

fn manual_pages(from: &Path, stage: &Path) -> Result<()> {
    if !from.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(from).with_context(|| format!("read `{}`", from.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "1") {
            let name = path.file_name().unwrap_or_default();
            let to = stage.join("usr/share/man/man1").join(name);
            place(&path, &to, 0o644)?;
            compress(&to)?;
        }
    }
    Ok(())
}

/// Whatever mask the builder works under, modes are the same.
pub fn place(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let what = || format!("copy `{}`", from.display());
    fs::create_dir_all(to.parent().unwrap_or(to)).with_context(what)?;
    fs::copy(from, to).with_context(what)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).with_context(what)
}

/// As policy wants changelogs and manual pages: small, and without a time.
fn compress(path: &Path) -> Result<()> {
    process::capture(Command::new("gzip").args(["-9", "-n"]).arg(path))?;
    let path = path.with_file_name(format!(
        "{}.gz",
        path.file_name().unwrap_or_default().to_string_lossy()
    ));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
        .with_context(|| format!("set the mode of `{}`", path.display()))
}

fn directories(at: &Path) -> Result<()> {
    let what = || format!("set the mode of `{}`", at.display());
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).with_context(what)?;
    for entry in fs::read_dir(at).with_context(what)? {
        let path = entry?.path();
        if path.is_dir() {
            directories(&path)?;
        }
    }
    Ok(())
}

/// Debian's form; what changed is told in the repository.
pub fn changelog(version: &str, epoch: &str) -> Result<String> {
    let date = Command::new("date")
        .args(["-u", "-R", "-d", &format!("@{epoch}")])
        .env("LC_ALL", "C")
        .output()
        .context("start `date`")?;
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    Ok(format!(
        "nube ({version}) unstable; urgency=medium\n\n  * Version {version}; see CHANGELOG.md of \
         the sources.\n\n -- Nube developers <nube@example.org>  {date}\n"
    ))
}
