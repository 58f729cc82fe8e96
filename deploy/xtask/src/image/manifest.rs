//! The files that describe a finished image: `image.json` for the cloud,
//! `packages.json` for whoever asks what is inside, and the stamp.

use super::packages::Package;
use super::publish::STAMP_FILE;
use super::recipe::{
    ARCHITECTURE, COMMAND_LINE, DISK_FILE, DISK_MIB, INITRD_FILE, KERNEL_FILE, MANIFEST_FILE,
    MEMORY_MIB_MIN, Recipe, USER,
};
use super::stamp;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs;
use std::path::Path;

#[derive(Serialize)]
struct Manifest<'a> {
    name: &'a str,
    version: &'a str,
    architecture: &'a str,
    user: &'a str,
    datasource: &'a str,
    kernel: Part<'a>,
    initrd: Part<'a>,
    disk: Disk<'a>,
    cmdline: &'a str,
    memory_mib_min: u64,
    disk_mib_min: u64,
}

#[derive(Serialize)]
struct Part<'a> {
    file: &'a str,
    sha256: String,
    size_bytes: u64,
}

#[derive(Serialize)]
struct Disk<'a> {
    #[serde(flatten)]
    part: Part<'a>,
    format: &'a str,
    virtual_size_bytes: u64,
}

/// Describes the files in `result`. Called when all of them are complete.
pub fn write(
    recipe: &Recipe,
    result: &Path,
    version: &str,
    packages: &[Package],
    stamp: &str,
) -> Result<()> {
    let manifest = Manifest {
        name: recipe.name,
        version,
        architecture: ARCHITECTURE,
        user: USER,
        datasource: recipe.datasource,
        kernel: part(result, KERNEL_FILE)?,
        initrd: part(result, INITRD_FILE)?,
        disk: Disk {
            part: part(result, DISK_FILE)?,
            format: "qcow2",
            virtual_size_bytes: DISK_MIB << 20,
        },
        cmdline: COMMAND_LINE,
        memory_mib_min: MEMORY_MIB_MIN,
        disk_mib_min: DISK_MIB,
    };
    write_json(&result.join(MANIFEST_FILE), &manifest)?;
    write_json(&result.join("packages.json"), packages)?;
    fs::write(result.join(STAMP_FILE), stamp).context("write the stamp")
}

fn part<'a>(result: &Path, file: &'a str) -> Result<Part<'a>> {
    let path = result.join(file);
    let metadata = fs::metadata(&path).with_context(|| format!("`{file}` was not built"))?;
    Ok(Part {
        file,
        sha256: stamp::sha256_of_file(&path)?,
        size_bytes: metadata.len(),
    })
}

fn write_json<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).context("encode a description")?;
    text.push(b'\n');
    fs::write(path, text).with_context(|| format!("write `{}`", path.display()))
}
