//! The state as the store keeps it: one row per record.

use super::{CodecError, META_KEY, Meta, finish, unversioned, whole};
use crate::state::State;
use crate::table::{Record, Table, store_key};

/// Every record as the store keeps it; the singletons come from [`encode_meta`].
pub fn rows(state: &State) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let keys_to_types = state.ssh_keys.rows().chain(state.images.rows());
    let to_networks = keys_to_types
        .chain(state.instance_types.rows())
        .chain(state.networks.rows());
    let to_nodes = to_networks
        .chain(state.released.rows())
        .chain(state.requests.rows())
        .chain(state.nodes.rows());
    to_nodes
        .chain(state.instances.rows())
        .chain(state.usage.rows())
        .chain(state.transitions.rows())
        .chain(state.projects.rows())
        .chain(state.principals.rows())
        .chain(state.access_keys.rows())
        .chain(state.events.rows())
        .chain(state.placements.rows())
        .chain(state.join_tokens.rows())
        .chain(state.members.rows())
        .chain(later_rows(state))
}

fn later_rows(state: &State) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    state
        .evictions
        .rows()
        .chain(state.subnets.rows())
        .chain(state.security_groups.rows())
        .chain(state.address_pools.rows())
        .chain(state.addresses.rows())
        .chain(state.load_balancers.rows())
        .chain(state.target_health.rows())
        .chain(state.traffic_counters.rows())
        .chain(state.traffic_usage.rows())
}

/// Reads a state from the store's rows (key, value), in any order.
pub fn decode_rows<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    rows: impl Iterator<Item = (K, V)>,
) -> Result<State, CodecError> {
    let mut tables = State::default();
    let mut meta = None;
    for (key, value) in rows {
        let (key, value) = (key.as_ref(), value.as_ref());
        if key == META_KEY {
            meta = Some(whole::<Meta>(unversioned(value)?, "store singletons")?);
        } else {
            decode_row(&mut tables, key, value)?;
        }
    }
    let Some(meta) = meta else {
        let cause = "no singletons".to_owned();
        return Err(CodecError::Malformed {
            what: "store",
            cause,
        });
    };
    let mut state = meta.over(tables);
    finish(&mut state);
    Ok(state)
}

fn decode_row(state: &mut State, key: &[u8], value: &[u8]) -> Result<(), CodecError> {
    match key.first().copied().unwrap_or_default() {
        1 => put_row(&mut state.ssh_keys, key, value),
        2 => put_row(&mut state.images, key, value),
        3 => put_row(&mut state.instance_types, key, value),
        4 => put_row(&mut state.networks, key, value),
        5 => put_row(&mut state.released, key, value),
        6 => put_row(&mut state.requests, key, value),
        7 => put_row(&mut state.nodes, key, value),
        8 => put_row(&mut state.instances, key, value),
        9 => put_row(&mut state.usage, key, value),
        10 => put_row(&mut state.transitions, key, value),
        11 => put_row(&mut state.projects, key, value),
        12 => put_row(&mut state.principals, key, value),
        13 => put_row(&mut state.access_keys, key, value),
        14 => put_row(&mut state.events, key, value),
        17 => put_row(&mut state.placements, key, value),
        15 => put_row(&mut state.join_tokens, key, value),
        16 => put_row(&mut state.members, key, value),
        18 => put_row(&mut state.evictions, key, value),
        19 => put_row(&mut state.subnets, key, value),
        20 => put_row(&mut state.security_groups, key, value),
        21 => put_row(&mut state.address_pools, key, value),
        22 => put_row(&mut state.addresses, key, value),
        23 => put_row(&mut state.load_balancers, key, value),
        24 => put_row(&mut state.target_health, key, value),
        25 => put_row(&mut state.traffic_counters, key, value),
        26 => put_row(&mut state.traffic_usage, key, value),
        table => {
            let cause = format!("unknown table {table}");
            Err(CodecError::Malformed {
                what: "store row",
                cause,
            })
        }
    }
}

fn put_row<R: Record>(table: &mut Table<R>, key: &[u8], value: &[u8]) -> Result<(), CodecError> {
    let record: R = whole(value, "store row")?;
    if store_key::<R>(&record.key()) != key {
        let cause = "the record of another key".to_owned();
        return Err(CodecError::Malformed {
            what: "store row",
            cause,
        });
    }
    table.put(record);
    Ok(())
}
