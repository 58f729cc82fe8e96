//! Doors for fuzzing: what a guest's QEMU says, and what becomes of users' texts in
//! a guest's seed. Used by `tests/fuzz` alone.

use super::{qmp, seed};
use crate::driver::GuestSpec;

/// One line of the control channel.
pub fn qmp_line(line: &[u8]) {
    if let Some(said) = qmp::said(line) {
        // Reasons end up in lines of the log, escaped there.
        let _ = format!("{said:?}");
    }
}

/// The text files of a seed for direct boot, by name.
#[must_use]
pub fn seed_files(spec: &GuestSpec) -> Vec<(&'static str, Vec<u8>)> {
    seed::files(spec)
}

/// The text files of a seed for cloud-init: meta data, network, vendor data.
#[must_use]
pub fn cloud_texts(spec: &GuestSpec) -> [String; 3] {
    seed::cloud_texts(spec)
}

/// The whole volume for cloud-init.
#[must_use]
pub fn volume_fits(spec: &GuestSpec) -> bool {
    seed::cidata(spec).is_ok()
}
