//! Real sockets against a real server: who gets in, who is cut off and when.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use nube_tls::{ALPN, Dialer, Files, Identity, SERVER_NAME, provider};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TlsConnectInfo;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::config::Config;
use crate::identity::{self, Role};
use crate::pki::Issuer;
use crate::tls::Tls;
use crate::{bootstrap, clock};

/// Ends a test that hangs; nothing is measured with it.
const LIMIT: Duration = Duration::from_secs(20);

struct World {
    dir: tempfile::TempDir,
    config: Config,
    tls: Tls,
    address: std::net::SocketAddr,
}

/// A bootstrapped controller's TLS and gate before a health service.
async fn world(limits: Limits) -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let cell = dir.path().join("cell");
    bootstrap::run(&bootstrap::Args {
        dir: cell.clone(),
        controllers: 1,
        nodes: 1,
        base_port: 7101,
        underlay: "10.213.0.1".parse().expect("an address"),
        address: "127.0.0.1".parse().expect("an address"),
        memory_mib_per_node: 1024,
        vcpus_per_node: 2,
        disk_mib_per_node: 1024,
        uid_base: 1_000_000,
        certificate_minutes: 60,
        node_addresses: Vec::new(),
    })
    .expect("a fresh directory");
    let config = Config::load(&cell.join("controller-1/controller.toml")).expect("a config");
    let tls = Tls::load(&config).expect("an identity");
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = socket.local_addr().expect("an address");
    let (health, service) = tonic_health::server::health_reporter();
    health
        .set_service_status("", tonic_health::ServingStatus::Serving)
        .await;
    let id = config.cluster_id.clone();
    let gate = move |request: tonic::Request<()>| gate(&id, request);
    let incoming = serve(vec![socket], &tls.acceptor(), limits).expect("a thread");
    let server = tonic::transport::Server::builder()
        .add_service(InterceptedService::new(service, gate))
        .serve_with_incoming(incoming);
    tokio::spawn(server);
    World {
        dir,
        config,
        tls,
        address,
    }
}

/// Lets operators pass, as `authorise` does.
fn gate(cluster_id: &str, request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
    let wire = request.extensions().get::<TlsConnectInfo<Connection>>();
    let wire = wire.ok_or_else(|| Status::internal("no TLS"))?;
    let chain = wire.peer_certs().unwrap_or_default();
    let caller = identity::from_chain(&chain, cluster_id);
    match caller.map(|caller| caller.role) {
        None => return Err(Status::unauthenticated("nobody")),
        Some(Role::Operator) => wire.get_ref().prove(),
        Some(_) => return Err(Status::permission_denied("another role")),
    }
    Ok(request)
}

impl World {
    fn issuer(&self) -> Issuer {
        Issuer::load(&self.config.ca, &self.config.ca_key).expect("a CA")
    }

