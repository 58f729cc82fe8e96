//! Debian packages: which versions, fetching, the cache, unpacking.
//!
//! apt checks the archive's signatures; what it delivered is recorded with its
//! hash in the cache's index and checked again before each use. Versions change
//! only when somebody asks for it (`--refresh`) or the cache is gone, so builds on
//! one machine are repeatable.

use super::recipe::{DEBIAN_ARCHITECTURE, KERNEL_META_PACKAGE, KERNEL_PACKAGE_PREFIX, PACKAGES};
use super::{stamp, tools};
use crate::process;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

const INDEX_FILE: &str = "packages.json";

/// One downloaded package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    pub file: String,
    pub sha256: String,
}

/// The packages of the last fetch, if all of them are still there.
pub fn cached(cache: &Path) -> Result<Option<Vec<Package>>> {
    let path = cache.join(INDEX_FILE);
    let Ok(text) = fs::read(&path) else {
        return Ok(None);
    };
    let packages: Vec<Package> =
        serde_json::from_slice(&text).with_context(|| format!("parse `{}`", path.display()))?;
    let has = |name: &str| packages.iter().any(|package| package.name == name);
    let complete = PACKAGES.iter().all(|name| has(name))
        && packages
            .iter()
            .all(|package| cache.join(&package.file).is_file());
    Ok(complete.then_some(packages))
}

/// Downloads the current versions into the cache.
pub fn fetch(cache: &Path) -> Result<Vec<Package>> {
    let kernel = kernel_package()?;
    let arriving = tempfile::Builder::new()
        .prefix("fetch-")
        .tempdir_in(cache)
        .context("create a download directory")?;
    let wanted = PACKAGES.iter().copied().chain([kernel.as_str()]);
    println!("fetching {} Debian packages", PACKAGES.len() + 1);
    let mut command = tools::command("apt-get");
    // The sandbox user could not write into our directory; the signatures are
    // checked either way.
    command
        .args([
            "-q",
            "-o",
            "APT::Sandbox::User=root",
            "-o",
            "Acquire::Retries=3",
            "download",
        ])
        .args(wanted.map(|name| format!("{name}:{DEBIAN_ARCHITECTURE}")))
        .current_dir(arriving.path());
    process::capture(&mut command)?;

    let mut packages = Vec::new();
    for entry in fs::read_dir(arriving.path()).context("list the downloads")? {
        let path = entry.context("list the downloads")?.path();
        let package = describe(&path)?;
        fs::rename(&path, cache.join(&package.file)).context("move a download to the cache")?;
        packages.push(package);
    }
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    // The index is written last: without it the files count for nothing.
    let index = serde_json::to_vec_pretty(&packages).context("encode the package index")?;
    let unfinished = arriving.path().join(INDEX_FILE);
    fs::write(&unfinished, index).context("write the package index")?;
    fs::rename(&unfinished, cache.join(INDEX_FILE)).context("replace the package index")?;
    prune(cache, &packages)?;
    Ok(packages)
}

/// Deletes the packages of earlier fetches; each kernel takes 27 MB.
fn prune(cache: &Path, packages: &[Package]) -> Result<()> {
    for entry in fs::read_dir(cache).context("list the package cache")? {
        let path = entry.context("list the package cache")?.path();
        let is_package = path.extension().is_some_and(|extension| extension == "deb");
        let is_used = packages.iter().any(|package| path.ends_with(&package.file));
        if is_package && !is_used {
            fs::remove_file(&path).with_context(|| format!("delete `{}`", path.display()))?;
        }
    }
    Ok(())
}

/// The package that holds the kernel itself.
pub fn kernel(packages: &[Package]) -> Result<&Package> {
    packages
        .iter()
        .find(|package| package.name.starts_with(KERNEL_PACKAGE_PREFIX))
        .context("no kernel among the packages")
}

/// Fails if a cached file is not what apt delivered.
pub fn verify(cache: &Path, packages: &[Package]) -> Result<()> {
    for package in packages {
        let path = cache.join(&package.file);
        if stamp::sha256_of_file(&path)? != package.sha256 {
            bail!(
                "`{}` has changed on disk; run with --refresh",
                path.display()
            );
        }
    }
    Ok(())
}

/// Unpacks all packages over one another, as dpkg would.
pub fn unpack(cache: &Path, packages: &[Package], into: &Path) -> Result<()> {
    for package in packages {
        let mut command = tools::command("dpkg-deb");
        process::run(
            command
                .arg("--extract")
                .arg(cache.join(&package.file))
                .arg(into),
        )?;
    }
    Ok(())
}

/// Asks for the kernel; a machine that never fetched Debian's package lists does
/// so now.
fn kernel_package() -> Result<String> {
    let ask = || {
        process::capture_text(tools::command("apt-cache").args([
            "show",
            "--no-all-versions",
            KERNEL_META_PACKAGE,
        ]))
    };
    let record = match ask() {
        Ok(record) => record,
        Err(_) => {
            process::run(tools::command("apt-get").args(["-q", "update"]))
                .context("Debian's package lists are missing; run `apt-get update` as root")?;
            ask()?
        }
    };
    dependency(&record)
        .with_context(|| format!("`{KERNEL_META_PACKAGE}` depends on no kernel package"))
}

/// Picks the kernel out of a line such as
/// `Depends: linux-image-6.1.0-1-cloud-amd64 (= 6.1.1-1)`.
fn dependency(record: &str) -> Option<String> {
    let depends = record
        .lines()
        .find_map(|line| line.strip_prefix("Depends:"))?;
    depends
        .split(',')
        .filter_map(|alternative| alternative.split_whitespace().next())
        .find(|name| name.starts_with(KERNEL_PACKAGE_PREFIX))
        .map(str::to_owned)
}

fn describe(path: &Path) -> Result<Package> {
    let text = process::capture_text(
        tools::command("dpkg-deb")
            .args(["--show", "--showformat", "${Package}\t${Version}"])
            .arg(path),
    )?;
    let (name, version) = text
        .split_once('\t')
        .context("dpkg-deb printed no version")?;
    let file = path
        .file_name()
        .and_then(|file| file.to_str())
        .context("package file name")?;
    Ok(Package {
        name: name.to_owned(),
        version: version.to_owned(),
        file: file.to_owned(),
        sha256: stamp::sha256_of_file(path)?,
    })
}

#[cfg(test)]
mod test {
    use super::dependency;

    #[test]
    fn the_kernel_is_found_among_the_dependencies() {
        let record = "Package: linux-image-cloud-amd64\n\
                      Depends: base-files, linux-image-6.1.0-1-cloud-amd64 (= 6.1.1-1)\n";
        assert_eq!(
            dependency(record).as_deref(),
            Some("linux-image-6.1.0-1-cloud-amd64")
        );
        assert_eq!(dependency("Depends: libc6\n"), None);
        assert_eq!(dependency(""), None);
    }
}
