//! A small lexer for Rust text: tells code, comments and string literals apart
//! and finds where the tests of a file begin. Not a parser: macros, generics
//! and types are just code. Works on rustfmt'ed text; what it cannot see (code
//! that a macro makes) is not checked by the rules built on it.

/// A Rust file, taken apart. `code` and `comments` have the lines and columns of
/// the original, with everything else blanked.
#[derive(Debug, Default)]
pub struct RustText {
    /// Code alone; literals and comments are blanks.
    pub code: String,
    /// Comments alone, with their slashes.
    pub comments: String,
    /// String literals as written between their quotes, with their first line.
    pub literals: Vec<(usize, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

impl RustText {
    /// Takes a file apart. Text that does not end properly (an open comment or
    /// literal) is taken to its end.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut parts = Self::default();
        let mut line = 1;
        let mut rest = text;
        let mut before = ' ';
        while let Some(first) = rest.chars().next() {
            let (kind, length) = token(rest, before);
            let (piece, tail) = rest.split_at(length);
            parts.push(kind, piece, line);
            line += piece.matches('\n').count();
            before = piece.chars().next_back().unwrap_or(first);
            rest = tail;
        }
        parts
    }

    fn push(&mut self, kind: Kind, piece: &str, line: usize) {
        let blank: String = piece
            .chars()
            .map(|c| if c == '\n' { c } else { ' ' })
            .collect();
        let pick = |wanted| {
            if kind == wanted {
                piece
            } else {
                blank.as_str()
            }
        };
        self.code.push_str(pick(Kind::Code));
        self.comments.push_str(pick(Kind::Comment));
        if kind == Kind::Literal {
            let inner = piece.trim_start_matches(['b', 'c', 'r']).trim_matches('#');
            self.literals
                .push((line, inner.trim_matches('"').to_owned()));
        }
    }
}

/// Kind and length in bytes of the token at the start of `rest`, which is not
/// empty. `before` is the character before it.
fn token(rest: &str, before: char) -> (Kind, usize) {
    if rest.starts_with("//") {
        return (Kind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, block_comment(rest));
    }
    let word_goes_on = before.is_alphanumeric() || before == '_';
    if !word_goes_on && let Some(length) = string_literal(rest) {
        return (Kind::Literal, length);
    }
    if rest.starts_with('"') {
        return (Kind::Literal, quoted(rest));
    }
    if rest.starts_with('\'') {
        return char_literal(rest);
    }
    (Kind::Code, rest.chars().next().map_or(1, char::len_utf8))
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Length of a literal with a prefix: `b"`, `c"`, `r"`, `r#"`, `br"`, `cr#"`.
fn string_literal(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r"].into_iter().find(|prefix| {
        let hashes = rest
            .strip_prefix(prefix)
            .map(|tail| tail.trim_start_matches('#'));
        hashes.is_some_and(|tail| tail.starts_with('"'))
    })?;
    if !prefix.ends_with('r') {
        return rest[1..].starts_with('"').then(|| 1 + quoted(&rest[1..]));
    }
    let tail = &rest[prefix.len()..];
    let hashes = tail.len() - tail.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    let open = prefix.len() + hashes + 1;
    let found = rest[open..].find(&end);
    Some(found.map_or(rest.len(), |at| open + at + end.len()))
}

/// Length of `"…"` with its quotes; a backslash escapes.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character, or a lifetime (which is code). A character's content is blanked
/// as well: `'{'` must not count as a brace.
fn char_literal(rest: &str) -> (Kind, usize) {
    let mut chars = rest.char_indices().skip(1);
    let (Some((_, first)), second) = (chars.next(), chars.next()) else {
        return (Kind::Code, rest.len());
    };
    if first == '\\' {
        let end = rest[1..].char_indices().skip(2).find(|(_, c)| *c == '\'');
        return (Kind::Comment, end.map_or(rest.len(), |(at, _)| at + 2));
    }
    match second {
        Some((at, '\'')) => (Kind::Comment, at + 1),
        _ => (Kind::Code, 1),
    }
}

