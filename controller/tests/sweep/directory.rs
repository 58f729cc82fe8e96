//! A real controller's directory, and a start over a damaged copy of it.
//!
//! The log of the copy lies on a simulated disk, which is fast and runs the same
//! code; sled and the identity need real files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use nube_consensus::{
    Core, DiskStorage, EntryKind, OutgoingSnapshot, Recovered, Sent, SimulatedDisk, SnapshotStore,
    StateMachine, Transport,
};
use nube_controller::clock::Clock;
use nube_controller::config::Config;
use nube_controller::machine::Machine;
use nube_controller::{bootstrap, server, store, view, watch};
use nube_state::command::{ImportSshKey, InitCluster, Tick};
use nube_state::{Command, Envelope, State, codec};
use nube_types::{Name, NetworkId, ProjectId, SshKeyId, TimestampMs};

use crate::damage::{Damage, How, Kind};

/// Entries before the older copy is taken, up to the snapshot, and after it.
const PHASES: [u64; 3] = [120, 160, 120];
/// Where the simulated disk has the log.
const RAFT: &str = "/data/raft";

pub type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// What a start knows in the end.
#[derive(PartialEq, Eq)]
pub struct Known {
    pub index: u64,
    /// The state's canonical bytes: more than its hash says.
    state: Vec<u8>,
    /// What the identity means to others.
    identity: Vec<String>,
}

impl Known {
    /// What was not looked at is empty.
    pub fn is(&self, sound: &Self) -> bool {
        self.index == sound.index
            && (self.state.is_empty() || self.state == sound.state)
            && (self.identity.is_empty() || self.identity == sound.identity)
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hash = blake3::hash(&self.state).to_hex();
        write!(f, "index {}, state {}", self.index, &hash[..12])
    }
}

pub struct Directory {
    pub now: Tree,
    pub older: Tree,
    pub last_index: u64,
    foreign: Tree,
}

struct Nobody;

impl Transport for Nobody {
    fn send(&self, _to: u64, _messages: Vec<Bytes>) -> Sent {
        Sent::Dropped
    }

    fn send_snapshot(&self, _to: u64, _snapshot: OutgoingSnapshot) {}
}

impl Directory {
    /// A cell of one with a few hundred entries, a snapshot among them.
    pub fn make() -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let dir = founded(&place.path().join("cell"));
        let config = config(&dir);
        let [first, second, third] = PHASES;
        live(&config, 0..first, false);
        let older = read(&dir);
        live(&config, first..first + second, true);
        let last_index = live(&config, first + second..first + second + third, false);
        let now = read(&dir);
        let other = founded(&place.path().join("other"));
        live(&self::config(&other), 0..3, false);
        Self {
            now,
            older,
            last_index,
            foreign: read(&other),
        }
    }

    /// Starts over a copy with this damage, up to the recovered state.
    pub fn recover(&self, damage: &Damage) -> Result<Known, String> {
        let place = tempfile::tempdir().expect("a directory");
        let disk = SimulatedDisk::new();
        let real_store = matches!(damage.kind, Kind::Store | Kind::Other);
        let identity = matches!(damage.kind, Kind::Identity | Kind::Other);
        let names = self.now.keys().chain(self.older.keys());
        for path in names.collect::<std::collections::BTreeSet<_>>() {
            let foreign = matches!(damage.how, How::ForeignStore) && path.starts_with("data/store");
            let now = if foreign { &self.foreign } else { &self.now };
            let (now, older) = (now.get(path), self.older.get(path));
            let now = now.map(Vec::as_slice);
            let Some(bytes) = damage.apply(path, now, older.map(Vec::as_slice)) else {
                continue;
            };
            if let Ok(log) = path.strip_prefix("data/raft") {
                disk.put(&Path::new(RAFT).join(log), &bytes);
                // The start looks at it by its name alone.
                if Kind::of(path) != Kind::Superblock {
                    continue;
                }
            }
            if Kind::of(path) == Kind::Identity && !identity && !path.ends_with("controller.toml") {
                continue;
            }
            // A log alone must do as well: the store may be gone any time.
            if path.starts_with("data/store") && !real_store {
                continue;
            }
            let path = place.path().join(path);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        let config = damage.path.ends_with("controller.toml");
        if damage.kind == Kind::Identity && !config {
            // The log is not touched by it, and takes most of the time.
            let identity = identity_of(&self::config(place.path()));
            return identity
                .map_err(|e| format!("{e:#}"))
                .map(|identity| Known {
                    index: self.last_index,
                    state: Vec::new(),
                    identity,
                });
        }
        start(place.path(), disk, real_store, identity)
    }
}

