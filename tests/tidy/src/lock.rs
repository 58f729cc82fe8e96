//! The lock file against a short list of our own: crates that are replaced,
//! unmaintained or unsafe, and versions below a known repair. It needs no
//! network; `deny.toml` is the full check for those who can reach the advisory
//! database, and both hold the same exceptions.

use anyhow::{Context, Result};

use crate::finding::Finding;
use crate::packages::Packages;
use crate::tree::root;

/// One `[[package]]` of a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// Crate name.
    pub name: String,
    /// Exact version.
    pub version: String,
}

/// Crates that must not be locked, and what to use instead.
const BANNED: &[(&str, &str)] = &[
    ("openssl-sys", "rustls with ring"),
    ("native-tls", "rustls with ring"),
    (
        "aws-lc-sys",
        "rustls with ring: one crypto backend, no C build",
    ),
    (
        "rustls-pemfile",
        "`rustls-pki-types`' `PemObject` (RUSTSEC-2025-0134)",
    ),
    (
        "bincode",
        "minicbor with numbered fields (RUSTSEC-2025-0141)",
    ),
    ("serde_cbor", "minicbor (RUSTSEC-2021-0127)"),
    ("serde_yaml", "serde_yaml_ng; the original is archived"),
    ("serde_yml", "serde_yaml_ng (RUSTSEC-2025-0068)"),
    ("yaml-rust", "serde_yaml_ng (RUSTSEC-2024-0320)"),
    ("atty", "`std::io::IsTerminal` (RUSTSEC-2021-0145)"),
    ("failure", "thiserror (RUSTSEC-2020-0036)"),
    ("im", "imbl (RUSTSEC-2026-0248)"),
    ("bitmaps", "imbl 7 needs none (RUSTSEC-2026-0247)"),
    ("ansi_term", "anstyle (RUSTSEC-2021-0139)"),
    ("structopt", "clap 4"),
    ("dotenv", "clap's environment support (RUSTSEC-2021-0141)"),
    ("tempdir", "tempfile (RUSTSEC-2018-0017)"),
    ("derivative", "write the impl (RUSTSEC-2024-0388)"),
    (
        "proc-macro-error",
        "a crate that uses proc-macro-error2 or syn errors (RUSTSEC-2024-0370)",
    ),
    ("users", "rustix (RUSTSEC-2025-0040)"),
    ("backoff", "a loop with `tokio::time` (RUSTSEC-2025-0012)"),
    (
        "humantime-serde",
        "plain integers with the unit in the name",
    ),
    (
        "heapless",
        "postcard without defaults, or minicbor (RUSTSEC-2023-0089 behind it)",
    ),
    (
        "protobuf",
        "prost; parsing recurses without limit (RUSTSEC-2024-0437)",
    ),
    ("fxhash", "`BTreeMap`, or foldhash (RUSTSEC-2025-0057)"),
    ("instant", "`std::time` (RUSTSEC-2024-0384)"),
    ("paste", "pastey, or a plain macro (RUSTSEC-2024-0436)"),
];

/// Banned crates that stay for now: name, version, what brings them and why that
/// is bearable. `deny.toml` ignores the same advisories.
pub const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "protobuf",
        "2.28.0",
        "raft 0.7 links its traits; with prost-codec it parses nothing",
    ),
    (
        "fxhash",
        "0.2.1",
        "raft 0.7 and sled 0.34: unmaintained, a hash of trusted keys",
    ),
    (
        "instant",
        "0.1.13",
        "sled 0.34 through parking_lot 0.11: unmaintained, only a clock on Linux",
    ),
    (
        "paste",
        "1.0.15",
        "rtnetlink through netlink-packet-core 0.8: a macro at build time",
    ),
];

/// Repairs that must not be lost: below this version there is an advisory.
const FLOORS: &[(&str, &str, &str)] = &[
    ("h2", "0.4.16", "RUSTSEC-2026-0258"),
    ("rustls-webpki", "0.103.13", "certificate checks"),
    ("anyhow", "1.0.103", "RUSTSEC-2026-0190"),
    (
        "tracing-subscriber",
        "0.3.20",
        "terminal injection through logs",
    ),
    ("bytes", "1.11.1", "memory safety"),
    ("slab", "0.4.11", "memory safety"),
    ("quick-xml", "0.41.0", "RUSTSEC-2026-0194, -0195"),
    ("tokio", "1.44.2", "older advisories"),
    ("tonic", "0.12.3", "denial of service"),
];

/// Crates that members of the workspace must not name themselves; others may
/// bring them. Members that may: the last column.
const NOT_DIRECT: &[(&str, &str, &[&str])] = &[
    ("chrono", "jiff; replicated time is a `TimestampMs`", &[]),
    ("time", "jiff; replicated time is a `TimestampMs`", &[]),
    ("lazy_static", "`std::sync::LazyLock`", &[]),
    ("once_cell", "`std::sync::OnceLock`", &[]),
    ("log", "tracing", &[]),
    // raft does not re-export the codec trait of its own messages.
    ("protobuf", "prost", &["nube-consensus"]),
];

