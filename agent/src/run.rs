//! Puts the parts together: host facts, driver, reconciler, hub, links. Also
//! `clean`, which needs the same configuration and lock.

use std::fs::{self, File, TryLockError};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use nube_proto::agent::v1::{DesiredNetworks, Hello, agent_message};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::config::{self, Config, DriverKind};
use crate::driver::Driver;
use crate::driver::qemu::{Fence, QemuConfig, QemuDriver};
use crate::driver::simulated::SimulatedDriver;
use crate::fencer::{self, Deadline};
use crate::halt::halt;
use crate::host::accelerator::{self, Accelerator, Answer};
use crate::host::clean;
use crate::host::clock::Clock;
use crate::host::fingerprint::Fingerprint;
use crate::host::link::Prefix;
use crate::host::namespace::Namespace;
use crate::host::port::Networks;
use crate::image::Cache;
use crate::journal::Journal;
use crate::metrics;
use crate::network::guests::Present;
use crate::network::store::Store;
use crate::network::task::{Parts, Task};
use crate::reconciler::Reconciler;
use crate::renew;
use crate::service::{self, Services};
use crate::session::roster::{self, Roster};
use crate::session::{HubTask, Networking, blobs::Controllers, link};
use crate::stream::Streams;
use crate::tls::Tls;

/// Events that wait for a task; beyond, their senders wait.
const EVENTS_QUEUED: usize = 256;
/// The host itself needs room: a guest that gets its last MiB kills the agent.
const MEMORY_RESERVE_MIB_MIN: u64 = 512;
const RESERVE_PERCENT: u64 = 10;
/// How long a shutdown waits for what blocks a thread. Records make it safe not
/// to wait at all.
pub const SHUTDOWN: Duration = Duration::from_secs(2);

/// Runs the agent until SIGTERM or SIGINT.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let _lock = lock(&config)?;
    let facts = Fingerprint::take(&config.data_dir, &config.qemu).await;
    let facts = facts.context("cannot look at this host")?;
    let deadline = Deadline::open(&config.data_dir, &facts.boot_id);
    let deadline = deadline.context("cannot open the deadline of leased guests")?;
    match config.driver {
        DriverKind::Simulated => {
            let answer = Answer {
                accelerator: Accelerator::Tcg,
                reason: "guests are simulated".to_owned(),
            };
            let driver = SimulatedDriver::new();
            serve(config, driver, &facts, &answer, deadline, None).await
        }
        DriverKind::Qemu => {
            let answer = choose_accelerator(&config, &facts).await?;
            tracing::info!(
                accelerator = answer.accelerator.name(),
                reason = answer.reason,
                "guests run"
            );
            let driver = QemuDriver::open(QemuConfig {
                node: config.node_id,
                instances_dir: config.data_dir.join("instances"),
                qemu: config.qemu.clone(),
                accelerator: answer.accelerator,
                uid_base: config.uid_base,
                // This process has entered it already, if there is one.
                host_namespace: None,
                closed: controller_addresses(&config).await?,
                fence: Some(Fence {
                    deadline: deadline.path().to_owned(),
                    arguments: vec![fencer::SUBCOMMAND.into()],
                }),
            })?;
            let store =
                Store::open(&config.data_dir).context("cannot open what is kept of networks")?;
            let overlay = store.overlay(overlay_address(&config).await)?;
            if overlay.is_none() {
                tracing::warn!("no overlay address: this host's networks end at it");
            }
            let networks = TenantNetworks {
                networks: driver.networks(),
                guests: driver.guests().watch(),
                overlay,
                store,
            };
            serve(config, driver, &facts, &answer, deadline, Some(networks)).await
        }
    }
}

/// What the task that makes networks needs of the driver and the host.
struct TenantNetworks {
    networks: Arc<Networks>,
    guests: watch::Receiver<Present>,
    overlay: Option<Ipv4Addr>,
    store: Store,
}

impl TenantNetworks {
    fn task(
        self,
        config: &Config,
        desired: watch::Receiver<Option<Arc<DesiredNetworks>>>,
        tell: mpsc::Sender<agent_message::Message>,
    ) -> Task {
        // This process has entered its host's namespace already, if it has one.
        let host = Namespace::of(None);
        let resolvers = service::dns::host_resolvers();
        Task::new(Parts {
            networks: self.networks,
            guests: self.guests,
            desired,
            tell,
            store: self.store,
            overlay: self.overlay,
            traffic_report: Duration::from_secs(config.traffic_report_seconds.into()),
            services: Services::new(host, resolvers, Some(config.zone.clone())),
        })
    }
}

