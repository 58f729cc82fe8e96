//! What this crate replicates: any state machine with these verbs.
//!
//! Lives here: the trait. May not: any implementation. Implemented by the controller over
//! `nube-state`; called by `driver` only, always from its one thread.

/// A replicated state machine. The driver owns it and calls it from one thread.
pub trait StateMachine: Send + 'static {
    /// What the proposer gets back.
    type Reply: Send + 'static;

    /// Applies one committed entry. Called in index order, each index once per life of the state.
    /// Not every index arrives: raft's own entries (a new leader's empty one, membership changes)
    /// are passed over.
    ///
    /// Must be deterministic (invariant A4), and must neither fail nor panic on any bytes a client
    /// could have caused; a panic here aborts the process on every replica in turn.
    fn apply(&mut self, index: u64, term: u64, data: &[u8]) -> Self::Reply;

    /// Called once after each batch of applies: publish views, wake watchers. `index` may be
    /// higher than the last applied one, because raft's own entries count too. Never goes back.
    fn applied(&mut self, index: u64);

    /// A consistent view, cheap to take; the closure runs on another thread and yields canonical
    /// bytes (equal states give equal bytes, invariant A5).
    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send>;

    /// Replaces the whole state. `index` is the position the state stands for afterwards, also
    /// where the body was written at a lower one (raft's own entries in between).
    ///
    /// The bytes are exactly those of a `snapshot` (checked against their hash), so an error means
    /// that this version cannot read them; the member halts with it.
    fn restore(&mut self, index: u64, body: &[u8]) -> Result<(), String>;

    /// Index of the recovered state, 0 for an empty one. The driver replays the log after it, or
    /// restores its own snapshot first when that is newer. It must never be ahead of what was
    /// passed to `apply` or `restore`.
    fn applied_index(&self) -> u64;
}
