//! Replicas compare themselves through the log (A4): each notes the hash of its
//! state at certain indexes, the leader writes down what it noted, and whoever
//! finds another hash at that index must end.
//!
//! ```text
//!  entries … 999 │ 1000 …        CheckStateHash{1000, hash} … │ 2000 …
//!     mark(1000) ┘ of what          compared with mark(1000)
//!     all entries below did
//! ```
//!
//! Marks are no part of the state: they are neither stored nor hashed nor in a
//! snapshot. A replica that was restored or restarted in between has none for that
//! index, and "cannot compare" is not "equal": the next mark comes soon.

use imbl::OrdMap;
use minicbor::{Decode, Encode};
use nube_types::limits::STATE_HASH_EVERY_ENTRIES;

use crate::codec;
use crate::command::Command;
use crate::outcome::Outcome;
use crate::state::State;

/// Marks kept: so many thousand entries may lie between a mark and its comparison,
/// which is more than may wait to be written.
const MARKS_MAX: usize = 128;

/// See [`Command::CheckStateHash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct CheckStateHash {
    /// All entries below this index.
    #[n(0)]
    pub index: u64,
    /// What the leader's state was after them: [`codec::replica_hash`].
    #[cbor(n(1), with = "minicbor::bytes")]
    pub hash: [u8; 32],
}

/// Two replicas that applied the same entries and are not the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Divergence {
    /// Both are of the state after all entries below this index.
    pub index: u64,
    /// The entry that compared them.
    pub entry: u64,
    /// This replica's.
    pub own: [u8; 32],
    /// What the entry said.
    pub leader: [u8; 32],
}

/// What this replica noted of its own past.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    hashes: OrdMap<u64, [u8; 32]>,
    /// The newest mark that was compared.
    checked: u64,
    /// Set once and for ever: whoever applies entries must stop.
    pub diverged: Option<Divergence>,
}

/// Called before an entry is applied: if a mark lies between the last entry and
/// this one, the state as it is belongs to it.
pub(crate) fn note(state: &mut State, index: u64) {
    let round = |index: u64| index / STATE_HASH_EVERY_ENTRIES;
    if round(index) == round(state.index) || state.cluster.is_none() {
        return;
    }
    let mark = round(index) * STATE_HASH_EVERY_ENTRIES;
    let hash = codec::replica_hash(state);
    state.marks.hashes.insert(mark, hash);
    if state.marks.hashes.len() > MARKS_MAX
        && let Some((oldest, _)) = state.marks.hashes.get_min().copied()
    {
        state.marks.hashes.remove(&oldest);
    }
}

pub(crate) fn check(state: &mut State, command: &CheckStateHash) -> Outcome {
    let marks = &mut state.marks;
    marks.checked = marks.checked.max(command.index);
    let own = marks.hashes.get(&command.index).copied();
    if let Some(own) = own.filter(|own| *own != command.hash) {
        marks.diverged.get_or_insert(Divergence {
            index: command.index,
            entry: state.index,
            own,
            leader: command.hash,
        });
    }
    Outcome::Done
}

/// What a leader proposes: the newest mark, once. Its own entry makes no new mark
/// before a thousand others have.
#[must_use]
pub fn due(state: &State) -> Option<Command> {
    let (index, hash) = state.marks.hashes.get_max()?;
    let (index, hash) = (*index, *hash);
    let check = CheckStateHash { index, hash };
    (index > state.marks.checked).then_some(Command::CheckStateHash(check))
}
