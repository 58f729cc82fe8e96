//! `certify`: new certificates for nodes of a cluster made by `bootstrap`, from
//! its CA's key. An agent that was off for longer than its certificate lives
//! cannot ask for the next one. Controllers need no help: they hold the key.

use std::path::{Path, PathBuf};

use anyhow::Context;
use nube_tls::{Files, Identity};
use nube_types::NodeId;

use crate::config::Config;
use crate::identity::Role;
use crate::pki::Issuer;
use crate::renew;

/// Gives nodes new certificates, if theirs have expired or will soon.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where `bootstrap` put everything.
    #[arg(long)]
    pub dir: PathBuf,
    /// The nodes, as `node-1`. Their agents must not run meanwhile.
    #[arg(required = true)]
    pub nodes: Vec<String>,
}

/// What is needed of `agent.toml`.
#[derive(serde::Deserialize)]
struct AgentFile {
    node_id: String,
}

/// Replaces the certificates.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let pki = args.dir.join("pki");
    let config = Config::load(&args.dir.join("controller-1/controller.toml"))?;
    let issuer = Issuer::load(&pki.join("ca.pem"), &pki.join("ca.key"))?
        .with_lifetime(config.certificate_life());
    for node in &args.nodes {
        certify(&args.dir.join(node), &issuer, &config.cluster_id)
            .with_context(|| format!("node `{}`", node.escape_debug()))?;
    }
    Ok(())
}

fn certify(dir: &Path, issuer: &Issuer, cluster_id: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(dir.join("agent.toml")).context("reading agent.toml")?;
    let file: AgentFile = toml::from_str(&text).context("agent.toml")?;
    let node: NodeId = file.node_id.parse().context("node_id")?;
    let identity = Identity::load(Files {
        ca: dir.join("ca.pem"),
        certificate: dir.join("tls.pem"),
        key: dir.join("tls.key"),
    })?;
    if renew::is_due(&identity, issuer, 0.0) {
        renew::renew(
            &identity,
            issuer,
            cluster_id,
            Role::Agent,
            &node.to_string(),
        )?;
        println!("{node} has a new certificate");
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::bootstrap;
    use std::time::Duration;

    #[test]
    fn an_expired_node_gets_a_certificate_and_a_fresh_one_keeps_its_own() {
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
        let args = Args {
            dir: cell.clone(),
            nodes: vec!["node-1".to_owned()],
        };
        let path = cell.join("node-1/tls.pem");
        let first = std::fs::read(&path).expect("readable");
        run(&args).expect("certified");
        assert_eq!(std::fs::read(&path).expect("readable"), first, "not due");
        let config = Config::load(&cell.join("controller-1/controller.toml")).expect("config");
        let issuer = Issuer::load(&config.ca, &config.ca_key).expect("a CA");
        let files = Files {
            ca: cell.join("node-1/ca.pem"),
            certificate: path.clone(),
            key: cell.join("node-1/tls.key"),
        };
        let identity = Identity::load(files.clone()).expect("loaded");
        let node = std::fs::read_to_string(cell.join("node-1/agent.toml")).expect("readable");
        let node: AgentFile = toml::from_str(&node).expect("a file");
        let dead = issuer.with_lifetime(Duration::ZERO);
        renew::renew(
            &identity,
            &dead,
            &config.cluster_id,
            Role::Agent,
            &node.node_id,
        )
        .expect("an expired one");
        run(&args).expect("certified");
        let life = Identity::load(files).expect("loaded").life();
        assert_eq!(life.seconds(), 3_600, "a whole hour again");
        let missing = Args {
            nodes: vec!["../node-2".to_owned()],
            ..args
        };
        assert!(run(&missing).is_err());
    }
}