/// Reads the lock file of the workspace.
pub fn load() -> Result<Vec<Locked>> {
    let text = std::fs::read_to_string(root().join("Cargo.lock")).context("reading Cargo.lock")?;
    Ok(parse(&text))
}

/// Names and versions of a lock file. Cargo writes one key per line.
#[must_use]
pub fn parse(text: &str) -> Vec<Locked> {
    let mut locked: Vec<Locked> = Vec::new();
    let value = |line: &str, key: &str| {
        let quoted = line.strip_prefix(key)?.strip_prefix(" = ")?;
        Some(quoted.trim_matches('"').to_owned())
    };
    for block in text.split("[[package]]").skip(1) {
        let name = block.lines().find_map(|line| value(line, "name"));
        let version = block.lines().find_map(|line| value(line, "version"));
        locked.extend(
            name.zip(version)
                .map(|(name, version)| Locked { name, version }),
        );
    }
    locked
}

/// Checks locked crates against the deny-list, its exceptions and the floors.
#[must_use]
pub fn check(locked: &[Locked]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in locked {
        let Locked { name, version } = package;
        let excepted = EXCEPTIONS.iter().any(|(n, v, _)| n == name && v == version);
        if let Some((_, instead)) = BANNED.iter().find(|(banned, _)| banned == name)
            && !excepted
        {
            let what = format!("`{name} {version}` is on the deny-list");
            let advice = format!("use {instead}; `cargo tree -i {name}` tells who brings it");
            findings.push(Finding::new("Cargo.lock", 0, "deny", what, advice));
        }
        if let Some((_, floor, reason)) = FLOORS.iter().find(|(floored, ..)| floored == name)
            && numbers(version) < numbers(floor)
        {
            let what = format!("`{name} {version}` is below {floor}");
            let advice = format!("`cargo update -p {name}` ({reason})");
            findings.push(Finding::new("Cargo.lock", 0, "floor", what, advice));
        }
    }
    for (name, version, _) in EXCEPTIONS {
        if !locked
            .iter()
            .any(|package| package.name == *name && package.version == *version)
        {
            let what = format!("the exception for `{name} {version}` is not needed");
            let advice = "remove it here and in deny.toml";
            findings.push(Finding::new(
                "tests/tidy/src/lock.rs",
                0,
                "deny",
                what,
                advice,
            ));
        }
    }
    findings
}

/// Checks what members of the workspace name themselves.
#[must_use]
pub fn check_direct(packages: &Packages) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in packages.values().filter(|package| package.own) {
        let needs = member.needs.iter().chain(&member.needs_in_tests);
        for needed in needs.filter_map(|id| packages.get(id)) {
            let rule = NOT_DIRECT.iter().find(|(name, ..)| *name == needed.name);
            if let Some((name, instead, may)) = rule
                && !may.contains(&member.name.as_str())
            {
                let what = format!("names `{name}`");
                findings.push(Finding::new(
                    &member.name,
                    0,
                    "direct",
                    what,
                    format!("use {instead}"),
                ));
            }
        }
    }
    findings
}

/// `1.2.3-rc.1` → [1, 2, 3]. A pre-release counts as its release: good enough
/// for floors, since none of the listed crates ships a repair in one.
fn numbers(version: &str) -> Vec<u64> {
    let release = version.split(['-', '+']).next().unwrap_or(version);
    release
        .split('.')
        .map(|number| number.parse().unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::packages::test::graph;

    /// A lock file with the excepted crates and one more.
    fn found(name: &str, version: &str) -> Vec<&'static str> {
        let mut text = String::from("version = 4\n");
        let excepted = EXCEPTIONS
            .iter()
            .map(|(name, version, _)| (*name, *version));
        for (name, version) in excepted.chain([(name, version)]) {
            text += &format!(
                "\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"x\"\n"
            );
        }
        check(&parse(&text))
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    #[test]
    fn each_banned_crate_is_found() {
        for (name, _) in BANNED {
            assert_eq!(found(name, "99.0.0"), ["deny"], "{name}");
        }
        assert!(found("serde", "1.0.0").is_empty());
    }

    #[test]
    fn each_floor_holds() {
        for (name, floor, _) in FLOORS {
            assert!(found(name, floor).is_empty(), "{name}");
            assert_eq!(found(name, "0.0.1"), ["floor"], "{name}");
        }
        assert!(found("h2", "0.4.100").is_empty(), "numbers, not texts");
    }

    #[test]
    fn an_exception_that_nobody_needs_is_found() {
        assert_eq!(check(&[]).len(), EXCEPTIONS.len());
    }

    #[test]
    fn crates_that_must_not_be_named_are_found() {
        for (name, _, may) in NOT_DIRECT {
            let findings = check_direct(&graph(&[("nube-x", &[name]), (name, &[])]));
            assert_eq!(findings.len(), 1, "{name}");
            for member in *may {
                assert!(check_direct(&graph(&[(member, &[name]), (name, &[])])).is_empty());
            }
            assert!(check_direct(&graph(&[("other", &[name]), (name, &[])])).is_empty());
        }
    }
}
