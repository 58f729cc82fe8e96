//! Fuzz targets: one plain function over any bytes for everything that reads what it
//! did not write. A target panics only where the code behind it is wrong: nothing
//! that comes from outside may stop a process, and an entry that stops one replica
//! stops all of them.
//!
//! ```text
//! corpus/<target>/*  ─► tests/replay.rs: each, and thousands of seeded mutations (CI)
//!                    └► cargo xtask fuzz [TARGET] [--minutes N]: libFuzzer, with coverage
//! ```
//!
//! What a fuzzer finds becomes a file of the corpus, beside the fix. Seeds are made
//! from real encodings: `UPDATE_CORPUS=1 cargo test -p nube-fuzz --test replay`.

pub mod cbor;
pub mod grpc;
pub mod guest;
pub mod log;
pub mod mutate;
pub mod seeds;
pub mod service;
pub mod text;

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("log_record", log::record),
    ("snapshot", log::snapshot),
    ("envelope", log::envelope),
    ("apply", log::apply),
    ("outcome", log::outcome),
    ("peer", log::peer),
    ("grpc", grpc::message),
    ("backup", grpc::backup),
    ("config", text::config),
    ("join_token", text::join_token),
    ("ssh_key", text::ssh_key),
    ("seed", guest::seed),
    ("qmp", guest::qmp),
    ("metadata", service::metadata),
    ("addresses", service::addresses),
    ("names", service::names),
];

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target)
}
