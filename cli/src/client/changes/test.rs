//! A watcher against controllers that cut it off, forget, repeat and fall
//! silent.

use std::sync::{Arc, Mutex};

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use nube_proto::v1::Change;
use nube_proto::v1::watch_service_server::{WatchService, WatchServiceServer};
use tonic::{Request, Response};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::client::test::{client, serve_service};

/// One change per revision, 1 to `newest`; listings in two parts.
#[derive(Clone)]
struct Log {
    newest: u64,
    /// Changes up to here are forgotten.
    compacted: u64,
    /// Each stream breaks after so many messages.
    cut_after: usize,
    /// Streams begin with the last message once more, and then say nothing.
    odd: bool,
    asked: Arc<Mutex<Vec<u64>>>,
}

impl Log {
    fn new(newest: u64) -> Self {
        Self {
            newest,
            compacted: 0,
            cut_after: usize::MAX,
            odd: false,
            asked: Arc::default(),
        }
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.lock().expect("no panic while locked").clone()
    }

    fn messages(&self, after: u64) -> Vec<WatchResponse> {
        let change = |id: u64| Change {
            kind: "instance".into(),
            id: format!("i-{id}"),
            ..Change::default()
        };
        let message = |revision, first: u64, last: u64| WatchResponse {
            revision,
            changes: (first..=last).map(change).collect(),
            ..WatchResponse::default()
        };
        let mut all = Vec::new();
        let mut next = after + 1;
        if after == 0 {
            let now = self.newest - 2;
            let mut part = message(now, 1, now / 2);
            part.initial = true;
            all.push(part);
            let mut part = message(now, now / 2 + 1, now);
            (part.initial, part.initial_end) = (true, true);
            all.push(part);
            next = now + 1;
        } else if self.odd {
            next = after;
        }
        all.extend((next..=self.newest).map(|revision| message(revision, revision, revision)));
        all
    }
}

#[tonic::async_trait]
impl WatchService for Log {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let after = request.into_inner().after_revision;
        self.asked
            .lock()
            .expect("no panic while locked")
            .push(after);
        if after != 0 && after < self.compacted {
            let info = ErrorDetails::with_error_info("COMPACTED", "nube", []);
            return Err(Status::with_error_details(
                Code::OutOfRange,
                "forgotten",
                info,
            ));
        }
        let messages = self
            .messages(after)
            .into_iter()
            .take(self.cut_after)
            .map(Ok);
        let whole = messages.len() < self.cut_after;
        let end = match whole {
            true => futures::stream::pending().boxed(),
            false => futures::stream::iter([Err(Status::unavailable("killed"))]).boxed(),
        };
        Ok(Response::new(
            futures::stream::iter(messages).chain(end).boxed(),
        ))
    }
}

async fn of(logs: &[Log]) -> Client {
    let mut addresses = Vec::new();
    for log in logs {
        addresses.push(serve_service(WatchServiceServer::new(log.clone())).await);
    }
    client(&addresses, None)
}

fn after(revision: u64) -> WatchRequest {
    WatchRequest {
        after_revision: revision,
        ..WatchRequest::default()
    }
}

/// A watcher that loses no time.
fn hasty(client: &Client, revision: u64) -> Changes<'_> {
    let mut changes = Changes::new(client, after(revision));
    changes.reopen_pause = Duration::from_millis(1);
    changes
}

/// Ids of all changes until `until`, listings included.
async fn ids(changes: &mut Changes<'_>, until: u64) -> Vec<String> {
    let mut ids = Vec::new();
    while changes.revision() < until {
        match changes.next().await.expect("news") {
            News::Message(message) => ids.extend(message.changes.into_iter().map(|c| c.id)),
            News::Compacted { after } => panic!("compacted after {after}"),
        }
    }
    ids
}

fn numbered(numbers: std::ops::RangeInclusive<u64>) -> Vec<String> {
    numbers.map(|id| format!("i-{id}")).collect()
}

#[tokio::test]
async fn a_watcher_that_is_cut_off_again_and_again_misses_and_repeats_nothing() {
    let log = Log {
        cut_after: 2,
        ..Log::new(102)
    };
    let client = of(&[log.clone(), log.clone()]).await;
    let mut changes = hasty(&client, 2);
    assert_eq!(ids(&mut changes, 102).await, numbered(3..=102));
    assert_eq!(log.asked().len(), 50, "{:?}", log.asked());
}

#[tokio::test]
async fn a_listing_is_told_whole_or_not_at_all() {
    let broken = Log {
        cut_after: 1,
        ..Log::new(10)
    };
    let whole = Log::new(10);
    let client = of(std::slice::from_ref(&broken)).await;
    let mut changes = hasty(&client, 0);
    let error = changes.next().await.expect_err("no listing ever ends");
    assert!(error.render().contains("killed"), "{}", error.render());
    assert!(broken.asked().len() > 10 && broken.asked().iter().all(|a| *a == 0));

    let client = of(&[whole]).await;
    let mut changes = hasty(&client, 0);
    let Ok(News::Message(first)) = changes.next().await else {
        panic!("a listing");
    };
    assert!(first.initial && first.initial_end && first.revision == 8);
    assert_eq!(first.changes.len(), 8, "both parts in one");
    assert_eq!(ids(&mut changes, 10).await, numbered(9..=10));
}

#[tokio::test]
async fn forgotten_changes_are_said_and_listed_anew() {
    let log = Log {
        compacted: 5,
        ..Log::new(9)
    };
    let client = of(std::slice::from_ref(&log)).await;
    let mut changes = hasty(&client, 3);
    let first = changes.next().await.expect("news");
    assert!(matches!(first, News::Compacted { after: 3 }), "{first:?}");
    let Ok(News::Message(listing)) = changes.next().await else {
        panic!("a listing");
    };
    assert!(listing.initial && listing.revision == 7);
    assert_eq!(listing.changes.len(), 7);
    assert_eq!(ids(&mut changes, 9).await, numbered(8..=9));
    assert_eq!(log.asked(), [3, 0]);
}

#[tokio::test]
async fn repeated_messages_are_dropped_and_silent_controllers_left() {
    let (behind, ahead) = (Log::new(5), Log::new(7));
    let odd = Log {
        odd: true,
        ..ahead.clone()
    };
    let client = of(&[behind.clone(), odd.clone()]).await;
    let mut changes = hasty(&client, 3);
    changes.silence_max = Duration::from_millis(100);
    assert_eq!(ids(&mut changes, 7).await, numbered(4..=7));
    assert_eq!((behind.asked(), odd.asked()), (vec![3], vec![5]));
    assert!(changes.next().now_or_never().is_none(), "nothing more");
}

#[tokio::test]
async fn a_refusal_ends_the_watch() {
    let client = of(&[Log::new(1)]).await;
    let mut changes = hasty(&client, 1);
    assert!(
        changes
            .broken(&Status::permission_denied("viewer needed"))
            .is_err()
    );
    assert!(
        changes
            .broken(&Status::resource_exhausted("too slow"))
            .is_ok()
    );
    assert!(changes.broken(&Status::unavailable("gone")).is_ok());
}
