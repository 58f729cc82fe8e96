//! Builds a judge over a tree with a bug and lets it hunt.

use std::env;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::exhibit::Judge;

/// A bug was found.
pub struct Catch {
    /// The seed that found it, if seeds were played.
    pub seed: Option<u64>,
    /// How many had been played by then.
    pub after: Option<u64>,
    /// The law that was seen broken, and how that looked.
    pub by: String,
}

/// Builds and hunts; `None`: not found.
pub fn hunt(tree: &Path, build: &Path, judge: Judge, count: u64) -> Result<Option<Catch>> {
    match judge {
        Judge::Simulator => {
            let mut compile = cargo(tree, build);
            compile.args(["build", "--profile", "sim", "--package", "nube-sim"]);
            crate::process::capture(&mut compile)?;
            play(build, count)
        }
        Judge::Model => test(tree, build, ["nube-model", "no_instance_runs_twice"]),
        Judge::Reads => test(tree, build, ["nube-consensus", "a2_"]),
    }
}

fn cargo(tree: &Path, build: &Path) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", build)
        .env("CARGO_INCREMENTAL", "1")
        .env_remove("CARGO_MANIFEST_DIR");
    command
}

/// Seeds from the first one on, until one fails.
fn play(build: &Path, count: u64) -> Result<Option<Catch>> {
    let mut simulator = Command::new(build.join("sim/sim"));
    simulator
        .args(["--count", &count.to_string()])
        .env("RUST_BACKTRACE", "0");
    let (success, said) = listen(&mut simulator)?;
    if success {
        return Ok(None);
    }
    let Some((seed, by)) = said.lines().find_map(broken_seed) else {
        bail!("the simulator ended without naming a seed:\n{said}");
    };
    let (seed, after) = (Some(seed), said.lines().find_map(played));
    Ok(Some(Catch { seed, after, by }))
}

/// `seed 7: A2 broken: a read saw …`
fn broken_seed(line: &str) -> Option<(u64, String)> {
    let (seed, what) = line.strip_prefix("seed ")?.split_once(": ")?;
    let (law, text) = what.split_once(" broken: ")?;
    let text: String = text.chars().take(90).collect();
    Some((seed.parse().ok()?, format!("{law}: {text}")))
}

/// `7 seeds in 20 s: …`
fn played(line: &str) -> Option<u64> {
    let (seeds, _) = line.split_once(" seeds in ")?;
    seeds.parse().ok()
}

/// Tests that hold as long as the law does: one that fails is a find.
fn test(tree: &Path, build: &Path, [package, name]: [&str; 2]) -> Result<Option<Catch>> {
    let arguments = ["test", "--package", package, name];
    let mut compile = cargo(tree, build);
    crate::process::capture(compile.args(arguments).arg("--no-run"))?;
    let mut test = cargo(tree, build);
    let (success, said) = listen(test.args(arguments).args(["--", "--nocapture"]))?;
    if success {
        return Ok(None);
    }
    let failed = |line: &&str| line.starts_with("test ") && line.contains("FAILED");
    let moved = |line: &&str| line.contains("has moved");
    let what = said.lines().find(moved).or(said.lines().find(failed));
    let what = what.context("the tests failed without a find")?.trim();
    Ok(Some(Catch {
        seed: None,
        after: None,
        by: format!("{package}: {what}"),
    }))
}

fn listen(command: &mut Command) -> Result<(bool, String)> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.success(), said))
}

#[cfg(test)]
mod test {
    use super::{broken_seed, played};

    #[test]
    fn a_find_is_read_from_what_the_simulator_prints() {
        let (seed, by) = broken_seed("seed 7: A2 broken: a read saw 3").expect("a find");
        assert_eq!((seed, by.as_str()), (7, "A2: a read saw 3"));
        assert_eq!(played("9 seeds in 20 s: 0.10 simulated"), Some(9));
        for line in ["seed 7: fingerprint abc", "20 seeds", ""] {
            assert!(broken_seed(line).is_none() && played(line).is_none());
        }
    }
}
