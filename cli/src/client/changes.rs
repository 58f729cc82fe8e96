//! Following every change through the death of controllers: a broken or silent
//! stream is opened again elsewhere, after the last revision that was received
//! whole, so that nothing is missed and nothing comes twice.
//!
//! ```text
//! listing (after 0, in parts) ─► changes of one revision per message ─► …
//!     ▲                                  │ compacted here
//!     └──────────────────────────────────┘
//! ```

use std::time::Duration;

use nube_proto::v1::watch_service_client::WatchServiceClient;
use nube_proto::v1::{WatchRequest, WatchResponse};
use tonic::{Code, Status, Streaming};

use super::Client;
use super::retry::{Verdict, verdict};
use crate::error::{Error, Result, reason_of};

/// A quiet cloud says nothing; a controller that lost its cluster neither.
/// After this long the next one is asked, which costs one request.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A controller that ends each stream at once must not be asked in a tight loop.
const REOPEN_PAUSE: Duration = Duration::from_millis(200);
/// Streams that ended before they told anything whole, one after the other.
const FRUITLESS_MAX: u32 = 100;
/// A listing is held until it is whole; more than this is not for one terminal.
const LISTING_CHANGES_MAX: usize = 1_000_000;

/// What a watcher is told.
#[derive(Debug)]
pub enum News {
    /// Changes of one revision; or, with `initial`, everything as it is.
    Message(WatchResponse),
    /// The changes after this revision are forgotten; a listing comes next.
    Compacted { after: u64 },
}

/// The changes, in order.
#[derive(Debug)]
pub struct Changes<'a> {
    client: &'a Client,
    /// `after_revision` is the last revision that was received whole.
    request: WatchRequest,
    stream: Option<Streaming<WatchResponse>>,
    listing: Option<WatchResponse>,
    fruitless: u32,
    opened_before: bool,
    silence_max: Duration,
    reopen_pause: Duration,
}

impl<'a> Changes<'a> {
    /// Begins after the request's revision; 0 begins with a listing.
    #[must_use]
    pub fn new(client: &'a Client, request: WatchRequest) -> Self {
        Self {
            client,
            request,
            stream: None,
            listing: None,
            fruitless: 0,
            opened_before: false,
            silence_max: SILENCE_MAX,
            reopen_pause: REOPEN_PAUSE,
        }
    }

    /// The revision to go on after.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.request.after_revision
    }

    /// The next news. Fails when the controllers refuse or none answers.
    pub async fn next(&mut self) -> Result<News> {
        loop {
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => match self.open().await {
                    Ok(stream) => stream,
                    Err(error) if error.reason() == "COMPACTED" => return self.restart(error),
                    Err(error) => return Err(error),
                },
            };
            match tokio::time::timeout(self.silence_max, stream.message()).await {
                Ok(Ok(Some(message))) => {
                    self.stream = Some(stream);
                    if let Some(whole) = self.take(message)? {
                        self.fruitless = 0;
                        return Ok(News::Message(whole));
                    }
                }
                Ok(Err(status)) if reason_of(&status) == "COMPACTED" => {
                    return self.restart(Error::from_status("watch", &status));
                }
                Ok(Err(status)) => self.broken(&status)?,
                Ok(Ok(None)) => self.broken(&Status::unavailable("the stream ended"))?,
                Err(_) => self.client.leave(),
            }
        }
    }

    /// A message that is whole and new, if it is one.
    fn take(&mut self, message: WatchResponse) -> Result<Option<WatchResponse>> {
        if !message.initial {
            // A listing that breaks off is void: the stream begins anew.
            self.listing = None;
            let known = message.revision <= self.request.after_revision;
            self.request.after_revision = self.request.after_revision.max(message.revision);
            return Ok((!known).then_some(message));
        }
        let mut listing = self.listing.take().unwrap_or_else(|| WatchResponse {
            changes: Vec::new(),
            ..message.clone()
        });
        listing.changes.extend(message.changes);
        if listing.changes.len() > LISTING_CHANGES_MAX {
            let text = format!("watch: more than {LISTING_CHANGES_MAX} objects");
            return Err(Error::failed(text).hint("name kinds, or a revision with --after"));
        }
        if !message.initial_end {
            self.listing = Some(listing);
            return Ok(None);
        }
        listing.initial_end = true;
        self.request.after_revision = listing.revision;
        Ok(Some(listing))
    }

    /// Changes are missing: begin with a listing, and say so.
    fn restart(&mut self, error: Error) -> Result<News> {
        let after = self.request.after_revision;
        if after == 0 {
            return Err(error);
        }
        self.request.after_revision = 0;
        self.listing = None;
        Ok(News::Compacted { after })
    }

    /// A stream that ended; too many in a row, or a refusal, end the watch.
    fn broken(&mut self, status: &Status) -> Result<()> {
        self.fruitless += 1;
        // Too slow a watcher is cut off, and may come back where it was.
        let slow = status.code() == Code::ResourceExhausted;
        let refused = verdict(status) == Verdict::Final && !slow;
        if refused || self.fruitless >= FRUITLESS_MAX {
            return Err(Error::from_status("watch", status));
        }
        Ok(())
    }

    async fn open(&mut self) -> Result<Streaming<WatchResponse>> {
        if self.opened_before {
            tokio::time::sleep(self.reopen_pause).await;
        }
        self.opened_before = true;
        self.listing = None;
        let open = |link| {
            let request = self.request.clone();
            async move { WatchServiceClient::new(link).watch(request).await }
        };
        self.client.call("watch", open).await
    }
}

#[cfg(test)]
mod test;
