//! What replicas compare: one hash of all that is known, from the digests that the
//! tables keep up to date.

use nube_types::TimestampMs;

use super::{Meta, versioned};
use crate::state::State;
use crate::table::{Record, Table};

/// Tables in every state hash, whether empty or not: those of the first version.
const TABLES_ALWAYS_HASHED: usize = 15;

/// Hash of all that is known: index and time are left out, so that a state in
/// which nothing happens keeps its hash, and the cluster's id, members and join
/// tokens, so that a restored cell proves by its hash that it knows what was backed
/// up. Equal on every replica at an index.
#[must_use]
pub fn state_hash(state: &State) -> [u8; 32] {
    let mut meta = Meta::of(state);
    meta.index = 0;
    meta.time = TimestampMs(0);
    if let Some(cluster) = &mut meta.cluster {
        cluster.id = [0; 16];
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&versioned(&meta));
    for (position, (table, lanes)) in digests(state).into_iter().enumerate() {
        // A table that a later version brought: while it is empty the hash is as it
        // was before, or old logs would not lead to their recorded hashes (F3).
        if position >= TABLES_ALWAYS_HASHED {
            if lanes == [0; 4] {
                continue;
            }
            hasher.update(&[table]);
        }
        for lane in lanes {
            hasher.update(&lane.to_be_bytes());
        }
    }
    *hasher.finalize().as_bytes()
}

/// Hash of all that a replica is, index apart: [`state_hash`] and what that leaves
/// out, because two replicas of one cell have to be alike in those as well.
#[must_use]
pub fn replica_hash(state: &State) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&state_hash(state));
    hasher.update(&state.time.0.to_be_bytes());
    hasher.update(&state.cluster.map_or([0; 16], |cluster| cluster.id));
    for lanes in [state.members.digest(), state.join_tokens.digest()] {
        for lane in lanes {
            hasher.update(&lane.to_be_bytes());
        }
    }
    *hasher.finalize().as_bytes()
}

/// Hash of everything the store keeps: with it a copy is whole, or it is none.
#[must_use]
pub fn copy_hash(state: &State) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&super::encode_meta(state));
    hasher.update(&replica_hash(state));
    *hasher.finalize().as_bytes()
}

fn digest_of<R: Record>(table: &Table<R>) -> (u8, [u64; 4]) {
    (R::TABLE, table.digest())
}

/// New tables come last: see [`TABLES_ALWAYS_HASHED`].
fn digests(state: &State) -> [(u8, [u64; 4]); TABLES_ALWAYS_HASHED + 9] {
    [
        digest_of(&state.ssh_keys),
        digest_of(&state.images),
        digest_of(&state.instance_types),
        digest_of(&state.networks),
        digest_of(&state.released),
        digest_of(&state.requests),
        digest_of(&state.nodes),
        digest_of(&state.instances),
        digest_of(&state.usage),
        digest_of(&state.transitions),
        digest_of(&state.projects),
        digest_of(&state.principals),
        digest_of(&state.access_keys),
        digest_of(&state.events),
        digest_of(&state.placements),
        digest_of(&state.evictions),
        digest_of(&state.subnets),
        digest_of(&state.security_groups),
        digest_of(&state.address_pools),
        digest_of(&state.addresses),
        digest_of(&state.load_balancers),
        digest_of(&state.target_health),
        digest_of(&state.traffic_counters),
        digest_of(&state.traffic_usage),
    ]
}
