//! Putting a finished image in its place, whole or not at all.

use super::recipe::{DISK_FILE, INITRD_FILE, KERNEL_FILE, MANIFEST_FILE};
use anyhow::{Context, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs;
use std::path::Path;

/// Names the inputs that the published image was made from.
pub const STAMP_FILE: &str = "inputs.sha256";

/// True if `out` holds a complete image made from the inputs of `stamp`.
pub fn is_current(out: &Path, stamp: &str) -> bool {
    let complete = [KERNEL_FILE, INITRD_FILE, DISK_FILE, MANIFEST_FILE]
        .iter()
        .all(|file| out.join(file).is_file());
    complete && fs::read_to_string(out.join(STAMP_FILE)).is_ok_and(|found| found == stamp)
}

/// Exchanges `result` with `out` in one step, so that a reader sees all of the old
/// image or all of the new one. The old one ends up in `result`, which the caller
/// deletes with its scratch directory; guests that have its files open keep them.
pub fn publish(result: &Path, out: &Path) -> Result<()> {
    match renameat_with(CWD, result, CWD, out, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // Nothing to exchange with: the first build.
        Err(Errno::NOENT) => {
            fs::rename(result, out).with_context(|| format!("publish `{}`", out.display()))
        }
        Err(error) => Err(error).with_context(|| format!("publish `{}`", out.display())),
    }
}
