//! Looks at a finished package as dpkg does: what it says, what is in it, and
//! whether what comes out of it runs.

use super::PROGRAMS;
use crate::process;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// Every package has these.
const WANTED: [&str; 5] = [
    "./usr/lib/systemd/system/cloud-controller.service",
    "./usr/lib/systemd/system/cloud-agent.service",
    "./usr/share/doc/nube/copyright",
    "./usr/share/doc/nube/changelog.gz",
    "./usr/share/doc/nube/three-hosts.md",
];

/// Fails when something is wrong; otherwise what a person wants to see.
pub fn inspect(package: &Path) -> Result<String> {
    let fields = process::capture_text(Command::new("dpkg-deb").arg("-f").arg(package))?;
    for field in ["Package: nube", "Depends: adduser, libc6 (>= 2."] {
        ensure!(fields.contains(field), "no `{field}` in control:\n{fields}");
    }
    ensure!(
        !fields.contains('@') || !fields.contains("@VERSION"),
        "a field is not filled in"
    );
    let contents = process::capture_text(Command::new("dpkg-deb").arg("-c").arg(package))?;
    let mut lines = contents.lines();
    ensure!(
        lines.all(|line| line.contains(" root/root ") && line.as_bytes().get(8) != Some(&b'w')),
        "a file is not root's, or others may write it:\n{contents}"
    );
    let programs = PROGRAMS.map(|program| format!("./usr/bin/{program}"));
    for file in programs.iter().map(String::as_str).chain(WANTED) {
        let there = contents.lines().any(|line| line.ends_with(file));
        ensure!(there, "`{file}` is not in the package:\n{contents}");
    }
    let scratch = tempfile::tempdir().context("make a scratch directory")?;
    process::capture(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(package)
            .arg(scratch.path()),
    )?;
    let mut said = contents.clone();
    for program in PROGRAMS {
        let path = scratch.path().join("usr/bin").join(program);
        said += &process::capture_text(Command::new(path).arg("--version"))?;
    }
    Ok(said)
}
