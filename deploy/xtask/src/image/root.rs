//! The root tree: Debian's programs, the guest's own files, the helper program.

use super::kernel::Kernel;
use super::recipe::{
    BOOT_MODULES, BUSYBOX, EMPTY_DIRECTORIES, LINKS, PRIVATE_FILES, PROGRAMS, SPARE_MODULES,
};
use super::{libraries, tools, tree};
use crate::process;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lays out the whole root tree at `root`.
pub fn build(sources: &[PathBuf], unpacked: &Path, kernel: &Kernel, root: &Path) -> Result<()> {
    let [guest, ..] = sources else {
        bail!("the recipe names no sources");
    };
    tree::directory(&root.join("usr/bin"))?;
    for (path, mode) in EMPTY_DIRECTORIES {
        tree::directory(&root.join(path))?;
        tree::set_mode(&root.join(path), mode)?;
    }
    for (path, target) in LINKS {
        tree::link(&root.join(path), target)?;
    }
    for (from, to) in PROGRAMS {
        tree::copy(&unpacked.join(from), &root.join(to), 0o755)?;
    }
    link_applets(&unpacked.join(BUSYBOX), root)?;
    let programs: Vec<PathBuf> = PROGRAMS
        .iter()
        .map(|(from, _)| unpacked.join(from))
        .collect();
    libraries::copy_needed(&programs, unpacked, root)?;
    copy_modules(kernel, root)?;
    compile_helper(&guest.join("helper"), &root.join("usr/bin/nube-guest"))?;
    for source in sources {
        tree::copy_all(&source.join("rootfs"), root)?;
    }
    for (path, mode) in PRIVATE_FILES {
        tree::set_mode(&root.join(path), mode)?;
    }
    Ok(())
}

/// One link per busybox applet. The static binary runs on the building machine,
/// so it can be asked for the list.
fn link_applets(busybox: &Path, root: &Path) -> Result<()> {
    let list = process::capture_text(Command::new(busybox).arg("--list"))?;
    for applet in list.lines() {
        let path = root.join("usr/bin").join(applet);
        // Programs copied before have precedence; busybox also lists itself.
        if !path.exists() {
            tree::link(&path, "busybox")?;
        }
    }
    Ok(())
}

/// The initrd's modules are here too: modprobe looks for what a module depends on
/// before it notices that it is loaded.
fn copy_modules(kernel: &Kernel, root: &Path) -> Result<()> {
    let target = root.join("usr/lib/modules").join(&kernel.release);
    let names: Vec<&str> = BOOT_MODULES.into_iter().chain(SPARE_MODULES).collect();
    for module in kernel.load_order(&names)? {
        tree::copy(&kernel.modules.join(&module), &target.join(&module), 0o644)?;
    }
    // depmod wants these beside the modules, if only to say that they are there.
    for index in [
        "modules.builtin",
        "modules.builtin.modinfo",
        "modules.order",
    ] {
        tree::copy(&kernel.modules.join(index), &target.join(index), 0o644)?;
    }
    process::run(
        tools::command("depmod")
            .arg("-b")
            .arg(root)
            .arg(&kernel.release),
    )
}

/// Static, so that it starts in 3 ms under TCG instead of 30.
fn compile_helper(sources: &Path, program: &Path) -> Result<()> {
    let sources: Vec<PathBuf> = tree::files(sources)?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    process::run(
        tools::command("cc")
            .args(["-static", "-Os", "-s", "-Wall", "-Wextra", "-o"])
            .arg(program)
            .args(sources),
    )
    .context("compile the guest's helper (needs the Debian packages gcc and libc6-dev)")?;
    tree::set_mode(program, 0o755)
}