/// Lines of `text` before its test module: `#[cfg(test)]` at the start of a
/// line, followed by `mod name {`. A test module in a file of its own
/// (`mod name;`) ends nothing.
#[must_use]
pub fn production_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let is_start = |at: &usize| {
        let next = lines.get(at + 1).map_or("", |line| line.trim_end());
        lines[*at].trim_end() == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{')
    };
    (0..lines.len()).find(is_start).unwrap_or(lines.len())
}

/// Whether a file is tests as a whole: an integration test, a bench, a fuzz
/// target, or a test module in a file of its own.
#[must_use]
pub fn is_test_file(path: &str) -> bool {
    let own_module = path.ends_with("/test.rs") || path.ends_with("/tests.rs");
    let folders: Vec<&str> = path.split('/').collect();
    // `tests/sim/src/x.rs` is a crate about tests, and its code is code.
    let in_tests = folders
        .iter()
        .skip(1)
        .any(|folder| ["tests", "test"].contains(folder));
    own_module || in_tests || folders.contains(&"benches") || folders.contains(&"fuzz_targets")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn code_comments_and_literals_are_told_apart() {
        let text = "let a = \"b // c\"; // d \"e\"\n/* f /* g */ h */ i('{', b'\\'', '\\u{7d}');\n";
        let parts = RustText::of(text);
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(&parts.code), "let a = ; i( , b , );");
        assert!(
            parts.comments.contains("// d \"e\"") && parts.comments.contains("/* f /* g */ h */")
        );
        assert_eq!(parts.literals, [(1, "b // c".to_owned())]);
        assert_eq!(parts.code.lines().count(), text.lines().count());
    }

    #[test]
    fn raw_and_prefixed_literals_end_where_they_should() {
        let parts = RustText::of(
            "f(r#\"a \" b\"#, b\"c\\\"d\", r\"e\\\", br##\"g\"# h\"##); k\n\"two\nlines\" l",
        );
        let literals: Vec<_> = parts
            .literals
            .iter()
            .map(|(_, text)| text.as_str())
            .collect();
        assert_eq!(
            literals,
            ["a \" b", "c\\\"d", "e\\", "g\"# h", "two\nlines"]
        );
        assert_eq!(parts.literals[4].0, 2);
        assert!(parts.code.contains(" k\n") && parts.code.ends_with(" l"));
    }

    #[test]
    fn lifetimes_and_words_before_quotes_are_code() {
        let parts = RustText::of("fn f<'a>(x: &'a str) -> &'static str { var\"x\" }");
        assert!(
            parts
                .code
                .starts_with("fn f<'a>(x: &'a str) -> &'static str { var")
        );
        assert_eq!(parts.literals, [(1, "x".to_owned())]);
    }

    #[test]
    fn open_ends_are_taken_to_the_end() {
        for text in ["\"abc", "/* abc", "r#\"abc\"", "'", "'\\", "// abc"] {
            let parts = RustText::of(text);
            assert_eq!(parts.code.chars().count(), text.chars().count(), "{text}");
        }
    }

    #[test]
    fn the_test_module_ends_production() {
        assert_eq!(production_lines("a\nb\n#[cfg(test)]\nmod test {\n}\n"), 2);
        assert_eq!(production_lines("a\n#[cfg(test)]\nmod test;\nb\n"), 4);
        assert_eq!(production_lines("a\n#[cfg(test)]\nfn f() {}\nb\n"), 4);
    }

    #[test]
    fn test_files_are_known_by_their_path() {
        for path in [
            "scheduler/tests/place.rs",
            "tests/e2e/tests/boot.rs",
            "agent/src/plan/test.rs",
        ] {
            assert!(is_test_file(path), "{path}");
        }
        for path in [
            "tests/tidy/src/lib.rs",
            "agent/src/plan.rs",
            "proto/build.rs",
        ] {
            assert!(!is_test_file(path), "{path}");
        }
    }
}
