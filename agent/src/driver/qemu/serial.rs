//! A guest's serial port: logged always, spoken to by one client at a time.
//!
//! ```text
//!                    ┌─► kept (memory file, bounded) ─┐
//!  guest ─► QEMU ────┤                                ├─► port ─► ring (1 MiB on disk)
//!                    └─► socket: "there is more" ─────┘            │ ▲
//!                          ▲                                       ▼ │ positions
//!                          └────── one console's keystrokes    followers, console
//! ```
//!
//! QEMU keeps what the guest prints in a memory file that cannot grow (`kept`),
//! also while no agent runs. `pump` copies it into the ring. Followers and the
//! console read the ring by position, each at its own pace: a slow one skips
//! and is told so, and holds up neither the guest nor the log.

pub mod kept;
pub mod port;
pub mod pump;
pub mod ring;
