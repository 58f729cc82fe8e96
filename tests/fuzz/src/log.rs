//! What the log, snapshots and the store are made of, and what an entry does to a
//! state: decodable is not yet harmless.

use std::sync::OnceLock;

use nube_consensus::probe;
use nube_state::{Envelope, Outcome, State, codec, invariant};

/// Records, segment headers.
pub fn record(bytes: &[u8]) {
    probe::log_record(bytes);
    probe::headers(bytes);
}

/// A snapshot's header, and its body as the state machine reads it.
pub fn snapshot(bytes: &[u8]) {
    probe::headers(bytes);
    if let Ok(state) = codec::decode_snapshot(bytes) {
        let written = codec::encode_snapshot(&state);
        let again = codec::decode_snapshot(&written).expect("own bytes");
        assert_eq!(codec::state_hash(&again), codec::state_hash(&state));
        assert!(codec::encode_snapshot(&again) == written, "two encodings");
        let rows = codec::rows(&state);
        let meta = (codec::META_KEY.to_vec(), codec::encode_meta(&state));
        let read = codec::decode_rows(rows.chain([meta])).expect("own rows");
        assert_eq!(codec::state_hash(&read), codec::state_hash(&state));
    }
}

/// One entry: what is read is what would be written.
pub fn envelope(bytes: &[u8]) {
    if let Ok(envelope) = codec::decode_envelope(bytes) {
        assert_eq!(codec::encode_envelope(&envelope), bytes);
    }
}

/// An outcome, as a controller that forwarded a command gets it.
pub fn outcome(bytes: &[u8]) {
    if let Ok(outcome) = codec::decode_outcome(bytes) {
        let again = codec::decode_outcome(&codec::encode_outcome(&outcome));
        assert_eq!(again, Ok(outcome));
    }
}

/// Greetings and raft's messages.
pub fn peer(bytes: &[u8]) {
    probe::peer_bytes(bytes);
}

/// Cells to meet: none yet, a fresh one, one with a history.
fn cells() -> &'static [State] {
    static CELLS: OnceLock<Vec<State>> = OnceLock::new();
    CELLS.get_or_init(|| {
        let history = crate::seeds::history();
        let mut states = vec![State::default()];
        let mut state = State::default();
        for (position, (index, entry)) in history.iter().enumerate() {
            let envelope = codec::decode_envelope(entry).expect("a golden entry");
            nube_state::apply(&mut state, *index, &envelope);
            state.take_changes();
            if [12, 60, history.len() - 1].contains(&position) {
                states.push(state.clone());
            }
        }
        states
    })
}

/// Entries one after the other, on each kind of cell: no command that decodes may
/// stop a replica or break what must hold after each entry.
pub fn apply(bytes: &[u8]) {
    let Ok(envelope) = codec::decode_envelope(bytes) else {
        return;
    };
    for cell in cells() {
        let mut state = cell.clone();
        met(&mut state, &envelope);
        // And its repetition, a moment later.
        met(&mut state, &envelope);
        let found = invariant::broken(&state);
        assert!(found.is_empty(), "{found:?} after {envelope:?}");
    }
}

fn met(state: &mut State, envelope: &Envelope) {
    let (before, time) = (codec::state_hash(state), state.time);
    let index = state.index + 1;
    let outcome = nube_state::apply(state, index, envelope);
    assert!(state.time >= time, "time went back");
    if matches!(outcome, Outcome::Refused(_)) {
        assert_eq!(
            codec::state_hash(state),
            before,
            "a refusal changed: {envelope:?}"
        );
    }
}
