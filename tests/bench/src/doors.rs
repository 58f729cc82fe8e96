//! The controllers of a cloud, for clients of their own: mutual TLS with the
//! operator's certificate.

use std::fs;

use anyhow::Context;
use nube_harness::Cloud;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// In every controller's certificate.
const SERVER_NAME: &str = "controller.nube.internal";

/// How the controllers are reached.
pub struct Doors {
    endpoints: Vec<String>,
    tls: ClientTlsConfig,
}

impl Doors {
    /// From the cloud's `client.toml`, as every client does.
    pub fn read(cloud: &Cloud) -> anyhow::Result<Self> {
        let text = fs::read_to_string(cloud.dir().join("client.toml"))?;
        let file: toml::Table = text.parse()?;
        let pem = |name: &str| {
            let path = file
                .get(name)
                .and_then(toml::Value::as_str)
                .context("a path")?;
            anyhow::Ok(fs::read(cloud.dir().join(path))?)
        };
        let endpoints = file.get("endpoints").and_then(toml::Value::as_array);
        let endpoints = endpoints.context("endpoints")?.iter();
        Ok(Self {
            endpoints: endpoints
                .filter_map(|e| Some(e.as_str()?.to_owned()))
                .collect(),
            tls: ClientTlsConfig::new()
                .domain_name(SERVER_NAME)
                .ca_certificate(Certificate::from_pem(pem("ca")?))
                .identity(Identity::from_pem(pem("cert")?, pem("key")?)),
        })
    }

    /// All controllers, the leader last; or the leader alone.
    pub fn addresses(&self, cloud: &Cloud, spread: bool) -> anyhow::Result<Vec<String>> {
        let leader = cloud.leader()?.to_string();
        let cluster = cloud.json(&["cluster", "status"])?;
        let members = cluster["members"].as_array().context("members")?;
        let leads = members.iter().find(|m| m["id"] == leader.as_str());
        let leads = leads
            .and_then(|m| m["address"].as_str())
            .context("its address")?;
        let others = self
            .endpoints
            .iter()
            .filter(|e| spread && *e != leads)
            .cloned();
        let all: Vec<String> = others.chain([leads.to_owned()]).collect();
        let expected = if spread { self.endpoints.len() } else { 1 };
        anyhow::ensure!(all.len() == expected, "`{leads}` is no endpoint");
        Ok(all)
    }

    /// Returns when the connection stands.
    pub async fn connect(&self, address: &str) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
        let endpoint = endpoint.tcp_nodelay(true).tls_config(self.tls.clone())?;
        Ok(endpoint.connect().await?)
    }
}
