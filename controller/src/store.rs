//! The write-behind store: a copy of the state in sled for fast restarts.
//!
//! It is never the only copy: snapshot and log rebuild it. So it may lag by a
//! flush interval, and whatever is off with it costs only time: an error, a
//! panic while opening, rows that do not decode or a hash that differs put it
//! aside and start it anew.

pub mod fsync;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use nube_state::{Change, State, codec};

use crate::metrics;

/// Longer: more of the log is replayed after a crash. Shorter: sled's cost of
/// about 25 µs per key is paid more often for keys that change often.
const FLUSH_INTERVAL: Duration = Duration::from_millis(200);
/// Rows of one batch while the store is rebuilt.
const REBUILD_BATCH: usize = 4_096;
/// Store key of the hash over all rows that goes with the singletons.
const HASH_KEY: &[u8] = &[0, 1];
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Default)]
struct Pending {
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    newest: Option<State>,
    replace: Option<Arc<State>>,
    stop: bool,
}

/// Takes changes from the state machine; never blocks on the disk.
pub struct Writer(Arc<(Mutex<Pending>, Condvar)>);

impl Writer {
    /// Queues the changes that led to `state`. Several changes of a row become
    /// one write.
    pub fn write(&self, changes: impl Iterator<Item = Change>, state: &State) {
        let mut pending = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending
            .rows
            .extend(changes.map(|change| (change.key, change.value)));
        pending.newest = Some(state.clone());
        self.0.1.notify_one();
    }

    /// Forgets what is stored in favour of another state.
    pub fn replace(&self, state: Arc<State>) {
        let mut pending = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.rows.clear();
        pending.newest = None;
        pending.replace = Some(state);
        self.0.1.notify_one();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.0.1.notify_one();
    }
}

/// Opens the store and reads the state in it; an empty state when there is none
/// or it cannot be trusted, or is of another cluster.
pub fn open(dir: &Path, cluster_id: [u8; 16]) -> anyhow::Result<(Writer, State)> {
    let (db, state) = match try_open(dir, cluster_id) {
        Ok(opened) => opened,
        Err(error) => {
            tracing::warn!("store is put aside and rebuilt from snapshot and log: {error:#}");
            put_aside(dir)?;
            try_open(dir, cluster_id).context("opening a fresh store")?
        }
    };
    fsync::check(&db)?;
    metrics::events().stored(state.index);
    let shared = Arc::new((Mutex::new(Pending::default()), Condvar::new()));
    let writer = Writer(Arc::clone(&shared));
    std::thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || run(&db, &shared))
        .context("starting the store's thread")?;
    Ok((writer, state))
}

/// sled may panic on damaged files: that must not take the controller with it.
fn try_open(dir: &Path, cluster_id: [u8; 16]) -> anyhow::Result<(sled::Db, State)> {
    let dir = dir.to_owned();
    let opening = std::thread::Builder::new()
        .name("store-open".to_owned())
        .spawn(move || {
            let db = sled::Config::new()
                .path(&dir)
                .cache_capacity(CACHE_BYTES)
                .open()?;
            let state = read(&db)?;
            let foreign = state.cluster.as_ref().is_some_and(|c| c.id != cluster_id);
            anyhow::ensure!(!foreign, "it is of another cluster");
            anyhow::Ok((db, state))
        })?;
    opening
        .join()
        .map_err(|_| anyhow::anyhow!("sled panicked"))?
}

fn read(db: &sled::Db) -> anyhow::Result<State> {
    if db.get(codec::META_KEY)?.is_none() {
        anyhow::ensure!(db.is_empty(), "rows without singletons");
        return Ok(State::default());
    }
    let mut rows = Vec::new();
    let mut hash = None;
    for row in db.iter() {
        let (key, value) = row?;
        if key == HASH_KEY {
            hash = Some(value);
        } else {
            rows.push((key, value));
        }
    }
    let state = codec::decode_rows(rows.into_iter())?;
    let stored = hash.context("no state hash")?;
    anyhow::ensure!(stored == codec::copy_hash(&state), "its hash differs");
    Ok(state)
}

fn put_aside(dir: &Path) -> anyhow::Result<()> {
    if dir.exists() {
        let aside = dir.with_extension(format!("bad-{}", crate::clock::wall().0));
        std::fs::rename(dir, &aside).context("putting the store aside")?;
    }
    Ok(())
}

fn run(db: &sled::Db, shared: &(Mutex<Pending>, Condvar)) {
    loop {
        let taken = wait(shared);
        let result = taken
            .replace
            .as_deref()
            .map_or(Ok(()), |state| rebuild(db, state));
        let result = result.and_then(|()| match &taken.newest {
            Some(state) => flush(db, taken.rows, state),
            None => Ok(()),
        });
        if let Err(error) = result {
            // The copy is stale from here on; its hash says so at the next start.
            tracing::error!("store stopped: {error}");
            return;
        }
        if taken.stop {
            return;
        }
        std::thread::sleep(FLUSH_INTERVAL);
    }
}

fn wait(shared: &(Mutex<Pending>, Condvar)) -> Pending {
    let mut pending = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    while pending.newest.is_none() && pending.replace.is_none() && !pending.stop {
        pending = shared
            .1
            .wait(pending)
            .unwrap_or_else(PoisonError::into_inner);
    }
    let stop = pending.stop;
    let mut taken = std::mem::take(&mut *pending);
    (pending.stop, taken.stop) = (stop, stop);
    taken
}

/// One batch with rows, singletons and hash: the copy is of one index.
fn flush(
    db: &sled::Db,
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    state: &State,
) -> sled::Result<()> {
    let mut batch = sled::Batch::default();
    for (key, value) in rows {
        match value {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
    }
    batch.insert(codec::META_KEY, codec::encode_meta(state));
    batch.insert(HASH_KEY, codec::copy_hash(state).to_vec());
    nube_failpoint::reach("store-before");
    db.apply_batch(batch)?;
    db.flush()?;
    nube_failpoint::reach("store-after");
    metrics::events().stored(state.index);
    Ok(())
}

/// A crash in here leaves rows without singletons: the next start begins anew.
fn rebuild(db: &sled::Db, state: &State) -> sled::Result<()> {
    db.clear()?;
    db.flush()?;
    let mut batch = sled::Batch::default();
    let mut count = 0;
    for (key, value) in codec::rows(state) {
        batch.insert(key, value);
        count += 1;
        if count % REBUILD_BATCH == 0 {
            db.apply_batch(std::mem::take(&mut batch))?;
        }
    }
    db.apply_batch(batch)?;
    flush(db, BTreeMap::new(), state)
}
