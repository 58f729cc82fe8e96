//! What clients ask for, and how a controller turns it into a command on a view: the sizes,
//! the quota and the host are looked up as the API does it, by the same code where it has no
//! shell around it.

use nube_controller::api::placement;
use nube_controller::fleet::Hosts;
use nube_scheduler::{Driver, Isolation, Strategy};
use nube_state::command::{
    ChangeInstance, CreateProject, ImportSshKey, LaunchInstances, NewInstance, RegisterImage, Wish,
};
use nube_state::instance::HostFailurePolicy;
use nube_state::{
    Blob, Command, Datasource, DiskFormat, InstanceState, Outcome, Quota, State, project,
};
use nube_types::{ImageId, InstanceId, Labels, Mib, Name, NetworkId, ProjectId, SshKeyId};
use rand::Rng;
use rand::rngs::StdRng;

use super::{Client, Known};
use crate::controller::leader::PROJECT;
use crate::judge::Judge;

/// What all launches use.
const TYPE: &str = "n1.micro";

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new owner.
    CreateProject { name: String },
    /// Refused while anything is in it.
    DeleteProject { project: ProjectId },
    /// A limit on instances.
    SetQuota { project: ProjectId, instances: u64 },
    /// That limit.
    GetQuota { project: ProjectId },
    /// A public key.
    ImportKey { project: ProjectId, name: String },
    /// An image; each project needs one.
    RegisterImage { project: ProjectId, name: String },
    /// Instances.
    Launch {
        project: ProjectId,
        name: String,
        count: u32,
        pack: bool,
        replace: bool,
    },
    /// A wish about one.
    Change {
        project: ProjectId,
        instance: InstanceId,
        wish: Wish,
        force: bool,
    },
    /// Everything of a project.
    List { project: ProjectId },
}

/// What a read sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A limit; none when the project is gone.
    Quota(ProjectId, Option<u64>),
    /// Instances that are not deleted.
    Instances(ProjectId, Vec<InstanceId>),
}

/// What a mutation becomes on a view.
pub enum Made {
    /// To be proposed.
    Command(Box<Command>),
    /// Refused before that, with the mark it counts as.
    Refused(&'static str),
}

impl Known {
    /// A mutation took effect.
    pub fn made(&mut self, op: &Op, outcome: &Outcome) {
        match (op, outcome) {
            (Op::Launch { project, .. }, Outcome::Instances(ids)) => {
                self.instances.extend(ids.iter().map(|id| (*project, *id)));
            }
            (Op::CreateProject { .. }, Outcome::Project(id)) => self.projects.push(*id),
            (Op::DeleteProject { project }, _) => self.projects.retain(|id| id != project),
            _ => {}
        }
    }

    /// A read answered.
    pub fn learn(&mut self, value: &Value) {
        if let Value::Instances(project, ids) = value {
            self.instances
                .retain(|(owner, id)| owner != project || ids.contains(id));
        }
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("simulated names are valid")
}

fn bytes_of(op: &Op) -> String {
    format!("{op:?}")
}

impl Op {
    /// Whose request ids count.
    #[must_use]
    pub fn project(&self) -> ProjectId {
        match self {
            Self::CreateProject { .. } => PROJECT,
            Self::DeleteProject { project }
            | Self::SetQuota { project, .. }
            | Self::GetQuota { project }
            | Self::ImportKey { project, .. }
            | Self::RegisterImage { project, .. }
            | Self::Launch { project, .. }
            | Self::Change { project, .. }
            | Self::List { project } => *project,
        }
    }

    /// As `nube_controller::api::mutation` hashes what is asked.
    #[must_use]
    pub fn parameters(&self) -> [u8; 16] {
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(bytes_of(self).as_bytes()).as_bytes()[..16]);
        hash
    }

    /// It changes nothing.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self, Self::GetQuota { .. } | Self::List { .. })
    }

    /// The answer, when it is a read.
    #[must_use]
    pub fn read(&self, state: &State) -> Option<Value> {
        match self {
            Self::GetQuota { project } => {
                let found = state.projects.get(project).map(|p| p.quota.instances);
                Some(Value::Quota(*project, found))
            }
            Self::List { project } => {
                let of = state.instances_of(*project, None);
                let alive = of.filter(|i| i.state != InstanceState::Deleted);
                Some(Value::Instances(*project, alive.map(|i| i.id).collect()))
            }
            _ => None,
        }
    }

    /// The command, made on a view.
    pub fn command(&self, state: &State, hosts: &Hosts, random: &mut StdRng) -> Made {
        let command = match self {
            Self::GetQuota { .. } | Self::List { .. } => return Made::Refused("a read"),
            Self::CreateProject { name: text } => Command::CreateProject(CreateProject {
                id: ProjectId(random.random()),
                name: name(text),
                network: NetworkId(random.random()),
                quota: None,
            }),
            Self::DeleteProject { project } => Command::DeleteProject(*project),
            Self::SetQuota { project, instances } => {
                let quota = Quota {
                    instances: *instances,
                    ..Quota::DEFAULT
                };
                Command::SetProjectQuota(*project, quota)
            }
            Self::ImportKey {
                project,
                name: text,
            } => Command::ImportSshKey(ImportSshKey {
                project: *project,
                id: SshKeyId(random.random()),
                name: name(text),
                public_key: format!("ssh-ed25519 {text}"),
                fingerprint: format!("SHA256:{project}/{text}"),
                algorithm: "ssh-ed25519".to_owned(),
            }),
            Self::RegisterImage { project, name } => image(*project, name, random),
            Self::Launch {
                project,
                name,
                count,
                pack,
                replace,
            } => {
                let how = (*pack, *replace);
                return launch((state, hosts), random, (*project, name, *count), how);
            }
            Self::Change {
                project,
                instance,
                wish,
                force,
            } => Command::ChangeInstance(ChangeInstance {
                project: *project,
                instance: *instance,
                wish: *wish,
                force: *force,
            }),
        };
        Made::Command(Box::new(command))
    }
}

