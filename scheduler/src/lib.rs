//! Placement: which host gets an instance, and why the others do not.
//!
//! ```text
//! hosts ─► filter (may it run there? each no has numbers) ─► score ─► place
//!   └────► fleet (the same choice from an index, without looking at each host)
//! ```
//!
//! Pure: structs of its own, integers, no clock, no randomness, no state
//! structs. It looks at a view that may be stale; the state machine checks the
//! choice again when it applies it, so a stale choice is refused and tried anew.
//! Called by the controller (launch, dry run, drain) and by the simulator.
//!
//! A caller keeps one `Fleet` and tells it what changes: `upsert` for each host
//! whose record or use changed, `remove` for each that is gone. A launch is
//! `start_group`, then `place` and `reserve` for each instance; when it is not
//! committed, `release` for each. A dry run does the same and releases at once.
//! `explain` before each `reserve` says why, and `Decision::verdicts` brings that
//! into the order in which people read it; it looks at all hosts.
//!
//! ```
//! use nube_scheduler::{Fleet, Request};
//! use nube_types::NodeId;
//!
//! fn launch(fleet: &mut Fleet, request: &Request, count: usize) -> Option<Vec<NodeId>> {
//!     fleet.start_group();
//!     let mut chosen = Vec::new();
//!     for _ in 0..count {
//!         let Some((id, _score)) = fleet.place(request) else {
//!             for id in chosen {
//!                 fleet.release(id, request);
//!             }
//!             return None; // `fleet.explain(request).summary()` says why
//!         };
//!         fleet.reserve(id, request);
//!         chosen.push(id);
//!     }
//!     Some(chosen)
//! }
//! # fn main() {}
//! ```
//!
//! Reading order: `model`, `filter`, `score` (with `balance`), `place`, `fleet` (with
//! `index` and `order`).

#![forbid(unsafe_code)]

pub mod balance;
pub mod filter;
pub mod fleet;
mod index;
pub mod model;
mod order;
pub mod place;
pub mod score;

pub use filter::Reason;
pub use fleet::Fleet;
pub use model::{Accelerator, Driver, DriverSet, Host, Isolation, Request, Strategy};
pub use place::{Candidate, Decision, Refusal, Verdict, choose, place};
pub use score::Score;
