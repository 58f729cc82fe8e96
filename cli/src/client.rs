//! The way to the controllers: any of them answers any call, so a failed
//! attempt goes to the next endpoint, with the same request id, until the
//! deadline. TLS, mutual unless an access key speaks for the caller; the name in
//! the controller's certificate is fixed, not the address.

mod changes;
mod link;
mod retry;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Response, Status};

use crate::args::Global;
use crate::config::{Credentials, Locations, Profile, named};
use crate::error::{Context, Error, Exit, Result};
use link::Stamp;
use retry::Verdict;

pub use changes::{Changes, News};
pub use link::Link;
pub use watch::Watch;

/// In every controller's certificate: clients trust the role, not the address.
const SERVER_NAME: &str = "controller.nube.internal";

/// Text of the status that stands for an answer that never came.
const SILENT: &str = "no answer in time";

/// One controller.
#[derive(Debug, Clone)]
struct Target {
    address: String,
    link: Link,
}

/// A connection to the cloud.
#[derive(Debug)]
pub struct Client {
    targets: Vec<Target>,
    /// The endpoint that answered last.
    current: AtomicUsize,
    /// Some attempt got through: there is a cloud to wait for.
    reached: AtomicBool,
    deadline: Option<Duration>,
    request_id: Option<String>,
}

impl Client {
    /// From the configuration and the flags. Nothing is connected yet.
    pub fn open(global: &Global) -> Result<Self> {
        let profile = Locations::of(global)?.read()?;
        let project = named(&global.project).or(named(&profile.project));
        let targets = targets(&profile, project)?;
        Ok(Self::new(
            targets,
            global.timeout,
            global.request_id.clone(),
        ))
    }

    fn new(targets: Vec<Target>, deadline: Option<Duration>, request_id: Option<String>) -> Self {
        // Spreads clients over controllers; the leader is not known before.
        let first = rand::random_range(0..targets.len().max(1));
        Self {
            targets,
            current: AtomicUsize::new(first),
            reached: AtomicBool::new(false),
            deadline,
            request_id,
        }
    }

    /// The id of one mutation: `--request-id`, or drawn. Draw once, before the
    /// first attempt.
    #[must_use]
    pub fn request_id(&self) -> String {
        match &self.request_id {
            Some(id) => id.clone(),
            None => uuid::Uuid::new_v4().to_string(),
        }
    }

    /// Refuses one request id for several mutations: the second would be
    /// answered with the outcome of the first.
    pub fn allow_mutations(&self, count: usize) -> Result<()> {
        if self.request_id.is_some() && count > 1 {
            return Err(Error::usage(format!(
                "--request-id names one mutation, not {count}"
            )));
        }
        Ok(())
    }

    /// Address and link of each controller, for those who must ask them all.
    pub fn each(&self) -> impl Iterator<Item = (&str, Link)> {
        let pair = |target: &Target| target.link.clone();
        self.targets
            .iter()
            .map(move |t| (t.address.as_str(), pair(t)))
    }

    /// Calls until an answer or the deadline. `what` is the action for error
    /// texts, as `launch`.
    pub async fn call<T, F>(&self, what: &str, attempt: impl FnMut(Link) -> F) -> Result<T>
    where
        F: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        self.call_slow(what, retry::ATTEMPT_MAX, attempt).await
    }

    /// The same for calls whose answer may take up to `attempt_max`.
    pub async fn call_slow<T, F>(
        &self,
        what: &str,
        attempt_max: Duration,
        mut attempt: impl FnMut(Link) -> F,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        let mut tries = Tries::new(self, attempt_max);
        loop {
            let target = self.target()?;
            let answer = attempt(target.link.clone());
            let status = match tokio::time::timeout(tries.attempt_max(), answer).await {
                Ok(Ok(response)) => {
                    self.reached.store(true, Ordering::Relaxed);
                    return Ok(response.into_inner());
                }
                Ok(Err(status)) => status,
                Err(_) => Status::new(Code::DeadlineExceeded, SILENT),
            };
            tries.failed(what, &target.address, &status)?;
            self.skip(&target.address);
            tokio::time::sleep(tries.pause()).await;
        }
    }

    /// Leaves the controller in use for the next one: it lives and says nothing.
    pub fn leave(&self) {
        if let Ok(target) = self.target() {
            self.skip(&target.address);
        }
    }

    /// Goes on to the controller after `address`, unless another task has.
    fn skip(&self, address: &str) {
        let now = self.current.load(Ordering::Relaxed);
        let len = self.targets.len().max(1);
        if self
            .targets
            .get(now % len)
            .is_some_and(|t| t.address == address)
        {
            self.current.store((now + 1) % len, Ordering::Relaxed);
        }
    }

    fn target(&self) -> Result<Target> {
        let index = self.current.load(Ordering::Relaxed) % self.targets.len().max(1);
        let target = self.targets.get(index).cloned();
        target.ok_or_else(|| Error::failed("`endpoints` is empty"))
    }
}

