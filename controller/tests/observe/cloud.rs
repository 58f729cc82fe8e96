//! A cloud of one controller process and one host that this test plays.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nube_proto::agent::v1::agent_service_client::AgentServiceClient;
use nube_proto::agent::v1::{AgentMessage, Heartbeat, Hello, Report, agent_message};
use nube_proto::v1::image_service_client::ImageServiceClient;
use nube_proto::v1::instance_service_client::InstanceServiceClient;
use nube_proto::v1::node_service_client::NodeServiceClient;
use nube_proto::v1::{
    Blob, DiskFormat, Image, LaunchInstancesRequest, ListInstancesRequest, ListNodesRequest,
    RegisterImageRequest, UploadBlobRequest, upload_blob_request,
};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cloud-controller");
const PATIENCE: Duration = Duration::from_secs(60);
/// A second address of this machine: the controller listens on two.
const UNDERLAY: &str = "127.0.0.2";

/// The cloud; its controller ends with it.
pub struct Cloud {
    dir: tempfile::TempDir,
    controller: Child,
    people: Channel,
    /// Where it serves figures.
    pub metrics: SocketAddr,
    _host: mpsc::Sender<AgentMessage>,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // Ended already when the test went well.
        let _ = self.controller.kill();
        let _ = self.controller.wait();
    }
}

/// A port that was free a moment ago.
async fn port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let address = listener.and_then(|listener| listener.local_addr());
    address.expect("a free port").port()
}

/// What a plain HTTP server answers.
pub async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

/// Tries until it works.
async fn patiently<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(_) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
}

fn channel(port: u16, ca: &Path, certificate: &Path) -> Channel {
    let read = |path: &Path| std::fs::read(path).expect("readable");
    let key = certificate.with_extension("key");
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(ca)))
        .identity(Identity::from_pem(read(certificate), read(&key)))
        .domain_name("controller.nube.internal");
    Endpoint::from_shared(format!("https://127.0.0.1:{port}"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .expect("an endpoint")
        .connect_lazy()
}

fn bootstrap(dir: &Path, port: u16) {
    let mut command = Command::new(PROGRAM);
    command.arg("bootstrap").arg("--dir").arg(dir);
    for (flag, value) in [
        ("--controllers", "1"),
        ("--nodes", "1"),
        ("--underlay", UNDERLAY),
        ("--memory-mib-per-node", "1024"),
        ("--vcpus-per-node", "1"),
        ("--base-port", &port.to_string()),
    ] {
        command.args([flag, value]);
    }
    let made = command.stdout(Stdio::null()).status().expect("it runs");
    assert!(made.success());
}

/// Adds keys before the first table of a config file.
fn configure(path: &Path, lines: &str) {
    let text = std::fs::read_to_string(path).expect("readable");
    let kept = text
        .lines()
        .filter(|line| !line.starts_with("metrics_listen"));
    let kept: Vec<&str> = kept.collect();
    std::fs::write(path, format!("{lines}\n{}\n", kept.join("\n"))).expect("written");
}

impl Cloud {
    /// Starts it, with spans to a collector, and waits until its host is ready.
    pub async fn start(otlp_endpoint: &str) -> Self {
        // The library needs one backend in this process too.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().expect("a directory");
        let (port, metrics) = (port().await, port().await);
        bootstrap(dir.path(), port);
        let metrics = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), metrics);
        let config = dir.path().join("controller-1/controller.toml");
        let keys = format!("metrics_listen = \"{metrics}\"\notlp_endpoint = \"{otlp_endpoint}\"");
        configure(&config, &keys);
        let log = File::create(dir.path().join("log")).expect("a log");
        let controller = Command::new(PROGRAM)
            .args(["run", "--log-format", "json", "--config"])
            .arg(&config)
            .stderr(log)
            .spawn()
            .expect("it runs");
        let pki = dir.path().join("pki");
        let people = channel(port, &pki.join("ca.pem"), &pki.join("operator.pem"));
        let host = host(port, &pki.join("ca.pem"), dir.path().join("node-1")).await;
        let cloud = Self {
            dir,
            controller,
            people,
            metrics,
            _host: host,
        };
        cloud.ready().await;
        cloud
    }

    async fn ready(&self) {
        patiently("a node", || async {
            let mut nodes = NodeServiceClient::new(self.people.clone());
            let listed = nodes.list_nodes(ListNodesRequest::default()).await;
            let listed = listed.map_err(|status| status.to_string())?.into_inner();
            let first = listed.nodes.first().map(|node| node.name.clone());
            first.ok_or_else(|| "no node".to_owned())
        })
        .await;
    }

    /// One image, one instance; answers the request id of the launch.
    pub async fn launch(&self) -> String {
        let data = vec![7_u8; 4096];
        let blob = Blob {
            sha256: format!("{:x}", Sha256::digest(&data)),
            size_bytes: data.len() as u64,
        };
        use upload_blob_request::Message;
        let parts = [Message::Blob(blob.clone()), Message::Data(data.into())];
        let parts = parts.map(|message| UploadBlobRequest {
            message: Some(message),
        });
        let mut images = ImageServiceClient::new(self.people.clone());
        let upload = images.upload_blob(tokio_stream::iter(parts)).await;
        upload.expect("uploaded");
        let image = Image {
            name: "image".to_owned(),
            architecture: "x86_64".to_owned(),
            user: "nube".to_owned(),
            disk: Some(blob),
            disk_format: DiskFormat::Raw.into(),
            virtual_size_bytes: 4096,
            ..Image::default()
        };
        let register = RegisterImageRequest {
            request_id: "01".repeat(16),
            image: Some(image),
        };
        images.register_image(register).await.expect("registered");
        let request_id = "0a".repeat(16);
        let launch = LaunchInstancesRequest {
            request_id: request_id.clone(),
            name: "secret-name".to_owned(),
            image: "image".to_owned(),
            ..LaunchInstancesRequest::default()
        };
        let mut instances = InstanceServiceClient::new(self.people.clone());
        instances.launch_instances(launch).await.expect("launched");
        let list = ListInstancesRequest::default();
        instances.list_instances(list).await.expect("listed");
        request_id
    }

    /// Stops the controller and answers what it said.
    pub async fn stop(&mut self) -> String {
        let pid = self.controller.id().to_string();
        let killed = Command::new("kill").arg(pid).status().expect("kill runs");
        assert!(killed.success());
        patiently("the end", || {
            let ended = self.controller.try_wait().expect("a child");
            async move { ended.ok_or("it still runs") }
        })
        .await;
        std::fs::read_to_string(self.dir.path().join("log")).expect("a log")
    }
}

