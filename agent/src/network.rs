//! Tenants' networks on this host: what they should be (`spec`, checked from the
//! wire), and who makes them so.
//!
//! ```text
//!  hub ─ DesiredNetworks ─► spec ─► task ─┬─► host/* (devices, routes, rules)
//!                                         ├─► service/* (metadata, DHCP, DNS)
//!                                         └─► meter, health ─► hub ─► leader
//! ```

pub mod spec;
