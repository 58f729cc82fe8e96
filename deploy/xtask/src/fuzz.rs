//! `cargo xtask fuzz`: the targets of `tests/fuzz` under libFuzzer, with coverage,
//! for as long as asked. No nightly and no cargo-fuzz: the coverage pass is LLVM's,
//! its flags are stable; libFuzzer itself needs a C++ compiler.
//!
//! What it finds lies in `tests/fuzz/cargo-fuzz/artifacts`, what it learned in
//! `tests/fuzz/cargo-fuzz/corpus`; both stay out of the repository. A finding is
//! fixed, and its bytes go to `tests/fuzz/corpus/<target>` under a name of their own.

use std::env::consts::ARCH;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, ensure};

use crate::{process, workspace};

/// What libFuzzer wants to see: each edge, its place, and what is compared.
const FLAGS: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// An input that takes longer is a finding as well.
const INPUT_SECONDS_MAX: u32 = 10;
const INPUT_BYTES_MAX: u32 = 1 << 16;
/// So is one that makes a target take so much memory.
const MEMORY_MIB_MAX: u32 = 2_048;

#[derive(clap::Args)]
pub struct Args {
    /// One of the directories in tests/fuzz/corpus; without it each in turn
    target: Option<String>,
    /// How long for each target
    #[arg(long, default_value_t = 1)]
    minutes: u32,
    /// Build alone
    #[arg(long)]
    no_run: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let home = workspace::root()?.join("tests/fuzz");
    let known = targets(&home.join("corpus"))?;
    let chosen = match &args.target {
        None => known,
        Some(name) => {
            ensure!(known.contains(name), "`{name}` is none of {known:?}");
            vec![name.clone()]
        }
    };
    let work = home.join("cargo-fuzz");
    build(&work)?;
    if args.no_run {
        return Ok(());
    }
    let mut found = Vec::new();
    for target in chosen {
        println!("fuzz {target}: {} min", args.minutes);
        if let Err(error) = fuzz(&home, &work, &target, args.minutes) {
            eprintln!("fuzz {target}: {error:#}");
            found.push(target);
        }
    }
    ensure!(
        found.is_empty(),
        "findings of {found:?} in tests/fuzz/cargo-fuzz/artifacts"
    );
    Ok(())
}

fn targets(corpus: &Path) -> Result<Vec<String>> {
    let read = fs::read_dir(corpus).with_context(|| format!("read `{}`", corpus.display()))?;
    let mut names = Vec::new();
    for entry in read {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn triple() -> String {
    format!("{ARCH}-unknown-linux-gnu")
}

fn build(work: &Path) -> Result<()> {
    // The same versions as in what ships; cargo adds those of libFuzzer.
    let lock = workspace::root()?.join("Cargo.lock");
    fs::copy(lock, work.join("Cargo.lock")).context("copy Cargo.lock")?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // A named target: build scripts and macros are built without coverage.
    build.args(["build", "--release", "--target", &triple()]);
    build.current_dir(work).env("RUSTFLAGS", FLAGS.join(" "));
    process::run(&mut build)
}

fn fuzz(home: &Path, work: &Path, target: &str, minutes: u32) -> Result<()> {
    let (learned, artifacts) = (
        work.join("corpus").join(target),
        work.join("artifacts").join(target),
    );
    fs::create_dir_all(&learned)?;
    fs::create_dir_all(&artifacts)?;
    let mut run = Command::new(work.join("target").join(triple()).join("release/any"));
    run.env("NUBE_FUZZ_TARGET", target);
    run.arg(format!("-max_total_time={}", u64::from(minutes) * 60));
    run.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    run.arg(format!("-max_len={INPUT_BYTES_MAX}"));
    run.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    run.arg(format!("-artifact_prefix={}/", artifacts.display()));
    run.arg("-print_final_stats=1").arg("-verbosity=0");
    run.arg(&learned).arg(home.join("corpus").join(target));
    process::run(&mut run)
}
