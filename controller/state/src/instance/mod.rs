//! Instances: the record, its states, and where each part of its life is:
//! `launch` (creation), `wish` (what owners ask), `observe` (what agents see),
//! `life` (deadlines, and the end of deletes).
//!
//! ```text
//!            launch
//!              │            report            report
//!              ▼
//!           pending ──────► starting ──────► running ──┐ stop, power-off
//!              ▲                │  │            │       ▼
//!              │ start          │  └─► failed ◄─┘    stopping ──► stopped
//!              └────────────────┴──────────┴────────────┴────────────┘
//!   any state ── delete ──► deleting ── report, or host silent ──► deleted
//! ```

pub mod launch;
pub mod life;
pub mod observe;
pub mod wish;

use minicbor::{Decode, Encode};
use nube_types::{
    ImageId, InstanceId, Labels, Mib, Name, NetworkId, NodeId, PlacementEpoch, ProjectId,
    SecurityGroupId, SshKeyId, TimestampMs,
};

use crate::placement::HostNeeds;
use crate::state::State;
use crate::table::Record;
use crate::{load_balancer, network};

/// What the owner wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum DesiredState {
    /// Switched on.
    #[n(0)]
    Running,
    /// Switched off; disk and address stay.
    #[n(1)]
    Stopped,
    /// Gone. Never changes to another wish.
    #[n(2)]
    Deleted,
}

/// What is so, as committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum InstanceState {
    /// Placed; the host has not begun. Owner: agent. Exit: report or deadline.
    #[n(0)]
    Pending,
    /// The host prepares and boots it. Owner: agent. Exit: report or deadline.
    #[n(1)]
    Starting,
    /// It runs and is billed.
    #[n(2)]
    Running,
    /// It goes down. Owner: agent. Exit: report or deadline.
    #[n(3)]
    Stopping,
    /// Off.
    #[n(4)]
    Stopped,
    /// The host cleans up. Owner: agent. Exit: report, silent host or deadline.
    #[n(5)]
    Deleting,
    /// Gone for its owner. The host may still owe the clean-up.
    #[n(6)]
    Deleted,
    /// It could not start, or ended badly.
    #[n(7)]
    Failed,
}

impl InstanceState {
    /// Somebody owes the next step: there is a deadline.
    #[must_use]
    pub fn is_transitional(self) -> bool {
        matches!(
            self,
            Self::Pending | Self::Starting | Self::Stopping | Self::Deleting
        )
    }

    /// As people read it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Failed => "failed",
        }
    }
}

/// How far a starting instance has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum InstanceStage {
    /// Not begun, or of no meaning.
    #[n(0)]
    None,
    /// The image is fetched and checked.
    #[n(1)]
    Image,
    /// Disk, seed and port are made.
    #[n(2)]
    Prepare,
    /// The machine process starts.
    #[n(3)]
    Boot,
    /// It runs.
    #[n(4)]
    Running,
}

/// What becomes of an instance whose host is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum HostFailurePolicy {
    /// It waits for its host, and for its disk there.
    #[default]
    #[n(0)]
    Keep,
    /// It runs under a lease only. When that is surely over it begins anew, with
    /// a new disk, on another host.
    #[n(1)]
    Replace,
}

/// One rented machine.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Instance {
    /// Its id.
    #[n(0)]
    pub id: InstanceId,
    /// Owner and payer.
    #[n(1)]
    pub project: ProjectId,
    /// Unique among the project's living instances; the host name.
    #[n(2)]
    pub name: Name,
    /// Name of the type at launch; what the price book prices.
    #[n(3)]
    pub instance_type: String,
    /// What it boots.
    #[n(4)]
    pub image: ImageId,
    /// What the owner wants.
    #[n(5)]
    pub desired: DesiredState,
    /// What is so.
    #[n(6)]
    pub state: InstanceState,
    /// How far it has come.
    #[n(7)]
    pub stage: InstanceStage,
    /// Why, for people.
    #[n(8)]
    pub reason: String,
    /// Of the type at launch.
    #[n(9)]
    pub vcpus: u32,
    /// Of the type at launch.
    #[n(10)]
    pub memory: Mib,
    /// Of the type at launch.
    #[n(11)]
    pub disk: Mib,
    /// Its host.
    #[n(12)]
    pub node: NodeId,
    /// How often it was placed.
    #[n(13)]
    pub epoch: PlacementEpoch,
    /// Its network.
    #[n(14)]
    pub network: NetworkId,
    /// IPv4 address there.
    #[n(15)]
    pub address: u32,
    /// From a counter: never used twice.
    #[cbor(n(16), with = "minicbor::bytes")]
    pub mac: [u8; 6],
    /// Who may log in; texts of these keys were copied at launch.
    #[n(17)]
    pub ssh_keys: Vec<SshKeyId>,
    /// OpenSSH lines: guests keep keys that are deleted later.
    #[n(18)]
    pub authorized_keys: Vec<String>,
    /// What the guest presents; known before it boots.
    #[n(19)]
    pub ssh_host_public_key: String,
    /// Sealed; opened only for its host.
    #[cbor(n(20), with = "minicbor::bytes")]
    pub user_data_sealed: Vec<u8>,
    /// Checked labels.
    #[n(21)]
    pub labels: Labels,
    /// When it was created.
    #[n(22)]
    pub created_at: TimestampMs,
    /// When `state` last changed; deadlines count from here.
    #[n(23)]
    pub state_changed_at: TimestampMs,
    /// Wishes so far.
    #[n(24)]
    pub generation: u64,
    /// The newest wish the host fulfilled.
    #[n(25)]
    pub applied_generation: u64,
    /// Reboots wished so far.
    #[n(26)]
    pub reboot_count: u64,
    /// Skip the power button for the current wish.
    #[n(27)]
    pub force: bool,
    /// Billed runs so far; the newest may be open.
    #[n(28)]
    pub runs: u32,
    /// Deleted, and the host has not confirmed that nothing is left: address
    /// and capacity stay reserved.
    #[n(29)]
    pub host_owes_cleanup: bool,
    /// Log index of the last change.
    #[n(30)]
    pub revision: u64,
    /// Login user of the image.
    #[n(31)]
    pub user: String,
    /// What becomes of it when its host is lost.
    #[cbor(n(32), skip_if = "crate::table::is_default")]
    pub on_host_failure: HostFailurePolicy,
    /// What its owner asked of the host: asked again when it is replaced.
    #[cbor(n(33), skip_if = "crate::table::is_default")]
    pub needs: HostNeeds,
    /// Rules of its port, in order of ids; none: the project's default group.
    #[cbor(n(34), skip_if = "crate::table::is_default")]
    pub security_groups: Vec<SecurityGroupId>,
}

