//! Instance types: the sizes on offer. Prices are in the price book.

use minicbor::{Decode, Encode};
use nube_types::Mib;

use crate::table::Record;

/// One size.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct InstanceType {
    /// As `n1.micro`; the resource in the price book.
    #[n(0)]
    pub name: String,
    /// Virtual CPUs.
    #[n(1)]
    pub vcpus: u32,
    /// Guest memory.
    #[n(2)]
    pub memory: Mib,
    /// Root disk.
    #[n(3)]
    pub disk: Mib,
}

impl Record for InstanceType {
    type Key = String;
    const TABLE: u8 = 3;
    fn key(&self) -> String {
        self.name.clone()
    }
}

/// What a new cluster offers.
#[must_use]
pub fn default_types() -> Vec<InstanceType> {
    let row = |name: &str, vcpus, memory, disk| InstanceType {
        name: name.to_owned(),
        vcpus,
        memory: Mib(memory),
        disk: Mib(disk),
    };
    vec![
        row("n1.micro", 1, 128, 1024),
        row("n1.small", 1, 512, 10 * 1024),
        row("n1.medium", 2, 2048, 20 * 1024),
        row("n1.large", 4, 8192, 40 * 1024),
    ]
}
