//! The index of a fleet: hosts of one class (same zone, accelerator, isolation,
//! drivers, ratio) answer all filters but room alike, so filters run per class;
//! room is found in lists sorted by level. Finds what a scan of all hosts with
//! `score` would find; a property test holds the two together.
//!
//! Only hosts that are ready and not drained are in it. Those with members of
//! the group are counted but not listed: `fleet` looks at them one by one.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use nube_types::NodeId;

use crate::balance::{Lean, Ratio};
use crate::filter::suits;
use crate::model::{Accelerator, DriverSet, Host, Isolation, Request, Strategy};
use crate::order::{Entry, Order, Room};
use crate::score::{BALANCE, Census, in_use_part, levels};

/// What hosts of one class have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    zone: String,
    accelerator: Accelerator,
    isolation: Isolation,
    drivers: DriverSet,
    ratio: Ratio,
}

#[derive(Debug, Clone)]
struct Class {
    kind: Kind,
    /// Hosts that belong to it, ready or not.
    members: usize,
    /// Of those that are ready.
    census: Census,
    spread: Order,
    /// Hosts in use, by lean.
    pack_in_use: [Order; Lean::COUNT],
    /// Hosts without an instance.
    pack_empty: Order,
}

/// Where a host is in its class.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    listed: bool,
    census: Census,
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
            census: Census::default(),
            spread: Order::default(),
            pack_in_use: Default::default(),
            pack_empty: Order::default(),
        }
    }

    fn pack_list(&mut self, spot: Spot) -> &mut Order {
        if spot.in_use {
            &mut self.pack_in_use[spot.lean as usize]
        } else {
            &mut self.pack_empty
        }
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

    fn best(&self, request: &Request, opening: bool, mut best: Best) -> Best {
        let needed = Room::needed_by(request);
        if request.strategy == Strategy::Spread {
            return better(best, &self.spread, &needed, 0);
        }
        let in_use = in_use_part(true);
        if opening {
            let balanced = needed.with_slack(self.kind.ratio.slack_needed(request));
            // What scores most comes first, so that the rest is mostly skipped.
            for list in &self.pack_in_use {
                best = better(best, list, &balanced, in_use + BALANCE);
            }
            best = better(best, &self.pack_empty, &balanced, BALANCE);
        }
        for list in &self.pack_in_use {
            best = better(best, list, &needed, in_use);
        }
        better(best, &self.pack_empty, &needed, 0)
    }
}

/// The better of the best so far and the first fitting of a list, where `base`
/// comes on top of the level.
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
        let opening = self.census(request).opening();
        let mut best = None;
        for class in self.suited(request) {
            best = class.best(request, opening, best);
        }
        best.map(|(_, Reverse(id))| id)
    }

    /// `Census::of` over the hosts of the index.
    pub fn census(&self, request: &Request) -> Census {
        if request.strategy == Strategy::Spread {
            return Census::default();
        }
        let classes = self.suited(request);
        classes.fold(Census::default(), |sum, class| sum.plus(class.census))
    }

    fn suited(&self, request: &Request) -> impl Iterator<Item = &Class> {
        self.classes.iter().filter(|class| class.suits(request))
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

    /// Adds a host to its class.
    pub fn insert(&mut self, class: usize, host: &Host) -> Spot {
        let class = &mut self.classes[class];
        let (spread, pack) = levels(host);
        let spot = Spot {
            listed: host.same_group == 0,
            census: Census::of_host(host),
            in_use: host.instances > 0,
            lean: class.kind.ratio.lean(host),
            spread,
            pack,
        };
        class.census = class.census.plus(spot.census);
        if spot.listed {
            let room = Room::free_on(host, class.kind.ratio.slack(host));
            let entry = |level| Entry {
                key: (Reverse(level), host.id),
                room,
            };
            class.spread.insert(entry(spread));
            class.pack_list(spot).insert(entry(pack));
        }
        spot
    }

    /// Takes a host out of its class.
    pub fn remove(&mut self, class: usize, id: NodeId, spot: Spot) {
        let class = &mut self.classes[class];
        class.census = class.census.minus(spot.census);
        if spot.listed {
            class.spread.remove((Reverse(spot.spread), id));
            class.pack_list(spot).remove((Reverse(spot.pack), id));
        }
    }
}
