//! One request of a guest, one response: no socket, no clock, no state. Who asks
//! is known already, by the address that the host pins to its port.
//!
//! A program in the guest that fetches what a stranger names (a proxy, a web
//! hook) must not fetch secrets here: reading takes a token, a token takes a
//! `PUT` with a header, what came through a proxy is refused, and so is a name
//! in `Host` (a stranger's name may point at this address).

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use nube_types::net::{METADATA, METADATA_V6};

use super::token::{TTL_SECONDS_MAX, Tokens};
use super::{About, tree};
use crate::driver::qemu::seed;

const TOKEN: &str = "x-aws-ec2-metadata-token";
const TOKEN_TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// What proxies add.
const PROXIED: [&str; 5] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
];
/// The same tree under each; `latest` for people, dates for cloud-init.
const VERSIONS: [&str; 4] = ["2009-04-04", "2018-09-24", "2021-03-23", "latest"];
const PATH_BYTES_MAX: usize = 512;

type Answer = Result<Found, StatusCode>;

struct Found {
    kind: &'static str,
    body: Vec<u8>,
    ttl_seconds: Option<u32>,
}

fn text(body: impl Into<String>) -> Found {
    Found {
        kind: "text/plain; charset=utf-8",
        body: body.into().into_bytes(),
        ttl_seconds: None,
    }
}

/// The response to one request.
#[must_use]
pub fn answer(
    request: &Request<()>,
    about: &About<'_>,
    tokens: &Tokens,
    now_ms: u64,
) -> Response<Vec<u8>> {
    let mut response = match decide(request, about, tokens, now_ms) {
        Ok(found) => {
            let mut response = Response::new(found.body);
            let kind = header::HeaderValue::from_static(found.kind);
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            if let Some(ttl) = found.ttl_seconds {
                response.headers_mut().insert(TOKEN_TTL, ttl.into());
            }
            response
        }
        Err(status) => {
            let reason = status.canonical_reason().unwrap_or("Refused");
            let mut response = Response::new(format!("{reason}\n").into_bytes());
            *response.status_mut() = status;
            response
        }
    };
    let never = header::HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, never);
    response
}

fn decide(request: &Request<()>, about: &About<'_>, tokens: &Tokens, now_ms: u64) -> Answer {
    let headers = request.headers();
    if PROXIED.iter().any(|name| headers.contains_key(*name)) {
        return Err(StatusCode::FORBIDDEN);
    }
    check_host(request)?;
    if has_body(headers) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let path = request.uri().path();
    if path.len() > PATH_BYTES_MAX {
        return Err(StatusCode::URI_TOO_LONG);
    }
    // `//latest` and `/latest` are one: some clients join paths that way.
    let path = path.trim_start_matches('/');
    if path == "latest/api/token" {
        return match *request.method() {
            Method::PUT => issue(headers, about, tokens, now_ms),
            _ => Err(StatusCode::METHOD_NOT_ALLOWED),
        };
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    // cloud-init's NoCloud knows no tokens.
    if let Some(name) = path.strip_prefix("nocloud/") {
        return nocloud(about, name);
    }
    let guest = about.guest;
    let token = single(headers, TOKEN)?.ok_or(StatusCode::UNAUTHORIZED)?;
    if !tokens.is_valid(token, guest.instance, guest.epoch, now_ms) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    read(about, path)
}

/// Exactly one, and it names this service by address.
fn check_host(request: &Request<()>) -> Result<(), StatusCode> {
    // A target with a host in it is meant for a proxy.
    if request.uri().authority().is_some() {
        return Err(StatusCode::BAD_REQUEST);
    }
    let Some(host) = single(request.headers(), header::HOST.as_str())? else {
        // The first version of HTTP has no such header.
        let old = matches!(request.version(), Version::HTTP_10 | Version::HTTP_09);
        return if old {
            Ok(())
        } else {
            Err(StatusCode::BAD_REQUEST)
        };
    };
    let host = std::str::from_utf8(host).map_err(|_| StatusCode::BAD_REQUEST)?;
    let bare = host.strip_suffix(":80").unwrap_or(host);
    let inner = bare.strip_prefix('[').and_then(|b| b.strip_suffix(']'));
    let address: Option<IpAddr> = match inner {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => bare.parse().ok().map(IpAddr::V4),
    };
    let own = [IpAddr::V4(METADATA), IpAddr::V6(METADATA_V6)];
    if address.is_some_and(|address| own.contains(&address)) {
        return Ok(());
    }
    Err(StatusCode::FORBIDDEN)
}

fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a [u8]>, StatusCode> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(StatusCode::BAD_REQUEST);
    }
    Ok(first.map(header::HeaderValue::as_bytes))
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING)
        || length.is_some_and(|length| length.as_bytes() != b"0")
}

