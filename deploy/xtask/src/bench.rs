//! `cargo xtask bench`: builds everything in release, runs the parts one after
//! the other, each between two looks at the disk's floor and the load, and makes
//! one table and one JSON file of what they measured.
//!
//! The measuring is done by `tests/bench` and by `place_rate` of the scheduler;
//! this file only orders them. Nothing passes or fails here: figures belong to
//! the machine that they were measured on.

mod machine;
mod placement;
mod report;

use crate::{process, workspace};
use anyhow::{Context, Result};
use report::{Figure, Part, Report, SCHEMA, Spread};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Args {
    /// What to measure [default: all of it]
    #[arg(value_enum)]
    parts: Vec<Name>,
    /// Fewer and shorter rounds: some six minutes instead of twenty-five
    #[arg(long)]
    quick: bool,
    /// Also write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// Seconds to a guest's SSH banner, beside the same guest by hand
    Launch,
    /// Committed writes per second, beside etcd
    Mutations,
    /// The leader's death to the next write, beside etcd
    Failover,
    /// Placements per second, packing density
    Placement,
    /// Resident bytes per idle instance
    Memory,
    /// Launch and list in a small and in a large cell
    Scale,
}

const ALL: [Name; 6] = [
    Name::Memory,
    Name::Placement,
    Name::Launch,
    Name::Mutations,
    Name::Failover,
    Name::Scale,
];

impl Name {
    fn word(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Mutations => "mutations",
            Self::Failover => "failover",
            Self::Placement => "placement",
            Self::Memory => "memory",
            Self::Scale => "scale",
        }
    }
}

/// Runs the parts that were asked for.
pub fn run(args: &Args) -> Result<()> {
    let root = workspace::root()?;
    let wanted = |name: &Name| args.parts.is_empty() || args.parts.contains(name);
    let names: Vec<Name> = ALL.into_iter().filter(wanted).collect();
    build(&root, &names)?;
    let scratch = tempfile::tempdir().context("create a scratch directory")?;
    let bench = Bench {
        release: root.join("target/release"),
        answer: scratch.path().join("figures.json"),
        quick: args.quick,
    };
    let mut report = Report {
        schema: SCHEMA,
        quick: args.quick,
        machine: machine::describe()?,
        parts: Vec::new(),
    };
    for name in names {
        eprintln!("measuring: {}", name.word());
        report.parts.push(bench.part(name)?);
    }
    println!("{}", report.table());
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report).context("encode the figures")?;
        fs::write(path, text + "\n").with_context(|| format!("write `{}`", path.display()))?;
    }
    Ok(())
}

/// A debug build would measure the compiler's checks.
fn build(root: &Path, names: &[Name]) -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let release = |arguments: &[&str]| {
        let mut command = Command::new(&cargo);
        command.args(["build", "--release"]).args(arguments);
        process::run(command.current_dir(root))
    };
    let mut packages = Vec::new();
    for package in ["nube-controller", "nube-agent", "nube-cli", "nube-bench"] {
        packages.extend(["-p", package]);
    }
    release(&packages)?;
    if names.contains(&Name::Placement) {
        release(&["-p", "nube-scheduler", "--example", "place_rate"])?;
    }
    let boots = [Name::Launch, Name::Mutations, Name::Scale];
    if names.iter().any(|name| boots.contains(name)) {
        let own = env::current_exe().context("find this program")?;
        process::run(Command::new(own).args(["image", "micro"]).current_dir(root))?;
    }
    Ok(())
}

/// How the measuring programs are called.
struct Bench {
    release: PathBuf,
    /// Where they write their figures.
    answer: PathBuf,
    quick: bool,
}

impl Bench {
    fn part(&self, name: Name) -> Result<Part> {
        let (floor_before, load_before) = (self.floor()?, machine::load()?);
        let begun = Instant::now();
        let figures = match name {
            Name::Placement => self.placement()?,
            other => self.measure(other.word())?,
        };
        let seconds = begun.elapsed().as_secs();
        Ok(Part {
            name: name.word().to_owned(),
            seconds,
            load_before,
            load_after: machine::load()?,
            floor_before,
            floor_after: self.floor()?,
            figures,
        })
    }

    fn placement(&self) -> Result<Vec<Figure>> {
        let program = self.release.join("examples/place_rate");
        let text = process::capture_text(Command::new(program).arg("--json"))?;
        let answer: placement::Answer =
            serde_json::from_str(&text).with_context(|| format!("not figures: {text}"))?;
        Ok(answer.figures())
    }

    fn floor(&self) -> Result<Spread> {
        let figures = self.measure("floor")?;
        let floor = figures.into_iter().next();
        Ok(floor.context("the floor has no figure")?.ours)
    }

    fn measure(&self, part: &str) -> Result<Vec<Figure>> {
        self.figures(Command::new(self.release.join("nube-bench")).arg(part))
    }

    fn figures(&self, command: &mut Command) -> Result<Vec<Figure>> {
        command.arg("--json").arg(&self.answer);
        if self.quick {
            command.arg("--quick");
        }
        process::run(command)?;
        let text = fs::read_to_string(&self.answer).context("read the figures")?;
        serde_json::from_str(&text).with_context(|| format!("not figures: {text}"))
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use clap::{Parser, ValueEnum};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn every_part_is_known_by_its_word_and_runs_by_default() {
        for name in Name::value_variants() {
            assert!(ALL.contains(name));
            let cli = Cli::try_parse_from(["bench", name.word(), "--quick", "--json", "f"])
                .unwrap_or_else(|error| panic!("{error}"));
            assert!(cli.args.parts == [*name] && cli.args.quick);
        }
        assert!(Cli::try_parse_from(["bench", "everything"]).is_err());
    }
}
