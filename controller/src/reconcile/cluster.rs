//! The first entry of a new cluster.

use nube_state::command::InitCluster;
use nube_state::{Command, State};

/// What is missing before anything else can be done. `draw`: a first entry with
/// fresh ids.
pub fn plan(state: &State, draw: impl FnOnce() -> InitCluster) -> Option<Command> {
    state
        .cluster
        .is_none()
        .then(|| Command::InitCluster(draw()))
}
