//! Golden texts: help pages and tables live in `cli/tests/golden`, so that a
//! change shows in review. `INSTA_UPDATE=always cargo test` rewrites them.

/// Compares `text` with `tests/golden/<name>.snap`.
pub fn check(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../tests/golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name.to_owned(), text));
}

/// The same for what must fit on a terminal of 80 columns.
pub fn check_narrow(name: &str, text: &str) {
    let wide = text.lines().find(|line| line.chars().count() > 80);
    assert_eq!(wide, None, "80 columns");
    check(name, text);
}
