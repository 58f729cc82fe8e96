//! A town for tests of networks: two hosts, an image, and instances that came
//! about by commands, as in a real cell.

use std::net::Ipv4Addr;

use nube_state::command::{
    AddSecurityRule, AllocateAddress, AssociateAddress, CreateLoadBalancer, CreateNetwork,
    CreateSecurityGroup, InitCluster, LaunchInstances, NewInstance, Observed, RegisterImage,
    ReportInstances, ReportTargetHealth, TargetVerdict,
};
use nube_state::load_balancer::{HealthCheck, Listener};
use nube_state::security_group::{Direction, Peer, Protocol};
use nube_state::{
    Accelerator, Blob, Command, Datasource, DiskFormat, Envelope, HostFailurePolicy, HostNeeds,
    Instance, InstanceStage, InstanceState, Isolation, NodeFacts, Outcome, SecurityRule, State,
    apply,
};
use nube_types::{
    AddressId, ImageId, InstanceId, Labels, LoadBalancerId, Mib, Name, NetworkId, NodeId,
    PlacementEpoch, ProjectId, SecurityGroupId, SecurityRuleId, TimestampMs,
};

pub const PROJECT: ProjectId = ProjectId(1);
pub const NETWORK: NetworkId = NetworkId(1);
const IMAGE: ImageId = ImageId(1);

pub fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// As `agents::facts` would make them of a hello.
pub fn facts(id: NodeId) -> NodeFacts {
    NodeFacts {
        id,
        name: name(&format!("node-{}", id.0)),
        zone: "z".to_owned(),
        agent_epoch: 1,
        boot_id: String::new(),
        agent_version: String::new(),
        hypervisor_version: String::new(),
        kernel_version: String::new(),
        vcpus: 64,
        vcpu_overcommit_percent: 100,
        memory: Mib(64 * 1024),
        disk: Mib(640 * 1024),
        accelerator: Accelerator::Tcg,
        accelerator_reason: String::new(),
        isolation: Isolation::None,
        drivers: vec!["qemu".to_owned()],
        labels: Labels::new(),
        unknown: vec![],
        overlay_address: Some(overlay(id).to_bits()),
    }
}

/// Where other hosts send packets to.
pub fn overlay(node: NodeId) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a_d5_00_00 + u32::try_from(node.0).expect("small"))
}

pub struct Town {
    pub state: State,
    drawn: u64,
}

