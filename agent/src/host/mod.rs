//! What a host is made of: processes, network namespaces, taps, rules,
//! cgroups, uids. Each file wraps one kernel facility in verbs that may be
//! repeated; none of them knows instances' wishes or a controller.
//!
//! ```text
//!  driver/qemu ─► port ─► namespace, link, tap, firewall
//!              ─► cgroup, process, uid, durable
//!  main        ─► accelerator (kvm), fingerprint, testbed, clean
//! ```

pub mod accelerator;
pub mod cgroup;
pub mod clean;
pub mod clock;
pub mod durable;
pub mod fingerprint;
pub mod firewall;
mod kvm;
pub mod link;
pub mod namespace;
pub mod network;
pub mod nft;
pub mod port;
pub mod process;
#[cfg(test)]
pub mod scratch;
pub mod tap;
pub mod testbed;
pub mod uid;
