//! `agent.toml`: every key, its default and its checks. Unknown keys are
//! refused, so that a misspelt one is not silently ignored.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use nube_types::limits::{ADDRESS_BYTES_MAX, TRAFFIC_REPORT_MS};
use nube_types::{Labels, Name, NodeId, label};
use serde::Deserialize;

/// How guests execute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// KVM if a probe guest really runs on it, else TCG.
    #[default]
    Auto,
    /// Hardware virtualisation, or the agent does not start.
    Kvm,
    /// Emulation: slow, and QEMU promises no isolation.
    Tcg,
}

/// Which kind of guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    /// Real machines.
    #[default]
    Qemu,
    /// Guests in memory, for tests of the control plane.
    Simulated,
}

/// The agent's configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `n-` and 16 hexadecimal digits; as in the node's certificate.
    pub node_id: NodeId,
    /// RFC 1123 label for people, unique in the cell.
    pub name: String,
    /// Failure domain; `default` when there is only one.
    #[serde(default = "zone_default")]
    pub zone: String,
    /// Everything the agent keeps: journal, images, guests.
    pub data_dir: PathBuf,
    /// `host:port` of the controllers to begin with. Once a leader has said where
    /// the controllers are, that is remembered and these are the last resort.
    pub controllers: Vec<String>,
    /// The cluster's CA; relative paths start at this file's directory.
    #[serde(default = "ca_default")]
    pub ca: PathBuf,
    /// This node's certificate.
    #[serde(default = "certificate_default")]
    pub certificate: PathBuf,
    /// Its key.
    #[serde(default = "key_default")]
    pub key: PathBuf,
    /// `auto` (default), `kvm` or `tcg`.
    #[serde(default)]
    pub accelerator: Accelerator,
    /// `qemu` (default) or `simulated`.
    #[serde(default)]
    pub driver: DriverKind,
    /// The emulator.
    #[serde(default = "qemu_default")]
    pub qemu: PathBuf,
    /// Threads to offer. Default: those of the host.
    pub vcpus: Option<u32>,
    /// Memory to offer. Default: the host's minus a reserve.
    pub memory_mib: Option<u64>,
    /// Disk to offer. Default: free space under `data_dir` minus a reserve.
    pub disk_mib: Option<u64>,
    /// Room for image files; the rest of the disk belongs to guests.
    #[serde(default = "image_cache_mib_default")]
    pub image_cache_mib: u64,
    /// Virtual CPUs that may be promised per thread, in percent.
    #[serde(default = "vcpu_overcommit_percent_default")]
    pub vcpu_overcommit_percent: u32,
    /// First of the user ids that guests run as; each guest has its own.
    #[serde(default = "uid_base_default")]
    pub uid_base: u32,
    /// Address for `GET /metrics` and `GET /healthz`, plain HTTP; absent: none. It
    /// has no password: keep it on a loopback or management address.
    pub metrics_listen: Option<SocketAddr>,
    /// `http://HOST:PORT` of an OTLP collector (gRPC) for traces; absent: none.
    pub otlp_endpoint: Option<String>,
    /// IPv4 address that other hosts send the networks' packets to (VXLAN, UDP
    /// 4789). Default: the one that this host reaches its controllers from.
    pub overlay_address: Option<Ipv4Addr>,
    /// How often traffic with the internet is reported, 1 to 3600 seconds.
    #[serde(default = "traffic_report_seconds_default")]
    pub traffic_report_seconds: u32,
    /// Notes for placement.
    #[serde(default)]
    pub labels: Labels,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML, lacks a key or has one too many.
    #[error("`{}` is not a configuration", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("`{}`: {reason}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// Key, value, rule.
        reason: String,
    },
}

