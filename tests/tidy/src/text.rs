//! Rules about text: notes without an issue, shells, paths of a build machine.
//! This crate names what it forbids, so its own folder is passed over.

use crate::finding::Finding;
use crate::rust_text::RustText;
use crate::tree::TextFile;

/// This crate: its tables and samples are full of forbidden words.
const OWN_FOLDER: &str = "tests/tidy/";
/// A note that nobody follows up.
const NOTES: &[&str] = &["TODO", "FIXME", "XXX"];
/// Files whose comments are searched for notes, by ending. Rust is taken apart;
/// of the others every line counts.
const NOTED_ENDINGS: &[&str] = &[".rs", ".proto", ".toml", ".sh", ".yml", ".yaml", ".service"];
/// Programs that take a command line as text: one name with a quote in it, and
/// it is another command line.
const SHELLS: &[&str] = &["sh", "bash", "dash", "/bin/sh", "/bin/bash", "/usr/bin/sh"];
/// The same inside one literal.
const SHELL_CALLS: &[&str] = &["sh -c", "bash -c", "bash -lc"];
/// Files that start a shell and mean it, and why.
const SHELLS_MEANT: &[(&str, &str)] = &[(
    "cli/src/commands/ssh/test.rs",
    "ssh hands a ProxyCommand to a shell: the test asks a real one what it reads",
)];
/// Paths that exist only where somebody builds.
const MACHINE_PATHS: &[&str] = &["/home/", "/root/"];
/// Paths that look alike and are meant: in files below this folder, what begins
/// so, and why.
const MACHINE_PATHS_MEANT: &[(&str, &str, &str)] = &[
    (
        "",
        "/root/.ssh",
        "the home of root inside a guest, where its keys go",
    ),
    (
        "deploy/images/",
        "/root/",
        "where a guest's first process mounts its disk",
    ),
];
/// Lines after a shell's name in which its `-c` is looked for: an argument vector
/// that rustfmt broke is no longer.
const SHELL_CALL_LINES: usize = 6;

/// Checks one text file, Rust or not, against every rule of this file.
#[must_use]
pub fn check(file: &TextFile) -> Vec<Finding> {
    if file.path.starts_with(OWN_FOLDER) {
        return Vec::new();
    }
    let mut findings = machine_paths(file);
    if file.path.ends_with(".rs") {
        let parts = RustText::of(&file.text);
        findings.extend(notes(&file.path, &parts.comments));
        findings.extend(shells(&file.path, &parts));
    } else if NOTED_ENDINGS
        .iter()
        .any(|ending| file.path.ends_with(ending))
    {
        findings.extend(notes(&file.path, &file.text));
    }
    findings
}

/// A note is fine with an issue number (`#12`) in its line, and in backticks,
/// where it is a word and not a note.
fn notes(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let has_issue = line
            .split('#')
            .skip(1)
            .any(|tail| tail.starts_with(|c: char| c.is_ascii_digit()));
        for note in NOTES {
            let unquoted = line
                .split(['`', '"'])
                .step_by(2)
                .any(|part| is_word_in(part, note));
            if unquoted && !has_issue {
                let what = format!("{note} without an issue number");
                let advice = "do it, or open an issue and name it (`#12`)";
                findings.push(Finding::new(path, at + 1, "note", what, advice));
            }
        }
    }
    findings
}

fn is_word_in(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|part| part == word)
}

/// A shell's name is a finding when it is started (`Command::new`) or when its
/// `-c` follows; looking for a program called `sh` is not.
fn shells(path: &str, parts: &RustText) -> Vec<Finding> {
    if SHELLS_MEANT.iter().any(|(meant, _)| *meant == path) {
        return Vec::new();
    }
    let code: Vec<&str> = parts.code.lines().collect();
    let is_started = |line: usize| {
        code.get(line - 1)
            .is_some_and(|l| l.contains("Command::new"))
    };
    let has_text = |from: usize| {
        parts.literals.iter().any(|(line, literal)| {
            (from..from + SHELL_CALL_LINES).contains(line)
                && ["-c", "-lc"].contains(&literal.as_str())
        })
    };
    let mut findings = Vec::new();
    for (line, literal) in &parts.literals {
        let named = SHELLS.contains(&literal.as_str()) && (is_started(*line) || has_text(*line));
        if named || SHELL_CALLS.iter().any(|call| literal.contains(call)) {
            let what = format!("a shell: `{literal}`");
            let advice = "start the program itself with an argument vector; no text becomes code";
            findings.push(Finding::new(path, *line, "shell", what, advice));
        }
    }
    findings
}

fn machine_paths(file: &TextFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        for path in MACHINE_PATHS {
            let stray = line.match_indices(path).any(|(start, _)| {
                let before = line[..start].chars().next_back();
                let meant = MACHINE_PATHS_MEANT.iter().any(|(folder, meant, _)| {
                    file.path.starts_with(folder) && line[start..].starts_with(meant)
                });
                !before.is_some_and(|c| c.is_alphanumeric() || ".-_~}".contains(c)) && !meant
            });
            if stray {
                let what = format!("`{path}` exists only on a build machine");
                let advice = "use a path relative to the tree, or a setting";
                findings.push(Finding::new(
                    &file.path,
                    at + 1,
                    "machine-path",
                    what,
                    advice,
                ));
            }
        }
    }
    findings
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

    #[test]
    fn notes_need_an_issue() {
        assert_eq!(rules("a.rs", "fn f() {} // TODO: later\n"), ["note"]);
        assert_eq!(rules("a.proto", "// FIXME(me) this\n"), ["note"]);
        for free in [
            "// TODO(#12): later\n",
            "// no `TODO` here\n",
            "f(\"TODO\");\n",
            "// TODOS\n",
        ] {
            assert!(rules("a.rs", free).is_empty(), "{free}");
        }
    }

    #[test]
    fn shells_are_found_in_literals_only() {
        assert_eq!(
            rules("a.rs", "Command::new(\"sh\").arg(\"-c\")\n"),
            ["shell"]
        );
        assert_eq!(rules("a.rs", "run(\"sudo bash -c 'x'\")\n"), ["shell"]);
        assert_eq!(
            rules("a.rs", "let argv = [\n    \"/bin/sh\",\n    \"-c\",\n];\n"),
            ["shell"]
        );
        assert!(rules("a.rs", "// never `sh -c`\nlet sh = \"ssh\";\n").is_empty());
        assert!(rules("a.rs", "assert!(find(\"sh\").is_some());\n").is_empty());
        assert!(rules("a.sh", "bash -c x\n").is_empty());
    }

    #[test]
    fn paths_of_a_build_machine_are_found_in_any_file() {
        assert_eq!(rules("a.md", "see /home/x\n"), ["machine-path"]);
        assert_eq!(
            rules("a.rs", "const A: &str = \"/root/.cargo\";\n"),
            ["machine-path"]
        );
        for free in [
            "x.com/home/y\n",
            "put keys into /root/.ssh/authorized_keys\n",
            "net/root/a\n",
        ] {
            assert!(rules("a.md", free).is_empty(), "{free}");
        }
        assert!(rules("deploy/images/init", "mount /root/dev\n").is_empty());
        assert_eq!(
            rules("deploy/images/init", "cp /home/x\n"),
            ["machine-path"]
        );
    }
}
