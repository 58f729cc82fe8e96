//! The usage ledger: intervals opened and closed by the very entries that
//! change the state, and beside them the transitions they came from, so that a
//! second implementation can check the first.

use nube_billing::{EndReason, Subject, Transition, TransitionKind, UsageInterval};
use nube_types::TimestampMs;

use crate::instance::Instance;
use crate::state::State;
use crate::table::Record;

impl Record for UsageInterval {
    type Key = (Subject, u32);
    const TABLE: u8 = 9;
    fn key(&self) -> (Subject, u32) {
        (self.subject, self.run)
    }
}

impl Record for Transition {
    type Key = (u64, Subject);
    const TABLE: u8 = 10;
    fn key(&self) -> (u64, Subject) {
        (self.index, self.subject)
    }
}

/// Opens the next run, unless one is open.
pub(crate) fn open(state: &mut State, instance: &mut Instance) {
    if instance.is_metered(state) {
        return;
    }
    instance.runs += 1;
    state.usage.put(UsageInterval::open(
        instance.id.into(),
        instance.project,
        instance.runs,
        &instance.instance_type,
        state.time,
        state.index,
    ));
    note(state, instance, TransitionKind::Started);
}

/// Closes the open run, if there is one, at an instant that is not later than
/// now.
pub(crate) fn close(state: &mut State, instance: &mut Instance, at: TimestampMs, why: EndReason) {
    let (index, at) = (state.index, at.min(state.time));
    let Some(mut interval) = state
        .usage
        .get(&(instance.id.into(), instance.runs))
        .cloned()
    else {
        return;
    };
    if !interval.close(at, index, why) {
        return;
    }
    state.usage.put(interval);
    let kind = match why {
        EndReason::Stopped => TransitionKind::Stopped,
        EndReason::DeleteRequested => TransitionKind::DeleteRequested,
        EndReason::HostLost => TransitionKind::HostLost { last_proven: at },
        EndReason::Failed => TransitionKind::Failed,
    };
    note(state, instance, kind);
}

fn note(state: &mut State, instance: &Instance, kind: TransitionKind) {
    let transition = Transition {
        index: state.index,
        at: state.time,
        subject: instance.id.into(),
        project: instance.project,
        resource: instance.instance_type.clone(),
        kind,
    };
    state.transitions.put(transition);
}
