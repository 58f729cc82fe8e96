//! Restores into directories, without starting anything.

use nube_state::command::InitCluster;
use nube_state::{Command, Envelope, NodeFacts, apply};
use nube_types::{Labels, Mib, Name, NetworkId, NodeId, ProjectId, TimestampMs};

use super::*;
use crate::server;

const OLD: [u8; 16] = [0xaa; 16];

fn facts(number: u64, name: &str) -> NodeFacts {
    NodeFacts {
        id: NodeId(number),
        name: Name::new(name).expect("a name"),
        zone: "z".to_owned(),
        agent_epoch: 5,
        boot_id: String::new(),
        agent_version: String::new(),
        hypervisor_version: String::new(),
        kernel_version: String::new(),
        vcpus: 4,
        vcpu_overcommit_percent: 100,
        memory: Mib(2048),
        disk: Mib(4096),
        accelerator: nube_state::Accelerator::Tcg,
        accelerator_reason: String::new(),
        isolation: nube_state::Isolation::None,
        drivers: vec![],
        labels: Labels::new(),
        unknown: vec![],
        overlay_address: None,
    }
}

fn state() -> State {
    let init = InitCluster {
        cluster_id: OLD,
        project: ProjectId(1),
        network: NetworkId(1),
        network_prices: false,
    };
    let commands = [
        Command::InitCluster(init),
        Command::RegisterNode(facts(2, "node-2")),
        Command::RegisterNode(facts(9, "rack-b7")),
    ];
    let mut state = State::default();
    for (index, command) in commands.into_iter().enumerate() {
        let envelope = Envelope {
            source: None,
            request: None,
            at: TimestampMs(1_000),
            actor: String::new(),
            command,
        };
        apply(&mut state, index as u64 + 1, &envelope);
    }
    state
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().expect("a directory"));
        let (header, data) = backup::take(&state(), &hex::encode(OLD), 7);
        backup::save(&place.path("cell.backup"), false, &header, &data).expect("saved");
        fs::write(place.path("secret"), "5e".repeat(32)).expect("written");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn args(&self, replace: bool) -> Args {
        Args {
            backup: self.path("cell.backup"),
            cluster_secret: self.path("secret"),
            replace,
            cell: bootstrap::Args {
                node_addresses: Vec::new(),
                dir: self.path("cell"),
                controllers: 3,
                nodes: 2,
                base_port: 7101,
                underlay: "10.213.0.1".parse().expect("an address"),
                address: "127.0.0.1".parse().expect("an address"),
                memory_mib_per_node: 1024,
                vcpus_per_node: 2,
                disk_mib_per_node: 1024,
                uid_base: 1_000_000,
                certificate_minutes: 60,
            },
        }
    }

    fn config(&self, id: u64) -> Config {
        let file = format!("cell/controller-{id}/controller.toml");
        Config::load(&self.path(&file)).expect("a config")
    }
}

#[test]
fn the_grammar_is_sound() {
    use clap::Args as _;
    Args::augment_args(clap::Command::new("restore")).debug_assert();
}

#[test]
fn every_controller_gets_the_state_under_one_new_identity() {
    let place = Place::new();
    run(&place.args(false)).expect("restored");
    let (hash, mut ids) = (codec::state_hash(&state()), Vec::new());
    for id in 1..=3 {
        let config = place.config(id);
        crate::tls::Tls::load(&config).expect("certificates");
        let replay = nube_consensus::replay(&config.data_dir.join("raft")).expect("a log");
        let seeded = codec::decode_snapshot(&replay.body).expect("a state");
        assert_eq!(codec::state_hash(&seeded), hash);
        assert_eq!((replay.meta.index, replay.meta.term), (3, 7 + TERM_GAP));
        let cluster = seeded.cluster.expect("initialised").id;
        assert_eq!(config.cluster_id_bytes().expect("an id"), cluster);
        assert_ne!(cluster, OLD);
        let mark = place.path(&format!("cell/controller-{id}/{}", server::FIRST_START));
        assert!(!mark.exists(), "it has a log already");
        ids.push(cluster);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert!(!place.path("cell").join(STAGING).exists());
}

#[test]
fn hosts_keep_ids_and_count_their_lives_on() {
    let place = Place::new();
    run(&place.args(false)).expect("restored");
    let agent = |name: &str| {
        let path = place.path("cell").join(name).join("agent.toml");
        fs::read_to_string(path).expect("an agent's config")
    };
    assert!(agent("node-2").contains(&NodeId(2).to_string()));
    assert!(agent("rack-b7").contains(&NodeId(9).to_string()));
    assert!(agent("node-2").contains("memory_mib = 2048"));
    assert!(agent("node-1").contains("memory_mib = 1024"), "a new one");
    let epoch = |name: &str| {
        let path = place
            .path("cell")
            .join(name)
            .join("data/journal/agent_epoch");
        fs::read_to_string(path).ok()
    };
    assert_eq!(epoch("node-2").as_deref(), Some("5"));
    assert_eq!(epoch("node-1"), None);
}

#[test]
fn a_cluster_is_replaced_only_when_asked_and_only_what_is_its_identity() {
    let place = Place::new();
    run(&place.args(false)).expect("restored");
    let first = place.config(1).cluster_id;
    let data = place.path("cell/node-2/data");
    fs::write(data.join("disk"), "a guest").expect("written");
    fs::write(data.join("journal/agent_epoch"), "8").expect("written");
    fs::create_dir(place.path("cell/images")).expect("made");
    let error = run(&place.args(false)).expect_err("there is a cluster");
    assert!(error.to_string().contains("--replace"), "{error}");
    run(&place.args(true)).expect("replaced");
    assert_ne!(place.config(1).cluster_id, first);
    assert_eq!(fs::read(data.join("disk")).expect("kept"), b"a guest");
    assert_eq!(
        fs::read(data.join("journal/agent_epoch")).expect("kept"),
        b"8"
    );
    assert!(place.path("cell/images").exists());
    let aside = place.path("cell/before-restore-1");
    for old in [
        "pki/ca.key",
        "controller-3/data/raft/superblock",
        "node-2/tls.key",
    ] {
        assert!(aside.join(old).exists(), "{old}");
    }
}

#[test]
fn wrong_files_change_nothing() {
    let place = Place::new();
    let good = fs::read(place.path("cell.backup")).expect("read");
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    for bytes in [&bad[..], &good[..middle], b"no backup"] {
        fs::write(place.path("cell.backup"), bytes).expect("written");
        assert!(run(&place.args(false)).is_err());
    }
    fs::write(place.path("cell.backup"), &good).expect("written");
    fs::write(place.path("secret"), "zz").expect("written");
    assert!(run(&place.args(false)).is_err());
    assert!(!place.path("cell").exists());
}
