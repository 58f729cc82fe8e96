//! `bootstrap`: everything a new cluster needs before its first start: CA,
//! certificates, secret, config files. Run once, by `cloudctl up` or an
//! operator; it refuses to touch a directory that has been used. `restore.rs`
//! makes the same files for a cluster that begins with a backup.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use nube_types::{Labels, NodeId};

use crate::config::{CERTIFICATE_MINUTES_DEFAULT, Config, Member, SNAPSHOT_EVERY_ENTRIES_DEFAULT};
use crate::identity::Role;
use crate::pki::{Issuer, Leaf};
use crate::secret::Secret;
use crate::server;

const MEMBERS_MAX: u64 = 9;
const NODES_MAX: u64 = 64;

/// User ids that each node's guests may take.
const UIDS_PER_NODE: u32 = 4_096;

/// Makes a new cluster's CA, certificates, secret and config files.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where to put everything; created if absent.
    #[arg(long)]
    pub dir: PathBuf,
    /// How many controllers (1 to 9; odd numbers survive the most failures).
    #[arg(long, default_value_t = 3)]
    pub controllers: u64,
    /// How many compute nodes (0 to 64).
    #[arg(long, default_value_t = 2)]
    pub nodes: u64,
    /// Port of the first controller; the others follow.
    #[arg(long, default_value_t = 7101)]
    pub base_port: u16,
    /// Address at which agents reach the controllers.
    #[arg(long)]
    pub underlay: std::net::IpAddr,
    /// Address at which clients and the other controllers reach them. Default:
    /// 127.0.0.1, for a whole cloud on one machine.
    #[arg(long, default_value = "127.0.0.1")]
    pub address: std::net::IpAddr,
    /// Memory that each node offers to guests.
    #[arg(long)]
    pub memory_mib_per_node: u64,
    /// Cores that each node offers to guests.
    #[arg(long)]
    pub vcpus_per_node: u32,
    /// Disk that each node offers to guests.
    #[arg(long, default_value_t = 20 * 1024)]
    pub disk_mib_per_node: u64,
    /// Address of each node on the underlay, in order: its agent serves metrics
    /// there. Without: on the node's own 127.0.0.1.
    #[arg(long = "node-address")]
    pub node_addresses: Vec<std::net::IpAddr>,
    /// First user id of the first node's guests; each node takes 4096. Clouds on
    /// one machine must not share any.
    #[arg(long, default_value_t = 1_000_000)]
    pub uid_base: u32,
    /// Life of the certificates of agents and controllers; they renew them.
    #[arg(long, default_value_t = CERTIFICATE_MINUTES_DEFAULT)]
    pub certificate_minutes: u32,
}

/// A host whose agent gets a directory.
pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) zone: String,
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) disk_mib: u64,
    pub(crate) labels: Labels,
}

impl Host {
    /// `node-N`, with what the arguments say.
    pub(crate) fn fresh(args: &Args, number: u64) -> Self {
        Self {
            id: NodeId(rand::random()),
            name: format!("node-{number}"),
            zone: format!("zone-{number}"),
            vcpus: args.vcpus_per_node,
            memory_mib: args.memory_mib_per_node,
            disk_mib: args.disk_mib_per_node,
            labels: Labels::new(),
        }
    }
}

/// Makes the files.
pub fn run(args: &Args) -> anyhow::Result<()> {
    args.check()?;
    let pki = args.dir.join("pki");
    anyhow::ensure!(
        !pki.exists(),
        "{} exists: this directory has a cluster",
        pki.display()
    );
    let cluster = Cluster::new(args, Secret::new(rand::random()).text())?;
    let hosts: Vec<_> = (1..=args.nodes).map(|n| Host::fresh(args, n)).collect();
    write(args, &cluster, &hosts)?;
    for id in 1..=args.controllers {
        write_public(&controller_dir(args, id).join(server::FIRST_START), "")?;
    }
    fs::rename(args.dir.join(PKI_NEW), &pki)?;
    println!(
        "cluster {} is ready to start in {}",
        cluster.id,
        args.dir.display()
    );
    Ok(())
}

impl Args {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            (1..=MEMBERS_MAX).contains(&self.controllers),
            "controllers: 1 to {MEMBERS_MAX}"
        );
        anyhow::ensure!(self.nodes <= NODES_MAX, "nodes: at most {NODES_MAX}");
        Ok(())
    }
}

/// Where CA and operator's files lie until everything else is there: a crash
/// half-way leaves no half cluster.
pub(crate) const PKI_NEW: &str = "pki.new";

