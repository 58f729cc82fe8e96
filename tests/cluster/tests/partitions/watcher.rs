//! A watcher that is cut off again and again and goes on at another controller
//! (A9): what it is sent, stream by stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nube_history::{Item, Stream};
use nube_proto::v1;
use nube_proto::v1::watch_service_client::WatchServiceClient;
use tonic::Code;

use super::client::Cell;

/// A controller that says nothing for so long is left for another.
const SILENCE: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(100);

/// A running watcher.
pub struct Watcher {
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    watcher: u64,
    streams: Vec<Stream>,
    /// Up to where all is known; 0 before the first list.
    covered: u64,
    resumed: usize,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Starts at some controller. Call within a runtime.
    pub fn start(cell: Cell, first: usize) -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            watcher: first as u64,
            ..Seen::default()
        }));
        let task = tokio::spawn(run(cell, first, Arc::clone(&seen)));
        Self { seen, task }
    }

    fn open(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to which revision it knows everything.
    pub fn revision(&self) -> u64 {
        self.open().covered
    }

    /// What it was sent since the last call, and how often it went on elsewhere.
    pub fn take(&self) -> (Vec<Stream>, usize) {
        let mut seen = self.open();
        let taken = std::mem::take(&mut seen.streams);
        // The stream that is open goes on in the next round.
        seen.go_on();
        (taken, std::mem::take(&mut seen.resumed))
    }
}

async fn run(cell: Cell, first: usize, seen: Arc<Mutex<Seen>>) {
    let mut compacted = 0;
    for number in first.. {
        let open = || seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = open().covered;
        // A controller remembers what it applied since its own start: only when
        // all say so is the past gone.
        if compacted >= cell.count() {
            after = 0;
        }
        match follow(&cell, number, after, &seen).await {
            Err(status) if status.code() == Code::OutOfRange => compacted += 1,
            _ => compacted = 0,
        }
        open().resumed += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow(
    cell: &Cell,
    number: usize,
    after: u64,
    seen: &Mutex<Seen>,
) -> Result<(), tonic::Status> {
    let request = v1::WatchRequest {
        after_revision: after,
        kinds: vec!["ssh_key".to_owned(), "event".to_owned()],
        all_projects: true,
    };
    let silent = |_| tonic::Status::deadline_exceeded("silent");
    let mut client = WatchServiceClient::new(cell.channel(number));
    let opened = tokio::time::timeout(SILENCE, client.watch(request)).await;
    let mut stream = opened.map_err(silent)??.into_inner();
    if after > 0 {
        seen.lock().unwrap_or_else(PoisonError::into_inner).go_on();
    }
    loop {
        let message = tokio::time::timeout(SILENCE, stream.message()).await;
        let Some(message) = message.map_err(silent)?? else {
            return Ok(());
        };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.take(message);
    }
}

impl Seen {
    /// A stream that begins where the last one ended.
    fn go_on(&mut self) {
        let (watcher, after) = (self.watcher, self.covered);
        self.streams.push(Stream {
            watcher,
            after,
            listed: false,
            items: Vec::new(),
        });
    }

    fn take(&mut self, message: v1::WatchResponse) {
        let revision = message.revision;
        if message.initial {
            if message.initial_end {
                self.covered = revision;
                self.streams.push(Stream {
                    watcher: self.watcher,
                    after: revision,
                    listed: true,
                    items: Vec::new(),
                });
            }
            return;
        }
        let item = match message.changes.is_empty() {
            true => Item::Progress(revision),
            false => Item::Changes(revision, message.changes.iter().map(text).collect()),
        };
        if let Some(stream) = self.streams.last_mut() {
            stream.items.push(item);
        }
        self.covered = revision;
    }
}

/// As the judge's reference has it.
fn text(change: &v1::Change) -> String {
    let end = if change.removed { " removed" } else { "" };
    format!("{} {}{end}", change.kind, change.id)
}
