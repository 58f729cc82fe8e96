//! What is kept: tables of records, a few singletons, and indexes derived from
//! them. Cloning is cheap: views for reads and snapshots are clones.

use imbl::{OrdMap, OrdSet};
use minicbor::{Decode, Encode};
use nube_billing::{PriceBook, Transition, UsageInterval};
use nube_types::{ImageId, InstanceId, Name, NetworkId, NodeId, ProjectId, RequestId, TimestampMs};

use crate::access_key::AccessKey;
use crate::address::{Address, AddressPool};
use crate::command::InitCluster;
use crate::event::{Event, Note};
use crate::eviction::Eviction;
use crate::hash_check::Marks;
use crate::image::Image;
use crate::instance::{Instance, InstanceState};
use crate::instance_type::{self, InstanceType};
use crate::join_token::JoinToken;
use crate::load_balancer::{LoadBalancer, TargetHealth};
use crate::member::Member;
use crate::network::index::{Holder, NetworkIndex};
use crate::network::{self, Network, ReleasedAddress};
use crate::node::{Node, NodeUse};
use crate::outcome::{Outcome, Refusal};
use crate::placement::Placement;
use crate::principal::Principal;
use crate::project::{self, Project, ProjectUse, Quota};
use crate::request::RememberedRequest;
use crate::security_group::SecurityGroup;
use crate::ssh_key::SshKey;
use crate::subnet::Subnet;
use crate::table::{Change, Table};
use crate::traffic::{TrafficCounter, TrafficUsage};

/// Which cluster this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Cluster {
    /// Drawn at bootstrap.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub id: [u8; 16],
    /// When its first entry was applied.
    #[n(1)]
    pub created_at: TimestampMs,
    /// The project `default`.
    #[n(2)]
    pub default_project: ProjectId,
}

/// Everything the cloud knows.
#[derive(Debug, Clone)]
pub struct State {
    /// Log index of the last applied entry.
    pub index: u64,
    /// Replicated time: never goes back.
    pub time: TimestampMs,
    /// Absent until the first entry.
    pub cluster: Option<Cluster>,
    /// MACs handed out so far.
    pub mac_count: u64,
    /// Log index of the last change that a placement rests on: hosts, what is
    /// reserved there, quotas. A preview made since then still holds.
    pub placement_revision: u64,
    /// The highest network number given.
    pub network_number_max: u32,
    /// Events below this index are forgotten; 0: none is.
    pub events_forgotten: u64,
    /// Prices, effective-dated, append-only.
    pub prices: PriceBook,
    /// See `ssh_key.rs`.
    pub ssh_keys: Table<SshKey>,
    /// See `image.rs`.
    pub images: Table<Image>,
    /// See `instance_type.rs`.
    pub instance_types: Table<InstanceType>,
    /// See `network.rs`.
    pub networks: Table<Network>,
    /// See `network.rs`.
    pub released: Table<ReleasedAddress>,
    /// See `request.rs`.
    pub requests: Table<RememberedRequest>,
    /// See `node.rs`.
    pub nodes: Table<Node>,
    /// See `instance/mod.rs`.
    pub instances: Table<Instance>,
    /// See `usage.rs`.
    pub usage: Table<UsageInterval>,
    /// See `usage.rs`.
    pub transitions: Table<Transition>,
    /// See `project.rs`.
    pub projects: Table<Project>,
    /// See `principal.rs`.
    pub principals: Table<Principal>,
    /// See `access_key.rs`.
    pub access_keys: Table<AccessKey>,
    /// See `event.rs`.
    pub events: Table<Event>,
    /// See `placement.rs`.
    pub placements: Table<Placement>,
    /// What the entry under way has to tell; empty between entries.
    pub(crate) notes: Vec<Note>,
    /// See `join_token.rs`.
    pub join_tokens: Table<JoinToken>,
    /// See `member.rs`.
    pub members: Table<Member>,
    /// See `eviction.rs`.
    pub evictions: Table<Eviction>,
    /// See `subnet.rs`.
    pub subnets: Table<Subnet>,
    /// See `security_group.rs`.
    pub security_groups: Table<SecurityGroup>,
    /// See `address.rs`.
    pub address_pools: Table<AddressPool>,
    /// See `address.rs`.
    pub addresses: Table<Address>,
    /// See `load_balancer.rs`.
    pub load_balancers: Table<LoadBalancer>,
    /// See `load_balancer.rs`.
    pub target_health: Table<TargetHealth>,
    /// See `traffic.rs`.
    pub traffic_counters: Table<TrafficCounter>,
    /// See `traffic.rs`.
    pub traffic_usage: Table<TrafficUsage>,
    /// Never stored, never hashed: rebuilt from the above.
    pub derived: Derived,
    /// Never stored, never hashed: this replica's own memory. See `hash_check.rs`.
    pub marks: Marks,
}

