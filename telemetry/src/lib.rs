//! What a process of the cloud tells about itself, the same way in each of
//! them: lines on standard error (`log`), spans to an OTLP collector (`trace`),
//! and figures for Prometheus over plain HTTP (`endpoint`), the process's own
//! among them (`process`), written with the helpers of `sheet`.
//!
//! Nothing here knows what a controller or an agent does. No tenant's name, no
//! secret and no text from outside ever becomes a label.

pub mod endpoint;
pub mod log;
pub mod names;
pub mod process;
pub mod sheet;
pub mod trace;

/// Figures are described once, with this crate's version of the library.
pub use prometheus_client;
