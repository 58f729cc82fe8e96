//! Rooms know what they may know.

use anyhow::Result;
use nube_tidy::{assert_clean, layering, packages};

#[test]
fn rooms_know_only_what_the_design_allows() -> Result<()> {
    assert_clean(layering::check(&packages::load()?, packages::built)?);
    Ok(())
}
