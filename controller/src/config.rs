//! `controller.toml`. Unknown keys are refused: a typing error must not turn
//! into a default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// A few seconds of a busy cell.
pub const SNAPSHOT_EVERY_ENTRIES_DEFAULT: u64 = 20_000;
/// A day.
pub const CERTIFICATE_MINUTES_DEFAULT: u32 = 24 * 60;
const CERTIFICATE_MINUTES_MAX: u32 = 397 * 24 * 60;

/// Settings of one controller. Relative paths start at the file's directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This member's number; never reused in a cluster.
    pub id: u64,
    /// 32 hexadecimal digits, drawn at bootstrap.
    pub cluster_id: String,
    /// Log, snapshots and store live here.
    pub data_dir: PathBuf,
    /// Addresses to listen on, `host:port`, for clients, agents and peers alike.
    pub listen: Vec<String>,
    /// Directory of image files, shared by the controllers or replicated below.
    pub image_dir: PathBuf,
    /// The cluster's CA certificate (PEM).
    pub ca: PathBuf,
    /// This controller's certificate (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM, mode 0600).
    pub key: PathBuf,
    /// The CA's key (PEM, mode 0600): every controller renews certificates.
    pub ca_key: PathBuf,
    /// Life of the certificates of agents and controllers, 1 to 571680 (397
    /// days). A stolen one is good for so long; an agent that is off for longer
    /// has to join again.
    #[serde(default = "certificate_minutes_default")]
    pub certificate_minutes: u32,
    /// Log entries between two snapshots, 100 to 1000000. Fewer: more is written,
    /// and who was away gets a whole snapshot sooner. More: a start replays more.
    #[serde(default = "snapshot_every_entries_default")]
    pub snapshot_every_entries: u64,
    /// 32 bytes in hexadecimal (mode 0600), the same on every controller: host
    /// keys are derived from it and user-data is sealed with it.
    pub cluster_secret: PathBuf,
    /// Address for `GET /metrics` and `GET /healthz`, plain HTTP; absent: none. It
    /// has no password: keep it on a loopback or management address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// `http://HOST:PORT` of an OTLP collector (gRPC) for traces; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// The members to begin with, this one included. Once the cluster has told
    /// who its members are, these are not looked at any more.
    pub members: Vec<Member>,
}

/// One controller of the cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// `host:port` where peers and clients reach it.
    pub address: String,
    /// `host:port` where agents reach it, when it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_address: Option<String>,
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        Self::parse(&text, path.parent().unwrap_or(Path::new(".")))
    }

    /// Checks a file's text; paths in it are relative to `base`.
    pub fn parse(text: &str, base: &Path) -> anyhow::Result<Self> {
        let mut config: Self = toml::from_str(text)?;
        for file in [
            &mut config.data_dir,
            &mut config.image_dir,
            &mut config.ca,
            &mut config.certificate,
            &mut config.key,
            &mut config.ca_key,
            &mut config.cluster_secret,
        ] {
            *file = base.join(&*file);
        }
        config.cluster_id_bytes()?;
        anyhow::ensure!(
            config.members.iter().any(|member| member.id == config.id),
            "members: member {} (this controller) is missing",
            config.id
        );
        if let Some(endpoint) = &config.otlp_endpoint {
            let checked = nube_telemetry::trace::check(endpoint);
            checked.map_err(|rule| anyhow::anyhow!("otlp_endpoint: {rule}"))?;
        }
        anyhow::ensure!(
            (1..=CERTIFICATE_MINUTES_MAX).contains(&config.certificate_minutes),
            "certificate_minutes: not 1 to {CERTIFICATE_MINUTES_MAX}"
        );
        anyhow::ensure!(
            (100..=1_000_000).contains(&config.snapshot_every_entries),
            "snapshot_every_entries: not 100 to 1000000"
        );
        anyhow::ensure!(
            !config.listen.is_empty(),
            "listen: at least one address is needed"
        );
        Ok(config)
    }

    /// Life of the certificates of agents and controllers.
    #[must_use]
    pub fn certificate_life(&self) -> Duration {
        Duration::from_secs(u64::from(self.certificate_minutes) * 60)
    }

    /// The cluster id as bytes.
    pub fn cluster_id_bytes(&self) -> anyhow::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(&self.cluster_id, &mut bytes)
            .context("cluster_id: 32 hexadecimal digits are needed")?;
        Ok(bytes)
    }
}