impl Default for State {
    fn default() -> Self {
        Self {
            index: 0,
            time: TimestampMs(0),
            cluster: None,
            mac_count: 0,
            placement_revision: 0,
            network_number_max: 0,
            events_forgotten: 0,
            prices: PriceBook {
                currency: String::new(),
                versions: Vec::new(),
            },
            ssh_keys: Table::default(),
            images: Table::default(),
            instance_types: Table::default(),
            networks: Table::default(),
            released: Table::default(),
            requests: Table::default(),
            nodes: Table::default(),
            instances: Table::default(),
            usage: Table::default(),
            transitions: Table::default(),
            projects: Table::default(),
            principals: Table::default(),
            access_keys: Table::default(),
            events: Table::default(),
            placements: Table::default(),
            notes: Vec::new(),
            join_tokens: Table::default(),
            members: Table::default(),
            evictions: Table::default(),
            subnets: Table::default(),
            security_groups: Table::default(),
            address_pools: Table::default(),
            addresses: Table::default(),
            load_balancers: Table::default(),
            target_health: Table::default(),
            traffic_counters: Table::default(),
            traffic_usage: Table::default(),
            derived: Derived::default(),
            marks: Marks::default(),
        }
    }
}

/// Indexes over the tables.
#[derive(Debug, Clone, Default)]
pub struct Derived {
    /// Living instances by name.
    pub names: OrdMap<(ProjectId, Name), InstanceId>,
    /// Instances by owner, deleted ones too while they are visible: a page
    /// begins at its first instance, whatever else is in the cell.
    pub owned: OrdSet<(ProjectId, InstanceId)>,
    /// Who holds an address.
    pub addresses: OrdMap<(NetworkId, u32), Holder>,
    /// See `network/index.rs`.
    pub network: NetworkIndex,
    /// Log index of the last change in a network with a port on a node: its agent
    /// must hear. After a restart it is the index of the restart, or newer.
    pub node_networks: OrdMap<NodeId, u64>,
    /// Networks that the entry under way changed; empty between entries.
    pub(crate) touched: OrdSet<NetworkId>,
    /// What is placed where (places that are held).
    pub placed: OrdSet<(NodeId, InstanceId)>,
    /// What hosts have to clear away of instances that left.
    pub owed: OrdSet<(NodeId, InstanceId)>,
    /// Sums over `placed` and `owed`.
    pub node_use: OrdMap<NodeId, NodeUse>,
    /// Log index of the last new wish or place on a node: its agent must hear.
    /// After a restart it is the newest change there, which is never older.
    pub node_wish: OrdMap<NodeId, u64>,
    /// Sums over instances that are not deleted.
    pub project_use: OrdMap<ProjectId, ProjectUse>,
    /// Projects by name.
    pub project_names: OrdMap<Name, ProjectId>,
    /// How many living instances were made of an image.
    pub image_use: OrdMap<ImageId, u64>,
    /// Instances with a deadline.
    pub transitional: OrdSet<InstanceId>,
    /// Deleted, still visible.
    pub deleted: OrdSet<InstanceId>,
    /// Remembered requests, oldest first.
    pub request_order: OrdMap<u64, (ProjectId, RequestId)>,
}