/// The state without a store beside it: what a start rebuilds from snapshot and log.
#[derive(Default)]
struct Rebuilt(State);

impl StateMachine for Rebuilt {
    type Reply = ();

    fn apply(&mut self, index: u64, _term: u64, data: &[u8]) {
        let envelope = codec::decode_envelope(data).expect("checked by the log");
        drop(nube_state::apply(&mut self.0, index, &envelope));
        drop(self.0.take_changes());
    }

    fn applied(&mut self, _index: u64) {}

    fn snapshot(&self) -> Box<dyn FnOnce() -> Vec<u8> + Send> {
        Box::new(Vec::new)
    }

    fn restore(&mut self, index: u64, body: &[u8]) -> Result<(), String> {
        if !body.is_empty() {
            self.0 = codec::decode_snapshot(body).map_err(|error| error.to_string())?;
        }
        self.0.index = self.0.index.max(index);
        Ok(())
    }

    fn applied_index(&self) -> u64 {
        self.0.index
    }
}

/// What of the identity others see or rest on, after the checks of a start.
fn identity_of(config: &Config) -> anyhow::Result<Vec<String>> {
    let (tls, issuer, secret) = server::own_files(config)?;
    let vouched = issuer.vouches_for(&config.certificate)?;
    anyhow::ensure!(vouched, "the start left a certificate that nobody accepts");
    let ca = String::from_utf8_lossy(tls.identity().ca()).into_owned();
    Ok(vec![
        issuer.fingerprint(),
        issuer.ca_key_pem(),
        ca,
        secret.text(),
    ])
}

fn start(
    dir: &Path,
    disk: SimulatedDisk,
    real_store: bool,
    identity: bool,
) -> Result<Known, String> {
    let text = |error: anyhow::Error| format!("{error:#}");
    // As main says it.
    let config = Config::load(&dir.join("controller.toml"));
    let config = config.map_err(|error| format!("reading controller.toml: {error:#}"))?;
    let identity = match identity {
        true => identity_of(&config).map_err(text)?,
        false => Vec::new(),
    };
    server::check_memory(&config).map_err(text)?;
    let cluster_id = config.cluster_id_bytes().map_err(text)?;
    let raft = nube_consensus::Config {
        dir: RAFT.into(),
        ..raft(&config)
    };
    let opened = DiskStorage::open_on(Arc::new(disk), &raft, Vec::new);
    let (_, recovered, snapshots) = opened.map_err(|error| format!("{error:?}"))?;
    let index = recovered.last_index();
    let state = if real_store {
        let store = store::open(&config.data_dir.join("store"), cluster_id);
        let (writer, state) = store.map_err(text)?;
        let (publisher, views) = view::channel(state.clone());
        let (recorder, _history) = watch::channel(&state);
        let clock = Arc::new(Clock::new(1, state.time));
        let mark = dir.join("diverged");
        let mut machine = Machine::new(state, publisher, writer, recorder, clock, mark);
        replay(&raft, recovered, &snapshots, &mut machine)?;
        codec::encode_snapshot(&views.now())
    } else {
        let mut rebuilt = Rebuilt::default();
        replay(&raft, recovered, &snapshots, &mut rebuilt)?;
        codec::encode_snapshot(&rebuilt.0)
    };
    Ok(Known {
        index,
        state,
        identity,
    })
}

/// As `nube_consensus::start` does it; in a cell of one every entry is committed.
fn replay(
    config: &nube_consensus::Config,
    recovered: Recovered,
    snapshots: &SnapshotStore,
    machine: &mut impl StateMachine,
) -> Result<(), String> {
    let snapshot = recovered.snapshot.clone();
    if machine.applied_index() < snapshot.index {
        let loaded = snapshots.load(&snapshots.believed_path(&snapshot));
        let (file, body) = loaded.map_err(|error| format!("{error:?}"))?;
        machine.restore(file.meta.index, &body)?;
    }
    let applied = machine.applied_index();
    let (entries, last) = (recovered.entries.clone(), recovered.last_index());
    Core::new(config, recovered, applied, 1).map_err(|error| error.to_string())?;
    for entry in entries {
        let proposed = entry.kind == EntryKind::Normal && !entry.data.is_empty();
        if entry.index > applied && proposed {
            machine.apply(entry.index, entry.term, &entry.data);
        }
    }
    machine.applied(last);
    Ok(())
}

