//! What watchers were sent, against the list of what changed: ordered, unique,
//! whole per revision, without a gap, resumable, or told that the past is gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All that this watcher may see: for each revision that changed something, the
/// changes in it, each as one text that tells kind, id and content.
pub type Reference = BTreeMap<u64, Vec<String>>;

/// One connection of a watcher, from asking to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Whose: the streams of one watcher are judged in the order they are given,
    /// each must go on where the one before it ended.
    pub watcher: u64,
    /// The revision it asked to go on after. After `Compacted`, or for a start
    /// from a list, that of the list it took instead.
    pub after: u64,
    /// Whether `after` is of a list that it took anew.
    pub listed: bool,
    /// What came, in order.
    pub items: Vec<Item>,
}

/// One message to a watcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// All changes of one revision.
    Changes(u64, Vec<String>),
    /// Nothing for this watcher up to this revision.
    Progress(u64),
    /// Changes after what was asked are no longer kept. Ends the stream.
    Compacted,
}

/// A stream that is no part of the reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// A revision came twice, or after one that is later.
    #[error("watcher {watcher}: revision {revision} came after {after} had been covered")]
    Back {
        /// Whose stream.
        watcher: u64,
        /// What came.
        revision: u64,
        /// What had been covered.
        after: u64,
    },
    /// A revision with changes was passed over.
    #[error("watcher {watcher}: went from {after} to {next} without {missed}")]
    Gap {
        /// Whose stream.
        watcher: u64,
        /// What had been covered.
        after: u64,
        /// What came next.
        next: u64,
        /// What is missing.
        missed: u64,
    },
    /// A revision came with other changes than it had.
    #[error("watcher {watcher}: revision {revision} came as {came:?}, but was {was:?}")]
    Other {
        /// Whose stream.
        watcher: u64,
        /// The revision.
        revision: u64,
        /// What came.
        came: Vec<String>,
        /// What it was.
        was: Vec<String>,
    },
    /// It did not ask for what comes after the last message.
    #[error("watcher {watcher}: resumed after {after}, but had covered {covered}")]
    Resumed {
        /// Whose stream.
        watcher: u64,
        /// What it asked.
        after: u64,
        /// What it had been sent.
        covered: u64,
    },
    /// Something came after the stream was told that its past is gone, or it went
    /// on without a list.
    #[error("watcher {watcher}: went on after COMPACTED without a new list")]
    WentOn {
        /// Whose stream.
        watcher: u64,
    },
    /// A new list is older than what had been covered.
    #[error("watcher {watcher}: a new list is of {after}, but {covered} had been covered")]
    OldList {
        /// Whose stream.
        watcher: u64,
        /// The list's revision.
        after: u64,
        /// What it had been sent.
        covered: u64,
    },
}

/// How far a watcher has come.
#[derive(Clone, Copy)]
struct Progress {
    covered: u64,
    compacted: bool,
}

/// Judges the streams of any number of watchers who all may see the same.
///
/// # Errors
/// The first message or resumption that is not as it must be.
pub fn check(reference: &Reference, streams: &[Stream]) -> Result<(), WatchError> {
    let mut watchers: BTreeMap<u64, Progress> = BTreeMap::new();
    for stream in streams {
        let watcher = stream.watcher;
        let mut progress = begin(stream, watchers.get(&watcher).copied())?;
        for item in &stream.items {
            if progress.compacted {
                return Err(WatchError::WentOn { watcher });
            }
            match item {
                Item::Changes(revision, changes) => {
                    pass(reference, watcher, progress.covered, *revision, false)?;
                    whole(reference, watcher, *revision, changes)?;
                    progress.covered = *revision;
                }
                Item::Progress(revision) => {
                    pass(reference, watcher, progress.covered, *revision, true)?;
                    progress.covered = *revision;
                }
                Item::Compacted => progress.compacted = true,
            }
        }
        watchers.insert(watcher, progress);
    }
    Ok(())
}

fn begin(stream: &Stream, before: Option<Progress>) -> Result<Progress, WatchError> {
    let watcher = stream.watcher;
    let after = stream.after;
    if let Some(before) = before {
        let covered = before.covered;
        if !stream.listed && before.compacted {
            return Err(WatchError::WentOn { watcher });
        }
        if !stream.listed && after != covered {
            return Err(WatchError::Resumed {
                watcher,
                after,
                covered,
            });
        }
        if stream.listed && after < covered {
            return Err(WatchError::OldList {
                watcher,
                after,
                covered,
            });
        }
    }
    Ok(Progress {
        covered: after,
        compacted: false,
    })
}

/// From `after` to `next`: forward, and over nothing. A word of progress may
/// repeat what is covered, and passes over its own revision too.
fn pass(
    reference: &Reference,
    watcher: u64,
    after: u64,
    next: u64,
    progress: bool,
) -> Result<(), WatchError> {
    if next < after || (next == after && !progress) {
        return Err(WatchError::Back {
            watcher,
            revision: next,
            after,
        });
    }
    let end = if progress {
        next.saturating_add(1)
    } else {
        next
    };
    match reference
        .range(after.saturating_add(1)..end.max(after.saturating_add(1)))
        .next()
    {
        Some((&missed, _)) => Err(WatchError::Gap {
            watcher,
            after,
            next,
            missed,
        }),
        None => Ok(()),
    }
}

/// All changes of the revision, each once; their order within it is free.
fn whole(
    reference: &Reference,
    watcher: u64,
    revision: u64,
    changes: &[String],
) -> Result<(), WatchError> {
    let mut came = changes.to_vec();
    came.sort_unstable();
    let mut was = reference.get(&revision).cloned().unwrap_or_default();
    was.sort_unstable();
    if came == was && !was.is_empty() {
        return Ok(());
    }
    Err(WatchError::Other {
        watcher,
        revision,
        came,
        was,
    })
}
