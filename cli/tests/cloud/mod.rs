//! A cloud in this process, behind real TLS: few objects, fixed answers, and a
//! note of what every call carried.

mod service;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use nube_proto::v1::access_key_service_server::AccessKeyServiceServer;
use nube_proto::v1::event_service_server::EventServiceServer;
use nube_proto::v1::instance_service_server::InstanceServiceServer;
use nube_proto::v1::principal_service_server::PrincipalServiceServer;
use nube_proto::v1::project_service_server::ProjectServiceServer;
use nube_proto::v1::watch_service_server::WatchServiceServer;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Status};

pub const TOKEN: &str = "nube1.ak-00c0ffee00c0ffee.c2VjcmV0";

/// What calls did.
#[derive(Clone, Default)]
pub struct Notes {
    stamps: Arc<Mutex<Vec<String>>>,
    deleted: Arc<Mutex<Vec<String>>>,
}

/// The cloud, and the home directory of one who uses it.
pub struct Cloud {
    notes: Notes,
    home: tempfile::TempDir,
    // Ends the servers when it is dropped.
    _runtime: tokio::runtime::Runtime,
}

impl Cloud {
    pub fn start() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let notes = Notes::default();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (ca, identity) = certificates();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let stamps = notes.stamps.clone();
        let note = move |request: Request<()>| -> Result<Request<()>, Status> {
            let value = |key| {
                let value = request.metadata().get(key);
                value.map_or("-", |value| value.to_str().expect("text"))
            };
            let stamp = format!("{}|{}", value("authorization"), value("x-nube-project"));
            stamps.lock().expect("no panic while locked").push(stamp);
            Ok(request)
        };
        let server = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .expect("valid TLS")
            .layer(tonic::service::InterceptorLayer::new(note))
            .add_service(AccessKeyServiceServer::new(notes.clone()))
            .add_service(EventServiceServer::new(notes.clone()))
            .add_service(InstanceServiceServer::new(notes.clone()))
            .add_service(PrincipalServiceServer::new(notes.clone()))
            .add_service(ProjectServiceServer::new(notes.clone()))
            .add_service(WatchServiceServer::new(notes.clone()));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        runtime.spawn(server.serve_with_incoming(incoming));
        let cloud = Self {
            notes,
            home,
            _runtime: runtime,
        };
        cloud.write("ca.pem", &ca);
        cloud.write("token", TOKEN);
        let contexts = format!(
            "current = \"work\"\n[contexts.work]\nendpoints = [\"{address}\"]\nca = \"ca.pem\"\n\
             token_file = \"token\"\nproject = \"web\"\n"
        );
        cloud.write("config.toml", &contexts);
        cloud
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(".config/nube").join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
    }

    /// A file in the home directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloudctl"));
        command.env_clear().env("HOME", self.home.path());
        command.stdin(std::process::Stdio::null());
        command
    }

    /// Exit code, standard output, standard error.
    pub fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = self.command().args(args).output().expect("it runs");
        let Output {
            status,
            stdout,
            stderr,
        } = output;
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (status.code().unwrap_or(-1), text(stdout), text(stderr))
    }

    /// Candidates for the last word, as bash gets them.
    pub fn complete(&self, words: &[&str]) -> Vec<String> {
        let mut command = self.command();
        command.env("COMPLETE", "bash").env("_CLAP_IFS", "\n");
        command.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        let output = command.arg("--").args(words).output().expect("it runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let text = String::from_utf8(output.stdout).expect("text");
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    /// `authorization|x-nube-project` of each call since the last time.
    pub fn take_stamps(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.stamps.lock().expect("no panic while locked"))
    }

    /// Projects that were deleted.
    pub fn deleted(&self) -> Vec<String> {
        let deleted = self.notes.deleted.lock().expect("no panic while locked");
        deleted.clone()
    }
}

/// The authority's certificate, and a controller's with its key.
fn certificates() -> (String, Identity) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&key).expect("signed").pem();
    let issuer = Issuer::new(params, key);
    let names = vec!["controller.nube.internal".to_owned()];
    let params = CertificateParams::new(names).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("signed").pem();
    (ca, Identity::from_pem(certificate, key.serialize_pem()))
}
