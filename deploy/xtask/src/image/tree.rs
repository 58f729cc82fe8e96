//! Copying files into the trees that become initrd and root. Modes are set
//! explicitly: neither the builder's umask nor git's memory of modes decides them.

use anyhow::{Context, Result};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Copies one file (the target of a link, not the link).
pub fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let parent = to.parent().context("a file in a tree has a parent")?;
    directory(parent)?;
    fs::copy(from, to)
        .with_context(|| format!("copy `{}` to `{}`", from.display(), to.display()))?;
    set_mode(to, mode)
}

/// Copies all files below `from`; executable ones stay so.
pub fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for path in files(from)? {
        let relative = path
            .strip_prefix(from)
            .context("path outside its own tree")?;
        let mode = path.metadata().context("read a mode")?.permissions().mode();
        let mode = if mode & 0o100 != 0 { 0o755 } else { 0o644 };
        copy(&path, &to.join(relative), mode)?;
    }
    Ok(())
}

/// Makes a directory and its parents, readable by everybody.
pub fn directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        directory(parent)?;
    }
    fs::create_dir(path).with_context(|| format!("create `{}`", path.display()))?;
    set_mode(path, 0o755)
}

pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of `{}`", path.display()))
}

pub fn link(path: &Path, target: &str) -> Result<()> {
    directory(path.parent().context("a link in a tree has a parent")?)?;
    symlink(target, path).with_context(|| format!("link `{}`", path.display()))
}

/// All files below `top` that are no directories, sorted.
pub fn files(top: &Path) -> Result<Vec<PathBuf>> {
    let all = entries(top)?;
    Ok(all
        .into_iter()
        .filter(|path| path.is_symlink() || !path.is_dir())
        .collect())
}

/// Everything below `top`, sorted, so that equal trees give equal lists.
pub fn entries(top: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![top.to_path_buf()];
    while let Some(directory) = pending.pop() {
        let listed =
            fs::read_dir(&directory).with_context(|| format!("list `{}`", directory.display()))?;
        for entry in listed {
            let path = entry
                .with_context(|| format!("list `{}`", directory.display()))?
                .path();
            if path.is_dir() && !path.is_symlink() {
                pending.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
