//! One verb, from a free place in its lane to its answer. Deadlines are far
//! above what a verb takes on a busy host: they only keep a stuck host call
//! from blocking its instance for ever, deletes above all.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::Semaphore;
use tracing::Instrument;

use crate::driver::{Driver, DriverError};
use crate::image::Images;
use crate::instance::{Desire, Done, Verb, Wish};
use crate::metrics;

/// Starts at once on one host: each costs a core for a while, so more make all
/// of them late; fewer leave cores idle.
const STARTS_MAX: usize = 8;
/// Ends at once: cheap, and never behind a queue of starts.
const ENDS_MAX: usize = 32;

/// Bounds what happens at once. Fetches wait for the network, not for a lane.
#[derive(Clone)]
pub struct Lanes {
    starts: Arc<Semaphore>,
    ends: Arc<Semaphore>,
}

impl Lanes {
    pub fn new() -> Self {
        Self {
            starts: Arc::new(Semaphore::new(STARTS_MAX)),
            ends: Arc::new(Semaphore::new(ENDS_MAX)),
        }
    }
}

/// Does a verb, seen by the figures and in a span of its own.
pub async fn run<D: Driver, I: Images>(
    driver: Arc<D>,
    images: Arc<I>,
    lanes: Lanes,
    verb: Verb,
    wish: Wish,
) -> Done {
    let (word, instance) = (metrics::word(verb), wish.instance);
    let span = tracing::info_span!("verb", verb = word, %instance, result = tracing::field::Empty);
    let begun = Instant::now();
    nube_failpoint::reach("verb-begin");
    let done = perform_in_lane(driver, images, lanes, verb, wish);
    let done = done.instrument(span.clone()).await;
    nube_failpoint::reach("verb-end");
    let result = match &done {
        Done::Failed(_) => "failed",
        _ => "done",
    };
    span.record("result", result);
    metrics::events().verb(word, result, begun.elapsed());
    done
}

/// Never panics: a driver's bug fails one step of one instance.
async fn perform_in_lane<D: Driver, I: Images>(
    driver: Arc<D>,
    images: Arc<I>,
    lanes: Lanes,
    verb: Verb,
    wish: Wish,
) -> Done {
    let lane = match verb {
        Verb::Fetch => None,
        Verb::Prepare | Verb::Start => Some(lanes.starts),
        Verb::PowerButton | Verb::PowerCut | Verb::Remove => Some(lanes.ends),
    };
    let _place = match lane {
        // The lanes are never closed; without a place the verb just runs.
        Some(lane) => lane.acquire_owned().await.ok(),
        None => None,
    };
    let work = AssertUnwindSafe(perform(&*driver, &*images, verb, &wish)).catch_unwind();
    let done = match tokio::time::timeout(deadline(verb), work).await {
        Ok(Ok(Ok(done))) => return done,
        Ok(Ok(Err(reason))) => reason,
        Ok(Err(_panic)) => "the agent has a bug: this step panicked".to_owned(),
        Err(_late) => format!(
            "no answer from the host within {} s",
            deadline(verb).as_secs()
        ),
    };
    if verb == Verb::Start {
        // A half-started process must not live on beside a state that says it
        // does not run.
        let cut = within(deadline(Verb::PowerCut), driver.power_cut(wish.instance)).await;
        if let Err(reason) = cut {
            return Done::Failed(format!("{done}; then {reason}"));
        }
    }
    Done::Failed(done)
}

async fn perform<D: Driver, I: Images>(
    driver: &D,
    images: &I,
    verb: Verb,
    wish: &Wish,
) -> Result<Done, String> {
    let id = wish.instance;
    let no_spec = || "the wish changed before its step began".to_owned();
    match verb {
        Verb::Fetch | Verb::Prepare => {
            let Desire::Running(spec) = &wish.desire else {
                return Err(no_spec());
            };
            // Also before Prepare: at once when the files are still here.
            let files = images
                .ensure(&spec.image)
                .await
                .map_err(|e| e.to_string())?;
            if verb == Verb::Prepare {
                driver.prepare(spec, &files).await.map_err(text)?;
            }
        }
        Verb::Start => return driver.start(id).await.map(Done::Started).map_err(text),
        Verb::PowerButton => driver.power_button(id).await.map_err(text)?,
        Verb::PowerCut => match driver.power_cut(id).await {
            Ok(()) | Err(DriverError::Absent(_)) => {}
            Err(error) => return Err(text(error)),
        },
        Verb::Remove => driver.remove(id).await.map_err(text)?,
    }
    Ok(Done::Ok)
}

async fn within(
    deadline: Duration,
    work: impl Future<Output = Result<(), DriverError>>,
) -> Result<(), String> {
    match tokio::time::timeout(deadline, work).await {
        Ok(Ok(()) | Err(DriverError::Absent(_))) => Ok(()),
        Ok(Err(error)) => Err(text(error)),
        Err(_late) => Err("its process could not be ended".to_owned()),
    }
}

fn text(error: DriverError) -> String {
    error.to_string()
}

fn deadline(verb: Verb) -> Duration {
    Duration::from_secs(match verb {
        // Bounded inside by silence, not by size; a day ends what slips through.
        Verb::Fetch => 24 * 3600,
        Verb::Prepare | Verb::Start | Verb::PowerCut => 120,
        Verb::PowerButton => 10,
        Verb::Remove => 300,
    })
}
