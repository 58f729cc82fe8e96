//! The first entry of a new cluster.

use nube_state::command::InitCluster;
use nube_state::{Command, State};
use nube_types::{NetworkId, ProjectId};

use crate::cell::Cell;

/// What is missing before anything else can be done.
pub fn plan(state: &State, cell: &Cell) -> Option<Command> {
    if state.cluster.is_some() {
        return None;
    }
    let cluster_id = cell.config.cluster_id_bytes().ok()?;
    let (project, network) = (ProjectId(rand::random()), NetworkId(rand::random()));
    Some(Command::InitCluster(InitCluster {
        cluster_id,
        project,
        network,
    }))
}