    /// A certificate as this cluster's issuer would never make it.
    fn leaf(&self, odd: Odd) -> Pair {
        let own = self.issuer();
        let ca = if odd.stranger {
            Issuer::generate("x").expect("a CA")
        } else {
            own
        };
        let key = KeyPair::from_pem(&ca.ca_key_pem()).expect("a key");
        let signer = rcgen::Issuer::from_ca_cert_pem(ca.ca_pem(), key).expect("a CA");
        let mut params = CertificateParams::default();
        let uri = identity::uri(&self.config.cluster_id, odd.role, "x");
        let uri = SanType::URI(uri.try_into().expect("a URI"));
        params.subject_alt_names.push(uri);
        let dns = SERVER_NAME.try_into().expect("a name");
        params.subject_alt_names.push(SanType::DnsName(dns));
        params.extended_key_usages = vec![odd.usage];
        let at = |from_now_s: i64| {
            let now_s = i64::try_from(clock::wall().seconds()).expect("after 1970");
            let seconds = u64::try_from(now_s + from_now_s).expect("after 1970");
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        params.not_before = at(odd.life_s.0);
        params.not_after = at(odd.life_s.1);
        let key = KeyPair::generate().expect("a key");
        Pair {
            certificate: params.signed_by(&key, &signer).expect("signed").pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate in files of its own, as an agent has it.
    fn identity(&self, name: &str, pair: &Pair) -> Arc<Identity> {
        let dir = self.dir.path().join(name);
        std::fs::create_dir(&dir).expect("made");
        let files = Files {
            ca: self.config.ca.clone(),
            certificate: dir.join("tls.pem"),
            key: dir.join("tls.key"),
        };
        std::fs::write(&files.certificate, &pair.certificate).expect("written");
        std::fs::write(&files.key, &pair.key).expect("written");
        Identity::load(files).expect("loaded")
    }

    fn client(
        &self,
        pair: Option<&Pair>,
        version: &'static SupportedProtocolVersion,
    ) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.tls.identity().ca().clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots);
        let mut config = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes());
                builder
                    .with_client_auth_cert(vec![certificate.expect("PEM")], key.expect("PEM"))
                    .expect("a pair")
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    async fn stream(&self, tls: &TlsConnector) -> io::Result<Stream> {
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(SERVER_NAME).expect("a name");
        tls.connect(name, tcp).await
    }

    /// A channel over this one connection and no other.
    async fn channel(&self, tls: &TlsConnector) -> Result<Channel, tonic::transport::Error> {
        let (address, tls) = (self.address, tls.clone());
        let connect = move |_: Uri| {
            let tls = tls.clone();
            async move {
                let tcp = TcpStream::connect(address).await?;
                let name = ServerName::try_from(SERVER_NAME).expect("a name");
                io::Result::Ok(TokioIo::new(tls.connect(name, tcp).await?))
            }
        };
        let endpoint = Dialer::endpoint(&self.address.to_string()).expect("an address");
        endpoint
            .connect_with_connector(tower::service_fn(connect))
            .await
    }

    async fn call(&self, tls: &TlsConnector) -> Result<(), Status> {
        let channel = self.channel(tls).await;
        check(channel.map_err(|error| Status::unavailable(error.to_string()))?).await
    }

    fn good(&self) -> TlsConnector {
        self.client(Some(&self.leaf(Odd::default())), &TLS13)
    }
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

struct Pair {
    certificate: String,
    key: String,
}

/// What is odd about a certificate; by default nothing.
struct Odd {
    stranger: bool,
    role: Role,
    usage: ExtendedKeyUsagePurpose,
    life_s: (i64, i64),
}

impl Default for Odd {
    fn default() -> Self {
        Self {
            stranger: false,
            role: Role::Operator,
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            life_s: (-60, 60),
        }
    }
}

async fn check(channel: Channel) -> Result<(), Status> {
    let request = HealthCheckRequest::default();
    let answer = tokio::time::timeout(LIMIT, HealthClient::new(channel).check(request)).await;
    answer.expect("an answer in time").map(|_| ())
}

/// True once the other side has ended the connection.
async fn ends(mut stream: impl AsyncRead + Unpin) -> bool {
    let mut bytes = [0; 1024];
    let ended = async {
        while let Ok(read) = stream.read(&mut bytes).await {
            if read == 0 {
                break;
            }
        }
    };
    tokio::time::timeout(LIMIT, ended).await.is_ok()
}

#[tokio::test]
async fn each_caller_gets_in_or_is_refused_where_it_should_be() {
    let world = world(Limits::default()).await;
    let leaf = |odd| world.leaf(odd);
    let good = leaf(Odd::default());
    world
        .call(&world.client(Some(&good), &TLS13))
        .await
        .expect("a good caller");
    let status = world
        .call(&world.client(None, &TLS13))
        .await
        .expect_err("nobody");
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    let controller = leaf(Odd {
        role: Role::Controller,
        ..Odd::default()
    });
    let status = world
        .call(&world.client(Some(&controller), &TLS13))
        .await
        .expect_err("another role");
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let refused = [
        (
            "wrong CA",
            "UnknownCA",
            Odd {
                stranger: true,
                ..Odd::default()
            },
        ),
        (
            "expired",
            "CertificateExpired",
            Odd {
                life_s: (-120, -60),
                ..Odd::default()
            },
        ),
        (
            "not yet valid",
            "CertificateExpired",
            Odd {
                life_s: (60, 120),
                ..Odd::default()
            },
        ),
        (
            "made for servers",
            "",
            Odd {
                usage: ExtendedKeyUsagePurpose::ServerAuth,
                ..Odd::default()
            },
        ),
    ];
    for (what, word, odd) in refused {
        let client = world.client(Some(&leaf(odd)), &TLS13);
        // In the handshake, before any gate. A client of TLS 1.3 hears of it
        // at its first read.
        let mut stream = world.stream(&client).await.expect("half a handshake");
        let alert = stream.read_u8().await.expect_err(what).to_string();
        assert!(alert.contains(word), "{what}: {alert}");
        world.call(&client).await.expect_err(what);
    }
    let old = world.client(Some(&good), &TLS12);
    assert!(world.stream(&old).await.is_err(), "TLS 1.2");
    let plain = Endpoint::from_shared(format!("http://{}", world.address)).expect("an address");
    assert!(check(plain.connect_lazy()).await.is_err(), "no TLS");
}

#[tokio::test]
async fn a_newcomer_finds_the_ca_in_the_chain() {
    let world = world(Limits::default()).await;
    let stream = world
        .stream(&world.client(None, &TLS13))
        .await
        .expect("a handshake");
    let chain = stream.get_ref().1.peer_certificates().expect("a chain");
    assert_eq!(chain.len(), 2);
    let fingerprint = hex::encode(Sha256::digest(&chain[1]));
    assert_eq!(fingerprint, world.issuer().fingerprint());
}

#[tokio::test]
async fn an_agent_cannot_play_the_controller() {
    let world = world(Limits::default()).await;
    // Even with the controllers' DNS name in it, which the issuer gives to
    // controllers only, it is not made for servers.
    let agent = world.leaf(Odd {
        role: Role::Agent,
        ..Odd::default()
    });
    world
        .tls
        .identity()
        .replace(&agent.certificate, &agent.key)
        .expect("replaced");
    assert!(world.stream(&world.good()).await.is_err());
}

#[tokio::test]
async fn renewed_certificates_are_used_by_the_next_connection_on_both_sides() {
    let world = world(Limits::default()).await;
    let leaf =
        |stream: &Stream| stream.get_ref().1.peer_certificates().expect("a chain")[0].to_vec();
    let old_channel = world.channel(&world.good()).await.expect("a channel");
    check(old_channel.clone()).await.expect("an answer");
    let before = leaf(&world.stream(&world.good()).await.expect("a handshake"));
    crate::renew::renew(
        world.tls.identity(),
        &world.issuer(),
        &world.config.cluster_id,
        Role::Controller,
        "1",
    )
    .expect("renewed");
    let after = leaf(&world.stream(&world.good()).await.expect("a handshake"));
    assert_ne!(before, after);
    check(old_channel).await.expect("the old connection stands");
    // The client: its certificate has expired, a new one is put in, and the
    // same lazy channel gets through.
    let expired = world.leaf(Odd {
        life_s: (-120, -60),
        ..Odd::default()
    });
    let identity = world.identity("client", &expired);
    let dialer = Dialer::new(&identity).expect("a dialer");
    let endpoint = Dialer::endpoint(&world.address.to_string()).expect("an address");
    let channel = dialer.lazy(&endpoint);
    check(channel.clone()).await.expect_err("expired");
    let fresh = world.leaf(Odd::default());
    identity
        .replace(&fresh.certificate, &fresh.key)
        .expect("replaced");
    check(channel).await.expect("renewed");
}

#[tokio::test]
async fn who_proves_nothing_is_cut_off_and_who_did_stays() {
    let limits = Limits {
        proof: Duration::from_millis(300),
        ..Limits::default()
    };
    let world = world(limits).await;
    let proven = world.channel(&world.good()).await.expect("a channel");
    check(proven.clone()).await.expect("an answer");
    // A certificate is not enough, nor is a request that the gate refuses.
    let silent = world.stream(&world.good()).await.expect("a handshake");
    assert!(ends(silent).await);
    let nobody = world.channel(&world.client(None, &TLS13)).await;
    let nobody = nobody.expect("a channel");
    check(nobody.clone()).await.expect_err("nobody");
    let mut dribbling = world.stream(&world.good()).await.expect("a handshake");
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r" {
        // Too slow to ever finish; the server ends it first.
        let written = dribbling.write_all(&[*byte]).await.is_ok();
        let flushed = written && dribbling.flush().await.is_ok();
        if !flushed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(ends(dribbling).await);
    check(proven)
        .await
        .expect("an answer, long after the limit");
}

#[tokio::test]
async fn a_flood_pushes_out_its_own() {
    let limits = Limits {
        unproven: 4,
        ..Limits::default()
    };
    let world = world(limits).await;
    let mut flood = Vec::new();
    for _ in 0..40 {
        flood.push(TcpStream::connect(world.address).await.expect("accepted"));
    }
    world.call(&world.good()).await.expect("an honest caller");
    for old in flood.drain(..36) {
        assert!(ends(old).await);
    }
}

#[tokio::test]
async fn a_handshake_that_hangs_delays_nobody_and_ends() {
    let limits = Limits {
        handshake: Duration::from_millis(200),
        ..Limits::default()
    };
    let world = world(limits).await;
    let silent = TcpStream::connect(world.address).await.expect("accepted");
    let mut noisy = TcpStream::connect(world.address).await.expect("accepted");
    noisy.write_all(&[0xff; 512]).await.expect("sent");
    world.call(&world.good()).await.expect("an honest caller");
    assert!(ends(silent).await);
    assert!(ends(noisy).await);
}

#[tokio::test]
async fn one_connection_too_many_is_refused_and_room_comes_back() {
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let world = world(limits).await;
    let only = world.channel(&world.good()).await.expect("a channel");
    check(only.clone()).await.expect("an answer");
    world.call(&world.good()).await.expect_err("full");
    drop(only);
    let mut tries = 0;
    while let Err(error) = world.call(&world.good()).await {
        tries += 1;
        assert!(tries < 100, "no room came back: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let world = world(Limits::default()).await;
    let short = world.leaf(Odd {
        life_s: (-60, 2),
        ..Odd::default()
    });
    let channel = world.channel(&world.client(Some(&short), &TLS13)).await;
    let mut client = HealthClient::new(channel.expect("a channel"));
    let watch = client.watch(HealthCheckRequest::default()).await;
    let mut watch = watch.expect("a stream").into_inner();
    watch
        .message()
        .await
        .expect("open")
        .expect("a first answer");
    let next = tokio::time::timeout(LIMIT, watch.message()).await;
    assert!(!matches!(next.expect("an end in time"), Ok(Some(_))));
}

#[tokio::test]
async fn a_closed_connection_says_nothing_more() {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = socket.local_addr().expect("an address");
    let mut other = TcpStream::connect(address).await.expect("connected");
    let (tcp, remote) = socket.accept().await.expect("accepted");
    let slots = Arc::new(Semaphore::new(1));
    let slot = Slot {
        remote,
        lobby: Arc::new(Lobby::new(1)),
        proof: LIMIT,
        permit: slots.try_acquire_owned().expect("a slot"),
    };
    let mut guarded = Guarded::new(tcp, slot);
    let connection = guarded.connection().clone();
    connection.prove();
    guarded.write_all(b"x").await.expect("open");
    assert_eq!(other.read_u8().await.expect("a byte"), b'x');
    connection.close();
    guarded.write_all(b"x").await.expect_err("closed");
    guarded.read_u8().await.expect_err("closed");
}