impl Town {
    pub fn new() -> Self {
        let mut town = Self {
            state: State::default(),
            drawn: 1_000,
        };
        town.done(Command::InitCluster(InitCluster {
            cluster_id: [1; 16],
            project: PROJECT,
            network: NETWORK,
            network_prices: true,
        }));
        town.done(Command::RegisterImage(RegisterImage {
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
        town.done(Command::RegisterNode(facts(NodeId(1))));
        town.done(Command::RegisterNode(facts(NodeId(2))));
        town
    }

    pub fn apply(&mut self, command: Command) -> Outcome {
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

    pub fn done(&mut self, command: Command) {
        let outcome = self.apply(command.clone());
        let refused = matches!(outcome, Outcome::Refused(_));
        assert!(!refused, "{command:?}: {outcome:?}");
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.drawn
    }

    pub fn network(&mut self, called: &str, isolated: bool) -> NetworkId {
        let id = NetworkId(self.draw());
        self.done(Command::CreateNetwork(CreateNetwork {
            project: PROJECT,
            id,
            name: name(called),
            range: "10.9.0.0/24".parse().expect("a range"),
            isolated,
        }));
        id
    }

    /// A running instance.
    pub fn launch(
        &mut self,
        called: &str,
        node: u64,
        network: NetworkId,
        groups: &[SecurityGroupId],
    ) -> InstanceId {
        let id = InstanceId(self.draw());
        self.done(Command::LaunchInstances(LaunchInstances {
            project: PROJECT,
            instance_type: "n1.micro".to_owned(),
            image: IMAGE,
            ssh_keys: vec![],
            user_data_sealed: vec![],
            labels: Labels::from([("app".to_owned(), called.to_owned())]),
            instances: vec![NewInstance {
                id,
                name: name(called),
                node: NodeId(node),
                ssh_host_public_key: String::new(),
                explanation: None,
            }],
            if_revision: None,
            on_host_failure: HostFailurePolicy::Keep,
            needs: HostNeeds::default(),
            network: Some(network),
            subnet: None,
            address: None,
            security_groups: groups.to_vec(),
        }));
        self.seen(id, InstanceState::Running);
        id
    }

    /// Its host says so.
    pub fn seen(&mut self, id: InstanceId, state: InstanceState) {
        let instance = self.instance(id).clone();
        let sequence = self.draw();
        self.done(Command::ReportInstances(ReportInstances {
            node: instance.node,
            agent_epoch: 1,
            sequence,
            full: false,
            observed: vec![Observed {
                instance: id,
                epoch: PlacementEpoch(1),
                applied_generation: instance.generation,
                state,
                stage: InstanceStage::Running,
                reason: String::new(),
                found_dead: false,
                reboot_count: 0,
            }],
            unknown: vec![],
        }));
    }

    pub fn instance(&self, id: InstanceId) -> &Instance {
        self.state.instances.get(&id).expect("launched")
    }

    pub fn group(&mut self, called: &str) -> SecurityGroupId {
        let id = SecurityGroupId(self.draw());
        let rules = (SecurityRuleId(self.draw()), SecurityRuleId(self.draw()));
        self.done(Command::CreateSecurityGroup(CreateSecurityGroup {
            project: PROJECT,
            id,
            name: name(called),
            rules,
        }));
        id
    }

    /// Lets TCP in.
    pub fn allow(&mut self, group: SecurityGroupId, ports: (u16, u16), peer: Peer) {
        let id = SecurityRuleId(self.draw());
        self.done(Command::AddSecurityRule(AddSecurityRule {
            project: PROJECT,
            group,
            rule: SecurityRule {
                id,
                direction: Direction::Ingress,
                protocol: Protocol::Tcp,
                port_min: ports.0,
                port_max: ports.1,
                peer,
            },
        }));
    }

    /// An elastic address `198.18.0.N`, and its id.
    pub fn address(&mut self) -> (Ipv4Addr, AddressId) {
        let range = "198.18.0.0/24".parse().expect("a range");
        self.done(Command::AddAddressPool(range));
        let id = AddressId(self.draw());
        self.done(Command::AllocateAddress(AllocateAddress {
            project: PROJECT,
            id,
            name: name(&format!("ip-{}", id.0)),
        }));
        let held = self.state.addresses.get(&id).expect("allocated");
        (Ipv4Addr::from_bits(held.address), id)
    }

    pub fn associate(&mut self, address: AddressId, instance: InstanceId) {
        self.done(Command::AssociateAddress(AssociateAddress {
            project: PROJECT,
            address,
            instance,
            take: false,
        }));
    }

    /// Listens on TCP 80; targets are instances called `app`, at port 8080.
    pub fn balancer(&mut self, app: &str, elastic: Option<AddressId>) -> LoadBalancerId {
        let id = LoadBalancerId(self.draw());
        self.done(Command::CreateLoadBalancer(CreateLoadBalancer {
            project: PROJECT,
            id,
            name: name("front"),
            network: NETWORK,
            listeners: vec![Listener {
                protocol: Protocol::Tcp,
                port: 80,
                target_port: 8080,
            }],
            target_labels: Labels::from([("app".to_owned(), app.to_owned())]),
            health_check: HealthCheck {
                port: 8080,
                interval_ms: 1_000,
                threshold: 2,
            },
            elastic_address: elastic,
        }));
        id
    }

    pub fn judged(&mut self, balancer: LoadBalancerId, instance: InstanceId, healthy: bool) {
        let node = self.instance(instance).node;
        self.done(Command::ReportTargetHealth(ReportTargetHealth {
            node,
            targets: vec![TargetVerdict {
                load_balancer: balancer,
                instance,
                epoch: PlacementEpoch(1),
                healthy,
                reason: String::new(),
            }],
        }));
    }
}
