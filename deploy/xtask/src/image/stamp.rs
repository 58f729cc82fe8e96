//! The stamp: one hash over everything that determines the image. Equal stamps
//! mean that a build would give the same image, so it is skipped.

use super::packages::Package;
use super::recipe::Recipe;
use super::tree;
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The builder itself is an input: a changed recipe must give a new image.
const BUILDER: [&str; 9] = [
    include_str!("../image.rs"),
    include_str!("recipe.rs"),
    include_str!("kernel.rs"),
    include_str!("libraries.rs"),
    include_str!("initrd.rs"),
    include_str!("root.rs"),
    include_str!("tree.rs"),
    include_str!("disk.rs"),
    include_str!("manifest.rs"),
];

/// Hashes the builder, the image's own words, the guest's files and the packages'
/// hashes.
pub fn of(recipe: &Recipe, sources: &[PathBuf], packages: &[Package]) -> Result<String> {
    let mut hasher = Sha256::new();
    for text in BUILDER.into_iter().chain([recipe.name, recipe.datasource]) {
        add(&mut hasher, text.as_bytes());
    }
    for package in packages {
        add(&mut hasher, package.name.as_bytes());
        add(&mut hasher, package.sha256.as_bytes());
    }
    for source in sources {
        add_tree(&mut hasher, source)?;
    }
    Ok(hex::encode(hasher.finalize()))
}

fn add_tree(hasher: &mut Sha256, source: &Path) -> Result<()> {
    for path in tree::files(source)? {
        let relative = path
            .strip_prefix(source)
            .context("path outside its own tree")?;
        let mode = path
            .metadata()
            .context("read a guest file's mode")?
            .permissions()
            .mode();
        add(hasher, relative.as_os_str().as_encoded_bytes());
        add(hasher, &[u8::from(mode & 0o100 != 0)]);
        let content = fs::read(&path).with_context(|| format!("read `{}`", path.display()))?;
        add(hasher, &content);
    }
    Ok(())
}

pub fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("open `{}`", path.display()))?;
    let mut hasher = Sha256::new();
    io::copy(&mut file, &mut hasher).with_context(|| format!("read `{}`", path.display()))?;
    Ok(hex::encode(hasher.finalize()))
}

/// The length goes first, so that no two lists of inputs look alike.
fn add(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}
