//! The client's own files: are they there, do they still count, can others read
//! the key.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use x509_parser::pem::Pem;

use super::check::Check;
use crate::config::Locations;
use crate::output::text::time;

const AREA: &str = "client";
const CA: &str = "CA certificate";
const DAY: i64 = 86_400;
/// Time to notice and to renew.
const SOON_DAYS: i64 = 30;

/// Certificates and key that `client.toml` names; nothing when it cannot be
/// read, for that is told elsewhere.
pub fn check(locations: &Locations, now: u64) -> Vec<Check> {
    let Ok(file) = locations.read() else {
        return Vec::new();
    };
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut checks = vec![certificate(CA, &file.ca, now)];
    // Absent with an access key: the controllers know when that ends.
    checks.extend(
        file.cert
            .map(|path| certificate("client certificate", &path, now)),
    );
    checks.extend(file.key.map(|path| key("private key", &path)));
    checks.extend(file.token_file.map(|path| key("access key", &path)));
    checks
}

fn certificate(name: &str, path: &Path, now: i64) -> Check {
    let shown = path.display();
    let unreadable = |why: String| {
        let todo = format!("put the cluster's PEM file at `{shown}`");
        Check::fail(AREA, name, why, todo)
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return unreadable(format!("`{shown}`: {error}")),
    };
    match validity(&bytes) {
        Some((from, to)) => expiry(name, from, to, now),
        None => unreadable(format!("`{shown}` holds no certificate")),
    }
}

/// Unix seconds between which the first certificate of a PEM file counts.
fn validity(pem: &[u8]) -> Option<(i64, i64)> {
    let pem = Pem::iter_from_buffer(pem).next()?.ok()?;
    let certificate = pem.parse_x509().ok()?;
    let validity = certificate.validity();
    Some((
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    ))
}

pub fn expiry(name: &str, from: i64, to: i64, now: i64) -> Check {
    let at = |seconds: i64| time(u64::try_from(seconds).unwrap_or_default() * 1_000);
    let days = (to - now) / DAY;
    let renew = match name {
        CA => "ask who runs the cloud for its new CA certificate",
        _ => "ask who runs the cloud for a new certificate, or use an access key",
    };
    if now < from {
        let found = format!("counts only from {} on", at(from));
        return Check::fail(AREA, name, found, "set this machine's clock");
    }
    if now >= to {
        return Check::fail(AREA, name, format!("expired at {}", at(to)), renew);
    }
    let found = format!("valid for {days} days, until {}", at(to));
    match days < SOON_DAYS {
        true => Check::warn(AREA, name, found, renew),
        false => Check::ok(AREA, name, found),
    }
}

fn key(name: &str, path: &Path) -> Check {
    let shown = path.display();
    match std::fs::metadata(path) {
        Err(error) => {
            let todo = format!("put the key at `{shown}`");
            Check::fail(AREA, name, format!("`{shown}`: {error}"), todo)
        }
        Ok(file) if file.mode() & 0o077 != 0 => {
            let found = format!("mode {:o}: others may read it", file.mode() & 0o777);
            Check::warn(AREA, name, found, format!("chmod 600 {shown}"))
        }
        Ok(_) => Check::ok(AREA, name, "readable by its owner alone"),
    }
}