fn snapshot_every_entries_default() -> u64 {
    SNAPSHOT_EVERY_ENTRIES_DEFAULT
}

fn certificate_minutes_default() -> u32 {
    CERTIFICATE_MINUTES_DEFAULT
}

#[cfg(test)]
mod test {
    use super::*;

    const GOOD: &str = r#"
        id = 1
        cluster_id = "000102030405060708090a0b0c0d0e0f"
        data_dir = "data"
        listen = ["127.0.0.1:7101"]
        image_dir = "/images"
        ca = "ca.pem"
        certificate = "tls.pem"
        key = "tls.key"
        ca_key = "ca.key"
        cluster_secret = "cluster.secret"
        [[members]]
        id = 1
        address = "127.0.0.1:7101"
    "#;

    fn load(text: &str) -> anyhow::Result<Config> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("controller.toml");
        std::fs::write(&path, text).expect("a writable directory");
        Config::load(&path)
    }

    #[test]
    fn paths_start_at_the_file() {
        let config = load(GOOD).expect("a good file");
        assert!(config.data_dir.is_absolute() && config.data_dir.ends_with("data"));
        assert_eq!(config.image_dir, PathBuf::from("/images"));
        assert!(config.ca_key.is_absolute());
        assert_eq!(config.certificate_minutes, 1_440);
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (GOOD.replace("listen =", "lisen ="), "lisen"),
            (
                GOOD.replace("id = 1\n        cluster", "id = 2\n        cluster"),
                "members",
            ),
            (GOOD.replace("000102", "zz0102"), "cluster_id"),
            (
                format!("metrics_listen = \"nowhere\"\n{GOOD}"),
                "metrics_listen",
            ),
            (
                format!("otlp_endpoint = \"https://x:1\"\n{GOOD}"),
                "otlp_endpoint",
            ),
            (
                format!("certificate_minutes = 0\n{GOOD}"),
                "certificate_minutes",
            ),
            (
                format!("certificate_minutes = 571681\n{GOOD}"),
                "certificate_minutes",
            ),
            (
                format!("certificate_minutes = -1\n{GOOD}"),
                "certificate_minutes",
            ),
            (
                format!("snapshot_every_entries = 99\n{GOOD}"),
                "snapshot_every_entries",
            ),
            (GOOD.replace("[\"127.0.0.1:7101\"]", "[]"), "listen"),
        ];
        for (text, word) in cases {
            let error = format!("{:#}", load(&text).expect_err(word));
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    /// The keys that serde knows, out of its own words about an unknown one.
    fn keys_of(error: &str) -> Vec<String> {
        let (_, list) = error
            .split_once("expected")
            .expect("a list of the known keys");
        let quoted = list.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    }

    #[test]
    fn the_example_documents_every_key() {
        let example = include_str!("../../deploy/config/controller.toml");
        let config = load(example).expect("the example is a config");
        assert_eq!(config.members.len(), 3);
        for text in [
            format!("nonsense = 1\n{example}"),
            format!("{example}nonsense = 1\n"),
        ] {
            let error = toml::from_str::<Config>(&text)
                .expect_err("unknown")
                .to_string();
            let keys = keys_of(&error);
            assert!(keys.len() > 1, "{error}");
            for key in keys {
                assert!(
                    example.contains(&format!("\n{key} = ")) || key == "members",
                    "{key}"
                );
            }
        }
    }
}