/// As configured, or the address that this host reaches a controller from.
async fn overlay_address(config: &Config) -> Option<Ipv4Addr> {
    if config.overlay_address.is_some() {
        return config.overlay_address;
    }
    for controller in &config.controllers {
        // Connecting a datagram socket chooses a route and sends nothing.
        let Ok(socket) = tokio::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await else {
            continue;
        };
        if socket.connect(controller).await.is_ok()
            && let Ok(IpAddr::V4(own)) = socket.local_addr().map(|own| own.ip())
            && !own.is_loopback()
        {
            return Some(own);
        }
    }
    None
}

async fn serve<D: Driver>(
    config: Config,
    driver: D,
    facts: &Fingerprint,
    answer: &Answer,
    deadline: Deadline,
    networks: Option<TenantNetworks>,
) -> anyhow::Result<()> {
    let tls = Tls::load(&config).context("cannot prove who this node is")?;
    let journal = Journal::open(&config.data_dir)?;
    let agent_epoch = journal.next_agent_epoch()?;
    let obeyed_term = journal.leader_term()?;
    let driver = Arc::new(driver);
    let controllers = Controllers::new();
    let room = config.image_cache_mib << 20;
    let images = Cache::open(&config.data_dir, room, controllers.clone())
        .context("cannot open the image cache")?;
    let (reconciler, view) = Reconciler::recover(
        driver.clone(),
        Arc::new(images),
        journal.clone(),
        deadline,
        Clock::BootTime,
    )
    .await?;
    let (to_reconciler, for_reconciler) = mpsc::channel(EVENTS_QUEUED);
    let (to_hub, for_hub) = mpsc::channel(EVENTS_QUEUED);
    let (roster, wanted) = Roster::new(config.controllers.clone(), journal.controllers()?);
    let overlay = networks.as_ref().and_then(|networks| networks.overlay);
    let (desired, wished) = watch::channel(None);
    let (tell, said) = mpsc::channel(EVENTS_QUEUED);
    let network_task = networks.map(|networks| networks.task(&config, wished, tell));
    let hub = HubTask::new(
        agent_epoch,
        obeyed_term,
        journal,
        roster,
        view.clone(),
        to_reconciler,
        Networking { desired, said },
        Clock::BootTime,
    );
    metrics::start(&config, view.clone());
    tracing::info!(node = %config.node_id, agent_epoch, driver = driver.name(), "agent starts");
    let shared = Arc::new(link::Shared {
        hello: hello(
            &config,
            (facts, answer),
            driver.name(),
            agent_epoch,
            overlay,
        ),
        tls: tls.clone(),
        view,
        events: to_hub,
        controllers: controllers.clone(),
        streams: Arc::new(Streams::new(driver)),
    });
    let mut tasks = JoinSet::new();
    if let Some(task) = network_task {
        tasks.spawn(task.run());
    }
    tasks.spawn(reconciler.run(for_reconciler));
    tasks.spawn(hub.run(for_hub));
    tasks.spawn(renew::run(tls.identity().clone(), controllers));
    tasks.spawn(roster::run(shared, wanted));
    until_asked(tasks).await
}

/// Waits for a request to end. That a task ends by itself is a bug.
async fn until_asked(mut tasks: JoinSet<()>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // None of them ends by itself: a bug. A fresh start adopts everything.
        ended = tasks.join_next() => bail!("a part of the agent ended: {ended:?}"),
    }
    tracing::info!("agent ends; guests go on");
    Ok(())
}

