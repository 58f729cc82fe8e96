//! Other replicas: raft messages and snapshots both ways, and commands for the
//! leader. Nothing here looks into what it carries.

pub mod directory;
pub mod service;
pub mod transport;