fn image(project: ProjectId, text: &str, random: &mut StdRng) -> Command {
    Command::RegisterImage(RegisterImage {
        project,
        id: ImageId(random.random()),
        name: name(text),
        version: "1".to_owned(),
        architecture: "x86_64".to_owned(),
        user: "debian".to_owned(),
        disk: Blob {
            sha256: random.random(),
            size_bytes: 1 << 20,
        },
        disk_format: DiskFormat::Qcow2,
        virtual_size_bytes: 64 << 20,
        kernel: None,
        initrd: None,
        cmdline: String::new(),
        memory_min: Mib(64),
        disk_min: Mib(64),
        datasource: Datasource::Seed,
    })
}

fn strategy(pack: bool) -> Strategy {
    match pack {
        true => Strategy::Pack,
        false => Strategy::Spread,
    }
}

fn policy(replace: bool) -> HostFailurePolicy {
    match replace {
        true => HostFailurePolicy::Replace,
        false => HostFailurePolicy::Keep,
    }
}

fn launch(
    (state, hosts): (&State, &Hosts),
    random: &mut StdRng,
    (owner, base, count): (ProjectId, &str, u32),
    (pack, replace): (bool, bool),
) -> Made {
    let size = state.instance_types.get(&TYPE.to_owned());
    let image = state.images.iter().find(|i| i.spec.project == owner);
    let (Some(size), Some(image)) = (size, image) else {
        return Made::Refused("a launch without an image");
    };
    let rows = project::quota_rows(state, owner, size, count.into());
    if rows.iter().any(|row| !row.fits()) {
        return Made::Refused("a launch was refused for quota");
    }
    let request = nube_scheduler::Request {
        vcpus: size.vcpus,
        memory: size.memory,
        disk: size.disk,
        accelerator: None,
        isolation: Isolation::None,
        zone: None,
        driver: Driver::Qemu,
        strategy: strategy(pack),
    };
    let mut kept = hosts.at(state);
    let fleet = &mut kept.fleet;
    fleet.start_group();
    let mut instances = Vec::new();
    for n in 0..count {
        let Some((node, score)) = fleet.place(&request) else {
            break;
        };
        fleet.reserve(node, &request);
        let why = placement::winner(state, &request, node, score.total());
        instances.push(NewInstance {
            id: InstanceId(random.random()),
            name: name(&format!("{base}-{n}")),
            node,
            ssh_host_public_key: format!("ssh-ed25519 {base}-{n}"),
            explanation: Some(placement::kept(why)),
        });
    }
    for instance in &instances {
        fleet.release(instance.node, &request);
    }
    if instances.len() < count as usize {
        return Made::Refused("a launch was refused for capacity");
    }
    let command = Command::LaunchInstances(LaunchInstances {
        project: owner,
        instance_type: size.name.clone(),
        image: image.id,
        ssh_keys: Vec::new(),
        user_data_sealed: Vec::new(),
        labels: Labels::new(),
        instances,
        if_revision: None,
        on_host_failure: policy(replace),
        needs: placement::needs(&request),
        network: None,
        subnet: None,
        address: None,
        security_groups: Vec::new(),
    });
    Made::Command(Box::new(command))
}

/// What a client does next.
pub fn draw(random: &mut StdRng, client: &mut Client, judge: &Judge) -> Op {
    let known = &mut client.known;
    known.names += 1;
    let fresh = |prefix: &str, known: &Known| format!("{prefix}{}-{}", client.id, known.names);
    let project = known.projects[random.random_range(0..known.projects.len())];
    let state = judge.reference.state();
    if !state.images.iter().any(|i| i.spec.project == project) {
        let name = fresh("image", known);
        return Op::RegisterImage { project, name };
    }
    match random.random_range(0..100) {
        0..=2 => Op::CreateProject {
            name: fresh("p", known),
        },
        3 if known.projects.len() > 1 => Op::DeleteProject { project },
        4..=9 => Op::SetQuota {
            project,
            instances: random.random_range(1..40),
        },
        10..=17 => Op::GetQuota { project },
        18..=22 => Op::ImportKey {
            project,
            name: fresh("key", known),
        },
        23..=32 => Op::List { project },
        33..=60 => Op::Launch {
            project,
            name: fresh("vm", known),
            count: if random.random_bool(0.8) {
                1
            } else {
                random.random_range(2..6)
            },
            pack: random.random_bool(0.3),
            replace: random.random_bool(0.5),
        },
        _ => change(random, known).unwrap_or(Op::List { project }),
    }
}

fn change(random: &mut StdRng, known: &mut Known) -> Option<Op> {
    if known.instances.is_empty() {
        return None;
    }
    let at = random.random_range(0..known.instances.len());
    let (project, instance) = known.instances[at];
    let wish = match random.random_range(0..10) {
        0..=1 => Wish::Stop,
        2..=3 => Wish::Start,
        4..=5 => Wish::Reboot,
        _ => Wish::Delete,
    };
    if wish == Wish::Delete {
        known.instances.swap_remove(at);
    }
    Some(Op::Change {
        project,
        instance,
        wish,
        force: random.random_bool(0.2),
    })
}