/// Removes all guests of this node and what the agent remembers of them; with
/// `keep_disks` they are only switched off.
pub async fn clean(
    config: &Config,
    netns: Option<String>,
    keep_disks: bool,
) -> anyhow::Result<Vec<String>> {
    let _lock = lock(config)?;
    if keep_disks {
        return halt(config, netns).await;
    }
    let target = clean::Target {
        node: config.node_id,
        instances_dir: config.data_dir.join("instances"),
        uid_base: config.uid_base,
        host_namespace: netns,
    };
    let mut removed = clean::clean(&target)
        .await
        .context("cannot remove all guests")?;
    // The numbers of lives and terms stay: the node keeps its identity.
    let journal = Journal::open(&config.data_dir)?;
    for id in journal.load()?.into_keys() {
        journal.forget(id)?;
        removed.push(format!("record of {id}"));
    }
    let images = config.data_dir.join("images");
    if images.exists() {
        fs::remove_dir_all(&images).context("cannot remove the image cache")?;
        removed.push("image cache".to_owned());
    }
    Ok(removed)
}

/// Makes the data directory and takes it for this process: two agents on one
/// directory would start every guest twice. Freed with the file.
fn lock(config: &Config) -> anyhow::Result<File> {
    let dir = &config.data_dir;
    let fault = || format!("cannot use the data directory `{}`", dir.display());
    fs::create_dir_all(dir).with_context(fault)?;
    // Guests' users pass through to their files, and list nothing.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).with_context(fault)?;
    let file = File::create(dir.join("lock")).with_context(fault)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another agent uses `{}`", dir.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(fault),
    }
}

async fn choose_accelerator(config: &Config, facts: &Fingerprint) -> anyhow::Result<Answer> {
    if config.accelerator == config::Accelerator::Tcg {
        let reason = "chosen in the agent's configuration".to_owned();
        return Ok(Answer {
            accelerator: Accelerator::Tcg,
            reason,
        });
    }
    let agent = std::env::current_exe().context("cannot find this program")?;
    let memory = config.data_dir.join("accelerator.json");
    let answer = accelerator::detect(&agent, &config.qemu, &memory, &facts.boot_id).await;
    let wanted = config.accelerator == config::Accelerator::Kvm;
    if wanted && answer.accelerator != Accelerator::Kvm {
        bail!("the configuration asks for KVM, but: {}", answer.reason);
    }
    Ok(answer)
}

/// Guests may not reach the controllers from inside the cloud. Names that do
/// not resolve now are left out: the networks of the host are closed anyway.
async fn controller_addresses(config: &Config) -> anyhow::Result<Vec<Prefix>> {
    let mut closed = Vec::new();
    let remembered = Journal::open(&config.data_dir)?.controllers()?;
    for controller in config.controllers.iter().chain(&remembered) {
        match tokio::net::lookup_host(controller).await {
            Ok(found) => closed.extend(found.filter_map(|address| match address.ip() {
                IpAddr::V4(address) => Some(Prefix::around(address, 32)),
                IpAddr::V6(_) => None,
            })),
            Err(error) => tracing::warn!(controller, %error, "cannot resolve a controller"),
        }
    }
    Ok(closed)
}

fn hello(
    config: &Config,
    (facts, answer): (&Fingerprint, &Answer),
    driver: &str,
    agent_epoch: u64,
    overlay: Option<Ipv4Addr>,
) -> Hello {
    let reserve = |total: u64| total * RESERVE_PERCENT / 100;
    let memory_mib = facts.memory_mib;
    let memory_mib = memory_mib.saturating_sub(reserve(memory_mib).max(MEMORY_RESERVE_MIB_MIN));
    let disk_mib = facts.disk_mib;
    let disk_mib = disk_mib.saturating_sub(reserve(disk_mib) + config.image_cache_mib);
    Hello {
        node_id: config.node_id.to_string(),
        node_name: config.name.clone(),
        zone: config.zone.clone(),
        agent_epoch,
        boot_id: facts.boot_id.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hypervisor_version: facts.hypervisor_version.clone(),
        kernel_version: facts.kernel_version.clone(),
        vcpus: config.vcpus.unwrap_or(facts.vcpus),
        vcpu_overcommit_percent: config.vcpu_overcommit_percent,
        memory_mib: config.memory_mib.unwrap_or(memory_mib),
        disk_mib: config.disk_mib.unwrap_or(disk_mib),
        accelerator: answer.accelerator.name().to_owned(),
        accelerator_reason: answer.reason.clone(),
        isolation: answer.accelerator.isolation().to_owned(),
        drivers: vec![driver.to_owned()],
        labels: config.labels.clone(),
        unknown_resources: Vec::new(),
        overlay_address: overlay.map_or_else(String::new, |own| own.to_string()),
    }
}
