//! Names that people give to things: RFC 1123 labels, so that an instance's
//! name can be its host name. Names are for people; machines use ids, and no
//! name ever reaches a shell, an argument vector, a path or a firewall rule.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::limits::NAME_BYTES_MAX;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{value}` is not a name: 1 to {NAME_BYTES_MAX} of a-z, 0-9 and '-', starting with a letter, \
     not ending with '-'"
)]
pub struct InvalidName {
    /// The refused text, escaped and cut to a printable length.
    pub value: String,
}

/// A checked name (RFC 1123 label that starts with a letter).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Name(#[n(0)] String);

impl Name {
    /// Checks and wraps a text.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let valid = (1..=NAME_BYTES_MAX).contains(&text.len())
            && text.bytes().all(allowed)
            && text.as_bytes()[0].is_ascii_lowercase()
            && !text.ends_with('-');
        if valid {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(40).collect();
        Err(InvalidName {
            value: shown.escape_debug().to_string(),
        })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn host_names_are_names() {
        for good in ["a", "web-1", "n1", &"a".repeat(63)] {
            assert_eq!(Name::new(good).map(|n| n.to_string()), Ok(good.to_owned()));
        }
    }

    #[test]
    fn injections_and_oddities_are_refused_with_the_rule() {
        let long = "a".repeat(64);
        let bad = [
            "",
            ",file=/etc/shadow",
            "../x",
            "-a",
            "a-",
            "A",
            "a b",
            "a\nb",
            "é",
            "$(x)",
            "1a",
            &long,
        ];
        for text in bad {
            let error = Name::new(text).expect_err(text).to_string();
            assert!(error.contains("a-z, 0-9 and '-'"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