/// Plays the agent: greets and reports an empty host. The session lives as long
/// as its sender.
async fn host(port: u16, ca: &Path, home: PathBuf) -> mpsc::Sender<AgentMessage> {
    let text = std::fs::read_to_string(home.join("agent.toml")).expect("readable");
    let config: toml::Table = text.parse().expect("TOML");
    let word = |key: &str| config[key].as_str().expect("a string").to_owned();
    let hello = Hello {
        node_id: word("node_id"),
        node_name: word("name"),
        zone: word("zone"),
        agent_epoch: 1,
        vcpus: 1,
        vcpu_overcommit_percent: 400,
        memory_mib: 1024,
        disk_mib: 10_240,
        accelerator: "tcg".to_owned(),
        isolation: "none".to_owned(),
        drivers: vec!["qemu".to_owned()],
        ..Hello::default()
    };
    let report = Report {
        agent_epoch: 1,
        sequence: 1,
        full: true,
        ..Report::default()
    };
    let channel = channel(port, ca, &home.join("tls.pem"));
    let (sender, mut down) = patiently("a session", || {
        let (channel, hello, report) = (channel.clone(), hello.clone(), report.clone());
        async move {
            let (sender, messages) = mpsc::channel(8);
            use agent_message::Message;
            for message in [Message::Hello(hello), Message::Report(report)] {
                let message = Some(message);
                let sent = sender.send(AgentMessage { message }).await;
                sent.expect("room for two");
            }
            let mut agent = AgentServiceClient::new(channel);
            let session = agent.session(ReceiverStream::new(messages)).await;
            session.map(|down| (sender, down.into_inner()))
        }
    })
    .await;
    // What it is told is read, or the session ends.
    tokio::spawn(async move { while let Ok(Some(_)) = down.message().await {} });
    let alive = sender.clone();
    tokio::spawn(async move {
        for sequence in 1.. {
            let beat = agent_message::Message::Heartbeat(Heartbeat { sequence });
            let message = Some(beat);
            if alive.send(AgentMessage { message }).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    sender
}
