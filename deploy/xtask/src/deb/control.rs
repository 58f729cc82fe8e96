//! `DEBIAN/`: control, checksums, maintainer scripts.

use super::{PROGRAMS, Sources, tree};
use crate::process;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Maintainer scripts, from `deploy/debian`.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// Writes `DEBIAN/` for what is staged.
pub fn write(sources: &Sources, stage: &Path, version: &str, architecture: &str) -> Result<()> {
    let files = files(stage)?;
    let mut bytes = 0;
    for file in &files {
        bytes += file.metadata()?.len();
    }
    let source = sources.root.join("deploy/debian");
    let template = source.join("control.in");
    let template =
        fs::read_to_string(&template).with_context(|| format!("read `{}`", template.display()))?;
    let control = template
        .replace("@VERSION@", version)
        .replace("@ARCHITECTURE@", architecture)
        .replace("@INSTALLED_SIZE_KIB@", &bytes.div_ceil(1024).to_string())
        .replace("@LIBC_VERSION@", &libc_version(&sources.programs)?);
    let to = stage.join("DEBIAN");
    for script in SCRIPTS {
        tree::place(&source.join(script), &to.join(script), 0o755)?;
    }
    fs::write(to.join("control"), control).context("write control")?;
    let sums = sums(stage, &files)?;
    fs::write(to.join("md5sums"), sums).context("write md5sums")
}

/// All files below, sorted.
fn files(at: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at).with_context(|| format!("read `{}`", at.display()))? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files(&path)?),
            false => found.push(path),
        }
    }
    found.sort();
    Ok(found)
}

/// What `dpkg --verify` compares with.
fn sums(stage: &Path, files: &[PathBuf]) -> Result<String> {
    let mut command = Command::new("md5sum");
    for file in files {
        command.arg(file.strip_prefix(stage).unwrap_or(file));
    }
    process::capture_text(command.current_dir(stage))
}

/// The newest symbol version of libc that any program asks for.
fn libc_version(programs: &Path) -> Result<String> {
    let mut versions = BTreeMap::new();
    for program in PROGRAMS {
        let mut objdump = Command::new("objdump");
        let text = process::capture_text(objdump.arg("-T").arg(programs.join(program)))?;
        versions.extend(symbol_versions(&text));
    }
    let newest = versions.into_values().next_back();
    newest.context("the programs ask for no version of libc")
}

/// `GLIBC_2.34` in objdump's lines, in the order of the numbers.
fn symbol_versions(text: &str) -> BTreeMap<Vec<u32>, String> {
    let words = text.split(|c: char| c.is_whitespace() || c == '(' || c == ')');
    let versions = words.filter_map(|word| word.strip_prefix("GLIBC_"));
    let numbered = versions.filter_map(|version| {
        let numbers: Result<Vec<u32>, _> = version.split('.').map(str::parse).collect();
        Some((numbers.ok()?, version.to_owned()))
    });
    numbered.collect()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let text = "0 DF *UND* 0 (GLIBC_2.9) a\n0 DF *UND* 0 (GLIBC_2.34) b\n0 GLIBC_PRIVATE c\n";
        let newest = symbol_versions(text).into_values().next_back();
        assert_eq!(newest.as_deref(), Some("2.34"));
    }
}
