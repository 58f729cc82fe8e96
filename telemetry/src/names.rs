//! The names of figures, in texts that use them and in what a process exports:
//! by these, tests hold dashboards and rules to what is there.

use std::collections::BTreeSet;

const OURS: [&str; 2] = ["nube_", "process_"];

/// Names of figures that appear anywhere in a text.
#[must_use]
pub fn used(text: &str) -> BTreeSet<String> {
    let part = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let words = text.split(part);
    let ours = |word: &&str| OURS.iter().any(|prefix| word.starts_with(prefix));
    words.filter(ours).map(str::to_owned).collect()
}

/// Names that a page of figures answers to, also while a family is empty.
#[must_use]
pub fn exported(page: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in page.lines() {
        let mut words = line.split(' ');
        if (words.next(), words.next()) != (Some("#"), Some("TYPE")) {
            continue;
        }
        let (Some(name), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        let endings: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        names.extend(endings.iter().map(|ending| format!("{name}{ending}")));
    }
    names
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn names_are_found_in_queries_and_pages() {
        let query = r#"sum by (le) (rate(nube_a_bucket{x="nubes"}[5m])) / process_b"#;
        assert_eq!(
            used(query),
            ["nube_a_bucket", "process_b"].map(str::to_owned).into()
        );
        let page = "# HELP nube_a A\n# TYPE nube_a histogram\n# TYPE c counter\n# TYPE d gauge\n";
        let names = [
            "nube_a_bucket",
            "nube_a_sum",
            "nube_a_count",
            "c_total",
            "d",
        ];
        assert_eq!(exported(page), names.map(str::to_owned).into());
    }
}
