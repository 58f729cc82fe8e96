//! The whole control plane in one thread, in virtual time, from one seed.
//!
//! ```text
//!  seed ─► scenario ─► world ─► queue of events ──► controllers (real core, state, plans)
//!                        │                     ├──► agents (real hub and reconciler) on hosts
//!                        │                     ├──► clients and watchers
//!                        └─► fault             └──► judge: every law, after every step
//! ```
//!
//! What is real: consensus core, log and snapshots, state machine, the leader's plans, the scheduler, sessions of
//! both ends, the agent's plans, watch history. What is simulated: time, network, the bytes of
//! disks, hosts, and the shells that move bytes. A failing
//! seed replays exactly: `cargo xtask sim --seed N`.

pub mod agent;
pub mod client;
pub mod clock;
pub mod controller;
pub mod disk;
pub mod fault;
pub mod judge;
pub mod marks;
pub mod membership;
pub mod network;
pub mod pause;
pub mod queue;
pub mod run;
pub mod scenario;
pub mod trace;
pub mod world;
