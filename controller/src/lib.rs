//! The shell of a controller: everything with a clock, a socket or a disk. It
//! decides nothing about instances: it checks, asks the pure rooms, proposes,
//! and shows what was committed.
//!
//! Reading order: `server` (what is put together), `authorise` (who may call
//! what), `api` (tenants), `propose`
//! (the one way in), `machine` (what an entry meets), `view` (what reads see),
//! `agents` (hosts), `reconcile` (the leader's loops), `peer` (other replicas).

pub mod agents;
pub mod api;
pub mod authorise;
pub mod backup;
pub mod blob;
pub mod bootstrap;
pub mod cell;
pub mod certify;
pub mod clock;
pub mod config;
#[cfg(test)]
mod fixture;
pub mod fleet;
pub mod identity;
pub mod listener;
pub mod machine;
pub mod metrics;
pub mod observe;
pub mod peer;
pub mod pki;
pub mod propose;
pub mod reconcile;
pub mod renew;
pub mod restore;
pub mod secret;
pub mod server;
pub mod store;
pub mod tls;
pub mod view;
pub mod watch;
