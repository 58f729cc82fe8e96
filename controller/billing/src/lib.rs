//! Rating: usage × price book → lines that can be checked and explained.
//!
//! ```text
//! UsageInterval (committed runs) ─┐
//!                                 ├─► rate() ─► RatedLine ─► explain()
//! PriceBook (versions by date) ───┘                 ▲
//! Transition (the log's own history) ─► verify() ───┘ must agree to the second
//! ```
//!
//! Integers only: no clock, no float, no I/O, and no knowledge of the state
//! crate. Time comes in as replicated time, so each replica rates alike. Called
//! by the state machine (usage views), the controller's API (bills, dry runs)
//! and the `bill verify` command.
//!
//! Reading order: `day`, `price`, `interval`, `round`, `line`, `rate`,
//! `explain`, `verify`.

#![forbid(unsafe_code)]

pub mod day;
pub mod explain;
pub mod interval;
pub mod line;
pub mod price;
pub mod rate;
pub mod round;
pub mod subject;
pub mod traffic;
pub mod verify;

pub use day::UtcDay;
pub use explain::{ExplainError, Explanation, Step, explain, find_line};
pub use interval::{EndReason, UsageInterval};
pub use line::{InstanceTotal, LineId, LinePart, RatedLine, total, totals_by_instance};
pub use price::{PriceBook, PriceError, PriceVersion};
pub use rate::rate;
pub use round::{Rounded, Rounding};
pub use subject::{ADDRESS, INTERNET_OUT, Subject};
pub use traffic::{TrafficLine, TrafficRow, rate_traffic};
pub use verify::{Field, Finding, LineSum, Report, Transition, TransitionKind, verify};
