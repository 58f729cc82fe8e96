//! Which addresses are given: free ones behind the last one given, so that reuse is
//! as late as it can be, and after a quarantine; or the one that was asked for.

use std::net::Ipv4Addr;

use nube_types::limits::{ADDRESS_QUARANTINE_MS, PORTS_PER_NETWORK_MAX};
use nube_types::net::Ipv4Prefix;
use nube_types::{NetworkId, SubnetId, TimestampMs};

use super::{Network, ReleasedAddress};
use crate::outcome::Refusal;
use crate::state::State;
use crate::subnet;
use crate::table::Record;

/// Offsets 0 (network), 1 (gateway), 2, 3 (kept for services) and the broadcast
/// are never given.
pub(crate) const FIRST: u32 = 4;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub network: NetworkId,
    /// Absent: any.
    pub subnet: Option<SubnetId>,
    /// Absent: the next free ones.
    pub address: Option<u32>,
    pub count: usize,
}

/// How many addresses of a range may be given.
pub(crate) fn usable(range: Ipv4Prefix) -> u32 {
    let size = u32::try_from(range.size()).unwrap_or(u32::MAX);
    size.saturating_sub(FIRST + 1)
}

/// A range to search, and where the search goes on.
struct Pool {
    /// Absent: the network's first subnet, which is part of its record.
    subnet: Option<SubnetId>,
    range: Ipv4Prefix,
    next_offset: u32,
}

/// The addresses that were asked for: all of them, or none and nothing is changed.
/// Nothing after this may be refused.
pub(crate) fn allocate(state: &mut State, ask: &Ask) -> Result<Vec<u32>, Refusal> {
    let network = state.networks.get(&ask.network);
    let network = network.ok_or(Refusal::NoAddress)?.clone();
    check_ports(state, &network, ask.count)?;
    let pools = pools(state, &network, ask.subnet)?;
    if let Some(address) = ask.address {
        check_static(state, &network, &pools, ask, address)?;
        state.released.remove(&(network.id, address));
        return Ok(vec![address]);
    }
    let mut given = Vec::new();
    let mut moved = Vec::new();
    for pool in pools {
        let found = search(state, network.id, &pool, ask.count - given.len());
        if let Some(last) = found.last() {
            moved.push((pool.subnet, last + 1));
        }
        let base = pool.range.address().to_bits();
        given.extend(found.into_iter().map(|offset| base + offset));
    }
    if given.len() < ask.count {
        return Err(Refusal::NoAddress);
    }
    for (subnet, next_offset) in moved {
        match subnet {
            None => state
                .networks
                .update(&network.id, |network| network.next_offset = next_offset),
            Some(id) => state
                .subnets
                .update(&id, |subnet| subnet.next_offset = next_offset),
        };
    }
    for address in &given {
        state.released.remove(&(network.id, *address));
    }
    Ok(given)
}

/// Cells of the first version have no such limit, and their logs must go on
/// leading to their states: they are known by a price book without networks.
fn check_ports(state: &State, network: &Network, count: usize) -> Result<(), Refusal> {
    let first = state.prices.versions.first();
    let rents_networks = first.is_some_and(|v| v.entries.contains_key(crate::address::RESOURCE));
    if network.is_default() && !rents_networks {
        return Ok(());
    }
    let ports = super::port_count(state, network.id) as usize
        + super::load_balancers(state, network.id).count();
    if ports + count > PORTS_PER_NETWORK_MAX {
        let what = "ports of a network".to_owned();
        let limit = PORTS_PER_NETWORK_MAX as u64;
        return Err(Refusal::LimitReached { what, limit });
    }
    Ok(())
}

fn pools(state: &State, network: &Network, asked: Option<SubnetId>) -> Result<Vec<Pool>, Refusal> {
    let first = Pool {
        subnet: None,
        range: network.range(),
        next_offset: network.next_offset,
    };
    let further = subnet::further(state, network.id).map(|subnet| Pool {
        subnet: Some(subnet.id),
        range: subnet.range,
        next_offset: subnet.next_offset,
    });
    let Some(asked) = asked else {
        return Ok(std::iter::once(first).chain(further).collect());
    };
    if asked == subnet::first_id(network.id) {
        return Ok(vec![first]);
    }
    let found = further.into_iter().find(|pool| pool.subnet == Some(asked));
    Ok(vec![found.ok_or_else(|| subnet::absent(asked))?])
}

/// Offsets of free addresses. As many steps as addresses are taken, at most.
fn search(state: &State, network: NetworkId, pool: &Pool, count: usize) -> Vec<u32> {
    let (usable, base) = (usable(pool.range), pool.range.address().to_bits());
    let begin = pool.next_offset.saturating_sub(FIRST);
    let offset = |step| FIRST + (begin + step) % usable;
    (0..usable)
        .map(offset)
        .filter(|offset| is_free(state, network, base + offset))
        .take(count)
        .collect()
}

fn is_free(state: &State, id: NetworkId, address: u32) -> bool {
    waits_until(state, id, address).is_none()
        && !state.derived.addresses.contains_key(&(id, address))
}

/// An address that somebody wants must be one that may be given, and free.
fn check_static(
    state: &State,
    network: &Network,
    pools: &[Pool],
    ask: &Ask,
    address: u32,
) -> Result<(), Refusal> {
    let shown = Ipv4Addr::from(address);
    let invalid = |rule| Refusal::Invalid {
        field: "address".to_owned(),
        rule,
    };
    if ask.count != 1 {
        return Err(invalid("only for one instance at a time".to_owned()));
    }
    let Some(pool) = pools.iter().find(|pool| pool.range.has(shown)) else {
        let ranges: Vec<_> = pools.iter().map(|pool| pool.range.to_string()).collect();
        let rule = format!("{shown} is not in {}", ranges.join(", "));
        return Err(invalid(rule));
    };
    let offset = address - pool.range.address().to_bits();
    if offset < FIRST || shown == pool.range.last() {
        let what = match offset {
            0 => "names the subnet itself",
            1 => "is the gateway",
            2 | 3 => "is kept for services",
            _ => "is the broadcast address",
        };
        return Err(invalid(format!("{shown} {what}; choose another one")));
    }
    let in_use = |why| Refusal::AddressInUse {
        address: shown.to_string(),
        why,
    };
    if let Some(holder) = state.derived.addresses.get(&(network.id, address)) {
        let why = format!("is held by {}", super::holder_text(state, *holder));
        return Err(in_use(why));
    }
    if let Some(until) = waits_until(state, network.id, address) {
        let seconds = until.since_ms(state.time).div_ceil(1000);
        let why = format!("was released just now; it may be given again in {seconds} s");
        return Err(in_use(why));
    }
    Ok(())
}

/// When the quarantine of an address ends, if it is under one.
pub(crate) fn waits_until(state: &State, id: NetworkId, address: u32) -> Option<TimestampMs> {
    let released = state.released.get(&(id, address))?;
    let until = released.released_at.0.saturating_add(ADDRESS_QUARANTINE_MS);
    released.waits(state.time).then_some(TimestampMs(until))
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
