//! Plans for lost hosts, on states that came about by commands.

use nube_state::command::{
    ChangeInstance, InitCluster, LaunchInstances, NewInstance, RegisterImage, SetNodeReachable,
    Wish,
};
use nube_state::{
    Accelerator, Blob, Datasource, DiskFormat, Envelope, HostNeeds, Isolation, NodeFacts, Outcome,
    apply,
};
use nube_types::{
    ImageId, InstanceId, Labels, Mib, Name, NetworkId, PlacementEpoch, ProjectId, TimestampMs,
};

use super::*;

const PROJECT: ProjectId = ProjectId(1);
const IMAGE: ImageId = ImageId(1);
const LOST: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

/// A cell of two hosts, each with room for three small instances.
struct Cell {
    state: State,
    hosts: Hosts,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn facts(id: NodeId, zone: &str) -> NodeFacts {
    NodeFacts {
        id,
        name: name(&format!("n{}", id.0)),
        zone: zone.to_owned(),
        agent_epoch: 1,
        boot_id: String::new(),
        agent_version: String::new(),
        hypervisor_version: String::new(),
        kernel_version: String::new(),
        vcpus: 8,
        vcpu_overcommit_percent: 100,
        memory: Mib(3 * 128),
        disk: Mib(64 * 1024),
        accelerator: Accelerator::Tcg,
        accelerator_reason: String::new(),
        isolation: Isolation::None,
        drivers: vec!["qemu".to_owned()],
        labels: Labels::new(),
        unknown: vec![],
        overlay_address: None,
    }
}

impl Cell {
    fn new() -> Self {
        let mut cell = Self {
            state: State::default(),
            hosts: Hosts::default(),
        };
        cell.done(Command::InitCluster(InitCluster {
            cluster_id: [1; 16],
            project: PROJECT,
            network: NetworkId(1),
            network_prices: false,
        }));
        cell.done(Command::RegisterImage(RegisterImage {
            project: PROJECT,
            id: IMAGE,
            name: name("micro"),
            version: String::new(),
            architecture: "x86_64".to_owned(),
            user: "user".to_owned(),
            disk: Blob {
                sha256: [1; 32],
                size_bytes: 1,
            },
            disk_format: DiskFormat::Qcow2,
            virtual_size_bytes: 1,
            kernel: None,
            initrd: None,
            cmdline: String::new(),
            memory_min: Mib(1),
            disk_min: Mib(1),
            datasource: Datasource::Seed,
        }));
        cell.done(Command::RegisterNode(facts(LOST, "a")));
        cell.done(Command::RegisterNode(facts(OTHER, "b")));
        cell
    }

    fn apply(&mut self, command: Command) -> Outcome {
        let index = self.state.index + 1;
        let envelope = Envelope {
            source: None,
            request: None,
            at: TimestampMs(index),
            actor: String::new(),
            command,
        };
        apply(&mut self.state, index, &envelope)
    }

    fn done(&mut self, command: Command) {
        let outcome = self.apply(command.clone());
        let refused = matches!(outcome, Outcome::Refused(_));
        assert!(!refused, "{command:?}: {outcome:?}");
    }

    fn launch(&mut self, id: u64, node: NodeId, on_host_failure: HostFailurePolicy) {
        self.launch_in(id, node, on_host_failure, None);
    }

    fn launch_in(
        &mut self,
        id: u64,
        node: NodeId,
        on_host_failure: HostFailurePolicy,
        zone: Option<&str>,
    ) {
        self.done(Command::LaunchInstances(LaunchInstances {
            project: PROJECT,
            instance_type: "n1.micro".to_owned(),
            image: IMAGE,
            ssh_keys: vec![],
            user_data_sealed: vec![],
            labels: Labels::new(),
            instances: vec![NewInstance {
                id: InstanceId(id),
                name: name(&format!("vm-{id}")),
                node,
                ssh_host_public_key: String::new(),
                explanation: None,
            }],
            if_revision: None,
            on_host_failure,
            needs: HostNeeds {
                zone: zone.map(str::to_owned),
                ..HostNeeds::default()
            },
            network: None,
            subnet: None,
            address: None,
            security_groups: vec![],
        }));
    }

    fn wish(&mut self, id: u64, wish: Wish) {
        self.done(Command::ChangeInstance(ChangeInstance {
            project: PROJECT,
            instance: InstanceId(id),
            wish,
            force: false,
        }));
    }

