//! The text of a join token, as an operator hands it over.

use crate::error::{Error, Result};
use crate::files;

/// Longer texts are no token.
const BYTES_MAX: usize = 200;

/// A token whose cloud is known by its CA.
pub struct Token {
    /// As it goes to the controller.
    pub text: String,
    /// SHA-256 of the CA's certificate.
    pub fingerprint: [u8; 32],
}

impl Token {
    /// From the argument, or from standard input for `-`.
    pub fn read(argument: &str) -> Result<Self> {
        let text = match argument {
            "-" => {
                let bytes = files::read_argument(std::path::Path::new("-"))?;
                String::from_utf8_lossy(&bytes).into_owned()
            }
            text => text.to_owned(),
        };
        Self::parse(text.trim()).ok_or_else(|| {
            Error::usage("--token: `nubejoin1.FINGERPRINT.SECRET`, whole and on one line")
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (prefix, digits, secret) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = prefix == "nubejoin1" && !secret.is_empty() && parts.next().is_none();
        if !whole || digits.len() != 64 || text.len() > BYTES_MAX || !text.is_ascii() {
            return None;
        }
        let mut fingerprint = [0; 32];
        for (position, byte) in fingerprint.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[position * 2..position * 2 + 2], 16).ok()?;
        }
        let text = text.to_owned();
        Some(Self { text, fingerprint })
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_fingerprint_is_read_and_anything_else_refused() {
        let good = format!("nubejoin1.{}.c2VjcmV0", "0a".repeat(32));
        let token = Token::parse(&good).expect("a token");
        assert_eq!((token.fingerprint, token.text), ([10; 32], good.clone()));
        let cases = [
            String::new(),
            good.replace("nubejoin1", "nubejoin2"),
            good.replace("0a", "zz"),
            good.replace("0a0a", "0a"),
            good.replace("c2VjcmV0", ""),
            format!("{good}.x"),
            format!("{good}{}", "x".repeat(300)),
            format!("nubejoin1.{}.x", "é".repeat(32)),
        ];
        for bad in cases {
            assert!(Token::parse(&bad).is_none(), "{bad}");
        }
    }
}
