//! What every handler and loop of one controller works with.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

use nube_consensus::Handle;
use nube_state::{Outcome, State};
use tonic::Status;

use crate::agents::Agents;
use crate::api::status;
use crate::blob::Blobs;
use crate::clock::Clock;
use crate::config::Config;
use crate::fleet::Hosts;
use crate::metrics;
use crate::peer::transport::Peers;
use crate::pki::Issuer;
use crate::propose::Proposer;
use crate::secret::Secret;
use crate::view::Views;
use crate::watch::History;

/// The parts, shared.
pub struct Cell {
    /// The config file.
    pub config: Config,
    /// Consensus.
    pub raft: Handle<Outcome>,
    /// The newest state.
    pub views: Views,
    /// The one way to change it.
    pub proposer: Proposer,
    /// The other controllers.
    pub peers: Arc<Peers>,
    /// The cell's clock.
    pub clock: Arc<Clock>,
    /// Sessions of agents with this controller.
    pub agents: Agents,
    /// Image files.
    pub blobs: Blobs,
    /// Derived keys and seals.
    pub secret: Secret,
    /// The recent past.
    pub history: History,
    /// Hosts for the scheduler.
    pub hosts: Hosts,
    /// Watch streams open here.
    pub watchers: AtomicU32,
    /// The cluster's CA.
    pub issuer: Issuer,
}

impl Cell {
    /// A view that holds everything acknowledged before this call (linearizable
    /// by ReadIndex), on any controller.
    pub async fn read(&self) -> Result<Arc<State>, Status> {
        let (begun, events) = (Instant::now(), metrics::events());
        self.raft.read_index().await.map_err(|error| {
            events.read_index_failures.inc();
            status::unavailable(&error)
        })?;
        events
            .read_index_seconds
            .observe(begun.elapsed().as_secs_f64());
        Ok(self.views.now())
    }
}
