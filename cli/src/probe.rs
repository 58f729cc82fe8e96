//! Doors for fuzzing: files that this program reads. Used by `tests/fuzz` alone.

use std::path::Path;

use crate::config::{Contexts, Profile};

/// A `client.toml`, and a file of contexts.
pub fn client_files(text: &str) {
    if let Ok(profile) = toml::from_str::<Profile>(text)
        && let Ok(settled) = profile.settle("probe", Path::new("/"))
    {
        assert!(!settled.endpoints.is_empty());
        let _ = settled.credentials();
        let _ = settled.proof();
    }
    if let Ok(read) = toml::from_str::<Contexts>(text) {
        let written = toml::to_string(&read).expect("what was read can be written");
        assert_eq!(toml::from_str::<Contexts>(&written).ok(), Some(read));
    }
}
