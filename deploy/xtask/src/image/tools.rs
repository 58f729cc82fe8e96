//! The programs a build needs, and the Debian packages that hold them.

use super::recipe::ARCHITECTURE;
use anyhow::{Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Program, Debian package.
const TOOLS: [(&str, &str); 11] = [
    ("apt-get", "apt"),
    ("apt-cache", "apt"),
    ("dpkg-deb", "dpkg"),
    ("cpio", "cpio"),
    ("zstd", "zstd"),
    ("mkfs.ext4", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("qemu-img", "qemu-utils"),
    ("depmod", "kmod"),
    ("readelf", "binutils"),
    ("cc", "gcc libc6-dev"),
];

/// Fails with one `apt-get install` line if anything is missing.
pub fn check() -> Result<()> {
    if env::consts::ARCH != ARCHITECTURE {
        bail!(
            "the micro image is built on {ARCHITECTURE} only, this is {}",
            env::consts::ARCH
        );
    }
    let mut programs = Vec::new();
    let mut packages: Vec<&str> = Vec::new();
    for (program, package) in TOOLS {
        if find(program).is_none() {
            programs.push(program);
            if !packages.contains(&package) {
                packages.push(package);
            }
        }
    }
    if programs.is_empty() {
        return Ok(());
    }
    bail!(
        "missing: {}; run `apt-get install {}`",
        programs.join(", "),
        packages.join(" ")
    )
}

/// A command for `program`, whose messages come in the language we parse.
pub fn command(program: &str) -> Command {
    let path = find(program).unwrap_or_else(|| PathBuf::from(program));
    let mut command = Command::new(path);
    command.env("LC_ALL", "C");
    command
}

/// Looks in PATH, and in the system directories that an ordinary user's PATH
/// lacks.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| is_file(candidate))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_missing_program_is_not_found() {
        assert!(find("no-such-program-anywhere").is_none());
        assert!(find("sh").is_some());
    }
}
