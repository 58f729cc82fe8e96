//! Remembered requests: the same id again returns the first outcome.
//!
//! Only outcomes with an effect are remembered: a refusal changed nothing, so
//! asking again is as good as asking first.

use minicbor::{Decode, Encode};
use nube_types::limits::{REQUEST_REMEMBERED_MS, REQUESTS_REMEMBERED_MAX};
use nube_types::{ProjectId, RequestId, TimestampMs};

use crate::command::Request;
use crate::outcome::{Outcome, Refusal};
use crate::state::State;
use crate::table::Record;

/// One remembered request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RememberedRequest {
    /// Project, id and parameters.
    #[n(0)]
    pub request: Request,
    /// What was answered.
    #[n(1)]
    pub outcome: Outcome,
    /// When.
    #[n(2)]
    pub at: TimestampMs,
    /// Log index of the effect; the order in which they are forgotten.
    #[n(3)]
    pub index: u64,
}

impl Record for RememberedRequest {
    type Key = (ProjectId, RequestId);
    const TABLE: u8 = 6;
    fn key(&self) -> (ProjectId, RequestId) {
        (self.request.project, self.request.id)
    }
}

/// The first outcome of a repeated request, or the refusal of a reused id.
#[must_use]
pub fn recall(state: &State, request: &Request) -> Option<Outcome> {
    let known = state.requests.get(&(request.project, request.id))?;
    Some(if known.request.parameters == request.parameters {
        known.outcome.clone()
    } else {
        Refusal::RequestIdReused.into()
    })
}

pub(crate) fn remember(state: &mut State, request: Request, outcome: Outcome) {
    let (at, index) = (state.time, state.index);
    state
        .derived
        .request_order
        .insert(index, (request.project, request.id));
    state.requests.put(RememberedRequest {
        request,
        outcome,
        at,
        index,
    });
    while state.requests.len() > REQUESTS_REMEMBERED_MAX {
        forget_oldest(state);
    }
}

/// Forgets what is older than a day. Bounded work per call.
pub(crate) fn expire(state: &mut State) {
    const AT_ONCE: usize = 1_000;
    for _ in 0..AT_ONCE {
        let Some((_, key)) = state.derived.request_order.get_min() else {
            return;
        };
        let old = |r: &RememberedRequest| state.time.since_ms(r.at) >= REQUEST_REMEMBERED_MS;
        if !state.requests.get(key).is_none_or(old) {
            return;
        }
        forget_oldest(state);
    }
}

fn forget_oldest(state: &mut State) {
    if let Some((index, key)) = state.derived.request_order.get_min().cloned() {
        state.derived.request_order.remove(&index);
        state.requests.remove(&key);
    }
}
