//! One bug: a patch whose first line says `LAW: what is wrong`. A second line
//! `judge: model` or `judge: reads` names who finds it, when it is not the simulator.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Who hunts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// `tests/sim`.
    Simulator,
    /// `tests/model`: protocols in all orders.
    Model,
    /// The tests of reads in `controller/consensus`.
    Reads,
}

/// A patch on show.
pub struct Exhibit {
    /// The file's name without its ending.
    pub name: String,
    /// The patch.
    pub path: PathBuf,
    /// The law it breaks, by its number in ARCHITECTURE.md.
    pub law: String,
    /// What is wrong, in words.
    pub bug: String,
    /// Who hunts it.
    pub judge: Judge,
}

impl Exhibit {
    /// Found at once, or the judges sleep.
    pub fn is_canary(&self) -> bool {
        self.name.ends_with("-canary")
    }
}

/// All patches, in order of their numbers.
pub fn all(root: &Path) -> Result<Vec<Exhibit>> {
    let room = root.join("tests/sim/museum");
    let mut paths = Vec::new();
    for entry in fs::read_dir(&room).with_context(|| format!("read `{}`", room.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "patch") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Result<Exhibit> {
    let text = fs::read_to_string(&path).with_context(|| format!("read `{}`", path.display()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut lines = text.lines();
    let (law, bug) = lines
        .next()
        .and_then(|line| line.split_once(": "))
        .with_context(|| format!("{name}: the first line is not `LAW: what is wrong`"))?;
    let number = law.strip_prefix(['A', 'B', 'C', 'D', 'E', 'F']);
    ensure!(
        number.is_some_and(|number| number.parse::<u8>().is_ok()),
        "{name}: `{law}` is no law"
    );
    let judge = match lines.next() {
        Some("") => Judge::Simulator,
        Some("judge: model") => Judge::Model,
        Some("judge: reads") => Judge::Reads,
        other => anyhow::bail!("{name}: the second line says {other:?}"),
    };
    Ok(Exhibit {
        name: name.into_owned(),
        law: law.to_owned(),
        bug: bug.to_owned(),
        judge,
        path,
    })
}
