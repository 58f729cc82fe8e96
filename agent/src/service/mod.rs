//! What guests are told over their network: who they are (`metadata`), which
//! address they have (`dhcp`, `ra`, `dhcp6`) and what others are called (`dns`).
//!
//! ```text
//!  network task ─ update(number, Site) ─► watch ─┬─► metadata  80/tcp, two addresses
//!                                                ├─► dns       53/udp, 53/tcp ─► host's resolvers
//!                                                └─► taps ─► dhcp, ra, dhcp6 for each
//! ```
//!
//! Sockets are made inside of the network's namespace and stay in it wherever
//! their task runs. Everything that reads a guest's bytes is a pure function from
//! bytes and what is known to an answer; the tasks around them only carry. A task
//! that fails starts again; new knowledge reaches those that run, and no socket
//! is closed for it.

pub mod dhcp;
pub mod dhcp6;
pub mod dns;
pub mod metadata;
#[doc(hidden)]
pub mod probe;
pub mod ra;
mod socket;
mod taps;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nube_types::InstanceId;
use nube_types::net::Ipv4Prefix;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::dns::{Upstream, Zone};
use self::metadata::token::Tokens;
use crate::driver::{GuestSpec, PortSpec};
use crate::host::namespace::Namespace;
use crate::network::spec::NetworkSpec;

/// Between two attempts of a task that fails at once.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What services of one network namespace need; complete each time.
#[derive(Debug, Clone)]
pub struct Site {
    /// Where the sockets are made.
    pub namespace: Namespace,
    /// The network, with its ports on all hosts.
    pub spec: NetworkSpec,
    /// Ports of this host, whose guests are served.
    pub ports: BTreeMap<InstanceId, LocalPort>,
}

/// A guest of this host.
#[derive(Debug, Clone)]
pub struct LocalPort {
    /// Name of its tap.
    pub tap: String,
    /// What it is told.
    pub guest: Arc<GuestSpec>,
    /// When its run began, by the clock of `host::clock`; `None`: no run, or
    /// nobody knows, and what only a young run may have stays closed.
    pub started_ms: Option<u64>,
}

/// A site and what is computed from it once.
#[derive(Debug)]
pub(crate) struct Current {
    pub(crate) site: Site,
    pub(crate) names: Zone,
}

impl Current {
    fn of(site: Site) -> Arc<Self> {
        let names = Zone::of(&site.spec);
        Arc::new(Self { site, names })
    }

    /// The guest of this host with that address: hosts let nobody else send from
    /// it.
    pub(crate) fn local(&self, address: IpAddr) -> Option<(&InstanceId, &LocalPort)> {
        let address = address.to_canonical();
        self.site.ports.iter().find(|(_, local)| {
            let port = &local.guest.port;
            match address {
                IpAddr::V4(address) => port.address == address,
                IpAddr::V6(address) => port.address_v6 == Some(address),
            }
        })
    }
}

/// What all networks of one host share.
#[derive(Debug)]
struct Shared {
    tokens: Tokens,
    zone: Option<String>,
    upstream: Upstream,
}

/// One network's tasks, and what they know.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    shared: Arc<Shared>,
    current: watch::Receiver<Arc<Current>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Running {
    current: watch::Sender<Arc<Current>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Services of all networks of this host.
#[derive(Debug)]
pub struct Services {
    shared: Arc<Shared>,
    running: Mutex<HashMap<u32, Running>>,
}

impl Services {
    /// `host` is where the world is reached from (names outside of the cloud are
    /// asked there), `resolvers` whom to ask, `zone` the host's availability zone.
    #[must_use]
    pub fn new(host: Namespace, resolvers: Vec<IpAddr>, zone: Option<String>) -> Self {
        let shared = Shared {
            tokens: Tokens::new(&rand::random()),
            zone: zone.filter(|zone| !zone.is_empty()),
            upstream: Upstream::new(host, resolvers),
        };
        Self {
            shared: Arc::new(shared),
            running: Mutex::default(),
        }
    }

    /// Serves a network by what is known now; starts with the first call.
    pub async fn update(&self, number: u32, site: Site) {
        let mut running = self.running.lock().await;
        let current = Current::of(site);
        if let Some(found) = running.get(&number) {
            if found.current.borrow().site.namespace == current.site.namespace {
                found.current.send_replace(current);
                return;
            }
            // Another node's namespace of this number: only tests do that.
            if let Some(old) = running.remove(&number) {
                old.end().await;
            }
        }
        running.insert(number, Running::begin(&self.shared, current));
    }

    /// Ends a network's services and waits until their sockets are closed: an
    /// open socket would keep the namespace alive. Absent is fine.
    pub async fn remove(&self, number: u32) {
        let removed = self.running.lock().await.remove(&number);
        if let Some(running) = removed {
            running.end().await;
        }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        for running in self.running.get_mut().values() {
            running.stop.cancel();
        }
    }
}

impl Running {
    fn begin(shared: &Arc<Shared>, current: Arc<Current>) -> Self {
        let (sender, receiver) = watch::channel(current);
        let context = Context {
            shared: Arc::clone(shared),
            current: receiver,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        for address in metadata::addresses() {
            context.keep("metadata", move |context| metadata::serve(context, address));
        }
        context.keep("dns over udp", dns::serve_udp);
        context.keep("dns over tcp", dns::serve_tcp);
        context.keep("taps", taps::supervise);
        Self {
            current: sender,
            tasks: context.tasks,
            stop: context.stop,
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Context {
    pub(crate) fn now(&self) -> Arc<Current> {
        Arc::clone(&self.current.borrow())
    }

    /// A socket of the network's namespace.
    async fn make<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let namespace = self.now().site.namespace.clone();
        namespace.run(make).await
    }

    /// Runs until the network's services end.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(work).await;
        });
    }

    /// Runs a service, again and again should it fail.
    fn keep<F, W>(&self, name: &'static str, serve: W)
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
        W: Fn(Self) -> F + Send + 'static,
    {
        let context = self.clone();
        self.spawn(async move {
            let number = context.now().site.spec.number;
            let mut pause = RETRY;
            loop {
                let began = tokio::time::Instant::now();
                if let Err(error) = serve(context.clone()).await {
                    tracing::warn!(network = number, service = name, %error, "starts again");
                }
                pause = match began.elapsed() > RETRY_MAX {
                    true => RETRY,
                    false => pause.saturating_mul(2).min(RETRY_MAX),
                };
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// The same services and knowledge, ended earlier.
    fn child(&self) -> Self {
        Self {
            stop: self.stop.child_token(),
            ..self.clone()
        }
    }
}

/// The subnet that a port is in.
pub(crate) fn subnet_of(port: &PortSpec) -> Ipv4Prefix {
    Ipv4Prefix::around(port.address, port.prefix_length)
}

/// Domain of a network's names.
pub(crate) fn domain_of(network_name: &str) -> String {
    format!("{network_name}.internal")
}

#[cfg(test)]
mod test;
