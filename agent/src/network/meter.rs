//! What guests exchanged with the internet, for the bill: counts of the kernel
//! become totals that only grow, kept on disk.
//!
//! A total belongs to a placement of an instance. Beside it stands the count that
//! it was last read at and which life of the kernel's table that was: neither a
//! restart of the agent nor a table that was lost repeats or loses bytes.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nube_proto::agent::v1::{InstanceTraffic, TrafficReport};
use nube_types::{InstanceId, PlacementEpoch};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::rules::meter::{self as rules, Reading};
use crate::host::durable;
use crate::host::namespace::Namespace;
use crate::host::nft::{self, Standing};

/// Reports that still name an instance that left: one may be lost.
const REPORTS_AFTER_LEAVING: u8 = 10;
/// Instances that left and are remembered; the oldest make room.
const ENTRIES_MAX: usize = 16_384;

/// Whose address it is, and of which placement.
pub type Owners = BTreeMap<Ipv4Addr, (InstanceId, PlacementEpoch)>;

/// One placement of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    instance: InstanceId,
    epoch: PlacementEpoch,
    bytes_out: u64,
    bytes_in: u64,
    /// Of the kernel's table.
    life: String,
    /// What the table said when it was last read.
    read_out: u64,
    read_in: u64,
    /// It is not here any more: so many reports are left.
    left: Option<u8>,
}

/// The book of all guests of a host. Pure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    entries: Vec<Entry>,
}

impl Book {
    /// Adds what a guest's counters have grown by.
    fn enter(
        &mut self,
        instance: InstanceId,
        epoch: PlacementEpoch,
        life: &str,
        counts: (u64, u64),
    ) {
        let at = self.position(instance, epoch);
        let entry = &mut self.entries[at];
        if entry.life != life {
            life.clone_into(&mut entry.life);
            (entry.read_out, entry.read_in) = (0, 0);
        }
        // A count that fell began again.
        let grown = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
        let out = grown(counts.0, entry.read_out);
        entry.bytes_out = entry.bytes_out.saturating_add(out);
        let into = grown(counts.1, entry.read_in);
        entry.bytes_in = entry.bytes_in.saturating_add(into);
        (entry.read_out, entry.read_in) = counts;
        entry.left = None;
    }

    /// The entry of this placement; an earlier one of the same instance has left,
    /// and what it had read was its own.
    fn position(&mut self, instance: InstanceId, epoch: PlacementEpoch) -> usize {
        let of = |entry: &Entry| entry.instance == instance && entry.epoch == epoch;
        if let Some(at) = self.entries.iter().position(of) {
            return at;
        }
        let mut entry = Entry {
            instance,
            epoch,
            bytes_out: 0,
            bytes_in: 0,
            life: String::new(),
            read_out: 0,
            read_in: 0,
            left: None,
        };
        for before in self.entries.iter_mut().filter(|e| e.instance == instance) {
            if before.left.is_none() {
                before.left = Some(REPORTS_AFTER_LEAVING);
                before.life.clone_into(&mut entry.life);
                (entry.read_out, entry.read_in) = (before.read_out, before.read_in);
            }
        }
        if self.entries.len() >= ENTRIES_MAX
            && let Some(oldest) = self.entries.iter().position(|e| e.left.is_some())
        {
            self.entries.remove(oldest);
        }
        self.entries.push(entry);
        self.entries.len() - 1
    }

    /// The kernel forgot this guest's counters: they begin at nothing again.
    fn reset(&mut self, instance: InstanceId) {
        for entry in self.entries.iter_mut().filter(|e| e.instance == instance) {
            (entry.read_out, entry.read_in) = (0, 0);
        }
    }

    fn leave(&mut self, instance: InstanceId) {
        for entry in self.entries.iter_mut().filter(|e| e.instance == instance) {
            entry.left.get_or_insert(REPORTS_AFTER_LEAVING);
        }
    }

    /// All totals; those of instances that left are told a few times more.
    fn report(&mut self) -> TrafficReport {
        let told = |entry: &Entry| InstanceTraffic {
            instance_id: entry.instance.to_string(),
            placement_epoch: entry.epoch.0,
            bytes_out: entry.bytes_out,
            bytes_in: entry.bytes_in,
        };
        let instances = self.entries.iter().map(told).collect();
        for entry in &mut self.entries {
            entry.left = entry.left.map(|reports| reports.saturating_sub(1));
        }
        self.entries.retain(|entry| entry.left != Some(0));
        TrafficReport { instances }
    }
}

#[derive(Debug, Default)]
struct Inner {
    book: Book,
    kept: Book,
    owners: BTreeMap<u32, Owners>,
}

/// The book with its file and the kernel's tables. Clones are the same.
#[derive(Debug, Clone)]
pub struct Meter {
    path: PathBuf,
    inner: Arc<Mutex<Inner>>,
    left: Arc<Notify>,
}

