//! What a member or a host needs on its disk, as `cloud-controller` and
//! `cloud-agent` read it. Keys are private; the configuration comes last.

use std::path::{Path, PathBuf};

use nube_proto::v1::JoinResponse;
use nube_tls::KeyRequest;
use nube_tls::files::{PUBLIC, SECRET, replace};
use serde::Serialize;

use crate::args::join::Join;
use crate::error::{Context, Error, Result};

/// A controller's configuration.
pub const CONFIG_CONTROLLER: &str = "controller.toml";
/// A host's configuration.
pub const CONFIG_AGENT: &str = "agent.toml";
const KEY: &str = "tls.key";

#[derive(Serialize)]
struct Controller<'a> {
    id: u64,
    cluster_id: &'a str,
    data_dir: &'static str,
    listen: Vec<String>,
    image_dir: String,
    ca: &'static str,
    certificate: &'static str,
    key: &'static str,
    ca_key: &'static str,
    cluster_secret: &'static str,
    members: Vec<Member<'a>>,
}

#[derive(Serialize)]
struct Member<'a> {
    id: u64,
    address: &'a str,
}

#[derive(Serialize)]
struct Agent<'a> {
    node_id: &'a str,
    name: &'a str,
    zone: &'a str,
    data_dir: &'static str,
    controllers: &'a [String],
}

/// The key of an earlier attempt, or a new one that is on disk when this returns.
pub fn key(dir: &Path) -> Result<KeyRequest> {
    let path = dir.join(KEY);
    let what = || format!("`{}`", path.display());
    match std::fs::read_to_string(&path) {
        Ok(pem) => KeyRequest::from_pem(&pem).context(what()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let request = KeyRequest::generate().context("drawing a key")?;
            replace(&path, request.key_pem.as_bytes(), SECRET).context(what())?;
            Ok(request)
        }
        Err(error) => Err(error).context(what()),
    }
}

/// Writes everything else; the path of the configuration.
pub fn write(dir: &Path, args: &Join, answer: &JoinResponse) -> Result<PathBuf> {
    let put = |name: &str, text: &str, mode| {
        let path = dir.join(name);
        replace(&path, text.as_bytes(), mode).context(format!("`{}`", path.display()))
    };
    put("ca.pem", &answer.ca, PUBLIC)?;
    put("tls.pem", &answer.certificate, PUBLIC)?;
    let (name, text) = match &args.address {
        Some(address) => {
            put("ca.key", &answer.ca_key, SECRET)?;
            put("cluster.secret", &answer.cluster_secret, SECRET)?;
            // An empty member that waits to be added; see the controller's server.
            put("first-start", "joined\n", PUBLIC)?;
            (CONFIG_CONTROLLER, controller(args, address, answer)?)
        }
        None => {
            remember_epoch(dir, answer.agent_epoch)?;
            (CONFIG_AGENT, agent(args, answer)?)
        }
    };
    put(name, &text, PUBLIC)?;
    Ok(dir.join(name))
}

fn controller(args: &Join, address: &str, answer: &JoinResponse) -> Result<String> {
    if answer.member_id == 0 || answer.members.is_empty() {
        return Err(Error::failed("join: the answer names no members"));
    }
    let listen = match args.listen.is_empty() {
        true => vec![address.to_owned()],
        false => args.listen.clone(),
    };
    let members = answer.members.iter().map(|member| Member {
        id: member.id,
        address: &member.address,
    });
    let config = Controller {
        id: answer.member_id,
        cluster_id: &answer.cluster_id,
        data_dir: "data",
        listen,
        image_dir: args.image_dir.clone().unwrap_or("images".to_owned()),
        ca: "ca.pem",
        certificate: "tls.pem",
        key: KEY,
        ca_key: "ca.key",
        cluster_secret: "cluster.secret",
        members: members.collect(),
    };
    toml::to_string_pretty(&config).context("encoding the configuration")
}

fn agent(args: &Join, answer: &JoinResponse) -> Result<String> {
    let config = Agent {
        node_id: &answer.node_id,
        name: &answer.name,
        zone: args.zone.as_deref().unwrap_or("default"),
        data_dir: "data",
        controllers: &answer.controllers,
    };
    toml::to_string_pretty(&config).context("encoding the configuration")
}

/// Counts on from the installation before: the controllers listen to the newest
/// life of a host, and to no older one.
fn remember_epoch(dir: &Path, epoch: u64) -> Result<()> {
    if epoch == 0 {
        return Ok(());
    }
    let journal = dir.join("data/journal");
    crate::files::private_dir(&journal)?;
    let path = journal.join("agent_epoch");
    replace(&path, epoch.to_string().as_bytes(), SECRET).context(format!("`{}`", path.display()))
}

#[cfg(test)]
mod test {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn args(address: Option<&str>) -> Join {
        Join {
            token: String::new(),
            controllers: vec!["c1:7000".to_owned()],
            address: address.map(str::to_owned),
            listen: Vec::new(),
            image_dir: None,
            zone: None,
        }
    }

    #[test]
    fn a_controller_gets_its_files_and_secrets_are_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = key(dir.path()).expect("a key");
        let again = key(dir.path()).expect("the same");
        assert_eq!(
            first.key_pem, again.key_pem,
            "a lost answer is asked for again"
        );
        let answer = JoinResponse {
            cluster_id: "00".repeat(16),
            member_id: 4,
            name: "spare".to_owned(),
            members: vec![nube_proto::v1::JoinedMember {
                id: 4,
                address: "c4:7000".to_owned(),
            }],
            ..JoinResponse::default()
        };
        let path = write(dir.path(), &args(Some("c4:7000")), &answer).expect("written");
        crate::golden::check(
            "join_controller",
            &std::fs::read_to_string(path).expect("read"),
        );
        for name in [KEY, "ca.key", "cluster.secret"] {
            let mode = std::fs::metadata(dir.path().join(name))
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let mark = std::fs::read_to_string(dir.path().join("first-start")).expect("a mark");
        assert_eq!(mark, "joined\n");
    }

    #[test]
    fn a_host_counts_on_from_its_last_life() {
        let dir = tempfile::tempdir().expect("a directory");
        let answer = JoinResponse {
            node_id: "n-0000000000000001".to_owned(),
            name: "host-1".to_owned(),
            controllers: vec!["c1:7000".to_owned(), "c2:7000".to_owned()],
            agent_epoch: 7,
            ..JoinResponse::default()
        };
        let path = write(dir.path(), &args(None), &answer).expect("written");
        crate::golden::check("join_agent", &std::fs::read_to_string(path).expect("read"));
        let epoch = dir.path().join("data/journal/agent_epoch");
        assert_eq!(std::fs::read_to_string(epoch).expect("there"), "7");
    }
}
