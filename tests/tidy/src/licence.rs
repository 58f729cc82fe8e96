//! Licences: what we may ship. An SPDX expression passes when some choice of its
//! alternatives is allowed as a whole.

use crate::finding::Finding;
use crate::packages::Packages;

/// Licences that ask for no more than attribution, or stay within their file.
/// `deny.toml` has the same list.
pub const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BlueOak-1.0.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OpenSSL",
    "Unicode-3.0",
    "Zlib",
];

/// Checks every package of the graph, members included.
#[must_use]
pub fn check(packages: &Packages) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages.values() {
        let name = format!("{} {}", package.name, package.version);
        match &package.licence {
            None => {
                let advice = "a crate without a licence may not be shipped: replace it";
                findings.push(Finding::new(
                    &name,
                    0,
                    "licence",
                    "no licence field",
                    advice,
                ));
            }
            Some(expression) if !is_allowed(expression) => {
                let what = format!("`{expression}` is not allowed");
                let advice = "replace it, or allow the licence in tidy and deny.toml with a reason";
                findings.push(Finding::new(&name, 0, "licence", what, advice));
            }
            Some(_) => {}
        }
    }
    findings
}

/// Evaluates an SPDX expression. The old `MIT/Apache-2.0` means OR; `MPL-2.0+`
/// may be taken as `MPL-2.0`. What does not parse is not allowed.
#[must_use]
pub fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    either(&mut rest) == Some(true) && rest.is_empty()
}

fn either(rest: &mut &[&str]) -> Option<bool> {
    let mut allowed = all(rest)?;
    while take(rest, "OR") {
        allowed |= all(rest)?;
    }
    Some(allowed)
}

fn all(rest: &mut &[&str]) -> Option<bool> {
    let mut allowed = one(rest)?;
    while take(rest, "AND") {
        allowed &= one(rest)?;
    }
    Some(allowed)
}

fn one(rest: &mut &[&str]) -> Option<bool> {
    if take(rest, "(") {
        let allowed = either(rest)?;
        return take(rest, ")").then_some(allowed);
    }
    let (first, tail) = rest.split_first()?;
    *rest = tail;
    let mut id = first.trim_end_matches('+').to_owned();
    if take(rest, "WITH") {
        let (exception, tail) = rest.split_first()?;
        *rest = tail;
        id = format!("{id} WITH {exception}");
    }
    Some(ALLOWED.contains(&id.as_str()))
}

fn take(rest: &mut &[&str], word: &str) -> bool {
    let found = rest.first() == Some(&word);
    if found {
        *rest = &rest[1..];
    }
    found
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::packages::test::graph;

    #[test]
    fn expressions_are_evaluated() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "Unlicense OR MIT",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "GPL-3.0 OR Apache-2.0 WITH LLVM-exception",
            "MPL-2.0+",
            "GPL-2.0 AND GPL-3.0 OR ISC",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "",
            "Unlicense",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT OR ISC) AND AGPL-3.0",
            "GPL-2.0 WITH Classpath-exception-2.0",
            "MIT OR",
            "(MIT",
            "MIT ISC",
            "mit",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }

    #[test]
    fn a_package_without_a_licence_is_found() {
        let mut packages = graph(&[("a", &[]), ("b", &[]), ("c", &[])]);
        packages.get_mut("b").expect("a package").licence = None;
        packages.get_mut("c").expect("a package").licence = Some("SSPL-1.0".to_owned());
        let files: Vec<_> = check(&packages)
            .into_iter()
            .map(|finding| finding.file)
            .collect();
        assert_eq!(files, ["b 1.0.0", "c 1.0.0"]);
    }
}