    fn silence(&mut self, node: NodeId) {
        self.done(Command::SetNodeReachable(SetNodeReachable {
            node,
            reachable: false,
            last_seen: TimestampMs(0),
        }));
    }

    /// The hosts that would be fenced if every lease were over.
    fn fences(&self) -> Vec<Command> {
        fences(&self.state, &mut |_, fence_epoch| Some(fence_epoch + 1))
    }

    fn lose(&mut self, node: NodeId) {
        self.silence(node);
        for command in self.fences() {
            self.done(command);
        }
    }

    /// Which instances would go where.
    fn moves(&self) -> Vec<(u64, NodeId)> {
        let commands = replacements(&self.state, &self.hosts);
        let place = |command| match command {
            Command::ReplaceInstance(c) => (c.instance.0, c.to),
            other => panic!("{other:?}"),
        };
        commands.into_iter().map(place).collect()
    }
}

#[test]
fn silent_hosts_are_fenced_for_what_may_be_replaced_and_wants_to_run() {
    use HostFailurePolicy::{Keep, Replace};
    let mut cell = Cell::new();
    cell.launch(1, LOST, Keep);
    cell.launch(2, LOST, Replace);
    assert_eq!(cell.fences(), [], "it answers");
    cell.silence(LOST);
    cell.silence(OTHER);
    let fence = Command::FenceNode(FenceNode {
        node: LOST,
        fence_epoch: 1,
    });
    assert_eq!(cell.fences(), std::slice::from_ref(&fence));
    let mut asked = Vec::new();
    let waits = fences(&cell.state, &mut |node, fence_epoch| {
        asked.push((node, fence_epoch));
        None
    });
    assert_eq!((waits, asked), (vec![], vec![(LOST, 0)]));
    cell.wish(2, Wish::Stop);
    assert_eq!(cell.fences(), [], "nothing runs, nothing is lost");
    cell.wish(2, Wish::Start);
    cell.done(fence);
    assert_eq!(cell.fences(), [], "once is enough");
    cell.wish(2, Wish::Delete);
    assert_eq!((cell.fences(), cell.moves()), (vec![], vec![]));
}

#[test]
fn each_new_place_counts_for_the_next_and_the_rest_waits() {
    use HostFailurePolicy::{Keep, Replace};
    let mut cell = Cell::new();
    for id in 1..=3 {
        cell.launch(id, LOST, Replace);
    }
    cell.launch(4, OTHER, Keep);
    assert_eq!(cell.moves(), [], "nothing is lost");
    cell.lose(LOST);
    assert_eq!(cell.moves(), [(1, OTHER), (2, OTHER)]);
    // A plan reserves nothing: the next round sees the same hosts.
    assert_eq!(cell.moves(), [(1, OTHER), (2, OTHER)]);
    for command in replacements(&cell.state, &cell.hosts) {
        cell.done(command);
    }
    let waits = cell.state.instances.get(&InstanceId(3)).expect("it waits");
    assert!(waits.reason.contains("lost"), "{}", waits.reason);
    assert_eq!(cell.moves(), []);
    let moved = cell.state.instances.get(&InstanceId(1)).expect("it moved");
    assert_eq!((moved.node, moved.epoch), (OTHER, PlacementEpoch(2)));
    let why = cell.state.placements.get(&moved.id).expect("explained");
    assert_eq!(why.explanation.hosts[0].node, OTHER);
    // A host more, and it goes on.
    cell.done(Command::RegisterNode(facts(NodeId(3), "b")));
    assert_eq!(cell.moves(), [(3, NodeId(3))]);
}

#[test]
fn what_the_owner_asked_of_the_host_is_asked_again() {
    let mut cell = Cell::new();
    cell.launch_in(1, LOST, HostFailurePolicy::Replace, Some("a"));
    cell.lose(LOST);
    assert_eq!(cell.moves(), [], "the other host is in another zone");
    cell.done(Command::RegisterNode(facts(NodeId(3), "a")));
    assert_eq!(cell.moves(), [(1, NodeId(3))]);
}

#[test]
fn a_host_that_has_to_clean_up_takes_nothing_in() {
    let mut cell = Cell::new();
    cell.launch(1, LOST, HostFailurePolicy::Replace);
    cell.lose(LOST);
    for command in replacements(&cell.state, &cell.hosts) {
        cell.done(command);
    }
    cell.done(Command::RegisterNode(NodeFacts {
        agent_epoch: 2,
        ..facts(LOST, "a")
    }));
    cell.lose(OTHER);
    assert_eq!(cell.moves(), [], "its first host still has the old disk");
}
