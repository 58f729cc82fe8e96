//! The process that ends a leased guest when the host's lease does, whatever has
//! become of the agent: dead, stopped, or stuck on a disk.
//!
//! ```text
//!  agent ──8 bytes──► deadline file ──► fencer ─timer─► SIGKILL ─► guest
//!                                          └── its end ──kernel──► SIGKILL
//! ```
//!
//! One fencer is the parent of one guest (`driver/qemu/spawn.rs`). The agent
//! prolongs leases by writing the new deadline to one file per host; a fencer
//! looks at it whenever the deadline it knows has come. If the fencer itself is
//! killed, the kernel ends the guest (`PR_SET_PDEATHSIG`). It is the agent's own
//! program, started anew, so that it carries nothing of the agent's memory.

mod deadline;
mod process;
#[cfg(test)]
pub(crate) mod test;

use std::ffi::OsString;
use std::os::fd::OwnedFd;

pub use deadline::Deadline;
pub use process::run;

/// The hidden subcommand; the guest's pid follows.
pub const SUBCOMMAND: &str = "fencer";

/// What it takes to start a fencer: its arguments before the guest's pid, and
/// the deadline file, which becomes its standard input.
#[derive(Debug)]
pub struct Fencer {
    /// For this very program.
    pub arguments: Vec<OsString>,
    /// For reading.
    pub deadline: OwnedFd,
}
