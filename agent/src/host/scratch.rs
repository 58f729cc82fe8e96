//! For tests: an emulated host of their own, gone at the end, also when a test
//! fails. Several checkouts may run their tests on one machine at a time, so
//! names and addresses carry the process id.

use std::net::Ipv4Addr;

use nube_types::NodeId;

use super::testbed::{self, EmulatedHost};

/// Emulated hosts on one bridge.
pub struct Scratch {
    cell: String,
    /// The first of them.
    pub host: EmulatedHost,
    /// All of them.
    pub hosts: Vec<EmulatedHost>,
    /// A node id that no other test has: the first host's.
    pub node: NodeId,
    /// Its uids.
    pub uid_base: u32,
}

/// A /24 that no other test of this or another process has.
pub fn subnet(ordinal: u8) -> Ipv4Addr {
    let number = (std::process::id() & 0xff) << 5 | u32::from(ordinal & 0x1f);
    Ipv4Addr::from_bits(0x0ae0_0000 | number << 8)
}

impl Scratch {
    /// `ordinal` tells the tests of one process apart. `None` without root.
    pub fn new(ordinal: u8) -> Option<Self> {
        Self::with_hosts(ordinal, 1)
    }

    /// Several hosts that reach each other.
    pub fn with_hosts(ordinal: u8, count: usize) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let process = std::process::id() & 0xfff;
        // Devices are named by the first four digits.
        let cell = format!("{process:03x}{ordinal:x}feed");
        let nodes: Vec<String> = (0..count).map(|n| format!("scratch-{n}")).collect();
        let hosts = testbed::create(&cell, &nodes, subnet(ordinal)).expect("testbed");
        let number = process << 4 | u32::from(ordinal);
        Some(Self {
            cell,
            host: hosts[0].clone(),
            hosts,
            node: NodeId(number.into()),
            uid_base: 0x7000_0000 + (number << 12),
        })
    }

    /// The id of a host, by its place.
    pub fn node_of(&self, place: usize) -> NodeId {
        NodeId(self.node.0 | (place as u64) << 20)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for place in 0..self.hosts.len() {
            let prefix = super::network::namespace_prefix(self.node_of(place));
            for name in super::namespace::list(&prefix).unwrap_or_default() {
                let _ = super::namespace::Namespace::named(name).delete();
            }
        }
        if let Err(error) = testbed::delete(&self.cell) {
            println!("testbed: {error}");
        }
    }
}
