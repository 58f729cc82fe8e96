//! For tests: an emulated host of their own, gone at the end, also when a test
//! fails. Several checkouts may run their tests on one machine at a time, so
//! names and addresses carry the process id.

use std::net::Ipv4Addr;

use nube_types::NodeId;

use super::testbed::{self, EmulatedHost};

/// One emulated host.
pub struct Scratch {
    cell: String,
    /// What was made.
    pub host: EmulatedHost,
    /// A node id that no other test has.
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
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let process = std::process::id() & 0xfff;
        // Devices are named by the first four digits.
        let cell = format!("{process:03x}{ordinal:x}feed");
        let nodes = ["scratch".to_owned()];
        let hosts = testbed::create(&cell, &nodes, subnet(ordinal)).expect("testbed");
        let number = process << 4 | u32::from(ordinal);
        Some(Self {
            cell,
            host: hosts[0].clone(),
            node: NodeId(number.into()),
            uid_base: 0x7000_0000 + (number << 12),
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let prefix = super::network::namespace_prefix(self.node);
        for name in super::namespace::list(&prefix).unwrap_or_default() {
            let _ = super::namespace::Namespace::named(name).delete();
        }
        if let Err(error) = testbed::delete(&self.cell) {
            println!("testbed: {error}");
        }
    }
}
