//! The tree: every file that git tracks or would track. Reads only.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A file that is text.
#[derive(Debug, Clone)]
pub struct TextFile {
    /// Path from the root, with `/`.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// Above this a file is data, not something people read.
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// The root of the workspace.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Every text file that is tracked, or new and not ignored. A file that is
/// listed and already gone is passed over: somebody is just moving it.
pub fn text_files() -> Result<Vec<TextFile>> {
    let root = root();
    let output = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard", "-z"])
        .current_dir(&root)
        .output()
        .context("git ls-files does not start")?;
    ensure!(
        output.status.success(),
        "git ls-files failed in {}",
        root.display()
    );
    let listing = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut files = Vec::new();
    for path in listing.split('\0').filter(|path| !path.is_empty()) {
        let full = root.join(path);
        let Ok(metadata) = std::fs::symlink_metadata(&full) else {
            continue;
        };
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            continue;
        }
        let bytes = std::fs::read(&full).with_context(|| format!("reading {path}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(TextFile {
                path: path.to_owned(),
                text,
            });
        }
    }
    ensure!(!files.is_empty(), "no file in {}", root.display());
    Ok(files)
}

/// The Rust files among the text files.
pub fn rust_files() -> Result<Vec<TextFile>> {
    let mut files = text_files()?;
    files.retain(|file| file.path.ends_with(".rs"));
    Ok(files)
}