impl Config {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Checks a file's text; paths in it are relative to where the file is.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let mut config: Self = toml::from_str(text).map_err(|source| Error::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        config.check().map_err(|reason| Error::Value {
            path: path.to_owned(),
            reason,
        })?;
        let dir = path.parent().unwrap_or(Path::new("."));
        let dir = std::path::absolute(dir).map_err(|source| Error::Read {
            path: dir.to_owned(),
            source,
        })?;
        for file in [
            &mut config.data_dir,
            &mut config.ca,
            &mut config.certificate,
            &mut config.key,
        ] {
            *file = dir.join(&*file);
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        Name::new(&self.name).map_err(|e| format!("name: {e}"))?;
        Name::new(&self.zone).map_err(|e| format!("zone: {e}"))?;
        label::check(&self.labels).map_err(|e| format!("labels: {e}"))?;
        if self.controllers.is_empty() {
            return Err("controllers: at least one `host:port` is needed".to_owned());
        }
        if let Some(text) = self.controllers.iter().find(|text| !is_address(text)) {
            return Err(format!(
                "controllers: `{}` is not `host:port`",
                text.escape_debug()
            ));
        }
        if let Some(endpoint) = &self.otlp_endpoint {
            nube_telemetry::trace::check(endpoint).map_err(|e| format!("otlp_endpoint: {e}"))?;
        }
        if !(100..=10_000).contains(&self.vcpu_overcommit_percent) {
            return Err("vcpu_overcommit_percent: not 100 to 10000".to_owned());
        }
        // Below live the system's users and containers; the upper end keeps
        // clear of 2^31.
        if !(65_536..=2_000_000_000).contains(&self.uid_base) {
            return Err("uid_base: not 65536 to 2000000000".to_owned());
        }
        if !(1..=3_600).contains(&self.traffic_report_seconds) {
            return Err("traffic_report_seconds: not 1 to 3600".to_owned());
        }
        let unusable = |address: &Ipv4Addr| {
            address.is_unspecified() || address.is_multicast() || address.is_broadcast()
        };
        if let Some(address) = self.overlay_address.filter(unusable) {
            return Err(format!("overlay_address: {address} is no host's address"));
        }
        if self.vcpus == Some(0) || self.memory_mib == Some(0) || self.disk_mib == Some(0) {
            return Err("vcpus, memory_mib, disk_mib: 0 offers nothing".to_owned());
        }
        Ok(())
    }
}

/// `host:port`, of characters that hosts have.
pub fn is_address(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    text.len() <= ADDRESS_BYTES_MAX
        && text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && host.chars().all(legal)
                && port.parse::<u16>().is_ok_and(|port| port != 0)
        })
}

fn zone_default() -> String {
    "default".to_owned()
}
fn ca_default() -> PathBuf {
    "ca.pem".into()
}
fn certificate_default() -> PathBuf {
    "tls.pem".into()
}
fn key_default() -> PathBuf {
    "tls.key".into()
}
fn qemu_default() -> PathBuf {
    "/usr/bin/qemu-system-x86_64".into()
}
fn image_cache_mib_default() -> u64 {
    20 * 1024
}
fn vcpu_overcommit_percent_default() -> u32 {
    400
}
fn traffic_report_seconds_default() -> u32 {
    u32::try_from(TRAFFIC_REPORT_MS / 1_000).expect("a minute")
}

fn uid_base_default() -> u32 {
    1_000_000
}

#[cfg(test)]
mod test {
    use super::*;

    const SMALL: &str = "node_id = 'n-0000000000000001'\nname = 'host1'\ndata_dir = 'data'\n\
                         controllers = ['10.0.0.1:7000', 'c2:7000']\n";

    fn load(text: &str) -> Result<Config, Error> {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("agent.toml");
        fs::write(&path, text).expect("write");
        Config::load(&path)
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = load(SMALL).expect("config");
        assert_eq!(config.vcpu_overcommit_percent, 400);
        assert!(config.ca.is_absolute() && config.ca.ends_with("ca.pem"));
        assert!(config.data_dir.is_absolute() && config.data_dir.ends_with("data"));
    }

    #[test]
    fn wrong_values_are_named() {
        for (line, key) in [
            ("vcpu = 3", "vcpu"),
            ("zone = 'A b'", "zone"),
            ("accelerator = 'xen'", "xen"),
            ("vcpu_overcommit_percent = 99", "vcpu_overcommit_percent"),
            ("uid_base = 0", "uid_base"),
            ("memory_mib = 0", "memory_mib"),
            ("metrics_listen = 'eth0'", "metrics_listen"),
            ("otlp_endpoint = 'collector'", "otlp_endpoint"),
            ("[labels]\n'a b' = 'c'", "labels"),
        ] {
            let error = load(&format!("{SMALL}{line}\n")).expect_err(line);
            assert!(crate::log::chain(&error).contains(key), "{error}");
        }
        for bad in ["[]", "['host']", "[':1']", "['h:0']", "['h:99999']"] {
            let text = SMALL.replace("['10.0.0.1:7000', 'c2:7000']", bad);
            assert!(load(&text).is_err(), "{bad}");
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
        let example = include_str!("../../deploy/config/agent.toml");
        load(example).expect("the example is a configuration");
        let whole = example.replace("\n#", "\n").replace("\n ", "\n# ");
        load(&whole).expect("and so is every line that is commented out");
        let error = toml::from_str::<Config>("nonsense = 1").expect_err("unknown");
        let keys = keys_of(&error.to_string());
        assert!(keys.len() > 10, "{error}");
        for key in keys {
            assert!(
                whole.contains(&format!("\n{key} = ")) || key == "labels",
                "{key}"
            );
        }
    }
}
