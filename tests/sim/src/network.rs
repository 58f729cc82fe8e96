//! Who hears whom. Cuts are directed: a cut from A to B loses what A sends to B. Machines are
//! named by number: controllers by their member id, hosts from [`HOST`] on.

use std::collections::{BTreeMap, BTreeSet};

/// Numbers of hosts begin here.
pub const HOST: u64 = 1 << 32;

/// The cuts of the moment.
#[derive(Default)]
pub struct Network {
    /// Everybody on another side than oneself is out of reach.
    sides: BTreeMap<u64, u8>,
    /// Single directions.
    cuts: BTreeSet<(u64, u64)>,
    /// Machines that nobody reaches and that reach nobody.
    alone: BTreeSet<u64>,
}

impl Network {
    /// Whether what `from` sends to `to` is lost.
    #[must_use]
    pub fn is_cut(&self, from: u64, to: u64) -> bool {
        let side = |id| self.sides.get(&id).copied().unwrap_or_default();
        side(from) != side(to)
            || self.cuts.contains(&(from, to))
            || self.alone.contains(&from)
            || self.alone.contains(&to)
    }

    /// Whether they can talk: both directions.
    #[must_use]
    pub fn is_open(&self, a: u64, b: u64) -> bool {
        !self.is_cut(a, b) && !self.is_cut(b, a)
    }

    /// Puts a machine on a side.
    pub fn side(&mut self, id: u64, side: u8) {
        self.sides.insert(id, side);
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: u64, to: u64) {
        self.cuts.insert((from, to));
    }

    /// Cuts a machine off, or lets it back.
    pub fn isolate(&mut self, id: u64, alone: bool) {
        match alone {
            true => self.alone.insert(id),
            false => self.alone.remove(&id),
        };
    }

    /// Sides and cuts are gone; machines that are alone stay so.
    pub fn mend(&mut self) {
        self.sides.clear();
        self.cuts.clear();
    }
}
