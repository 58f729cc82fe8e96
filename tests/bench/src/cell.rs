//! A cell in this process: the state machine alone, filled through the same
//! entries that a log would hold. No network, no disk, no other replica.

use nube_state::command::{
    ImportSshKey, InitCluster, LaunchInstances, NewInstance, Observed, RegisterImage,
    ReportInstances,
};
use nube_state::{
    Accelerator, Blob, Command, DiskFormat, Envelope, InstanceStage, InstanceState, Isolation,
    NodeFacts, Outcome, Request, State, apply,
};
use nube_types::limits::{EVENTS_MAX, INSTANCES_PER_LAUNCH_MAX, REQUESTS_REMEMBERED_MAX};
use nube_types::{
    ImageId, InstanceId, Labels, Mib, Name, NetworkId, NodeId, PlacementEpoch, ProjectId,
    RequestId, SshKeyId, TimestampMs,
};

/// Whose all of it is.
pub const PROJECT: ProjectId = ProjectId(1);
const NETWORK: NetworkId = NetworkId(1);
const IMAGE: ImageId = ImageId(1);
const KEY: SshKeyId = SshKeyId(1);
const BEGIN_MS: u64 = 1_795_000_000_000;
/// 2^22 addresses: a cell of a million needs more than the default network has.
const PREFIX_LENGTH: u8 = 10;

/// The state, and what a proposer adds to it.
pub struct Cell {
    pub state: State,
    /// As readers hold the newest view: without one, no write copies a path.
    view: State,
    nodes: u64,
    launched: u64,
}

impl Cell {
    /// One project with an image and a key, and hosts that never fill up.
    pub fn new(nodes: u64) -> anyhow::Result<Self> {
        let mut cell = Self {
            state: State::default(),
            view: State::default(),
            nodes,
            launched: 0,
        };
        cell.commit(Command::InitCluster(InitCluster {
            cluster_id: [7; 16],
            project: PROJECT,
            network: NETWORK,
            network_prices: false,
        }))?;
        let widen = |network: &mut nube_state::Network| network.prefix_length = PREFIX_LENGTH;
        anyhow::ensure!(cell.state.networks.update(&NETWORK, widen), "no network");
        cell.commit(image()?)?;
        cell.commit(Command::ImportSshKey(ImportSshKey {
            project: PROJECT,
            id: KEY,
            name: name("me")?,
            public_key: format!("ssh-ed25519 {} me@laptop", "A".repeat(68)),
            fingerprint: format!("SHA256:{}", "f".repeat(43)),
            algorithm: "ssh-ed25519".to_owned(),
        }))?;
        for node in 1..=nodes {
            cell.commit(Command::RegisterNode(facts(node)?))?;
        }
        Ok(cell)
    }

    /// Applies an entry as a replica does, and publishes the view.
    pub fn commit(&mut self, command: Command) -> anyhow::Result<Outcome> {
        let index = self.state.index + 1;
        let request = Request {
            project: PROJECT,
            id: RequestId(scattered(index, 1)),
            parameters: scattered(index, 2),
        };
        let by_a_client = matches!(
            command,
            Command::LaunchInstances(_) | Command::SetNodeDrained(..)
        );
        let envelope = Envelope {
            request: by_a_client.then_some(request),
            at: TimestampMs(BEGIN_MS + index),
            actor: "operator/admin".to_owned(),
            command,
            source: Some("127.0.0.1".to_owned()),
        };
        let outcome = apply(&mut self.state, index, &envelope);
        self.state.take_changes();
        self.view = self.state.clone();
        match outcome {
            Outcome::Refused(refusal) => Err(refusal.into()),
            other => Ok(other),
        }
    }

    /// Fills what is bounded whatever the cell's size: the audit, and the
    /// requests that are remembered.
    pub fn fill_histories(&mut self) -> anyhow::Result<()> {
        let entries = EVENTS_MAX.max(REQUESTS_REMEMBERED_MAX);
        for entry in 0..entries {
            self.commit(Command::SetNodeDrained(NodeId(1), entry % 2 == 0))?;
        }
        anyhow::ensure!(self.state.requests.len() == REQUESTS_REMEMBERED_MAX);
        Ok(())
    }

    /// The entry that launches `count` more, each placed by its number.
    pub fn launch_command(&mut self, count: u32) -> anyhow::Result<Command> {
        let mut instances = Vec::new();
        for _ in 0..count {
            self.launched += 1;
            let id = scattered(self.launched, 3);
            let node = self.launched % self.nodes + 1;
            instances.push(NewInstance {
                id: InstanceId(u64::from_be_bytes(id[..8].try_into()?)),
                name: name(&format!("web-{}", self.launched))?,
                node: NodeId(node),
                ssh_host_public_key: host_key(self.launched),
                explanation: None,
            });
        }
        Ok(Command::LaunchInstances(LaunchInstances {
            project: PROJECT,
            instance_type: "n1.micro".to_owned(),
            image: IMAGE,
            ssh_keys: vec![KEY],
            user_data_sealed: Vec::new(),
            labels: Labels::new(),
            instances,
            if_revision: None,
            on_host_failure: nube_state::instance::HostFailurePolicy::Keep,
            needs: nube_state::placement::HostNeeds::default(),
            network: None,
            subnet: None,
            address: None,
            security_groups: Vec::new(),
        }))
    }

