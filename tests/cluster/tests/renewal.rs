//! Certificates of a minute: every process renews its own, over and over, and
//! nobody notices.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use nube_harness::{Cloud, Size, eventually};
use nube_tls::Life;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

fn life(cloud: &Cloud, member: &str) -> anyhow::Result<Life> {
    let path: PathBuf = cloud.dir().join(member).join("tls.pem");
    Ok(Life::of(&CertificateDer::from_pem_file(path)?)?)
}

fn nodes_ready(cloud: &Cloud) -> anyhow::Result<()> {
    let nodes = cloud.json(&["node", "list"])?;
    let nodes = nodes["nodes"].as_array().context("nodes")?;
    let ready = nodes.iter().all(|node| node["state"] == "NODE_STATE_READY");
    anyhow::ensure!(ready && nodes.len() == 1, "{nodes:?}");
    Ok(())
}

#[test]
fn certificates_of_a_minute_are_renewed_and_nobody_notices() -> anyhow::Result<()> {
    let cloud = Cloud::up_bare(Size {
        controllers: 3,
        nodes: 1,
    })?;
    cloud.ctl(&["down"])?;
    for number in 1..=3 {
        let path = cloud
            .dir()
            .join(format!("controller-{number}/controller.toml"));
        let text = std::fs::read_to_string(&path)?;
        let short = text.replace("certificate_minutes = 1440", "certificate_minutes = 1");
        anyhow::ensure!(text != short, "no such key in {}", path.display());
        std::fs::write(&path, short)?;
    }
    // Both sides take the shorter life at their start: controllers by
    // themselves, the node by `up`, which holds the CA's key.
    cloud.start()?;
    let members = cloud.members();
    let mut first = Vec::new();
    for member in &members {
        let life = life(&cloud, member)?;
        anyhow::ensure!(life.seconds() <= 60, "{member}: {life:?}");
        first.push((member, life, cloud.process(member)?));
    }
    for (member, before, _) in &first {
        // Beyond the end of the first: the second was made from it, and the
        // connections that the first had opened are over.
        let what = format!("a third certificate of {member}");
        eventually(&what, Duration::from_secs(200), || {
            let now = life(&cloud, member)?;
            anyhow::ensure!(now.issued_s > before.expires_s, "{now:?}, {before:?}");
            Ok(())
        })?;
    }
    eventually("the node is ready", Duration::from_secs(20), || {
        nodes_ready(&cloud)
    })?;
    cloud.ctl(&["ssh-key", "generate", "after"])?;
    for (member, _, process) in first {
        anyhow::ensure!(process.is_alive(), "{member} did not live through it");
    }
    Ok(())
}
