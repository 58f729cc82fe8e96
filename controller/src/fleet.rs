//! The scheduler's hosts, kept up to date with the views instead of built anew for
//! each launch: what costs is proportional to what changed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nube_scheduler::Fleet;
use nube_state::State;
use nube_state::node::NodeUse;
use nube_types::NodeId;

use crate::api::placement;

/// The hosts as of one view.
#[derive(Default)]
pub struct Hosts(Mutex<Kept>);

/// What is kept between launches.
#[derive(Default)]
pub struct Kept {
    /// The index; whoever reserves here gives back before letting go.
    pub fleet: Fleet,
    /// `placement_revision` of the view it shows.
    revision: u64,
    known: BTreeMap<NodeId, (u64, NodeUse)>,
}

impl Hosts {
    /// The hosts as this view shows them.
    pub fn at(&self, state: &State) -> MutexGuard<'_, Kept> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.revision != state.placement_revision {
            kept.refresh(state);
        }
        kept
    }
}

impl Kept {
    /// A launch that read its view before another one may turn the hosts back:
    /// apply checks every choice anyway.
    fn refresh(&mut self, state: &State) {
        for node in state.nodes.iter() {
            let id = node.facts.id;
            let now = (node.revision, state.node_use(id));
            if self.known.insert(id, now) != Some(now) {
                self.fleet.upsert(placement::host(state, node));
            }
        }
        if self.known.len() > state.nodes.len() {
            let gone = |id: &&NodeId| state.nodes.get(id).is_none();
            let gone: Vec<NodeId> = self.known.keys().filter(gone).copied().collect();
            for id in gone {
                self.known.remove(&id);
                self.fleet.remove(id);
            }
        }
        self.revision = state.placement_revision;
    }
}
