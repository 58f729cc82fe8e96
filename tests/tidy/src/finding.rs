//! A finding: where, which rule, what, and what to do instead.

use std::fmt;

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Path from the root of the tree, or the package.
    pub file: String,
    /// Line from 1; 0 when the rule is about the whole file.
    pub line: usize,
    /// Short name of the rule.
    pub rule: &'static str,
    /// What was found.
    pub what: String,
    /// What to do instead, or why.
    pub advice: String,
}

impl Finding {
    /// A finding in a line (0 = the whole file).
    #[must_use]
    pub fn new(
        file: &str,
        line: usize,
        rule: &'static str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (file, what, advice) = (file.to_owned(), what.into(), advice.into());
        Self {
            file,
            line,
            rule,
            what,
            advice,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": [{}] {}: {}", self.rule, self.what, self.advice)
    }
}

/// Fails the calling test with all findings, sorted.
pub fn assert_clean(mut findings: Vec<Finding>) {
    findings.sort();
    let lines: Vec<_> = findings
        .iter()
        .map(|finding| format!("  {finding}"))
        .collect();
    assert!(
        findings.is_empty(),
        "{} findings:\n{}\n",
        findings.len(),
        lines.join("\n")
    );
}
