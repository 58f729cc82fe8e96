//! The composition root: recovers the state, starts consensus, and serves
//! clients, agents and peers on the same ports, each behind its gate.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use anyhow::Context;
use nube_proto::agent::v1::agent_service_server::AgentServiceServer;
use nube_proto::peer::v1::peer_service_server::PeerServiceServer;
use nube_proto::v1::access_key_service_server::AccessKeyServiceServer;
use nube_proto::v1::address_service_server::AddressServiceServer;
use nube_proto::v1::billing_service_server::BillingServiceServer;
use nube_proto::v1::cluster_service_server::ClusterServiceServer;
use nube_proto::v1::event_service_server::EventServiceServer;
use nube_proto::v1::image_service_server::ImageServiceServer;
use nube_proto::v1::instance_service_server::InstanceServiceServer;
use nube_proto::v1::instance_type_service_server::InstanceTypeServiceServer;
use nube_proto::v1::join_service_server::JoinServiceServer;
use nube_proto::v1::load_balancer_service_server::LoadBalancerServiceServer;
use nube_proto::v1::network_service_server::NetworkServiceServer;
use nube_proto::v1::node_service_server::NodeServiceServer;
use nube_proto::v1::principal_service_server::PrincipalServiceServer;
use nube_proto::v1::project_service_server::ProjectServiceServer;
use nube_proto::v1::security_group_service_server::SecurityGroupServiceServer;
use nube_proto::v1::ssh_key_service_server::SshKeyServiceServer;
use nube_proto::v1::subnet_service_server::SubnetServiceServer;
use nube_types::limits::MESSAGE_BYTES_MAX;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tonic::transport::Server;

use crate::agents::Agents;
use crate::authorise::Authorise;
use crate::blob::Blobs;
use crate::cell::Cell;
use crate::clock::Clock;
use crate::config::Config;
use crate::fleet::Hosts;
use crate::identity::Role;
use crate::listener::{self, Limits};
use crate::machine::Machine;
use crate::observe::Observe;
use crate::peer::transport::Peers;
use crate::pki::Issuer;
use crate::propose::Proposer;
use crate::secret::Secret;
use crate::tls::Tls;
use crate::{agents, api, clock, metrics, peer, reconcile, renew, store, view, watch};

/// Lies beside `data_dir` until the log exists: only then may a controller form
/// a cluster. Without both it has lost its disk, and an empty log under an old
/// id could vote committed entries away (B4).
pub const FIRST_START: &str = "first-start";
/// What [`FIRST_START`] holds for a controller that joins an existing cluster.
pub const JOINED: &str = "joined";
/// Lies beside `data_dir` of a controller that was removed: it never starts again.
pub const REMOVED: &str = "removed";

/// Lies beside `data_dir` of a controller whose state differed from the leader's, with
/// the reason in it: what it has stored is not to be trusted.
pub const DIVERGED: &str = "diverged";

/// Streams of one connection; a client with more opens another.
const STREAMS_PER_CONNECTION: u32 = 1_024;
/// What a connection may have in flight towards us, in all and per stream: its
/// share of memory, and the throughput over a long wire.
const WINDOW_BYTES: u32 = 1 << 20;
/// Metadata of one request; ours have a few hundred bytes.
const HEADER_LIST_BYTES_MAX: u32 = 16 << 10;
/// The smallest that HTTP/2 allows.
const FRAME_BYTES_MAX: u32 = 16 << 10;
/// Streams that a client opened and reset before we looked, or broke so that we
/// reset them: an honest client has next to none, a rapid reset thousands.
const RESETS_MAX: usize = 64;
/// hyper's graceful shutdown may wait for ever on an idle client.
const SHUTDOWN: Duration = Duration::from_secs(3);
const TRANSFER: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let listeners = listen(&config).await?;
    let (tls, issuer, secret) = own_files(&config)?;
    let cell = start(config, &tls, issuer, secret).await?;
    // From here on a panic anywhere must not leave half a controller running.
    abort_on_panic();
    let mut loops = JoinSet::new();
    loops.spawn(clock::sample::run(Arc::clone(&cell)));
    loops.spawn(reconcile::run(Arc::clone(&cell)));
    loops.spawn(reconcile::member::run(Arc::clone(&cell)));
    loops.spawn(renew::run(Arc::clone(&cell), Arc::clone(tls.identity())));
    let server = serve(Arc::clone(&cell), &tls, listeners)?;
    metrics::figures::start(&cell);
    tracing::info!(id = cell.config.id, listen = ?cell.config.listen, "controller is serving");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        result = server => result.context("serving")?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = cell.peers.removed() => {
            loops.abort_all();
            return leave(&cell).await;
        }
    }
    tracing::info!("controller is stopping");
    loops.abort_all();
    stop(&cell).await;
    Ok(())
}

