//! Moving the state machine forward.
//!
//! Lives here: apply, publish, answer, and restore from a snapshot. May not: raft's view of it
//! (that is told by `Applied`). Part of `driver`.

use std::path::Path;

use super::Driver;
use crate::core::{Committed, Input};
use crate::entry::SnapshotMeta;
use crate::error::Error;
use crate::handle::Applied;
use crate::state_machine::StateMachine;
use crate::storage::SnapshotStore;

impl<S: StateMachine> Driver<S> {
    pub(super) fn apply(&mut self, committed: Vec<Committed>, applied_to: Option<u64>) {
        let Some(to) = applied_to else { return };
        let mut answers = Vec::new();
        for Committed {
            index,
            term,
            data,
            ticket,
        } in committed
        {
            self.job.count(data.len());
            let reply = self.state_machine.apply(index, term, &data);
            if let Some(ticket) = ticket {
                answers.push((ticket, Applied { index, term, reply }));
            }
        }
        self.handed_out = to;
        // Behind the recovered state while a restart catches up: the state never goes back.
        self.applied = self.applied.max(to);
        self.state_machine.applied(self.applied);
        self.core.step(Input::Applied(to));
        // After the views are published: a caller that was answered finds its own write.
        for (ticket, applied) in answers {
            self.callers.answer_proposal(ticket, Ok(applied));
        }
    }

    /// A snapshot of the leader replaces the state. It is verified and durable; if the state
    /// machine cannot take it, this version cannot go on with this cluster.
    pub(super) fn restore(&mut self, meta: &SnapshotMeta) {
        let path = self.snapshots.believed_path(meta);
        if let Err(error) = restore_from(&self.snapshots, &path, &mut self.state_machine) {
            crate::fatal::die_of("restore the received snapshot", &error);
        }
        tracing::info!(
            index = meta.index,
            "state restored from the leader's snapshot"
        );
        self.applied = meta.index;
        self.job.restored(meta.index);
    }
}

pub(super) fn restore_from<S: StateMachine>(
    snapshots: &SnapshotStore,
    path: &Path,
    state_machine: &mut S,
) -> Result<(), Error> {
    let (file, body) = snapshots.load(path)?;
    let index = file.meta.index;
    state_machine
        .restore(index, &body)
        .map_err(|reason| Error::Restore { index, reason })
}