    /// Launches until there are `total`.
    pub fn launch_to(&mut self, total: u64) -> anyhow::Result<()> {
        while self.launched < total {
            let rest = u32::try_from(total - self.launched).unwrap_or(u32::MAX);
            let command = self.launch_command(rest.min(INSTANCES_PER_LAUNCH_MAX))?;
            self.commit(command)?;
        }
        Ok(())
    }

    /// Every host reports everything it has as running: each is billed now.
    pub fn run_all(&mut self) -> anyhow::Result<()> {
        for node in 1..=self.nodes {
            let running = |instance: &nube_state::Instance| Observed {
                instance: instance.id,
                epoch: PlacementEpoch(1),
                applied_generation: instance.generation,
                state: InstanceState::Running,
                stage: InstanceStage::Running,
                reason: String::new(),
                found_dead: false,
                reboot_count: 0,
            };
            let observed = self.state.instances_on(NodeId(node)).map(running).collect();
            let sequence = self.state.index;
            self.commit(Command::ReportInstances(ReportInstances {
                node: NodeId(node),
                agent_epoch: 1,
                sequence,
                full: false,
                observed,
                unknown: Vec::new(),
            }))?;
        }
        Ok(())
    }
}

fn name(text: &str) -> anyhow::Result<Name> {
    Ok(Name::new(text)?)
}

/// Sixteen bytes that look drawn, the same in every run (splitmix64).
fn scattered(number: u64, stream: u64) -> [u8; 16] {
    let word = |salt: u64| {
        let mut z = number
            .wrapping_add(stream << 56)
            .wrapping_add(salt)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (u128::from(word(0)) << 64 | u128::from(word(1 << 40))).to_be_bytes()
}

/// As the proposer derives it: OpenSSH's text of an Ed25519 key.
fn host_key(number: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let drawn = [scattered(number, 4), scattered(number, 5)].concat();
    // 51 bytes: length and kind, length, key. 17 groups of three.
    let kind = b"\0\0\0\x0bssh-ed25519\0\0\0\x20";
    let blob = [kind.as_slice(), &drawn].concat();
    let mut text = String::from("ssh-ed25519 ");
    for group in blob.chunks(3) {
        let bits = group
            .iter()
            .fold(0_usize, |all, byte| all << 8 | usize::from(*byte));
        for shift in [18, 12, 6, 0] {
            text.push(char::from(LETTERS[bits >> shift & 63]));
        }
    }
    text
}

fn image() -> anyhow::Result<Command> {
    let blob = |byte: u8| Blob {
        sha256: [byte; 32],
        size_bytes: 1 << 20,
    };
    Ok(Command::RegisterImage(RegisterImage {
        project: PROJECT,
        id: IMAGE,
        name: name("micro")?,
        version: "1".to_owned(),
        architecture: "x86_64".to_owned(),
        user: "root".to_owned(),
        disk: blob(1),
        disk_format: DiskFormat::Qcow2,
        virtual_size_bytes: 64 << 20,
        kernel: Some(blob(2)),
        initrd: Some(blob(3)),
        cmdline: "console=ttyS0".to_owned(),
        memory_min: Mib(64),
        disk_min: Mib(64),
        datasource: nube_state::Datasource::Seed,
    }))
}

fn facts(node: u64) -> anyhow::Result<NodeFacts> {
    Ok(NodeFacts {
        id: NodeId(node),
        name: name(&format!("node-{node}"))?,
        zone: format!("zone-{}", node % 3),
        agent_epoch: 1,
        boot_id: format!("{node:032x}"),
        agent_version: "0.1.0".to_owned(),
        hypervisor_version: "7.2".to_owned(),
        kernel_version: "6.1".to_owned(),
        vcpus: 1_000_000,
        vcpu_overcommit_percent: 400,
        memory: Mib(1 << 40),
        disk: Mib(1 << 40),
        accelerator: Accelerator::Kvm,
        accelerator_reason: String::new(),
        isolation: Isolation::Hardware,
        drivers: vec!["qemu".to_owned()],
        labels: Labels::new(),
        unknown: Vec::new(),
        overlay_address: None,
    })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_small_cell_fills_and_runs() {
        let mut cell = Cell::new(3).expect("a cell");
        cell.launch_to(150).expect("launched");
        cell.run_all().expect("reported");
        assert_eq!(
            (cell.state.instances.len(), cell.state.usage.len()),
            (150, 150)
        );
        assert_eq!(
            nube_state::invariant::broken(&cell.state),
            Vec::<String>::new()
        );
        let key = host_key(7);
        assert_eq!(key.len(), 80);
        assert!(
            key.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"),
            "{key}"
        );
    }
}