impl Derived {
    pub(crate) fn note_instance(&mut self, instance: &Instance) {
        if instance.state == InstanceState::Deleted {
            self.deleted.insert(instance.id);
        } else {
            self.names
                .insert((instance.project, instance.name.clone()), instance.id);
            *self.image_use.entry(instance.image).or_default() += 1;
            self.project_use
                .entry(instance.project)
                .or_default()
                .add(instance);
        }
        if instance.state.is_transitional() {
            self.transitional.insert(instance.id);
        }
        if instance.holds_place() {
            let place = (instance.network, instance.address);
            self.addresses.insert(place, Holder::Instance(instance.id));
            self.network.note_port(instance);
            self.placed.insert((instance.node, instance.id));
            self.node_use
                .entry(instance.node)
                .or_default()
                .reserve(instance);
        }
    }

    pub(crate) fn forget_instance(&mut self, instance: &Instance) {
        self.deleted.remove(&instance.id);
        self.transitional.remove(&instance.id);
        let name = (instance.project, instance.name.clone());
        if self.names.get(&name) == Some(&instance.id) {
            self.names.remove(&name);
        }
        if instance.state != InstanceState::Deleted {
            self.project_use
                .entry(instance.project)
                .or_default()
                .subtract(instance);
            let users = self
                .image_use
                .get(&instance.image)
                .copied()
                .unwrap_or_default();
            match users.saturating_sub(1) {
                0 => self.image_use.remove(&instance.image),
                rest => self.image_use.insert(instance.image, rest),
            };
        }
        if instance.holds_place() {
            self.addresses.remove(&(instance.network, instance.address));
            self.network.forget_port(instance);
            self.placed.remove(&(instance.node, instance.id));
            self.node_use
                .entry(instance.node)
                .or_default()
                .release(instance);
        }
    }

    pub(crate) fn note_eviction(&mut self, eviction: &Eviction) {
        self.owed.insert((eviction.node, eviction.instance));
        self.node_use
            .entry(eviction.node)
            .or_default()
            .owe(eviction);
    }

    pub(crate) fn forget_eviction(&mut self, eviction: &Eviction) {
        self.owed.remove(&(eviction.node, eviction.instance));
        self.node_use
            .entry(eviction.node)
            .or_default()
            .settle(eviction);
    }

    /// From the tables alone, as after a restart.
    #[must_use]
    pub fn rebuild(state: &State) -> Self {
        let mut derived = Self::default();
        for instance in state.instances.iter() {
            derived.owned.insert((instance.project, instance.id));
            derived.note_instance(instance);
        }
        for instance in state
            .instances
            .iter()
            .filter(|instance| instance.holds_place())
        {
            let wish = derived.node_wish.entry(instance.node).or_default();
            *wish = instance.revision.max(*wish);
        }
        for eviction in state.evictions.iter() {
            derived.note_eviction(eviction);
        }
        derived.network.rebuild_all_but_ports(state);
        for balancer in state.load_balancers.iter() {
            let place = (balancer.network, balancer.address);
            let holder = Holder::LoadBalancer(balancer.id);
            derived.addresses.insert(place, holder);
        }
        for (node, _) in &derived.network.host_networks {
            derived.node_networks.insert(*node, state.index);
        }
        for project in state.projects.iter() {
            derived
                .project_names
                .insert(project.name.clone(), project.id);
        }
        for request in state.requests.iter() {
            let key = (request.request.project, request.request.id);
            derived.request_order.insert(request.index, key);
        }
        derived
    }
}

impl State {
    /// What is reserved on a node.
    #[must_use]
    pub fn node_use(&self, node: NodeId) -> NodeUse {
        self.derived
            .node_use
            .get(&node)
            .copied()
            .unwrap_or_default()
    }

