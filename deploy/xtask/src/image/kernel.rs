//! The kernel in the unpacked packages, and the load order of its modules.

use super::tools;
use crate::process;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub struct Kernel {
    pub release: String,
    pub image: PathBuf,
    /// `lib/modules/RELEASE` in the unpacked packages.
    pub modules: PathBuf,
    dependencies: Dependencies,
}

/// Finds the one kernel that was unpacked and indexes its modules.
pub fn find(unpacked: &Path) -> Result<Kernel> {
    let all_modules = unpacked.join("lib/modules");
    let release = fs::read_dir(&all_modules)
        .with_context(|| format!("list `{}`", all_modules.display()))?
        .next()
        .context("the kernel package holds no modules")?
        .context("list the kernel's modules")?
        .file_name()
        .into_string()
        .ok()
        .context("the kernel release is not UTF-8")?;
    process::run(
        tools::command("depmod")
            .arg("-b")
            .arg(unpacked)
            .arg(&release),
    )?;
    let modules = all_modules.join(&release);
    let index = fs::read_to_string(modules.join("modules.dep")).context("read modules.dep")?;
    Ok(Kernel {
        image: unpacked.join("boot").join(format!("vmlinuz-{release}")),
        modules,
        release,
        dependencies: Dependencies::parse(&index),
    })
}

impl Kernel {
    /// The files of `names` and of all they need, in an order in which they load;
    /// paths are relative to [`Kernel::modules`].
    pub fn load_order(&self, names: &[&str]) -> Result<Vec<String>> {
        self.dependencies.load_order(names)
    }
}

/// `modules.dep`: each module's file and the files it needs.
struct Dependencies(BTreeMap<String, Vec<String>>);

impl Dependencies {
    fn parse(index: &str) -> Self {
        let entry = |line: &str| {
            let (file, needed) = line.split_once(':')?;
            Some((
                file.to_owned(),
                needed.split_whitespace().map(str::to_owned).collect(),
            ))
        };
        Self(index.lines().filter_map(entry).collect())
    }

    fn load_order(&self, names: &[&str]) -> Result<Vec<String>> {
        let mut order = Vec::new();
        for name in names {
            let suffix = format!("/{name}.ko");
            let (file, needed) = self
                .0
                .iter()
                .find(|(file, _)| file.ends_with(&suffix))
                .with_context(|| format!("the kernel package has no module `{name}`"))?;
            // depmod lists all that is needed, the most basic last.
            for module in needed.iter().rev().chain([file]) {
                if !order.contains(module) {
                    order.push(module.clone());
                }
            }
        }
        Ok(order)
    }
}

#[cfg(test)]
mod test {
    use super::Dependencies;

    #[test]
    fn needed_modules_come_first_and_once() {
        let index = "kernel/v/ring.ko:\n\
                     kernel/v/virtio.ko: kernel/v/ring.ko\n\
                     kernel/b/blk.ko: kernel/v/virtio.ko kernel/v/ring.ko\n";
        let order = Dependencies::parse(index)
            .load_order(&["blk", "virtio"])
            .expect("all known");
        assert_eq!(
            order,
            ["kernel/v/ring.ko", "kernel/v/virtio.ko", "kernel/b/blk.ko"]
        );
    }

    #[test]
    fn an_unknown_module_is_an_error() {
        let error = Dependencies::parse("")
            .load_order(&["blk"])
            .expect_err("nothing is known");
        assert!(error.to_string().contains("`blk`"));
    }
}
