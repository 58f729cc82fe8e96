//! What comes from outside: the lock file, licences, and `deny.toml`'s agreement
//! with both.

use anyhow::{Context, Result};
use nube_tidy::{assert_clean, licence, lock, packages, tree};

#[test]
fn the_lock_file_holds_nothing_denied() -> Result<()> {
    assert_clean(lock::check(&lock::load()?));
    Ok(())
}

#[test]
fn members_name_no_crate_that_only_others_may_bring() -> Result<()> {
    assert_clean(lock::check_direct(&packages::load()?));
    Ok(())
}

#[test]
fn every_licence_may_be_shipped() -> Result<()> {
    assert_clean(licence::check(&packages::load()?));
    Ok(())
}

#[test]
fn deny_toml_allows_the_same_licences() -> Result<()> {
    let path = tree::root().join("deny.toml");
    let text = std::fs::read_to_string(path).context("reading deny.toml")?;
    let allow = text
        .split("allow = [")
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    let mut listed: Vec<&str> = allow
        .unwrap_or_default()
        .split('"')
        .skip(1)
        .step_by(2)
        .collect();
    let mut allowed = licence::ALLOWED.to_vec();
    listed.sort_unstable();
    allowed.sort_unstable();
    assert_eq!(
        listed, allowed,
        "deny.toml and tests/tidy/src/licence.rs differ"
    );
    Ok(())
}

#[test]
fn deny_toml_makes_the_same_exceptions() -> Result<()> {
    let path = tree::root().join("deny.toml");
    let text = std::fs::read_to_string(path).context("reading deny.toml")?;
    let ignored: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("id = \"RUSTSEC-"))
        .collect();
    assert_eq!(
        ignored.len(),
        lock::EXCEPTIONS.len(),
        "as many here as there"
    );
    for (name, ..) in lock::EXCEPTIONS {
        let reason = format!("reason = \"{name} ");
        assert!(
            ignored.iter().any(|line| line.contains(&reason)),
            "{name} is not in deny.toml"
        );
    }
    Ok(())
}
