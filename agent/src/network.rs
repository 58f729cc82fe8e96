//! Tenants' networks on this host: what they should be (`spec`, checked from the
//! wire), and who makes them so.
//!
//! ```text
//!  hub ─ DesiredNetworks ─► spec ─► task ─┬─► host/* (devices, routes, rules)
//!                                         ├─► service/* (metadata, DHCP, DNS)
//!                                         └─► meter, health ─► hub ─► leader
//! ```

pub mod apply;
pub mod elastic;
pub mod guests;
pub mod health;
pub mod kernel;
pub mod meter;
pub mod plan;
pub mod rules;
pub mod spec;
pub mod store;
pub mod task;

#[cfg(test)]
mod lab;