impl Record for Instance {
    type Key = InstanceId;
    const TABLE: u8 = 8;
    fn key(&self) -> InstanceId {
        self.id
    }
}

impl Instance {
    /// Its place is reserved: capacity, address and name directory of the host.
    #[must_use]
    pub fn holds_place(&self) -> bool {
        self.state != InstanceState::Deleted || self.host_owes_cleanup
    }

    /// The last of its billed runs is open.
    #[must_use]
    pub fn is_metered(&self, state: &State) -> bool {
        state
            .usage
            .get(&(self.id.into(), self.runs))
            .is_some_and(nube_billing::UsageInterval::is_open)
    }
}

/// A project's living instance of this name.
#[must_use]
pub fn by_name<'a>(state: &'a State, project: ProjectId, name: &Name) -> Option<&'a Instance> {
    let id = state.derived.names.get(&(project, name.clone()))?;
    state.instances.get(id)
}

/// Writes a changed record and keeps every derived index in step with it. The
/// only way an instance changes after its creation.
pub(crate) fn store(state: &mut State, mut instance: Instance) {
    let before = state.instances.get(&instance.id).cloned();
    if before.as_ref() == Some(&instance) {
        return;
    }
    let before_was_absent = before.is_none();
    if before.as_ref().is_none_or(|b| b.state != instance.state) {
        instance.state_changed_at = state.time;
    }
    instance.revision = state.index;
    if let Some(before) = &before {
        state.derived.forget_instance(before);
    }
    let wish = |b: &Instance| (b.generation, b.epoch, b.node, b.holds_place());
    if before.as_ref().map(wish) != Some(wish(&instance)) {
        let left = before.as_ref().map_or(instance.node, |before| before.node);
        state.derived.node_wish.insert(left, state.index);
        state.derived.node_wish.insert(instance.node, state.index);
    }
    note_networks(state, before.as_ref(), &instance);
    crate::event::note_state(state, before.as_ref(), &instance);
    let reserved = |b: &Instance| (b.holds_place(), b.state == InstanceState::Deleted, b.node);
    if before.as_ref().map(reserved) != Some(reserved(&instance)) {
        state.placement_revision = state.index;
    }
    let released = before.is_some_and(|b| b.holds_place()) && !instance.holds_place();
    if released {
        network::release(state, instance.network, instance.address);
    }
    if before_was_absent {
        state.derived.owned.insert((instance.project, instance.id));
    }
    state.derived.note_instance(&instance);
    if released {
        crate::node::settle(state, instance.node);
    }
    state.instances.put(instance);
}

/// What hosts of its network, and what points at it, must know of a change.
fn note_networks(state: &mut State, before: Option<&Instance>, instance: &Instance) {
    let port = |i: &Instance| (i.holds_place(), i.node, i.epoch, i.security_groups.clone());
    if before.map(port) != Some(port(instance)) {
        network::touch(state, instance.network);
        // Nothing of the network may be left there that would tell it so.
        if let Some(before) = before {
            state.derived.node_networks.insert(before.node, state.index);
        }
    }
    if network::load_balancers(state, instance.network)
        .next()
        .is_none()
    {
        return;
    }
    let target = |i: &Instance| (i.state == InstanceState::Running, i.desired);
    if before.map(target) != Some(target(instance)) {
        network::touch(state, instance.network);
    }
    if before.is_some_and(|before| before.epoch != instance.epoch) {
        load_balancer::forget_of_instance(state, instance.network, instance.id);
    }
}