/// The attempts of one call.
struct Tries<'a> {
    client: &'a Client,
    started: Instant,
    attempt_max: Duration,
    failures: u32,
    /// No attempt of this call found a listener.
    nobody: bool,
    noticed: bool,
}

impl<'a> Tries<'a> {
    fn new(client: &'a Client, attempt_max: Duration) -> Self {
        Self {
            client,
            started: Instant::now(),
            attempt_max,
            failures: 0,
            nobody: true,
            noticed: false,
        }
    }

    /// The end of the call: `--timeout`, else soon when there is no cloud, else
    /// the usual, but never less than one slow attempt.
    fn deadline(&self) -> Duration {
        let usual = retry::DEADLINE.max(self.attempt_max);
        let absent = self.nobody && self.failures > 0;
        match self.client.deadline {
            Some(deadline) => deadline,
            None if absent && !self.client.reached.load(Ordering::Relaxed) => retry::NOBODY_MAX,
            None => usual,
        }
    }

    fn attempt_max(&self) -> Duration {
        let left = self.deadline().saturating_sub(self.started.elapsed());
        self.attempt_max.min(left.max(Duration::from_millis(100)))
    }

    fn pause(&self) -> Duration {
        let endpoints = self.client.targets.len();
        retry::pause(self.failures, endpoints, rand::random::<f64>())
    }

    /// Decides about a failed attempt: the error ends the call.
    fn failed(&mut self, what: &str, address: &str, status: &Status) -> Result<()> {
        let verdict = retry::verdict(status);
        self.failures = self.failures.saturating_add(1);
        self.nobody &= verdict == Verdict::RetryRefused;
        let reason = retry::reason(status);
        if verdict == Verdict::Final {
            return Err(match by_controller(status) {
                true => Error::from_status(what, status),
                false => Error::new(Exit::Unavailable, format!("{what}: {address}: {reason}"))
                    .hint("check `ca`, `cert` and `key`: `cloudctl context show` names the files"),
            });
        }
        if self.started.elapsed() >= self.deadline() {
            return Err(self.gave_up(what, address, status, &reason));
        }
        if !self.noticed && self.started.elapsed() >= retry::NOTICE_AFTER {
            self.noticed = true;
            let reason = crate::output::text::escape(&reason);
            eprintln!("{what}: no answer from {address} yet ({reason}); still trying");
        }
        Ok(())
    }

    fn gave_up(&self, what: &str, address: &str, status: &Status, reason: &str) -> Error {
        // A controller that keeps saying why knows better than we do.
        if by_controller(status) {
            return Error::from_status(what, status);
        }
        let seconds = self.started.elapsed().as_secs();
        let endpoints = self.client.targets.iter().map(|t| t.address.as_str());
        let endpoints = endpoints.collect::<Vec<_>>().join(", ");
        let message = format!("{what}: no controller answered in {seconds} s");
        let error = Error::new(Exit::Unavailable, message)
            .detail(format!("asked: {endpoints}"))
            .detail(format!("last answer, from {address}: {reason}"));
        if self.nobody {
            return error.hint("nothing listens there: `cloudctl up` starts this machine's cloud");
        }
        error.hint(
            "`cloudctl cluster status --stale` asks one controller; repeating with the same \
             --request-id is safe",
        )
    }
}

/// Whether a stream that ended so may be opened again, here or elsewhere.
pub fn is_lost(status: &Status) -> bool {
    retry::verdict(status) != Verdict::Final
}

/// False for a failure of the transport, which carries its cause.
fn by_controller(status: &Status) -> bool {
    std::error::Error::source(status).is_none() && status.message() != SILENT
}

fn targets(profile: &Profile, project: Option<&str>) -> Result<Vec<Target>> {
    let read =
        |path: &std::path::Path| std::fs::read(path).context(format!("`{}`", path.display()));
    let tls = ClientTlsConfig::new()
        .domain_name(SERVER_NAME)
        .ca_certificate(Certificate::from_pem(read(&profile.ca)?))
        .timeout(Duration::from_secs(5));
    let (tls, stamp) = match profile.credentials()? {
        Credentials::Certificate { cert, key } => {
            let identity = Identity::from_pem(read(&cert)?, read(&key)?);
            (tls.identity(identity), Stamp::new(None, project)?)
        }
        Credentials::AccessKey(token) => (tls, Stamp::new(Some(&token), project)?),
    };
    let target = |address: &String| {
        let endpoint = Endpoint::from_shared(format!("https://{address}"))
            .and_then(|endpoint| tuned(endpoint).tls_config(tls.clone()))
            .context(format!("endpoint `{address}`"))?;
        Ok(Target {
            address: address.clone(),
            link: Link::new(endpoint.connect_lazy(), stamp.clone()),
        })
    };
    profile.endpoints.iter().map(target).collect()
}

/// Pings notice a controller that was paused or cut off: without them a watch
/// or a tunnel would hang on it for ever.
fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(Duration::from_secs(3))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
}

#[cfg(test)]
pub mod test;