fn issue(headers: &HeaderMap, about: &About<'_>, tokens: &Tokens, now_ms: u64) -> Answer {
    let ttl = single(headers, TOKEN_TTL)?
        .filter(|text| text.iter().all(u8::is_ascii_digit))
        .and_then(|text| std::str::from_utf8(text).ok()?.parse::<u32>().ok())
        .filter(|ttl| (1..=TTL_SECONDS_MAX).contains(ttl))
        .ok_or(StatusCode::BAD_REQUEST)?;
    let guest = about.guest;
    let mut found = text(tokens.issue(guest.instance, guest.epoch, now_ms, ttl));
    found.ttl_seconds = Some(ttl);
    Ok(found)
}

fn read(about: &About<'_>, path: &str) -> Answer {
    if path.is_empty() {
        return Ok(text(VERSIONS.join("\n")));
    }
    let (version, rest) = path.split_once('/').unwrap_or((path, ""));
    if !VERSIONS.contains(&version) {
        return Err(StatusCode::NOT_FOUND);
    }
    let user_data = &about.guest.user_data;
    let rest = match rest {
        // A directory by both of its names.
        "meta-data" => "meta-data/",
        "dynamic" => "dynamic/",
        rest => rest,
    };
    if let Some(path) = rest.strip_prefix("meta-data/") {
        let value = tree::get(about, path);
        return value.map(text).ok_or(StatusCode::NOT_FOUND);
    }
    match rest {
        "" if user_data.is_empty() => Ok(text("dynamic\nmeta-data")),
        "" => Ok(text("dynamic\nmeta-data\nuser-data")),
        "user-data" if !user_data.is_empty() => Ok(Found {
            kind: "application/octet-stream",
            body: user_data.clone(),
            ttl_seconds: None,
        }),
        "dynamic/" => Ok(text("instance-identity/")),
        "dynamic/instance-identity" | "dynamic/instance-identity/" => Ok(text("document")),
        "dynamic/instance-identity/document" => Ok(identity(about)),
        _ => Err(StatusCode::NOT_FOUND),
    }
}

/// What is known here of what EC2 says; not signed.
fn identity(about: &About<'_>) -> Found {
    let guest = about.guest;
    let mut document = serde_json::json!({
        "version": "2017-09-30",
        "instanceId": guest.instance.to_string(),
        "privateIp": guest.port.address.to_string(),
        "architecture": std::env::consts::ARCH,
    });
    if let Some(zone) = about.zone {
        document["availabilityZone"] = zone.into();
    }
    Found {
        kind: "application/json",
        ..text(format!("{document:#}\n"))
    }
}

/// cloud-init's NoCloud over HTTP. The host key is in the vendor data, for as long
/// as it may be had at all.
fn nocloud(about: &About<'_>, name: &str) -> Answer {
    let guest = about.guest;
    match name {
        "meta-data" => Ok(text(seed::cloud_meta_data(guest))),
        "network-config" => Ok(text(seed::cloud_network(&guest.port))),
        "vendor-data" => Ok(text(match tree::host_key(about) {
            Some(key) => seed::cloud_vendor_data(&key),
            None => String::new(),
        })),
        "user-data" => Ok(Found {
            kind: "application/octet-stream",
            body: guest.user_data.clone(),
            ttl_seconds: None,
        }),
        _ => Err(StatusCode::NOT_FOUND),
    }
}

/// Where it is served.
#[must_use]
pub fn addresses() -> [SocketAddr; 2] {
    [
        SocketAddr::new(METADATA.into(), 80),
        SocketAddr::new(METADATA_V6.into(), 80),
    ]
}

#[cfg(test)]
#[path = "answer/test.rs"]
mod test;
