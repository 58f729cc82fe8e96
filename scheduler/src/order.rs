//! Hosts sorted by level, best first, with the question "which is the first that
//! has room for this". Blocks of some dozens of hosts carry the largest room in
//! them, so that a block of full hosts costs one comparison.
//!
//! Blocks instead of a tree: at ten thousand hosts there are some two hundred,
//! they lie next to each other, and no pointer is followed to skip one.

use std::cmp::Reverse;

use nube_types::NodeId;

use crate::balance::Slack;
use crate::model::{Host, Request};

/// A block is split when it grows beyond this; larger ones cost more to scan,
/// smaller ones more to skip.
const BLOCK_MAX: usize = 64;
/// A block that shrinks below this joins its neighbour if both fit one block
/// with space to grow.
const BLOCK_MIN: usize = BLOCK_MAX / 4;

/// Sorts by level, highest first, then by id, lowest first.
pub(crate) type Key = (Reverse<i32>, NodeId);

/// What a host has, or a request needs, of everything that is compared: vCPUs,
/// memory, disk, and slack of memory and of vCPUs. Numbers that sort as what they
/// stand for; nothing else is done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room([i64; 5]);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub key: Key,
    pub room: Room,
}

/// What is known of a block without looking at it.
#[derive(Debug, Clone)]
struct Head {
    /// No key in the block is smaller, and each in the block before it is.
    first: Key,
    /// The largest of each; no single host needs to have them all.
    room: Room,
}

/// See the file's head.
#[derive(Debug, Clone, Default)]
pub(crate) struct Order {
    heads: Vec<Head>,
    blocks: Vec<Vec<Entry>>,
}

/// Maps all 64 bits to a signed number that sorts alike.
fn sortable(amount: u64) -> i64 {
    (amount ^ (1 << 63)).cast_signed()
}

impl Room {
    pub fn free_on(host: &Host, slack: Slack) -> Self {
        Self([
            sortable(host.vcpus_free()),
            sortable(host.memory_free().0),
            sortable(host.disk_free().0),
            slack.memory,
            slack.vcpus,
        ])
    }

    pub fn needed_by(request: &Request) -> Self {
        Self([
            sortable(u64::from(request.vcpus)),
            sortable(request.memory.0),
            sortable(request.disk.0),
            i64::MIN,
            i64::MIN,
        ])
    }

    /// The same, and nothing may be stranded.
    pub fn with_slack(self, slack: Slack) -> Self {
        let Self([vcpus, memory, disk, ..]) = self;
        Self([vcpus, memory, disk, slack.memory, slack.vcpus])
    }

    fn holds(&self, needed: &Self) -> bool {
        // No branch per amount: which one fails is hard to predict.
        let pairs = self.0.iter().zip(&needed.0);
        pairs.fold(true, |all, (free, needed)| all & (free >= needed))
    }

    fn max(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].max(other.0[at])))
    }

    fn reaches_any(&self, limit: &Self) -> bool {
        self.0.iter().zip(&limit.0).any(|(own, limit)| own >= limit)
    }
}

impl Head {
    fn of(block: &[Entry]) -> Self {
        let Entry { key: first, room } = *block.first().expect("blocks are never empty");
        let room = block.iter().fold(room, |room, entry| room.max(entry.room));
        Self { first, room }
    }
}

impl Order {
    /// The first host with room, as (level, id). Nothing below `floor` is looked
    /// for; what is found may still be below it.
    pub fn first_fitting(&self, needed: &Room, floor: i64) -> Option<(i32, NodeId)> {
        for (head, block) in self.heads.iter().zip(&self.blocks) {
            if i64::from(head.first.0.0) < floor {
                return None;
            }
            if !head.room.holds(needed) {
                continue;
            }
            if let Some(found) = block.iter().find(|entry| entry.room.holds(needed)) {
                let (Reverse(level), id) = found.key;
                return Some((level, id));
            }
        }
        None
    }

    /// The highest level in it, or a little more.
    pub fn top(&self) -> Option<i32> {
        self.heads.first().map(|head| head.first.0.0)
    }

    /// Adds a host that is not in it.
    pub fn insert(&mut self, entry: Entry) {
        if self.blocks.is_empty() {
            self.heads.push(Head::of(&[entry]));
            self.blocks.push(vec![entry]);
            return;
        }
        let at = self.block_of(entry.key);
        let (head, block) = (&mut self.heads[at], &mut self.blocks[at]);
        let within = block.partition_point(|other| other.key < entry.key);
        block.insert(within, entry);
        head.first = head.first.min(entry.key);
        head.room = head.room.max(entry.room);
        if block.len() > BLOCK_MAX {
            let second = block.split_off(BLOCK_MAX / 2);
            *head = Head::of(block);
            self.heads.insert(at + 1, Head::of(&second));
            self.blocks.insert(at + 1, second);
        }
    }

    /// Takes a host out; nothing happens when it is not in.
    pub fn remove(&mut self, key: Key) {
        if self.blocks.is_empty() {
            return;
        }
        let at = self.block_of(key);
        let block = &mut self.blocks[at];
        let Ok(within) = block.binary_search_by_key(&key, |entry| entry.key) else {
            return;
        };
        let removed = block.remove(within);
        if block.is_empty() {
            self.blocks.remove(at);
            self.heads.remove(at);
        } else if block.len() < BLOCK_MIN && self.join(at) {
            // The joined block has a new head.
        } else if removed.room.reaches_any(&self.heads[at].room) {
            self.heads[at].room = Head::of(&self.blocks[at]).room;
        }
    }

    /// Joins a block with the one after it, if both are small.
    fn join(&mut self, at: usize) -> bool {
        let next = self.blocks.get(at + 1).map_or(BLOCK_MAX, Vec::len);
        if self.blocks[at].len() + next > BLOCK_MAX / 2 {
            return false;
        }
        let second = self.blocks.remove(at + 1);
        self.heads.remove(at + 1);
        self.blocks[at].extend(second);
        self.heads[at] = Head::of(&self.blocks[at]);
        true
    }

    /// The block that holds this key, or would.
    fn block_of(&self, key: Key) -> usize {
        self.heads
            .partition_point(|head| head.first <= key)
            .saturating_sub(1)
    }
}