impl Meter {
    /// Opens the book. A damaged one is moved aside: bytes that were not reported
    /// are lost with it.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let book = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Book>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Book::default()),
            Err(error) => return Err(error),
        };
        if book.is_none() {
            tracing::error!(path = %path.display(), "unreadable traffic totals are moved aside");
            std::fs::rename(&path, path.with_extension("unreadable"))?;
        }
        let book = book.unwrap_or_default();
        let inner = Inner {
            kept: book.clone(),
            book,
            owners: BTreeMap::new(),
        };
        Ok(Self {
            path,
            inner: Arc::new(Mutex::new(inner)),
            left: Arc::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the table of a network count for these guests.
    pub async fn ensure(
        &self,
        namespace: &Namespace,
        number: u32,
        owners: Owners,
    ) -> io::Result<()> {
        self.read(namespace, number).await?;
        let wanted = owners.keys().copied().collect();
        let gone = namespace
            .run(move || {
                let reading = reading()?;
                if reading.life.is_empty() {
                    nft::apply(&rules::create(rand::random()))?;
                }
                if let Some(change) = rules::members(&reading, &wanted) {
                    nft::apply(&change)?;
                }
                let counted = reading.bytes.into_keys();
                Ok(counted
                    .filter(|address| !wanted.contains(address))
                    .collect::<Vec<_>>())
            })
            .await?;
        let mut inner = self.lock();
        let before = inner.owners.insert(number, owners).unwrap_or_default();
        for (instance, _) in gone.iter().filter_map(|address| before.get(address)) {
            inner.book.reset(*instance);
        }
        Ok(())
    }

    /// Enters what the kernel has counted in a network.
    pub async fn read(&self, namespace: &Namespace, number: u32) -> io::Result<()> {
        let reading = namespace.run(reading).await?;
        let mut inner = self.lock();
        let owners = inner.owners.get(&number).cloned().unwrap_or_default();
        for (address, counts) in &reading.bytes {
            if let Some((instance, epoch)) = owners.get(address) {
                inner.book.enter(*instance, *epoch, &reading.life, *counts);
            }
        }
        Ok(())
    }

    /// Before a guest's port goes. What cannot be read is not billed.
    pub async fn read_last(&self, namespace: &Namespace, number: u32, instance: InstanceId) {
        if let Err(error) = self.read(namespace, number).await {
            tracing::warn!(%instance, %error, "cannot read the traffic of a guest that leaves");
        }
        let mut inner = self.lock();
        inner.book.leave(instance);
        if let Some(owners) = inner.owners.get_mut(&number) {
            owners.retain(|_, (owner, _)| *owner != instance);
        }
        drop(inner);
        self.keep_or_say();
        self.left.notify_one();
    }

    /// Returns when an instance has left since the last call.
    pub async fn left(&self) {
        self.left.notified().await;
    }

    /// For the leader.
    #[must_use]
    pub fn report(&self) -> TrafficReport {
        self.lock().book.report()
    }

    /// Makes the book durable, unless nothing changed. Reported totals must not
    /// fall after a restart: call it before reporting.
    pub fn keep(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.kept == inner.book {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&inner.book)?;
        durable::replace(&self.path, &bytes, 0o600)?;
        inner.kept = inner.book.clone();
        Ok(())
    }

    fn keep_or_say(&self) {
        if let Err(error) = self.keep() {
            tracing::error!(%error, "cannot keep traffic totals");
        }
    }
}

fn reading() -> io::Result<Reading> {
    if !Standing::read()?.has("inet", rules::TABLE) {
        return Ok(Reading::default());
    }
    Ok(rules::read(&nft::query(&rules::question())?))
}

#[cfg(test)]
mod test {
    use super::*;

    const ONE: InstanceId = InstanceId(1);
    const FIRST: PlacementEpoch = PlacementEpoch(1);

    fn totals(book: &mut Book) -> Vec<(u32, u64, u64)> {
        let told = book.report().instances;
        told.iter()
            .map(|t| (t.placement_epoch, t.bytes_out, t.bytes_in))
            .collect()
    }

    #[test]
    fn totals_only_grow() {
        let mut book = Book::default();
        book.enter(ONE, FIRST, "a", (100, 10));
        book.enter(ONE, FIRST, "a", (150, 10));
        assert_eq!(totals(&mut book), [(1, 150, 10)]);
        // The same reading again adds nothing; another life of the table does.
        book.enter(ONE, FIRST, "a", (150, 10));
        book.enter(ONE, FIRST, "b", (160, 20));
        assert_eq!(totals(&mut book), [(1, 310, 30)]);
        book.reset(ONE);
        book.enter(ONE, FIRST, "b", (5, 5));
        assert_eq!(totals(&mut book), [(1, 315, 35)]);
    }

    #[test]
    fn a_new_placement_begins_at_nothing() {
        let mut book = Book::default();
        book.enter(ONE, FIRST, "a", (100, 10));
        book.enter(ONE, PlacementEpoch(2), "a", (130, 10));
        assert_eq!(totals(&mut book), [(1, 100, 10), (2, 30, 0)]);
    }

    #[test]
    fn who_left_is_told_some_times_and_then_forgotten() {
        let mut book = Book::default();
        book.enter(ONE, FIRST, "a", (1, 1));
        book.leave(ONE);
        for _ in 0..REPORTS_AFTER_LEAVING {
            assert_eq!(totals(&mut book), [(1, 1, 1)]);
        }
        assert!(totals(&mut book).is_empty());
    }

    #[test]
    fn the_book_comes_back() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("traffic.json");
        let meter = Meter::open(path.clone()).expect("open");
        meter.lock().book.enter(ONE, FIRST, "a", (7, 8));
        meter.keep().expect("kept");
        let again = Meter::open(path).expect("open");
        assert_eq!(again.report(), meter.report());
    }
}
