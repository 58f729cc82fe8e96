//! Histories of a cloud's answers, and their judges. What clients did and saw is
//! recorded in one form, by the simulator and by tests of real processes alike;
//! the judges say whether a correct cloud could have answered so.
//!
//! ```text
//!   recorded ─┬─ Event   ─► linear     one order explains all answers  (A2)
//!             ├─ Sight   ─► revisions  revisions respect real time     (A2)
//!             ├─ Stream  ─► watch      ordered, unique, whole, no gap  (A9)
//!             └─ Effect  ─► effects    one effect per request id       (A3)
//! ```
//!
//! No clock, no I/O, and nothing of what is judged: a judge that shared code with
//! the accused would share its errors. Times are plain numbers of one clock that
//! all clients share, as fine as the recorder has them (steps of a simulation,
//! microseconds): two operations of which neither ended *before* the other began
//! count as concurrent, so coarse times only make a judge milder, never wrong.

mod effects;
mod event;
mod linear;
pub mod model;
mod revisions;
mod watch;

pub use effects::{Ack, Effect, EffectError};
pub use event::Event;
pub use linear::{Model, Violation};
pub use revisions::{RevisionError, Sight};
pub use watch::{Item, Reference, Stream, WatchError};

/// The judges under one roof: `check::linear(&model, &events)`.
pub mod check {
    pub use crate::effects::check as effects;
    pub use crate::linear::check as linear;
    pub use crate::revisions::check as revisions;
    pub use crate::watch::check as watch;
}