/// Every file of a cluster, the CA's under [`PKI_NEW`].
pub(crate) fn write(args: &Args, cluster: &Cluster, hosts: &[Host]) -> anyhow::Result<()> {
    fs::create_dir_all(&args.dir)?;
    let fresh = args.dir.join(PKI_NEW);
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("removing {}", fresh.display()))?;
    }
    fs::create_dir_all(&fresh)?;
    write_public(&fresh.join("ca.pem"), cluster.issuer.ca_pem())?;
    write_secret(&fresh.join("ca.key"), &cluster.issuer.ca_key_pem())?;
    write_leaf(&cluster.leaf(Role::Operator, "admin")?, &fresh, "operator")?;
    for id in 1..=args.controllers {
        write_controller(args, cluster, id)?;
    }
    for (number, host) in hosts.iter().enumerate() {
        write_node(args, cluster, u32::try_from(number)?, host)?;
    }
    write_client(args)
}

pub(crate) struct Cluster {
    pub(crate) id: String,
    secret: String,
    issuer: Issuer,
}

impl Cluster {
    /// A new identity and CA around a secret, as its file has it.
    pub(crate) fn new(args: &Args, secret: String) -> anyhow::Result<Self> {
        let id = hex::encode(rand::random::<[u8; 16]>());
        let life = Duration::from_secs(u64::from(args.certificate_minutes) * 60);
        let issuer = Issuer::generate(&id)?.with_lifetime(life);
        Ok(Self { id, secret, issuer })
    }

    fn leaf(&self, role: Role, name: &str) -> anyhow::Result<Leaf> {
        self.issuer.issue_with_key(&self.id, role, name)
    }
}

fn write_leaf(leaf: &Leaf, dir: &Path, name: &str) -> anyhow::Result<()> {
    write_public(&dir.join(format!("{name}.pem")), &leaf.certificate)?;
    write_secret(&dir.join(format!("{name}.key")), &leaf.key)
}

