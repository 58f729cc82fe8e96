//! Shared libraries: finds what a program needs by reading it, so that a library
//! that a newer package starts to need stops the build, not the guest.

use super::recipe::LIBRARY_DIRECTORY;
use super::{tools, tree};
use crate::process;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The name is part of the ABI, and so is its directory.
const LOADER: &str = "ld-linux-x86-64.so.2";

/// Copies the libraries that `programs` need, and those that these need in turn.
pub fn copy_needed(programs: &[PathBuf], unpacked: &Path, root: &Path) -> Result<()> {
    let mut pending: Vec<PathBuf> = programs.to_vec();
    let mut copied = BTreeSet::new();
    while let Some(file) = pending.pop() {
        let output = process::capture_text(tools::command("readelf").arg("-d").arg(&file))?;
        for library in needed(&output) {
            if !copied.insert(library.clone()) {
                continue;
            }
            let from = locate(unpacked, &library).with_context(|| {
                format!(
                    "no package of the recipe holds `{library}`, needed by `{}`",
                    file.display()
                )
            })?;
            let to = if library == LOADER {
                root.join("usr/lib64").join(&library)
            } else {
                root.join("usr/lib").join(LIBRARY_DIRECTORY).join(&library)
            };
            tree::copy(&from, &to, 0o755)?;
            pending.push(from);
        }
    }
    if !copied.is_empty() && !copied.contains(LOADER) {
        let from = locate(unpacked, LOADER).context("no package holds the dynamic loader")?;
        tree::copy(&from, &root.join("usr/lib64").join(LOADER), 0o755)?;
    }
    Ok(())
}

fn locate(unpacked: &Path, library: &str) -> Option<PathBuf> {
    ["lib", "usr/lib"]
        .iter()
        .map(|directory| {
            unpacked
                .join(directory)
                .join(LIBRARY_DIRECTORY)
                .join(library)
        })
        .find(|path| path.exists())
}

/// Reads lines such as `0x01 (NEEDED)  Shared library: [libz.so.1]`.
fn needed(readelf_output: &str) -> Vec<String> {
    let name = |line: &str| {
        let (_, rest) = line.split_once("(NEEDED)")?;
        let (_, rest) = rest.split_once('[')?;
        let (library, _) = rest.split_once(']')?;
        Some(library.to_owned())
    };
    readelf_output.lines().filter_map(name).collect()
}

#[cfg(test)]
mod test {
    use super::needed;

    #[test]
    fn needed_libraries_are_read() {
        let output = "Dynamic section at offset 0x1 contains 2 entries:\n \
                      0x0000000000000001 (NEEDED)  Shared library: [libz.so.1]\n \
                      0x000000000000000e (SONAME)  Library soname: [libx.so.2]\n";
        assert_eq!(needed(output), ["libz.so.1"]);
    }
}
