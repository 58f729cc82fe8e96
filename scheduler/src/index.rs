//! The index of a fleet: hosts of one class (same zone, accelerator, isolation,
//! drivers, ratio) answer all filters but room alike, so filters run per class;
//! room is found in lists sorted by level. Finds what a scan of all hosts with
//! `score` would find; a property test holds the two together.
//!
//! Only hosts that are ready, not drained and without members of the group are
//! in it; `fleet` knows the others.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use nube_types::NodeId;

use crate::filter::suits;
use crate::lean::{Lean, Ratio};
use crate::model::{Accelerator, DriverSet, Host, Isolation, Request, Strategy};
use crate::order::{Entry, Order, Room};
use crate::score::{in_use_part, lean_part, left_lean, levels, request_lean};

/// What hosts of one class have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    zone: String,
    accelerator: Accelerator,
    isolation: Isolation,
    drivers: DriverSet,
    ratio: Ratio,
}

const LEANS: [Lean; Lean::COUNT] = [
    Lean::VcpusFar,
    Lean::Vcpus,
    Lean::Even,
    Lean::Memory,
    Lean::MemoryFar,
];

#[derive(Debug, Clone)]
struct Class {
    kind: Kind,
    /// Hosts that belong to it, in its lists or not.
    members: usize,
    spread: Order,
    /// By what is left; hosts in use.
    pack_in_use: [Order; Lean::COUNT],
    /// Likewise; hosts without an instance.
    pack_empty: [Order; Lean::COUNT],
}

/// Where a host is in its class.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    in_use: bool,
    lean: Lean,
    spread: i32,
    pack: i32,
}

/// The best host so far: its total, and its id for ties.
type Best = Option<(i64, Reverse<NodeId>)>;

/// See the file's head.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    classes: Vec<Class>,
    by_kind: BTreeMap<Kind, usize>,
    /// Classes without members, to be used again.
    vacant: Vec<usize>,
}

impl Kind {
    fn of(host: &Host) -> Self {
        Self {
            zone: host.zone.clone(),
            accelerator: host.accelerator,
            isolation: host.isolation,
            drivers: host.drivers,
            ratio: Ratio::of(host),
        }
    }
}

impl Class {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            members: 0,
            spread: Order::default(),
            pack_in_use: Default::default(),
            pack_empty: Default::default(),
        }
    }

    fn pack_list(&mut self, spot: Spot) -> &mut Order {
        let lists = if spot.in_use {
            &mut self.pack_in_use
        } else {
            &mut self.pack_empty
        };
        &mut lists[spot.lean as usize]
    }

    fn suits(&self, request: &Request) -> bool {
        let kind = &self.kind;
        suits(
            &kind.zone,
            kind.accelerator,
            kind.isolation,
            kind.drivers,
            request,
        )
    }

    fn best(&self, request: &Request, needed: &Room, mut best: Best) -> Best {
        if request.strategy == Strategy::Spread {
            return better(best, &self.spread, needed, 0);
        }
        let wanted = request_lean(self.kind.ratio, request);
        for (lists, in_use) in [(&self.pack_in_use, true), (&self.pack_empty, false)] {
            // From the best match down, so that most lists are skipped unread.
            for lean in by_match(wanted) {
                let base = in_use_part(in_use) + lean_part(wanted, lean);
                best = better(best, &lists[lean as usize], needed, base);
            }
        }
        best
    }
}

/// Leans from the best match of a request to the worst.
fn by_match(wanted: Lean) -> [Lean; Lean::COUNT] {
    let mut leans = LEANS;
    leans.sort_by_key(|left| Reverse(wanted.matches(*left)));
    leans
}

/// The better of the best so far and the best of a list whose hosts all have
/// `base` on top of their level.
fn better(best: Best, list: &Order, needed: &Room, base: i64) -> Best {
    let floor = best.map_or(i64::MIN, |(total, _)| total - base);
    if list.top().is_none_or(|top| i64::from(top) < floor) {
        return best;
    }
    let found = list.first_fitting(needed, floor);
    best.max(found.map(|(level, id)| (base + i64::from(level), Reverse(id))))
}

impl Index {
    /// The best host of the index that passes every filter.
    pub fn best(&self, request: &Request) -> Option<NodeId> {
        let needed = Room::needed_by(request);
        let mut best = None;
        for class in self.classes.iter().filter(|class| class.suits(request)) {
            best = class.best(request, &needed, best);
        }
        best.map(|(_, Reverse(id))| id)
    }

    /// Makes a host a member of its class, without adding it to any list.
    pub fn join(&mut self, host: &Host) -> usize {
        let kind = Kind::of(host);
        let class = match (self.by_kind.get(&kind), self.vacant.pop()) {
            (Some(class), vacant) => {
                self.vacant.extend(vacant);
                *class
            }
            (None, Some(vacant)) => {
                self.classes[vacant] = Class::new(kind.clone());
                self.by_kind.insert(kind, vacant);
                vacant
            }
            (None, None) => {
                self.classes.push(Class::new(kind.clone()));
                self.by_kind.insert(kind, self.classes.len() - 1);
                self.classes.len() - 1
            }
        };
        self.classes[class].members += 1;
        class
    }

    /// Ends a membership; the host is in no list any more.
    pub fn leave(&mut self, class: usize) {
        let members = &mut self.classes[class].members;
        *members -= 1;
        if *members == 0 {
            self.by_kind.remove(&self.classes[class].kind);
            self.vacant.push(class);
        }
    }

    /// Adds a host to the lists of its class.
    pub fn insert(&mut self, class: usize, host: &Host) -> Spot {
        let class = &mut self.classes[class];
        let (spread, pack) = levels(host);
        let spot = Spot {
            in_use: host.instances > 0,
            lean: left_lean(class.kind.ratio, host),
            spread,
            pack,
        };
        let entry = |level| Entry {
            key: (Reverse(level), host.id),
            room: Room::free_on(host),
        };
        class.spread.insert(entry(spread));
        class.pack_list(spot).insert(entry(pack));
        spot
    }

    /// Takes a host out of the lists of its class.
    pub fn remove(&mut self, class: usize, id: NodeId, spot: Spot) {
        let class = &mut self.classes[class];
        class.spread.remove((Reverse(spot.spread), id));
        class.pack_list(spot).remove((Reverse(spot.pack), id));
    }
}
