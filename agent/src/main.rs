//! `cloud-agent`: runs on every compute host, holds a session with each
//! controller, and makes the host look like the leader's wishes.
//!
//! ```text
//! controllers ─► session ─► reconciler ─► plan (pure) ─► driver ─► host
//!                   ▲            │  ▲                        │
//!                   └── report ◄─┘  └──────── ends, results ◄┘
//! ```
//!
//! This file only parses, enters the emulated host when one is named, and
//! starts the runtime; `run` puts the parts together.

#![deny(unsafe_op_in_unsafe_fn)]

mod config;
mod convert;
mod driver;
mod host;
mod image;
mod instance;
mod journal;
mod log;
mod plan;
mod reconciler;
mod report;
mod session;
mod stream;
mod tls;

fn main() {}