/// Hands leadership over first: that costs a round trip where a silent stop
/// costs everyone an election timeout.
async fn stop(cell: &Cell) {
    if cell.raft.status().is_leader() {
        let transfer = tokio::time::timeout(TRANSFER, cell.raft.transfer_leader(None)).await;
        if !matches!(transfer, Ok(Ok(_))) {
            tracing::warn!("leadership was not handed over before the stop");
        }
    }
    if tokio::time::timeout(SHUTDOWN, cell.raft.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("consensus did not stop in time; the log is recovered at the next start");
    }
}

/// The end of a controller that was removed: what it holds must never vote again,
/// so it says so beside its data before it ends.
async fn leave(cell: &Cell) -> anyhow::Result<()> {
    let id = cell.config.id;
    let mark = cell.config.data_dir.with_file_name(REMOVED);
    std::fs::write(&mark, format!("member {id}\n"))
        .with_context(|| format!("writing {}", mark.display()))?;
    // Those who still wait for an answer go on to another controller.
    let _ = tokio::time::timeout(SHUTDOWN, cell.raft.shutdown()).await;
    anyhow::bail!(
        "this controller (member {id}) was removed from its cluster; {} may be deleted",
        cell.config.data_dir.display()
    )
}

fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

async fn listen(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in &config.listen {
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.with_context(|| format!("listening on {address}"))?);
    }
    Ok(listeners)
}

/// What the config names beside the data: identity, CA, secret; each checked, for a
/// flipped bit in one of them would be served to others for years.
pub fn own_files(config: &Config) -> anyhow::Result<(Tls, Issuer, Secret)> {
    // A library's error does not know the file, and one file may not fit another.
    let (ca, key) = (config.ca.display(), config.ca_key.display());
    let issuer = Issuer::load(&config.ca, &config.ca_key)
        .with_context(|| format!("reading the CA from {ca} and {key}"))?
        .with_lifetime(config.certificate_life());
    let (own, key) = (config.certificate.display(), config.key.display());
    let what = || format!("reading the own identity from {own} and {key}, signed by {ca}");
    let tls = Tls::load(config).with_context(what)?;
    put_in_order(config, &tls, &issuer).with_context(what)?;
    Ok((tls, issuer, Secret::load(&config.cluster_secret)?))
}

/// The own certificate is put in order before anybody sees it.
fn put_in_order(config: &Config, tls: &Tls, issuer: &Issuer) -> anyhow::Result<()> {
    // One that the CA never signed was damaged on this disk.
    let vouched = issuer.vouches_for(&config.certificate)?;
    if !vouched || renew::is_due(tls.identity(), issuer, 0.0) {
        let name = config.id.to_string();
        let role = Role::Controller;
        renew::renew(tls.identity(), issuer, &config.cluster_id, role, &name)
            .context("renewing the own certificate")?;
        tracing::info!("own certificate renewed");
    }
    Ok(())
}

/// Whether this start may use, or make, the data directory.
pub fn check_memory(config: &Config) -> anyhow::Result<()> {
    anyhow::ensure!(
        !config.data_dir.with_file_name(REMOVED).exists(),
        "member {} was removed from its cluster and its number is void; join under a new one \
         in another directory (cloudctl cluster add)",
        config.id
    );
    let diverged = config.data_dir.with_file_name(DIVERGED);
    if let Ok(reason) = std::fs::read_to_string(&diverged) {
        anyhow::bail!("{}: {}", diverged.display(), reason.trim_end());
    }
    let first_start = config.data_dir.with_file_name(FIRST_START);
    anyhow::ensure!(
        first_start.exists() || config.data_dir.join("raft/superblock").exists(),
        "{} holds no log: this controller has lost its memory and must not vote under its old id; \
         restore the directory, or replace the member",
        config.data_dir.display()
    );
    Ok(())
}