/// What `cloudctl up` makes of the first controller.
fn founded(cell: &Path) -> PathBuf {
    let address = "127.0.0.1".parse().expect("an address");
    let args = bootstrap::Args {
        dir: cell.to_owned(),
        controllers: 1,
        nodes: 1,
        base_port: 7101,
        underlay: "127.0.0.1".parse().expect("an address"),
        address,
        node_addresses: Vec::new(),
        memory_mib_per_node: 1024,
        vcpus_per_node: 2,
        disk_mib_per_node: 1024,
        uid_base: 1_000_000,
        certificate_minutes: 60,
    };
    bootstrap::run(&args).expect("a fresh directory");
    let dir = cell.join("controller-1");
    let alone = cell.join("controller");
    if dir.exists() { dir } else { alone }
}

fn config(dir: &Path) -> Config {
    Config::load(&dir.join("controller.toml")).expect("readable")
}

fn raft(config: &Config) -> nube_consensus::Config {
    let cluster_id = config.cluster_id_bytes().expect("checked");
    let mut raft = nube_consensus::Config::new(config.id, cluster_id, config.data_dir.join("raft"));
    raft.segment_bytes = 32 << 10;
    raft.max_entry_bytes = 8 << 10;
    raft.keep_entries = 30;
    raft
}

/// One life of the controller's state, consensus and store, through `numbers`.
fn live(config: &Config, numbers: std::ops::Range<u64>, snapshot: bool) -> u64 {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    std::fs::create_dir_all(&config.data_dir).expect("made");
    let cluster_id = config.cluster_id_bytes().expect("checked");
    let opened = store::open(&config.data_dir.join("store"), cluster_id);
    let (writer, state) = opened.expect("a store");
    let (publisher, views) = view::channel(state.clone());
    let (recorder, _history) = watch::channel(&state);
    let clock = Arc::new(Clock::new(1, state.time));
    let mark = config.data_dir.with_file_name("diverged");
    let machine = Machine::new(state, publisher, writer, recorder, clock, mark);
    let mut raft = raft(config);
    raft.initial_voters = vec![config.id];
    let handle = nube_consensus::start(raft, machine, Arc::new(Nobody)).expect("starts");
    runtime.block_on(async {
        let mut status = handle.watch_status();
        let ready = status.wait_for(|status| status.leader_ready).await;
        drop(ready.expect("it leads alone"));
        for number in numbers {
            let entry = codec::encode_envelope(&entry(cluster_id, number));
            handle.propose(Bytes::from(entry)).await.expect("committed");
        }
        if snapshot {
            handle.snapshot_now().await.expect("written");
        }
        handle.shutdown().await;
    });
    // The store writes behind; it has everything once its last batch is in.
    std::thread::sleep(std::time::Duration::from_millis(700));
    let state: Arc<State> = views.now();
    let replay = nube_consensus::replay(&config.data_dir.join("raft")).expect("readable");
    assert!(replay.last.1 >= state.index);
    replay.last.1
}

fn entry(cluster_id: [u8; 16], number: u64) -> Envelope {
    let (project, network) = (ProjectId(1), NetworkId(1));
    let command = match number {
        0 => Command::InitCluster(InitCluster {
            cluster_id,
            project,
            network,
            network_prices: false,
        }),
        n if n % 5 == 0 => Command::Tick(Tick { seen: Vec::new() }),
        n => Command::ImportSshKey(ImportSshKey {
            project,
            id: SshKeyId(n),
            name: Name::new(&format!("key-{n}")).expect("a name"),
            public_key: format!("ssh-ed25519 {n:040} key-{n}"),
            fingerprint: format!("SHA256:{n}"),
            algorithm: "ssh-ed25519".to_owned(),
        }),
    };
    Envelope {
        source: None,
        request: None,
        at: TimestampMs(1_000_000 + number * 1_000),
        actor: "tester".to_owned(),
        command,
    }
}

/// Every file below `dir`, by its path from there.
fn read(dir: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for found in std::fs::read_dir(&next).expect("readable") {
            let path = found.expect("readable").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("below").to_owned();
                tree.insert(name, std::fs::read(&path).expect("readable"));
            }
        }
    }
    // Gone once the first start is through; a test directory has no such start.
    tree.remove(Path::new("first-start"));
    tree
}
