//! `cargo xtask museum`: bugs on show, to prove that the judges are awake.
//!
//! Each patch in `tests/sim/museum` breaks one law. It is applied to a scratch
//! tree of the newest commit, the simulator is built there and plays seeds until
//! one is found broken. A bug that no seed finds makes the run fail: then the
//! simulator could not find it in the product either. The canary comes first: if
//! not even that is found, nothing else that is said here means anything.

mod exhibit;
mod hunt;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::{process, workspace};
use exhibit::Exhibit;
use hunt::Catch;

#[derive(clap::Args)]
pub struct Args {
    /// Only those whose name contains this (the canary always)
    #[arg(long)]
    only: Option<String>,
    /// Seeds that are played against each bug
    #[arg(long, default_value_t = 200)]
    count: u64,
    /// Lists the bugs and ends
    #[arg(long)]
    list: bool,
}

/// Hunts every bug, the canary first.
pub fn run(args: &Args) -> Result<()> {
    let root = workspace::root()?;
    let mut exhibits = exhibit::all(&root)?;
    if let Some(only) = &args.only {
        exhibits.retain(|exhibit| exhibit.is_canary() || exhibit.name.contains(only));
    }
    if args.list {
        for exhibit in &exhibits {
            println!("{:<32} {:<4} {}", exhibit.name, exhibit.law, exhibit.bug);
        }
        return Ok(());
    }
    ensure!(
        exhibits.first().is_some_and(Exhibit::is_canary),
        "the museum has no canary"
    );
    let scratch = root.join("target/museum");
    let tree = scratch.join("tree");
    check_out(&root, &tree)?;
    println!(
        "{:<32} {:<4} {:>6} {:>6} {:>7}  found by",
        "bug", "law", "seed", "after", "seconds"
    );
    let mut escaped = Vec::new();
    for exhibit in &exhibits {
        let begun = Instant::now();
        let catch = hunt_one(&tree, &scratch.join("build"), exhibit, args.count)
            .with_context(|| format!("hunt {}", exhibit.name))?;
        println!(
            "{}",
            line(exhibit, catch.as_ref(), begun.elapsed().as_secs())
        );
        if catch.is_none() && exhibit.is_canary() {
            bail!("the canary lives: the judges are asleep");
        }
        if catch.is_none() {
            escaped.push(exhibit.name.as_str());
        }
    }
    ensure!(escaped.is_empty(), "not found: {}", escaped.join(", "));
    println!("{} bugs, all found", exhibits.len());
    Ok(())
}

/// A tree of its own at the newest commit, as it was committed; kept for the next
/// run, so that only what changed is built.
fn check_out(root: &Path, tree: &Path) -> Result<()> {
    let head = process::capture_text(git(root).args(["rev-parse", "HEAD"]))?;
    if !tree.is_dir() {
        process::capture(git(root).args(["worktree", "prune"]))?;
        process::capture(
            git(root)
                .args(["worktree", "add", "--detach"])
                .arg(tree)
                .arg(head.trim()),
        )?;
        return Ok(());
    }
    process::capture(git(tree).args(["checkout", "--force", "--detach", head.trim()]))?;
    Ok(())
}

fn hunt_one(tree: &Path, build: &Path, exhibit: &Exhibit, count: u64) -> Result<Option<Catch>> {
    process::capture(git(tree).arg("apply").arg(&exhibit.path))?;
    let caught = hunt::hunt(tree, build, exhibit.judge, count);
    // Also when the hunt itself failed: the next one needs a clean tree.
    process::capture(git(tree).args(["apply", "--reverse"]).arg(&exhibit.path))?;
    caught
}

fn git(directory: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(directory);
    git
}

fn line(exhibit: &Exhibit, catch: Option<&Catch>, seconds: u64) -> String {
    let (name, law) = (&exhibit.name, &exhibit.law);
    match catch {
        Some(Catch { seed, after, by }) => {
            let number = |number: &Option<u64>| number.map_or("-".to_owned(), |n| n.to_string());
            let (seed, after) = (number(seed), number(after));
            format!("{name:<32} {law:<4} {seed:>6} {after:>6} {seconds:>7}  {by}")
        }
        None => format!("{name:<32} {law:<4} NOT FOUND{seconds:>14}"),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn every_patch_applies_and_names_a_law() -> Result<()> {
        let root = workspace::root()?;
        let exhibits = exhibit::all(&root)?;
        assert!(exhibits[0].is_canary());
        assert!(exhibits.len() > 20, "{} bugs", exhibits.len());
        for exhibit in &exhibits {
            process::capture(git(&root).args(["apply", "--check"]).arg(&exhibit.path))
                .with_context(|| format!("{} is out of date", exhibit.name))?;
        }
        Ok(())
    }
}
