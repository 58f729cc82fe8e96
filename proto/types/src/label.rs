//! Labels: small key-value notes that people and programs attach to things.

use std::collections::BTreeMap;

use crate::limits::{LABEL_KEY_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX};

/// Checked labels in key order.
pub type Labels = BTreeMap<String, String>;

/// Checks count, keys and values; the error names the offending key and rule.
pub fn check(labels: &Labels) -> Result<(), String> {
    if labels.len() > LABELS_MAX {
        return Err(format!(
            "{} labels are more than {LABELS_MAX}",
            labels.len()
        ));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    for (key, value) in labels {
        if key.is_empty() || key.len() > LABEL_KEY_BYTES_MAX || !key.bytes().all(allowed) {
            let shown: String = key.chars().take(40).collect();
            return Err(format!(
                "key `{}` is not 1 to {LABEL_KEY_BYTES_MAX} of A-Z, a-z, 0-9, '-', '_', '.', '/'",
                shown.escape_debug()
            ));
        }
        if value.len() > LABEL_VALUE_BYTES_MAX || value.chars().any(char::is_control) {
            return Err(format!(
                "value of `{key}` is longer than {LABEL_VALUE_BYTES_MAX} bytes or holds control characters"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        let one = |k: &str, v: &str| Labels::from([(k.to_owned(), v.to_owned())]);
        assert!(check(&one("team", "web")).is_ok());
        assert!(check(&one("", "web")).is_err());
        assert!(check(&one("a\n", "web")).is_err());
        assert!(check(&one("a", "x\u{1b}[31m")).is_err());
        let many = (0..=LABELS_MAX)
            .map(|n| (format!("k{n}"), String::new()))
            .collect();
        assert!(check(&many).is_err());
    }
}
