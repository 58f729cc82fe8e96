//! One check: what was looked at, what was found, what to do. And all of them
//! for people and for programs.

use serde_json::{Value as Json, json};

use crate::output::table::{Look, Table, Tone, Value};
use crate::output::text::{escape, plural};

/// How a check ended. Ordered: the last is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and should not stay so.
    Warn,
    /// Something does not work, or soon will not.
    Fail,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// `client`, `cell`, `load` or `host`.
    pub area: &'static str,
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, with numbers.
    pub found: String,
    /// What to do; empty when all is well.
    pub todo: String,
}

impl Check {
    fn new(
        area: &'static str,
        name: impl Into<String>,
        verdict: Verdict,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self {
            area,
            name: name.into(),
            verdict,
            found: found.into(),
            todo: todo.into(),
        }
    }

    /// All is well.
    pub fn ok(area: &'static str, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(area, name, Verdict::Ok, found, "")
    }

    /// It works, and should not stay so.
    pub fn warn(
        area: &'static str,
        name: impl Into<String>,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self::new(area, name, Verdict::Warn, found, todo)
    }

    /// Something does not work.
    pub fn fail(
        area: &'static str,
        name: impl Into<String>,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self::new(area, name, Verdict::Fail, found, todo)
    }
}

/// The worst of all.
pub fn worst(checks: &[Check]) -> Verdict {
    let verdicts = checks.iter().map(|check| check.verdict);
    verdicts.max().unwrap_or(Verdict::Ok)
}

/// For programs.
pub fn json(checks: &[Check]) -> Json {
    let one = |check: &Check| {
        json!({
            "area": check.area,
            "check": check.name,
            "verdict": check.verdict.word(),
            "found": check.found,
            "todo": check.todo,
        })
    };
    json!({
        "verdict": worst(checks).word(),
        "checks": checks.iter().map(one).collect::<Vec<_>>(),
    })
}

/// For people: the table, then what to do, worst first.
pub fn view(look: Look, checks: &[Check]) -> String {
    let mut table = Table::new(look, &["", "AREA", "CHECK", "FOUND"]);
    for check in checks {
        let tone = match check.verdict {
            Verdict::Ok => Tone::Good,
            Verdict::Warn => Tone::Busy,
            Verdict::Fail => Tone::Bad,
        };
        table.row([
            Value::new(check.verdict.word(), tone),
            check.area.into(),
            check.name.as_str().into(),
            check.found.as_str().into(),
        ]);
    }
    let mut text = table.render();
    let mut todo: Vec<&Check> = checks
        .iter()
        .filter(|check| !check.todo.is_empty())
        .collect();
    todo.sort_by_key(|check| std::cmp::Reverse(check.verdict));
    if !todo.is_empty() {
        text.push_str("\nwhat to do\n");
    }
    for check in todo {
        let (word, name) = (check.verdict.word(), escape(&check.name));
        text.push_str(&format!("  {word:4}  {name}: {}\n", escape(&check.todo)));
    }
    let count = |verdict| {
        checks
            .iter()
            .filter(|check| check.verdict == verdict)
            .count()
    };
    let (warned, failed) = (count(Verdict::Warn), count(Verdict::Fail));
    let checked = plural(checks.len(), "check");
    text.push_str(&format!(
        "\n{checked}: {failed} failed, {warned} to look at\n"
    ));
    text
}
