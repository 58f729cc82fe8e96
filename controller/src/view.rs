//! What reads see: the state after the last applied batch, shared by everyone,
//! copied by nobody.

use std::sync::Arc;

use nube_state::State;
use tokio::sync::watch;

/// Publishes views; owned by the state machine.
pub struct Publisher(watch::Sender<Arc<State>>);

/// Reads views; cheap to clone.
#[derive(Clone)]
pub struct Views(watch::Receiver<Arc<State>>);

/// A publisher with its first view.
#[must_use]
pub fn channel(first: State) -> (Publisher, Views) {
    let (sender, receiver) = watch::channel(Arc::new(first));
    (Publisher(sender), Views(receiver))
}

impl Publisher {
    /// Makes a state visible and wakes who waits.
    pub fn publish(&self, state: State) {
        self.0.send_replace(Arc::new(state));
    }
}

impl Views {
    /// The newest view.
    #[must_use]
    pub fn now(&self) -> Arc<State> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits for a view that was not seen by this handle; false when the state
    /// machine has stopped.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// The newest view, marked as seen.
    pub fn take(&mut self) -> Arc<State> {
        Arc::clone(&self.0.borrow_and_update())
    }
}
