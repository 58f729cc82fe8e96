//! `cargo xtask image micro` and `micro-ec2`: build the small guest images.
//!
//! Order of work, one module each:
//! ```text
//! packages (fetch, verify) ─► stamp ─► unchanged? done
//!   └► tools ─► kernel, root, initrd, disk (in a scratch directory) ─► manifest ─► publish
//! ```
//! Nothing is mounted and no loop device is used, so the build needs no
//! privileges. What goes into the image is in [`recipe`] and in
//! `deploy/images`; this file only orders the steps.

mod disk;
mod initrd;
mod kernel;
mod libraries;
mod manifest;
mod packages;
mod publish;
mod recipe;
mod root;
mod stamp;
mod tools;
mod tree;

use crate::workspace;
use anyhow::{Context, Result};
use packages::Package;
use recipe::{KERNEL_FILE, Recipe};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    image: Image,
}

#[derive(clap::Subcommand)]
enum Image {
    /// The small image of the tests: busybox, dropbear, Debian's cloud kernel
    Micro(MicroArgs),
    /// The same, but its guests know DHCP and EC2's metadata service alone
    MicroEc2(MicroArgs),
}

#[derive(clap::Args)]
struct MicroArgs {
    /// Directory to publish the image in [default: target/images/NAME]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Ask Debian for newer packages instead of using the cached ones
    #[arg(long)]
    refresh: bool,
}

/// The directories one build works with.
struct Places {
    /// Below `deploy/images`: the files this project wrote for the guest.
    sources: Vec<PathBuf>,
    /// Downloaded packages, kept between builds.
    cache: PathBuf,
    /// Where the image is published.
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    match &args.image {
        Image::Micro(args) => build_micro(&recipe::MICRO, args),
        Image::MicroEc2(args) => build_micro(&recipe::MICRO_EC2, args),
    }
}

fn build_micro(recipe: &Recipe, args: &MicroArgs) -> Result<()> {
    let started = Instant::now();
    let workspace = workspace::root()?;
    let images = workspace.join("deploy/images");
    let places = Places {
        sources: recipe.sources.iter().map(|of| images.join(of)).collect(),
        cache: workspace.join("target/images/cache"),
        out: match &args.out {
            Some(out) => std::path::absolute(out).context("resolve --out")?,
            None => workspace.join("target/images").join(recipe.name),
        },
    };
    fs::create_dir_all(&places.cache).context("create the package cache")?;
    let _lock = lock(&places.cache)?;

    if !args.refresh
        && let Some(packages) = packages::cached(&places.cache)?
        && publish::is_current(&places.out, &stamp::of(recipe, &places.sources, &packages)?)
    {
        println!("{}: unchanged", places.out.display());
        return Ok(());
    }
    tools::check()?;
    let packages = match packages::cached(&places.cache)? {
        Some(packages) if !args.refresh => packages,
        _ => packages::fetch(&places.cache)?,
    };
    let stamp = stamp::of(recipe, &places.sources, &packages)?;
    build(recipe, &places, &packages, &stamp)?;
    println!(
        "{}: built in {:.1} s",
        places.out.display(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Builds everything in a scratch directory beside the output, so that the final
/// rename stays within one file system.
fn build(recipe: &Recipe, places: &Places, packages: &[Package], stamp: &str) -> Result<()> {
    let parent = places
        .out
        .parent()
        .context("--out has no parent directory")?;
    fs::create_dir_all(parent).with_context(|| format!("create `{}`", parent.display()))?;
    let scratch = tempfile::Builder::new()
        .prefix(".image-")
        .tempdir_in(parent)
        .context("create a scratch directory")?;
    let unpacked = scratch.path().join("packages");
    let result = scratch.path().join("result");
    fs::create_dir(&result).context("create the result directory")?;

    packages::verify(&places.cache, packages)?;
    packages::unpack(&places.cache, packages, &unpacked)?;
    let kernel = kernel::find(&unpacked)?;
    fs::copy(&kernel.image, result.join(KERNEL_FILE)).context("copy the kernel")?;
    let guest = places
        .sources
        .first()
        .context("the recipe names no sources")?;
    initrd::build(guest, &unpacked, &kernel, scratch.path(), &result)?;
    let root = scratch.path().join("root");
    root::build(&places.sources, &unpacked, &kernel, &root)?;
    disk::build(&root, scratch.path(), &result)?;

    let kernel_package = packages::kernel(packages)?;
    let version = format!("{}+{}", kernel_package.version, &stamp[..8]);
    manifest::write(recipe, &result, &version, packages, stamp)?;
    publish::publish(&result, &places.out)
}

/// Two builds at once would download into, and publish over, each other. The lock
/// ends with the file handle, so a killed build leaves none behind.
fn lock(cache: &Path) -> Result<File> {
    let file = File::create(cache.join("lock")).context("create the build lock")?;
    file.lock().context("wait for another image build")?;
    Ok(file)
}
