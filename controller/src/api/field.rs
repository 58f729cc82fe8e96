//! Checks of request fields. Each error names the field and the rule.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::str::FromStr;

use nube_types::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};
use nube_types::net::InvalidPrefix;
use nube_types::{Labels, Name, label};
use tonic::Status;

use super::status::invalid;

/// A name that is required.
pub fn name(field: &str, text: &str) -> Result<Name, Status> {
    Name::new(text).map_err(|error| invalid(field, error.to_string()))
}

/// A text of printable ASCII up to a length, possibly empty.
pub fn printable(field: &str, text: &str, bytes_max: usize) -> Result<String, Status> {
    let printable = |b: u8| (0x20..0x7f).contains(&b);
    if text.len() > bytes_max || !text.bytes().all(printable) {
        let rule = format!("at most {bytes_max} printable ASCII characters");
        return Err(invalid(field, rule));
    }
    Ok(text.to_owned())
}

/// Labels within their limits.
pub fn labels(field: &str, labels: &BTreeMap<String, String>) -> Result<Labels, Status> {
    label::check(labels).map_err(|rule| invalid(field, rule))?;
    Ok(labels.clone())
}

/// 64 lower-case hexadecimal digits.
pub fn sha256(field: &str, text: &str) -> Result<[u8; 32], Status> {
    let mut bytes = [0; 32];
    let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
    if !lower || hex::decode_to_slice(text, &mut bytes).is_err() {
        return Err(invalid(field, "64 lower-case hexadecimal digits"));
    }
    Ok(bytes)
}

/// A page size, with its default.
pub fn page_size(size: u32) -> Result<usize, Status> {
    match size {
        0 => Ok(PAGE_SIZE_DEFAULT as usize),
        1..=PAGE_SIZE_MAX => Ok(size as usize),
        _ => Err(invalid(
            "page_size",
            format!("1 to {PAGE_SIZE_MAX}, or 0 for the default"),
        )),
    }
}

/// A range of addresses; the rule names the text and what was meant.
pub fn prefix<P: FromStr<Err = InvalidPrefix>>(field: &str, text: &str) -> Result<P, Status> {
    text.parse()
        .map_err(|error: InvalidPrefix| invalid(field, error.to_string()))
}

/// One IPv4 address.
pub fn ipv4(field: &str, text: &str) -> Result<Ipv4Addr, Status> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(60).collect();
        let rule = format!(
            "`{}` is not an IPv4 address as 10.0.0.5",
            shown.escape_debug()
        );
        invalid(field, rule)
    })
}

/// A port number, 1 to 65535.
pub fn port(field: &str, number: u32) -> Result<u16, Status> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| invalid(field, format!("{number} is not a port, 1 to 65535")))
}