    /// What a project's instances take.
    #[must_use]
    pub fn project_use(&self, project: ProjectId) -> ProjectUse {
        let used = self.derived.project_use.get(&project);
        used.copied().unwrap_or_default()
    }

    /// Instances whose place on a node is held, in id order.
    pub fn instances_on(&self, node: NodeId) -> impl Iterator<Item = &Instance> {
        self.derived
            .placed
            .range((node, InstanceId(0))..=(node, InstanceId(u64::MAX)))
            .filter_map(|(_, id)| self.instances.get(id))
    }

    /// What a node has to clear away, in order of instances.
    pub fn evictions_on(&self, node: NodeId) -> impl Iterator<Item = &Eviction> {
        self.derived
            .owed
            .range((node, InstanceId(0))..=(node, InstanceId(u64::MAX)))
            .filter_map(move |(_, id)| self.evictions.get(&(*id, node)))
    }

    /// A project's instances in id order, from behind `after` on.
    pub fn instances_of(
        &self,
        project: ProjectId,
        after: Option<InstanceId>,
    ) -> impl Iterator<Item = &Instance> {
        // Behind the last id there is nothing.
        let begin = after.map_or(Some(0), |after| after.0.checked_add(1));
        let ids = begin.map(|begin| {
            let all = (project, InstanceId(begin))..=(project, InstanceId(u64::MAX));
            self.derived.owned.range(all)
        });
        ids.into_iter()
            .flatten()
            .filter_map(|(_, id)| self.instances.get(id))
    }

    /// Moves out what changed since the last call, for the store.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        self.ssh_keys.take_changes(&mut changes);
        self.images.take_changes(&mut changes);
        self.instance_types.take_changes(&mut changes);
        self.networks.take_changes(&mut changes);
        self.released.take_changes(&mut changes);
        self.requests.take_changes(&mut changes);
        self.nodes.take_changes(&mut changes);
        self.instances.take_changes(&mut changes);
        self.usage.take_changes(&mut changes);
        self.transitions.take_changes(&mut changes);
        self.projects.take_changes(&mut changes);
        self.principals.take_changes(&mut changes);
        self.access_keys.take_changes(&mut changes);
        self.events.take_changes(&mut changes);
        self.placements.take_changes(&mut changes);
        self.join_tokens.take_changes(&mut changes);
        self.members.take_changes(&mut changes);
        self.evictions.take_changes(&mut changes);
        self.subnets.take_changes(&mut changes);
        self.security_groups.take_changes(&mut changes);
        self.address_pools.take_changes(&mut changes);
        self.addresses.take_changes(&mut changes);
        self.load_balancers.take_changes(&mut changes);
        self.target_health.take_changes(&mut changes);
        self.traffic_counters.take_changes(&mut changes);
        self.traffic_usage.take_changes(&mut changes);
        changes
    }
}

/// The first entry: the default project with its network, types and prices.
pub(crate) fn init(state: &mut State, command: &InitCluster) -> Result<Outcome, Refusal> {
    if state.cluster.is_some() {
        return Err(Refusal::Initialisation("initialised already".to_owned()));
    }
    state.cluster = Some(Cluster {
        id: command.cluster_id,
        created_at: state.time,
        default_project: command.project,
    });
    state.prices = if command.network_prices {
        PriceBook::with_networks(state.time)
    } else {
        PriceBook::default_book(state.time)
    };
    for instance_type in instance_type::default_types() {
        state.instance_types.put(instance_type);
    }
    state.network_number_max = 1;
    network::put(
        state,
        network::default_network(command.network, command.project, 1),
    );
    let default = default_project(command.project, state.time, state.index);
    project::put(state, default);
    Ok(Outcome::Done)
}

/// The project of whoever made the cell.
pub(crate) fn default_project(id: ProjectId, created_at: TimestampMs, revision: u64) -> Project {
    Project {
        id,
        name: Name::new("default").expect("a host name"),
        quota: Quota::UNLIMITED,
        created_at,
        revision,
    }
}
