//! Placement: which host gets an instance, and why the others do not.
//!
//! ```text
//! hosts ─► filter (may it run there? each no has numbers) ─► score ─► place
//! ```
//!
//! Pure: structs of its own, integers, no clock, no randomness, no state
//! structs. It looks at a view that may be stale; the state machine checks the
//! choice again when it applies it, so a stale choice is refused and tried anew.
//! Called by the controller (launch, dry run, drain) and by the simulator.
//!
//! Reading order: `model`, `filter`, `score`, `place`.

#![forbid(unsafe_code)]

pub mod filter;
pub mod model;
pub mod place;
pub mod score;

pub use filter::Reason;
pub use model::{Accelerator, Driver, DriverSet, Host, Isolation, Request, Strategy};
pub use place::{Candidate, Decision, Refusal, choose, place};
pub use score::Score;
