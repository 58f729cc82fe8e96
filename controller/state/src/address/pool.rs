//! Ranges of elastic addresses, and which address is given next. All addresses of
//! a range are given out: it is the operator's, and no network's.

use std::net::Ipv4Addr;

use nube_types::limits::ADDRESS_POOLS_MAX;
use nube_types::net::{Ipv4Prefix, LINK_LOCAL, TRANSIT};

use super::AddressPool;
use crate::network;
use crate::outcome::{Kind, Outcome, Refusal};
use crate::state::State;

/// Shorter ones are no range that anybody was given.
const LENGTH_MIN: u8 = 8;

/// The range that an address is of.
#[must_use]
pub fn pool_of(state: &State, address: Ipv4Addr) -> Option<&AddressPool> {
    state
        .address_pools
        .iter()
        .find(|pool| pool.range.has(address))
}

/// How many addresses of a range are held.
#[must_use]
pub fn held(state: &State, range: Ipv4Prefix) -> u32 {
    let all = range.address().to_bits()..=range.last().to_bits();
    let held = state.derived.network.numbers.range(all).count();
    u32::try_from(held).unwrap_or(u32::MAX)
}

fn check_range(range: Ipv4Prefix) -> Result<(), Refusal> {
    let invalid = |rule| Refusal::Invalid {
        field: "cidr".to_owned(),
        rule,
    };
    if !(LENGTH_MIN..=32).contains(&range.length()) {
        let rule = format!(
            "/{} is not a length of a pool: /{LENGTH_MIN} to /32",
            range.length()
        );
        return Err(invalid(rule));
    }
    if Ipv4Prefix::exact(range.address(), range.length()) != Some(range) {
        return Err(invalid(format!("{range} has host bits set")));
    }
    let kept = [
        (LINK_LOCAL, "link-local addresses"),
        (TRANSIT, "addresses between hosts"),
        (around(0, 8), "addresses of this network (RFC 1122)"),
        (around(127, 8), "loopback addresses"),
        (around(224, 4), "multicast addresses"),
        (around(240, 4), "reserved addresses"),
    ];
    for (kept, what) in kept {
        if kept.overlaps(range) {
            return Err(invalid(format!("{range} has {what} in it ({kept})")));
        }
    }
    Ok(())
}

fn around(first: u8, length: u8) -> Ipv4Prefix {
    Ipv4Prefix::around(Ipv4Addr::new(first, 0, 0, 0), length)
}

pub(crate) fn add(state: &mut State, range: Ipv4Prefix) -> Result<Outcome, Refusal> {
    check_range(range)?;
    if let Some(pool) = state.address_pools.iter().find(|p| p.range.overlaps(range)) {
        if pool.range == range {
            return Ok(Outcome::Done);
        }
        return Err(Refusal::Invalid {
            field: "cidr".to_owned(),
            rule: format!("{range} overlaps the pool {}", pool.range),
        });
    }
    if state.address_pools.len() >= ADDRESS_POOLS_MAX {
        let what = "address pools".to_owned();
        let limit = ADDRESS_POOLS_MAX as u64;
        return Err(Refusal::LimitReached { what, limit });
    }
    let revision = state.index;
    state.address_pools.put(AddressPool {
        range,
        next_offset: 0,
        revision,
    });
    Ok(Outcome::Done)
}

pub(crate) fn remove(state: &mut State, range: Ipv4Prefix) -> Result<Outcome, Refusal> {
    let key = range.address().to_bits();
    let pool = state.address_pools.get(&key);
    if pool.is_none_or(|pool| pool.range != range) {
        return Err(Refusal::NotFound {
            kind: Kind::AddressPool,
            reference: range.to_string(),
        });
    }
    let count = held(state, range);
    if count > 0 {
        let why = format!("has {count} addresses that are held; have them released first");
        return Err(Refusal::AddressInUse {
            address: range.to_string(),
            why,
        });
    }
    state.address_pools.remove(&key);
    Ok(Outcome::Done)
}

/// The next free address of the first range that has one, behind the last one given
/// there. As many steps as addresses are taken, at most.
pub(super) fn next_free(state: &State) -> Option<(u32, u32)> {
    let is_free = |number: &u32| {
        !state.derived.network.numbers.contains_key(number)
            && network::waits_until(state, network::PUBLIC, *number).is_none()
    };
    state.address_pools.iter().find_map(|pool| {
        let (base, size) = (pool.range.address().to_bits(), pool.range.size());
        let number = |step: u64| {
            let offset = (u64::from(pool.next_offset) + step) % size;
            base + u32::try_from(offset).unwrap_or(u32::MAX)
        };
        let found = (0..size).map(number).find(is_free);
        found.map(|number| (base, number))
    })
}
