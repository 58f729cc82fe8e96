//! Shape: sizes of files and functions, the header of each file, file names.
//! Numbers follow style.md; a rule without a number drifts.

use crate::finding::Finding;
use crate::rust_text::{RustText, is_test_file, production_lines};
use crate::tree::TextFile;

/// Lines before the test module. Larger files hold more than one thing.
pub const FILE_LINES_MAX: usize = 500;
/// Lines of a function that hold code, from `fn` to its brace: as clippy's
/// `too_many_lines` counts, plus the signature.
pub const FUNCTION_LINES_MAX: usize = 70;

/// Names that say nothing: whatever has no home ends there.
const FILE_NAMES_BANNED: &[&str] = &[
    "util.rs",
    "utils.rs",
    "common.rs",
    "helper.rs",
    "helpers.rs",
    "manager.rs",
    "misc.rs",
];

/// Checks one Rust file against every rule of this file.
#[must_use]
pub fn check(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(header(file));
    findings.extend(name(file));
    if !is_test_file(&file.path) {
        findings.extend(file_size(file));
        findings.extend(function_sizes(file));
    }
    findings
}

fn header(file: &TextFile) -> Option<Finding> {
    let starts = file.text.starts_with("//! ") || file.text.starts_with("//!\n");
    (!starts).then(|| {
        let advice = "begin with `//!`: what lives here, what may not, who calls it";
        Finding::new(&file.path, 1, "header", "no `//!` header", advice)
    })
}

fn name(file: &TextFile) -> Option<Finding> {
    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
    FILE_NAMES_BANNED.contains(&name).then(|| {
        let advice = "name the file after the noun it is about";
        Finding::new(
            &file.path,
            0,
            "file-name",
            format!("`{name}` says nothing"),
            advice,
        )
    })
}

fn file_size(file: &TextFile) -> Option<Finding> {
    let lines = production_lines(&file.text);
    (lines > FILE_LINES_MAX).then(|| {
        let what = format!("{lines} lines before the tests, at most {FILE_LINES_MAX}");
        Finding::new(&file.path, 0, "file-size", what, "split it by noun")
    })
}

/// Counts braces in the code of the file. Limits: a function inside another one
/// counts for both; functions that a macro makes are not seen; a brace in a
/// const generic argument of a signature would end the count early.
fn function_sizes(file: &TextFile) -> Vec<Finding> {
    let code = RustText::of(&file.text).code;
    let lines: Vec<&str> = code.lines().take(production_lines(&file.text)).collect();
    let mut findings = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let length = function_lines(&lines[at..]);
        if length > FUNCTION_LINES_MAX {
            let what = format!("`{name}` has {length} lines, at most {FUNCTION_LINES_MAX}");
            findings.push(Finding::new(
                &file.path,
                at + 1,
                "function-size",
                what,
                "give its steps names",
            ));
        }
    }
    findings
}

/// The name of the function whose declaration begins on this line.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if let Some(tail) = rest.strip_prefix("pub") {
        let scope_end = if tail.starts_with('(') {
            tail.find(')')? + 1
        } else {
            0
        };
        rest = tail[scope_end..].trim_start();
    }
    // Literals are blanked, so `extern "C" fn` reads `extern     fn`.
    for qualifier in ["const ", "async ", "unsafe ", "extern "] {
        rest = rest.strip_prefix(qualifier).unwrap_or(rest).trim_start();
    }
    let name = rest.strip_prefix("fn ")?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some(&name[..end])
}

/// Lines with code from a declaration to the brace that closes its body; 0 for
/// a declaration without a body.
fn function_lines(lines: &[&str]) -> usize {
    let (mut depth, mut nested, mut counted) = (0_usize, 0_usize, 0);
    for line in lines {
        counted += usize::from(!line.trim().is_empty());
        for c in line.chars() {
            match c {
                // `[u8; 4]` in a signature is no end of it.
                '(' | '[' => nested += 1,
                ')' | ']' => nested = nested.saturating_sub(1),
                ';' if depth == 0 && nested == 0 => return 0,
                '{' => depth += 1,
                '}' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return counted;
                    }
                }
                _ => {}
            }
        }
    }
    counted
}

#[cfg(test)]
mod test {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        let file = TextFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&file)
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    fn function(lines: usize) -> String {
        let body = "    step();\n".repeat(lines - 2);
        format!("//! Header.\npub(crate) async fn long<'a>(x: [u8; 4]) {{\n{body}}}\n")
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_eq!(rules("a/src/b.rs", "use x;\n"), ["header"]);
        assert_eq!(rules("a/src/b.rs", "// Header.\n"), ["header"]);
        assert!(rules("a/src/b.rs", "//! Header.\n").is_empty());
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        assert_eq!(rules("a/src/utils.rs", "//! Header.\n"), ["file-name"]);
        assert!(rules("a/src/task_manager_notes.rs", "//! Header.\n").is_empty());
    }

    #[test]
    fn a_large_file_is_found_and_its_tests_are_free() {
        let code = format!("//! Header.\n{}", "use x;\n".repeat(FILE_LINES_MAX - 1));
        assert!(rules("a/src/b.rs", &code).is_empty());
        assert_eq!(
            rules("a/src/b.rs", &format!("{code}use x;\n")),
            ["file-size"]
        );
        let tested = format!(
            "{code}#[cfg(test)]\nmod test {{\n{}}}\n",
            "use x;\n".repeat(900)
        );
        assert!(rules("a/src/b.rs", &tested).is_empty());
        assert!(rules("a/tests/b.rs", &format!("{code}use x;\n")).is_empty());
    }

    #[test]
    fn a_long_function_is_found() {
        assert!(rules("a/src/b.rs", &function(FUNCTION_LINES_MAX)).is_empty());
        assert_eq!(
            rules("a/src/b.rs", &function(FUNCTION_LINES_MAX + 1)),
            ["function-size"]
        );
        let twice = function(FUNCTION_LINES_MAX) + &function(FUNCTION_LINES_MAX + 1);
        assert_eq!(rules("a/src/b.rs", &twice), ["function-size"]);
    }

    #[test]
    fn comments_blanks_and_braces_in_literals_do_not_count() {
        let filler = "    // A brace: {\n\n    f(\"{\", '{');\n".repeat(60);
        let text = format!("//! Header.\nfn f() {{\n{filler}}}\nfn g();\n");
        assert!(rules("a/src/b.rs", &text).is_empty());
    }

    #[test]
    fn declarations_are_recognized() {
        let table = [
            ("fn a() {", Some("a")),
            ("    pub(in crate::x) const unsafe fn a_b<T>(", Some("a_b")),
            ("pub extern     fn c() {", Some("c")),
            ("let f: fn(u8) = g;", None),
            ("// fn a() {", None),
        ];
        for (line, name) in table {
            assert_eq!(function_name(line), name, "{line}");
        }
    }
}
