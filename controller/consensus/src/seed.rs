//! A new cluster whose history begins with a state that another one had.
//!
//! Lives here: the door to forming a member's directory from a backup. May not: what the state
//! means. Used by the controller's restore, once for each first member, before any of them starts.

use crate::config::Config;
use crate::error::Error;
use crate::storage::{DiskStorage, First};

/// Forms the directory of a first member of a new cluster: its log begins after `index`, and
/// `body` is what `StateMachine::restore` takes. [`crate::start`] with the same settings recovers
/// from it. Every first member must be seeded with the same index, term and body, as it must be
/// given the same `initial_voters`; they are then equal, and any of them may lead.
///
/// `term` should lie above all terms of the cluster the state comes from, for whoever remembers
/// those. A directory that holds anything is refused. Blocks.
pub fn seed(config: &Config, index: u64, term: u64, body: Vec<u8>) -> Result<(), Error> {
    DiskStorage::seed(config, First { index, term, body })
}
