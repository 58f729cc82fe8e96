//! The agent: makes one host look like the leader's wishes.
//!
//! ```text
//! controllers ─► session ─► reconciler ─► plan (pure) ─► driver ─► host
//!                   ▲            │  ▲                        │
//!                   └── report ◄─┘  └──────── ends, results ◄┘
//! ```
//!
//! A library, so that the simulator runs what decides: `session::hub` and
//! `reconciler::core`, both without I/O. `run` puts the parts together.

#![deny(unsafe_op_in_unsafe_fn)]

pub mod args;
pub mod config;
pub mod convert;
pub mod driver;
pub mod fencer;
pub mod halt;
pub mod host;
pub mod image;
pub mod instance;
pub mod journal;
pub mod lease;
pub mod log;
pub mod metrics;
pub mod network;
pub mod plan;
pub mod reconciler;
pub mod renew;
pub mod report;
pub mod run;
pub mod service;
pub mod session;
pub mod stream;
pub mod tls;
