//! Makes sled's `flush()` mean what it says.
//!
//! sled 0.34.7 calls `sync_file_range` on Linux, which neither waits for the
//! device's cache nor syncs metadata: after a power loss acknowledged writes
//! were gone in half of all trials, and the store often did not open again. This
//! binary therefore brings its own `sync_file_range` that does `fdatasync`; the
//! linker prefers it over the C library's. [`check`] proves at every start that
//! it is the one in use.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;

static CALLS: AtomicU64 = AtomicU64::new(0);

/// Stands in for the C library's function of this name; see the module's text.
///
/// # Safety
/// None is needed: a bad descriptor gives an error, as in the original.
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(fd: i32, _offset: i64, _count: i64, _flags: u32) -> i32 {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: fdatasync takes any integer and touches no memory of ours.
    unsafe { libc::fdatasync(fd) }
}

/// Fails when a flush of this store did not pass through our function: the
/// build has changed, and the store would silently lose its durability.
pub fn check(db: &sled::Db) -> anyhow::Result<()> {
    const PROBE: &[u8] = &[255];
    let before = CALLS.load(Ordering::Relaxed);
    db.insert(PROBE, &[1]).context("writing a probe")?;
    db.flush().context("flushing a probe")?;
    db.remove(PROBE).context("removing a probe")?;
    db.flush().context("flushing a probe")?;
    anyhow::ensure!(
        CALLS.load(Ordering::Relaxed) > before,
        "sled's flush does not reach fdatasync: this build must not run"
    );
    Ok(())
}
