//! The root disk: ext4 made from a directory, stored as compressed qcow2.
//!
//! The file system has a journal, although it costs 4 MiB: a guest is stopped hard
//! as a matter of course (a host dies, `stop --force`), and replaying a journal
//! needs no fsck in the image.

use super::recipe::{DISK_FILE, DISK_MIB, ROOT_LABEL};
use super::{tools, tree};
use crate::process;
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;

/// - `resize` reserves room for the group descriptors of a 256 GiB disk, so that
///   growing at boot needs no move of data.
/// - lazy initialization would run a kernel thread in every guest.
const EXTENDED_OPTIONS: &str = "resize=67108864,lazy_itable_init=0,lazy_journal_init=0,nodiscard";

/// Makes the disk from the tree at `root`.
pub fn build(root: &Path, scratch: &Path, result: &Path) -> Result<()> {
    let raw = scratch.join("root.raw");
    File::create(&raw)
        .and_then(|file| file.set_len(DISK_MIB << 20))
        .context("create the raw disk")?;
    process::run(
        tools::command("mkfs.ext4")
            .args([
                "-q", "-F", "-L", ROOT_LABEL, "-b", "4096", "-i", "32768", "-m", "0",
            ])
            .args(["-J", "size=4", "-E", EXTENDED_OPTIONS, "-d"])
            .arg(root)
            .arg(&raw),
    )?;
    give_to_root(root, &raw, scratch)?;
    process::run(
        tools::command("qemu-img")
            .args([
                "convert",
                "-f",
                "raw",
                "-O",
                "qcow2",
                "-c",
                "-o",
                "compression_type=zstd",
            ])
            .arg(&raw)
            .arg(result.join(DISK_FILE)),
    )
}

/// mkfs copies the owners of the tree, who may be an ordinary user; in the guest
/// everything belongs to root.
fn give_to_root(root: &Path, raw: &Path, scratch: &Path) -> Result<()> {
    let mut script = String::new();
    for path in tree::entries(root)? {
        let relative = path
            .strip_prefix(root)
            .context("path outside its own tree")?;
        let name = relative
            .to_str()
            .context("a path of the root tree is not UTF-8")?;
        ensure!(!name.contains('"'), "`{name}` cannot be quoted for debugfs");
        for field in ["uid", "gid"] {
            writeln!(script, "set_inode_field \"/{name}\" {field} 0")
                .context("write to a string")?;
        }
    }
    for field in ["uid", "gid"] {
        writeln!(script, "set_inode_field / {field} 0").context("write to a string")?;
    }
    let commands = scratch.join("owners.debugfs");
    fs::write(&commands, script).context("write debugfs's commands")?;
    // debugfs reports a failed command but ends with success: its messages decide.
    let output = tools::command("debugfs")
        .arg("-w")
        .arg("-f")
        .arg(&commands)
        .arg(raw)
        .output()
        .context("start `debugfs`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = said.lines().filter(|line| !is_banner(line)).collect();
    ensure!(
        output.status.success() && complaints.is_empty(),
        "debugfs: {}",
        complaints.join("; ")
    );
    Ok(())
}

/// debugfs prints its version on standard error, as `debugfs 1.47.0 (…)`.
fn is_banner(line: &str) -> bool {
    line.starts_with("debugfs ") || line.trim().is_empty()
}
