//! Networks: one default network per project, and the addresses in it.
//!
//! Addresses and MACs are handed out in the entry that creates their owner. A
//! MAC comes from a counter and is never used twice; an address is given again
//! only after a quarantine, and the search starts behind the last one given, so
//! reuse is as late as it can be.

use std::net::Ipv4Addr;

use minicbor::{Decode, Encode};
use nube_types::limits::ADDRESS_QUARANTINE_MS;
use nube_types::{Name, NetworkId, ProjectId, TimestampMs};

use crate::outcome::Refusal;
use crate::state::State;
use crate::table::Record;

/// What a project's first network, and a network's first subnet, are called.
pub const DEFAULT: &str = "default";

/// One network with its first subnet.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Network {
    /// Its id.
    #[n(0)]
    pub id: NetworkId,
    /// Its owner.
    #[n(1)]
    pub project: ProjectId,
    /// Unique in the cell; names devices and namespaces on hosts.
    #[n(2)]
    pub number: u32,
    /// First address of the subnet.
    #[n(3)]
    pub base: u32,
    /// Length of its prefix.
    #[n(4)]
    pub prefix_length: u8,
    /// Where the search for a free address goes on.
    #[n(5)]
    pub next_offset: u32,
    /// Unique in the project; absent: `default`, made with the project.
    #[cbor(n(6), skip_if = "crate::table::is_default")]
    pub name: Option<Name>,
    /// It has no internet gateway.
    #[cbor(n(7), skip_if = "crate::table::is_default")]
    pub isolated: bool,
    /// When it was made; 0: with its project.
    #[cbor(n(8), skip_if = "crate::table::is_default")]
    pub created_at: TimestampMs,
    /// Log index of the last change; 0: none since it was made with its project.
    #[cbor(n(9), skip_if = "crate::table::is_default")]
    pub revision: u64,
}

impl Record for Network {
    type Key = NetworkId;
    const TABLE: u8 = 4;
    fn key(&self) -> NetworkId {
        self.id
    }
}

impl Network {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_ref().map_or(DEFAULT, Name::as_str)
    }

    /// The address that the host answers for.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// Addresses in the subnet, network and broadcast included.
    fn size(&self) -> u32 {
        1_u32
            .checked_shl(32_u32.saturating_sub(self.prefix_length.into()))
            .unwrap_or(0)
    }
}

/// An address that waits before it is given again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ReleasedAddress {
    /// Of which network.
    #[n(0)]
    pub network: NetworkId,
    /// The address.
    #[n(1)]
    pub address: u32,
    /// Since when it is free.
    #[n(2)]
    pub released_at: TimestampMs,
}

impl Record for ReleasedAddress {
    type Key = (NetworkId, u32);
    const TABLE: u8 = 5;
    fn key(&self) -> (NetworkId, u32) {
        (self.network, self.address)
    }
}

impl ReleasedAddress {
    /// Caches and leases may still know its last owner.
    pub(crate) fn waits(&self, now: TimestampMs) -> bool {
        now.since_ms(self.released_at) < ADDRESS_QUARANTINE_MS
    }
}

/// The next free addresses behind the last one given: all of them, or none and
/// nothing is changed. Offsets 0 (network), 1 (gateway), 2, 3 (kept for services)
/// and the broadcast are never given.
pub(crate) fn allocate(
    state: &mut State,
    id: NetworkId,
    count: usize,
) -> Result<Vec<u32>, Refusal> {
    const FIRST: u32 = 4;
    let network = state.networks.get(&id).ok_or(Refusal::NoAddress)?.clone();
    let usable = network.size().saturating_sub(FIRST + 1);
    let begin = network.next_offset.saturating_sub(FIRST);
    let offset = |step| FIRST + (begin + step) % usable;
    let free: Vec<u32> = (0..usable)
        .map(offset)
        .filter(|offset| is_free(state, id, network.base + offset))
        .take(count)
        .collect();
    if free.len() < count {
        return Err(Refusal::NoAddress);
    }
    if let Some(last) = free.last() {
        state
            .networks
            .update(&id, |network| network.next_offset = last + 1);
    }
    let addresses: Vec<u32> = free.iter().map(|offset| network.base + offset).collect();
    for address in &addresses {
        state.released.remove(&(id, *address));
    }
    Ok(addresses)
}

fn is_free(state: &State, id: NetworkId, address: u32) -> bool {
    let quarantined = state
        .released
        .get(&(id, address))
        .is_some_and(|released| released.waits(state.time));
    !quarantined && !state.derived.addresses.contains_key(&(id, address))
}

/// Starts the quarantine of an address.
pub(crate) fn release(state: &mut State, network: NetworkId, address: u32) {
    let released_at = state.time;
    state.released.put(ReleasedAddress {
        network,
        address,
        released_at,
    });
}

/// Forgets quarantines that are over. Bounded work per call.
pub(crate) fn expire(state: &mut State) {
    const AT_ONCE: usize = 1_000;
    let time = state.time;
    let over = |released: &&ReleasedAddress| !released.waits(time);
    let keys: Vec<_> = state
        .released
        .iter()
        .filter(over)
        .take(AT_ONCE)
        .map(Record::key)
        .collect();
    for key in keys {
        state.released.remove(&key);
    }
}

/// A locally administered MAC from a number that is never used twice.
#[must_use]
pub fn mac(number: u64) -> [u8; 6] {
    let bytes = number.to_be_bytes();
    [0x02, bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
}