async fn start(
    config: Config,
    tls: &Tls,
    issuer: Issuer,
    secret: Secret,
) -> anyhow::Result<Arc<Cell>> {
    std::fs::create_dir_all(&config.data_dir)?;
    check_memory(&config)?;
    let diverged = config.data_dir.with_file_name(DIVERGED);
    let first_start = config.data_dir.with_file_name(FIRST_START);
    let (writer, state) = store::open(&config.data_dir.join("store"), config.cluster_id_bytes()?)?;
    tracing::info!(index = state.index, "state read from the store");
    let (publisher, views) = view::channel(state.clone());
    let (recorder, history) = watch::channel(&state);
    let peers = Arc::new(Peers::new(&config, tls.clone()));
    let mut raft = nube_consensus::Config::new(
        config.id,
        config.cluster_id_bytes()?,
        config.data_dir.join("raft"),
    );
    raft.snapshot_every_entries = config.snapshot_every_entries;
    // Less is kept than lies between two: or what is kept grows.
    raft.keep_entries = raft.keep_entries.min(config.snapshot_every_entries / 2);
    // One that joined has no voters to begin with: the leader adds it.
    if first_start.exists() && std::fs::read_to_string(&first_start)?.trim() != JOINED {
        raft.initial_voters = config.members.iter().map(|member| member.id).collect();
    }
    let clock = Arc::new(Clock::new(config.id, state.time));
    let machine = Machine::new(
        state,
        publisher,
        writer,
        recorder,
        Arc::clone(&clock),
        diverged,
    );
    let transport: Arc<dyn nube_consensus::Transport> = peers.clone();
    let raft = tokio::task::spawn_blocking(move || nube_consensus::start(raft, machine, transport))
        .await?
        .context("starting consensus")?;
    if first_start.exists() {
        std::fs::remove_file(&first_start).context("removing the first-start mark")?;
    }
    peers.attach(raft.clone(), views.clone());
    Ok(Arc::new(Cell {
        proposer: Proposer::new(raft.clone(), Arc::clone(&peers), Arc::clone(&clock)),
        clock,
        peers,
        raft,
        views,
        history,
        hosts: Hosts::default(),
        watchers: AtomicU32::new(0),
        agents: Agents::default(),
        blobs: Blobs::local(&config.image_dir)?,
        secret,
        issuer,
        config,
    }))
}

/// A service with bounded messages.
macro_rules! bounded {
    ($cell:ident, $server:ident, $service:path) => {
        bounded!($cell, $server, $service, MESSAGE_BYTES_MAX)
    };
    ($cell:ident, $server:ident, $service:path, $bytes_max:expr) => {
        $server::new($service(Arc::clone(&$cell))).max_decoding_message_size($bytes_max)
    };
}

type Serving = futures::future::BoxFuture<'static, Result<(), tonic::transport::Error>>;

/// TLS is done before: `listener`. Pings end what does not answer; a stream may
/// live as long as its connection.
fn builder() -> Server {
    let keepalive = Some(Duration::from_secs(5));
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(RESETS_MAX))
        .http2_keepalive_interval(keepalive)
        .http2_keepalive_timeout(keepalive)
}

fn serve(cell: Arc<Cell>, tls: &Tls, listeners: Vec<TcpListener>) -> anyhow::Result<Serving> {
    use api::{
        access_key, address, billing, cluster, event, image, instance, instance_type, join,
        load_balancer, network, node, principal, project, security_group, ssh_key, subnet,
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    tokio::spawn(async move {
        let serving = tonic_health::ServingStatus::Serving;
        health.set_service_status("", serving).await;
    });
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(nube_proto::DESCRIPTORS)
        .build_v1()?;
    let router = builder()
        // The first layer is the outermost.
        .layer(Observe)
        .layer(Authorise(Arc::clone(&cell)))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(bounded!(cell, InstanceServiceServer, instance::Service))
        .add_service(bounded!(
            cell,
            InstanceTypeServiceServer,
            instance_type::Service
        ))
        .add_service(bounded!(cell, ImageServiceServer, image::Service))
        .add_service(bounded!(cell, SshKeyServiceServer, ssh_key::Service))
        .add_service(bounded!(cell, ProjectServiceServer, project::Service))
        .add_service(bounded!(cell, NetworkServiceServer, network::Service))
        .add_service(bounded!(cell, SubnetServiceServer, subnet::Service))
        .add_service(bounded!(
            cell,
            SecurityGroupServiceServer,
            security_group::Service
        ))
        .add_service(bounded!(cell, AddressServiceServer, address::Service))
        .add_service(bounded!(
            cell,
            LoadBalancerServiceServer,
            load_balancer::Service
        ))
        .add_service(bounded!(cell, PrincipalServiceServer, principal::Service))
        .add_service(bounded!(cell, AccessKeyServiceServer, access_key::Service))
        .add_service(bounded!(cell, EventServiceServer, event::Service))
        .add_service(api::watch::Service(Arc::clone(&cell)))
        .add_service(bounded!(cell, NodeServiceServer, node::Service))
        .add_service(bounded!(cell, BillingServiceServer, billing::Service))
        .add_service(bounded!(cell, ClusterServiceServer, cluster::Service))
        .add_service(bounded!(
            cell,
            JoinServiceServer,
            join::Service,
            join::MESSAGE_BYTES_MAX
        ))
        .add_service(bounded!(cell, AgentServiceServer, agents::service::Service))
        .add_service(bounded!(cell, PeerServiceServer, peer::service::Service));
    let limits = Limits::default().fit_files();
    let incoming = listener::serve(listeners, &tls.acceptor(), limits)?;
    Ok(Box::pin(router.serve_with_incoming(incoming)))
}
