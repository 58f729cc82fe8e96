//! The peer: three etcd members from Debian's package, on this machine and this
//! disk, with mutual TLS on client and peer ports and every other setting as
//! it comes.

mod certificates;

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use nube_harness::eventually;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// What etcd understands; see `proto/etcd.proto`.
pub mod api {
    #![allow(clippy::all, clippy::pedantic)]
    tonic::include_proto!("etcdserverpb");
}

use api::StatusRequest;
use api::maintenance_client::MaintenanceClient;

const MEMBERS: u16 = 3;
const READY: Duration = Duration::from_secs(30);

/// A running cluster; ended and removed with this value.
pub struct Etcd {
    home: tempfile::TempDir,
    /// Client ports count up from here, peer ports follow them.
    base_port: u16,
    members: Vec<Child>,
    tls: ClientTlsConfig,
}

impl Etcd {
    /// Starts three members and waits until they have a leader. `None` when
    /// etcd is not installed.
    pub async fn up() -> anyhow::Result<Option<Self>> {
        let found = Command::new("etcd")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if !found.is_ok_and(|status| status.success()) {
            eprintln!("no etcd on this machine (apt-get install etcd-server): no peer");
            return Ok(None);
        }
        let home = tempfile::Builder::new().prefix("nube-etcd-").tempdir()?;
        certificates::write(home.path())?;
        let pem = |name: &str| fs::read(home.path().join(name));
        let tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(pem("ca.pem")?))
            .identity(Identity::from_pem(pem("tls.pem")?, pem("tls.key")?));
        let mut etcd = Self {
            // Below the ports of clouds (see `nube_harness`).
            base_port: 12_000 + rand::random::<u16>() % 700 * 10,
            members: Vec::new(),
            home,
            tls,
        };
        for member in 0..MEMBERS {
            let child = etcd.start(member)?;
            etcd.members.push(child);
        }
        etcd.ready().await?;
        Ok(Some(etcd))
    }

    fn start(&self, member: u16) -> anyhow::Result<Child> {
        let client = |n: u16| format!("https://127.0.0.1:{}", self.base_port + n);
        let peer = |n: u16| format!("https://127.0.0.1:{}", self.base_port + MEMBERS + n);
        let name = |n: u16| format!("member-{n}");
        let cluster: Vec<String> = (0..MEMBERS)
            .map(|n| format!("{}={}", name(n), peer(n)))
            .collect();
        let file = |name: &str| self.home.path().join(name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(file(&format!("log-{member}")))?;
        let mut command = Command::new("etcd");
        command
            .args(["--name", &name(member), "--logger", "zap"])
            .args(["--listen-client-urls", &client(member)])
            .args(["--advertise-client-urls", &client(member)])
            .args(["--listen-peer-urls", &peer(member)])
            .args(["--initial-advertise-peer-urls", &peer(member)])
            .args(["--initial-cluster", &cluster.join(",")])
            .args(["--client-cert-auth", "--peer-client-cert-auth"])
            .arg("--data-dir")
            .arg(file(&name(member)));
        for (flag, name) in [
            ("--trusted-ca-file", "ca.pem"),
            ("--cert-file", "tls.pem"),
            ("--key-file", "tls.key"),
            ("--peer-trusted-ca-file", "ca.pem"),
            ("--peer-cert-file", "tls.pem"),
            ("--peer-key-file", "tls.key"),
        ] {
            command.arg(flag).arg(file(name));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command.stderr(log).spawn()?)
    }

    /// Waits until every member knows the same leader; its place among them.
    pub async fn ready(&self) -> anyhow::Result<usize> {
        let limit = tokio::time::Instant::now() + READY;
        loop {
            match self.leader().await {
                Ok(leader) => return Ok(leader),
                Err(error) if tokio::time::Instant::now() > limit => {
                    return Err(error.context("etcd is not ready"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn leader(&self) -> anyhow::Result<usize> {
        let (mut own, mut leaders) = (Vec::new(), Vec::new());
        for address in self.addresses() {
            let mut client = MaintenanceClient::new(self.connect(&address).await?);
            let status = client.status(StatusRequest {}).await?.into_inner();
            own.push(status.header.context("a header")?.member_id);
            leaders.push(status.leader);
        }
        anyhow::ensure!(
            leaders.iter().all(|leader| *leader == leaders[0]),
            "disagree"
        );
        own.iter()
            .position(|member| *member == leaders[0])
            .context("no leader")
    }

    /// What its members say they are.
    pub async fn version(&self) -> anyhow::Result<String> {
        let channel = self.connect(&self.addresses()[0]).await?;
        let mut client = MaintenanceClient::new(channel);
        let status = client.status(StatusRequest {}).await?.into_inner();
        Ok(format!("etcd {}", status.version))
    }

    /// `host:port` of every member's client port.
    pub fn addresses(&self) -> Vec<String> {
        let port = |n| format!("127.0.0.1:{}", self.base_port + n);
        (0..MEMBERS).map(port).collect()
    }

    /// Returns when the connection stands.
    pub async fn connect(&self, address: &str) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
        let endpoint = endpoint.tcp_nodelay(true).tls_config(self.tls.clone())?;
        Ok(endpoint.connect().await?)
    }

    /// SIGKILL to a member.
    pub fn kill(&mut self, member: usize) -> anyhow::Result<()> {
        self.members[member].kill()?;
        self.members[member].wait()?;
        Ok(())
    }

    /// Starts a killed member again.
    pub fn restart(&mut self, member: usize) -> anyhow::Result<()> {
        let number = u16::try_from(member)?;
        self.members[member] = eventually("the ports are free", READY, || self.start(number))?;
        Ok(())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Err(error) = member.kill().and_then(|()| member.wait()) {
                eprintln!("etcd {} was not ended: {error}", member.id());
            }
        }
    }
}