pub(crate) fn write_public(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        let mut file = fs::File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let mut file = file.with_context(|| format!("creating {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(file.sync_all()?)
}

fn port(args: &Args, id: u64) -> u64 {
    u64::from(args.base_port) + id - 1
}

pub(crate) fn controller_dir(args: &Args, id: u64) -> PathBuf {
    args.dir.join(format!("controller-{id}"))
}

/// `host:port` of a controller, as members' list and clients have it.
fn address(args: &Args, id: u64) -> anyhow::Result<String> {
    let port = u16::try_from(port(args, id))?;
    Ok(std::net::SocketAddr::new(args.address, port).to_string())
}

/// Loopback for who is on the machine, and where agents and peers call.
fn listen(args: &Args, id: u64) -> anyhow::Result<Vec<String>> {
    let port = u16::try_from(port(args, id))?;
    let mut all = vec![std::net::Ipv4Addr::LOCALHOST.into(), args.underlay];
    if !all.contains(&args.address) {
        all.push(args.address);
    }
    all.dedup();
    let socket = |ip| std::net::SocketAddr::new(ip, port).to_string();
    Ok(all.into_iter().map(socket).collect())
}

/// Beside the controllers' own ports; none when there is none left.
fn metrics_port(args: &Args, id: u64) -> Option<u16> {
    const BESIDE: u64 = 100;
    u16::try_from(u64::from(args.base_port) + BESIDE + id).ok()
}

fn write_controller(args: &Args, cluster: &Cluster, id: u64) -> anyhow::Result<()> {
    let dir = controller_dir(args, id);
    fs::create_dir_all(&dir)?;
    write_public(&dir.join("ca.pem"), cluster.issuer.ca_pem())?;
    write_secret(&dir.join("ca.key"), &cluster.issuer.ca_key_pem())?;
    write_leaf(
        &cluster.leaf(Role::Controller, &id.to_string())?,
        &dir,
        "tls",
    )?;
    write_secret(&dir.join("cluster.secret"), &cluster.secret)?;
    let member = |id| {
        let port = u16::try_from(port(args, id))?;
        let for_agents = std::net::SocketAddr::new(args.underlay, port).to_string();
        let address = address(args, id)?;
        anyhow::Ok(Member {
            id,
            agent_address: (for_agents != address).then_some(for_agents),
            address,
        })
    };
    let config = Config {
        id,
        cluster_id: cluster.id.clone(),
        data_dir: "data".into(),
        listen: listen(args, id)?,
        image_dir: "../images".into(),
        ca: "ca.pem".into(),
        certificate: "tls.pem".into(),
        key: "tls.key".into(),
        ca_key: "ca.key".into(),
        certificate_minutes: args.certificate_minutes,
        cluster_secret: "cluster.secret".into(),
        snapshot_every_entries: SNAPSHOT_EVERY_ENTRIES_DEFAULT,
        metrics_listen: metrics_port(args, id)
            .map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        otlp_endpoint: None,
        members: (1..=args.controllers)
            .map(member)
            .collect::<Result<_, _>>()?,
    };
    write_public(
        &dir.join("controller.toml"),
        &toml::to_string_pretty(&config)?,
    )
}

/// `agent.toml` as the agent reads it; its own crate documents every key.
#[derive(serde::Serialize)]
struct AgentConfig {
    node_id: String,
    name: String,
    zone: String,
    data_dir: String,
    controllers: Vec<String>,
    vcpus: u32,
    memory_mib: u64,
    disk_mib: u64,
    uid_base: u32,
    metrics_listen: String,
    traffic_report_seconds: u32,
    labels: Labels,
}

/// `number` counts from 0: which user ids its guests take.
fn write_node(args: &Args, cluster: &Cluster, number: u32, host: &Host) -> anyhow::Result<()> {
    const AGENT_METRICS_PORT: u16 = 9_150;
    // A cloud of few hosts, looked at closely: its bill is seconds old.
    const TRAFFIC_REPORT_SECONDS: u32 = 5;
    let dir = args.dir.join(&host.name);
    fs::create_dir_all(&dir)?;
    write_public(&dir.join("ca.pem"), cluster.issuer.ca_pem())?;
    write_leaf(
        &cluster.leaf(Role::Agent, &host.id.to_string())?,
        &dir,
        "tls",
    )?;
    let controller = |id| {
        let port = u16::try_from(port(args, id))?;
        anyhow::Ok(SocketAddr::new(args.underlay, port).to_string())
    };
    let ordinal = usize::try_from(number)?;
    let address = args.node_addresses.get(ordinal).copied();
    let address = address.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let config = AgentConfig {
        node_id: host.id.to_string(),
        name: host.name.clone(),
        zone: host.zone.clone(),
        data_dir: "data".to_owned(),
        controllers: (1..=args.controllers)
            .map(controller)
            .collect::<Result<_, _>>()?,
        vcpus: host.vcpus,
        memory_mib: host.memory_mib,
        disk_mib: host.disk_mib,
        uid_base: args.uid_base + UIDS_PER_NODE * number,
        metrics_listen: SocketAddr::new(address, AGENT_METRICS_PORT).to_string(),
        traffic_report_seconds: TRAFFIC_REPORT_SECONDS,
        labels: host.labels.clone(),
    };
    write_public(&dir.join("agent.toml"), &toml::to_string_pretty(&config)?)
}

/// `client.toml` as cloudctl reads it.
#[derive(serde::Serialize)]
struct ClientConfig {
    endpoints: Vec<String>,
    ca: String,
    cert: String,
    key: String,
}

fn write_client(args: &Args) -> anyhow::Result<()> {
    let config = ClientConfig {
        endpoints: (1..=args.controllers)
            .map(|id| address(args, id))
            .collect::<Result<_, _>>()?,
        ca: "pki/ca.pem".to_owned(),
        cert: "pki/operator.pem".to_owned(),
        key: "pki/operator.key".to_owned(),
    };
    write_public(
        &args.dir.join("client.toml"),
        &toml::to_string_pretty(&config)?,
    )
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn bootstrap_writes_a_cluster_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let args = Args {
            dir: dir.path().join("cell"),
            controllers: 3,
            nodes: 2,
            base_port: 7101,
            underlay: "10.213.0.1".parse().expect("an address"),
            address: "127.0.0.1".parse().expect("an address"),
            node_addresses: vec!["10.213.0.11".parse().expect("an address")],
            memory_mib_per_node: 1024,
            vcpus_per_node: 2,
            disk_mib_per_node: 1024,
            uid_base: 1_000_000,
            certificate_minutes: 60,
        };
        run(&args).expect("a fresh directory");
        let config =
            Config::load(&args.dir.join("controller-2/controller.toml")).expect("readable");
        assert_eq!((config.id, config.members.len()), (2, 3));
        assert_eq!(config.listen, ["127.0.0.1:7102", "10.213.0.1:7102"]);
        crate::secret::Secret::load(&config.cluster_secret).expect("a secret");
        crate::tls::Tls::load(&config).expect("certificates");
        let metrics = config.metrics_listen.expect("an address");
        assert_eq!(metrics.to_string(), "127.0.0.1:7203");
        for (node, address) in [(1, "10.213.0.11:9150"), (2, "127.0.0.1:9150")] {
            let path = args.dir.join(format!("node-{node}/agent.toml"));
            let text = fs::read_to_string(path).expect("readable");
            let line = format!("metrics_listen = \"{address}\"");
            assert!(text.contains(&line), "{text}");
        }
        let issuer = Issuer::load(&config.ca, &config.ca_key).expect("a CA");
        let pki = args.dir.join("pki");
        let same = Issuer::load(&pki.join("ca.pem"), &pki.join("ca.key")).expect("a CA");
        assert_eq!(issuer.fingerprint(), same.fingerprint());
        assert!(
            run(&args).is_err(),
            "a second bootstrap must not replace the CA"
        );
    }
}
