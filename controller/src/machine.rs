//! Where an entry of the log meets the state: decodes it, applies it, publishes
//! the view and hands the changes to the store. Called by the consensus driver
//! from one thread.

use std::sync::Arc;

use nube_consensus::StateMachine;
use nube_state::{Change, Outcome, State, codec};

use crate::store::Writer;
use crate::view::Publisher;

/// The replicated state of this controller.
pub struct Machine {
    state: State,
    publisher: Publisher,
    store: Writer,
    changes: Vec<Change>,
}

impl Machine {
    /// Starts from a recovered state.
    #[must_use]
    pub fn new(state: State, publisher: Publisher, store: Writer) -> Self {
        Self {
            state,
            publisher,
            store,
            changes: Vec::new(),
        }
    }
}

impl StateMachine for Machine {
    type Reply = Outcome;

    /// # Panics
    /// On an entry that this version does not know (A8): skipping it would make
    /// this replica differ from the others without a word. Clients cannot cause
    /// that: only controllers write entries, after decoding them.
    fn apply(&mut self, index: u64, _term: u64, data: &[u8]) -> Outcome {
        let envelope = codec::decode_envelope(data)
            .unwrap_or_else(|error| panic!("log entry {index} cannot be applied: {error}"));
        let outcome = nube_state::apply(&mut self.state, index, &envelope);
        self.changes.append(&mut self.state.take_changes());
        outcome
    }

    fn applied(&mut self, _index: u64) {
        let changes = std::mem::take(&mut self.changes);
        self.store.write(changes, &self.state);
        self.publisher.publish(self.state.clone());
    }

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        let view = self.state.clone();
        Box::new(move || codec::encode_snapshot(&view))
    }

    fn restore(&mut self, index: u64, body: &[u8]) -> Result<(), String> {
        // A new cluster's first snapshot has no body.
        let mut state = if body.is_empty() {
            State::default()
        } else {
            codec::decode_snapshot(body).map_err(|error| error.to_string())?
        };
        state.index = state.index.max(index);
        self.changes.clear();
        self.state = state;
        self.store.replace(Arc::new(self.state.clone()));
        self.publisher.publish(self.state.clone());
        Ok(())
    }

    fn applied_index(&self) -> u64 {
        self.state.index
    }
}
