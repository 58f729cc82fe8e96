//! The initrd: busybox, one script and the modules of the virtual hardware.

use super::kernel::Kernel;
use super::recipe::{BOOT_MODULES, BUSYBOX, INITRD_FILE};
use super::{tools, tree};
use crate::process;
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

/// Writes the initrd into `result`; its tree is laid out in `scratch`.
pub fn build(
    guest: &Path,
    unpacked: &Path,
    kernel: &Kernel,
    scratch: &Path,
    result: &Path,
) -> Result<()> {
    let top = scratch.join("initrd");
    for directory in ["dev", "proc", "sys", "root", "modules"] {
        tree::directory(&top.join(directory))?;
    }
    tree::copy(&guest.join("initrd/init"), &top.join("init"), 0o755)?;
    tree::copy(&unpacked.join(BUSYBOX), &top.join("bin/busybox"), 0o755)?;

    let mut order = String::new();
    for module in kernel.load_order(&BOOT_MODULES)? {
        let from = kernel.modules.join(&module);
        let name = from
            .file_name()
            .and_then(OsStr::to_str)
            .context("a module's file name")?;
        tree::copy(&from, &top.join("modules").join(name), 0o644)?;
        order.push_str(name);
        order.push('\n');
    }
    // The script reads this list and loads from the top.
    fs::write(top.join("modules/order"), order).context("write the modules' load order")?;

    let archive = scratch.join("initrd.cpio");
    pack(&top, &archive)?;
    process::run(
        tools::command("zstd")
            .args(["-q", "-19", "--force", "-o"])
            .arg(result.join(INITRD_FILE))
            .arg(&archive),
    )
}

/// Packs `top` in the kernel's format, everything owned by root.
fn pack(top: &Path, archive: &Path) -> Result<()> {
    let mut list = Vec::new();
    for path in tree::entries(top)? {
        let relative = path
            .strip_prefix(top)
            .context("path outside its own tree")?;
        list.extend_from_slice(relative.as_os_str().as_encoded_bytes());
        list.push(0);
    }
    let names = archive.with_extension("names");
    fs::write(&names, list).context("write the initrd's file list")?;
    let mut cpio = tools::command("cpio");
    cpio.args([
        "--create",
        "--format=newc",
        "--owner=+0:+0",
        "--reproducible",
        "--null",
        "--quiet",
    ])
    .current_dir(top)
    .stdin(File::open(&names).context("open the initrd's file list")?)
    .stdout(Stdio::from(
        File::create(archive).context("create the initrd archive")?,
    ));
    let status = cpio.status().context("start `cpio`")?;
    anyhow::ensure!(status.success(), "`cpio` ended with {status}");
    Ok(())
}
