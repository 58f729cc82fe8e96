//! A fleet: hosts with an index that is kept up to date host by host, so that a
//! placement does not look at each of them. `Fleet::place` makes the choice of
//! `place::choose` on the same hosts; a property test holds the two together.
//!
//! ```text
//! start_group ─► place ─► reserve ─► place ─► reserve …     one launch
//! upsert, remove                                            what the log says
//! release                                                   a launch that failed
//! ```

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use nube_types::NodeId;

use crate::filter::fits;
use crate::index::{Index, Spot};
use crate::model::{Host, Request};
use crate::place::{Decision, place};
use crate::score::{Score, score};

/// See the file's head.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// In no particular order.
    hosts: Vec<Host>,
    /// One per host.
    slots: Vec<Slot>,
    ordinals: BTreeMap<NodeId, usize>,
    index: Index,
    /// Hosts with members of the group. The index does not list them: they lose to
    /// every fitting host that it lists, and they are few.
    grouped: BTreeSet<NodeId>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    class: usize,
    /// None: not in the index.
    spot: Option<Spot>,
}

impl Fleet {
    /// A fleet of these hosts. Of several with one id the last counts.
    #[must_use]
    pub fn new(hosts: impl IntoIterator<Item = Host>) -> Self {
        let mut fleet = Self::default();
        for host in hosts {
            fleet.upsert(host);
        }
        fleet
    }

    /// All hosts, in no particular order.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// One host.
    #[must_use]
    pub fn host(&self, id: NodeId) -> Option<&Host> {
        self.ordinals.get(&id).map(|ordinal| &self.hosts[*ordinal])
    }

    /// Adds a host, or replaces all that is known of it, reservations included.
    pub fn upsert(&mut self, host: Host) {
        self.remove(host.id);
        let class = self.index.join(&host);
        self.ordinals.insert(host.id, self.hosts.len());
        self.slots.push(Slot { class, spot: None });
        self.hosts.push(host);
        self.file(self.hosts.len() - 1);
    }

    /// Forgets a host. False: there is none of this id.
    pub fn remove(&mut self, id: NodeId) -> bool {
        let Some(ordinal) = self.ordinals.remove(&id) else {
            return false;
        };
        self.unfile(ordinal);
        self.index.leave(self.slots[ordinal].class);
        self.hosts.swap_remove(ordinal);
        self.slots.swap_remove(ordinal);
        if let Some(moved) = self.hosts.get(ordinal) {
            self.ordinals.insert(moved.id, ordinal);
        }
        true
    }

    /// The best host and its score; None when no host fits. Changes nothing.
    #[must_use]
    pub fn place(&self, request: &Request) -> Option<(NodeId, Score)> {
        let id = self
            .index
            .best(request)
            .or_else(|| self.best_of_group(request))?;
        let census = self.index.census(request);
        self.host(id).map(|host| (id, score(host, request, census)))
    }

    /// The same choice with everything that decided it. Looks at every host.
    #[must_use]
    pub fn explain(&self, request: &Request) -> Decision {
        place(&self.hosts, request)
    }

    /// Counts an instance as placed on a host and as a member of the group, as
    /// the one that asks has decided: room is not checked again. False: there is
    /// no such host.
    pub fn reserve(&mut self, id: NodeId, request: &Request) -> bool {
        self.change(id, |host| {
            host.vcpus_used = host.vcpus_used.saturating_add(request.vcpus);
            host.memory_used.0 = host.memory_used.0.saturating_add(request.memory.0);
            host.disk_used.0 = host.disk_used.0.saturating_add(request.disk.0);
            host.instances = host.instances.saturating_add(1);
            host.same_group = host.same_group.saturating_add(1);
        })
    }

    /// Takes back a `reserve`, or counts an instance as gone. False: there is no
    /// such host.
    pub fn release(&mut self, id: NodeId, request: &Request) -> bool {
        self.change(id, |host| {
            host.vcpus_used = host.vcpus_used.saturating_sub(request.vcpus);
            host.memory_used.0 = host.memory_used.0.saturating_sub(request.memory.0);
            host.disk_used.0 = host.disk_used.0.saturating_sub(request.disk.0);
            host.instances = host.instances.saturating_sub(1);
            host.same_group = host.same_group.saturating_sub(1);
        })
    }

    /// Begins a group: no host has a member of it yet. Call it before each
    /// launch; its instances then go to different hosts while there are any.
    pub fn start_group(&mut self) {
        for id in std::mem::take(&mut self.grouped) {
            self.change(id, |host| host.same_group = 0);
        }
    }

    /// The best of the hosts that the index does not list.
    fn best_of_group(&self, request: &Request) -> Option<NodeId> {
        let census = self.index.census(request);
        let hosts = self.grouped.iter().filter_map(|id| self.host(*id));
        hosts
            .filter(|host| fits(host, request))
            .max_by_key(|host| (score(host, request, census).total(), Reverse(host.id)))
            .map(|host| host.id)
    }

    fn change(&mut self, id: NodeId, change: impl FnOnce(&mut Host)) -> bool {
        let Some(&ordinal) = self.ordinals.get(&id) else {
            return false;
        };
        self.unfile(ordinal);
        change(&mut self.hosts[ordinal]);
        self.file(ordinal);
        true
    }

    /// Puts a host where it is to be found.
    fn file(&mut self, ordinal: usize) {
        let (host, slot) = (&self.hosts[ordinal], &mut self.slots[ordinal]);
        if host.same_group > 0 {
            self.grouped.insert(host.id);
        }
        if host.ready && !host.drained {
            slot.spot = Some(self.index.insert(slot.class, host));
        }
    }

    fn unfile(&mut self, ordinal: usize) {
        let (host, slot) = (&self.hosts[ordinal], &mut self.slots[ordinal]);
        if host.same_group > 0 {
            self.grouped.remove(&host.id);
        }
        if let Some(spot) = slot.spot.take() {
            self.index.remove(slot.class, host.id, spot);
        }
    }
}
