//! Projects: who owns, who pays, and how much of each may exist at once. Use is
//! counted in the entry that creates or deletes (see `Derived::project_use`), so
//! a quota cannot drift from what is there.

use minicbor::{Decode, Encode};
use nube_types::limits::PROJECTS_MAX;
use nube_types::{Name, ProjectId, TimestampMs};

use crate::command::CreateProject;
use crate::instance::Instance;
use crate::instance_type::InstanceType;
use crate::network;
use crate::outcome::{Kind, Outcome, Refusal};
use crate::ssh_key;
use crate::state::State;
use crate::table::Record;
use crate::{address, image, load_balancer, security_group};

/// The most that may exist at once. `u64::MAX` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Quota {
    /// Not deleted, whatever their state.
    #[n(0)]
    pub instances: u64,
    /// Sum over those.
    #[n(1)]
    pub vcpus: u64,
    /// Sum over those.
    #[n(2)]
    pub memory_mib: u64,
    /// Sum over those.
    #[n(3)]
    pub disk_mib: u64,
    /// Registered keys.
    #[n(4)]
    pub ssh_keys: u64,
    /// Registered images.
    #[n(5)]
    pub images: u64,
    /// Elastic addresses. Absent, as in records of the first version: see
    /// [`Quota::addresses_max`].
    #[cbor(n(6), skip_if = "crate::table::is_default")]
    pub addresses: Option<u64>,
}

impl Quota {
    /// For the default project: whoever owns the cell owns it.
    pub const UNLIMITED: Self = Self {
        instances: u64::MAX,
        vcpus: u64::MAX,
        memory_mib: u64::MAX,
        disk_mib: u64::MAX,
        ssh_keys: u64::MAX,
        images: u64::MAX,
        addresses: None,
    };
    /// For a new project that names none: a small team.
    pub const DEFAULT: Self = Self {
        instances: 50,
        vcpus: 100,
        memory_mib: 256 * 1024,
        disk_mib: 2 * 1024 * 1024,
        ssh_keys: 100,
        images: 50,
        addresses: None,
    };

    /// Where none is set: five, as in EC2, or no limit where nothing is limited.
    #[must_use]
    pub fn addresses_max(&self) -> u64 {
        let unlimited = self.instances == u64::MAX;
        self.addresses
            .unwrap_or(if unlimited { u64::MAX } else { 5 })
    }
}

/// One project.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Project {
    /// Its id.
    #[n(0)]
    pub id: ProjectId,
    /// Unique in the cell.
    #[n(1)]
    pub name: Name,
    /// The most it may have.
    #[n(2)]
    pub quota: Quota,
    /// When it was made.
    #[n(3)]
    pub created_at: TimestampMs,
    /// Log index of the last change.
    #[n(4)]
    pub revision: u64,
}

impl Record for Project {
    type Key = ProjectId;
    const TABLE: u8 = 11;
    fn key(&self) -> ProjectId {
        self.id
    }
}

/// Sums over a project's instances that are not deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProjectUse {
    /// How many.
    pub instances: u64,
    /// Virtual CPUs.
    pub vcpus: u64,
    /// Guest memory.
    pub memory_mib: u64,
    /// Root disks.
    pub disk_mib: u64,
}

impl ProjectUse {
    pub(crate) fn add(&mut self, instance: &Instance) {
        self.instances = self.instances.saturating_add(1);
        self.vcpus = self.vcpus.saturating_add(instance.vcpus.into());
        self.memory_mib = self.memory_mib.saturating_add(instance.memory.0);
        self.disk_mib = self.disk_mib.saturating_add(instance.disk.0);
    }

    pub(crate) fn subtract(&mut self, instance: &Instance) {
        self.instances = self.instances.saturating_sub(1);
        self.vcpus = self.vcpus.saturating_sub(instance.vcpus.into());
        self.memory_mib = self.memory_mib.saturating_sub(instance.memory.0);
        self.disk_mib = self.disk_mib.saturating_sub(instance.disk.0);
    }
}

/// One row of the question whether a launch fits: also what a preview shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaRow {
    /// As in [`Quota`].
    pub resource: &'static str,
    /// The most.
    pub limit: u64,
    /// What exists.
    pub used: u64,
    /// What is asked for.
    pub asked: u64,
}

impl QuotaRow {
    /// It fits.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.used.saturating_add(self.asked) <= self.limit
    }
}

/// What `count` instances of a size would take of a project's quota.
#[must_use]
pub fn quota_rows(
    state: &State,
    project: ProjectId,
    size: &InstanceType,
    count: u64,
) -> [QuotaRow; 4] {
    let quota = state
        .projects
        .get(&project)
        .map_or(Quota::UNLIMITED, |project| project.quota);
    let used = state.project_use(project);
    let row = |resource, limit, used, each: u64| QuotaRow {
        resource,
        limit,
        used,
        asked: each.saturating_mul(count),
    };
    [
        row("instances", quota.instances, used.instances, 1),
        row("vcpus", quota.vcpus, used.vcpus, size.vcpus.into()),
        row(
            "memory_mib",
            quota.memory_mib,
            used.memory_mib,
            size.memory.0,
        ),
        row("disk_mib", quota.disk_mib, used.disk_mib, size.disk.0),
    ]
}

/// Refuses what does not fit.
pub(crate) fn check(rows: &[QuotaRow]) -> Result<(), Refusal> {
    match rows.iter().find(|row| !row.fits()) {
        None => Ok(()),
        Some(row) => Err(exceeded(row)),
    }
}

/// The refusal of a row that does not fit.
#[must_use]
pub fn exceeded(row: &QuotaRow) -> Refusal {
    Refusal::QuotaExceeded {
        resource: row.resource.to_owned(),
        limit: row.limit,
        used: row.used,
        asked: row.asked,
    }
}

/// One more of a kind that is counted by a scan.
pub(crate) fn check_one_more(
    state: &State,
    project: ProjectId,
    resource: &'static str,
    used: u64,
    limit: impl FnOnce(&Quota) -> u64,
) -> Result<(), Refusal> {
    let limit = limit(&find(state, project)?.quota);
    check(&[QuotaRow {
        resource,
        limit,
        used,
        asked: 1,
    }])
}

fn absent(project: ProjectId) -> Refusal {
    Refusal::NotFound {
        kind: Kind::Project,
        reference: project.to_string(),
    }
}

/// The project, which must be there.
pub(crate) fn find(state: &State, project: ProjectId) -> Result<&Project, Refusal> {
    state.projects.get(&project).ok_or_else(|| absent(project))
}

/// By name.
#[must_use]
pub fn by_name<'a>(state: &'a State, name: &Name) -> Option<&'a Project> {
    state.projects.get(state.derived.project_names.get(name)?)
}

pub(crate) fn put(state: &mut State, project: Project) {
    state
        .derived
        .project_names
        .insert(project.name.clone(), project.id);
    state.projects.put(project);
}

pub(crate) fn create(state: &mut State, command: &CreateProject) -> Result<Outcome, Refusal> {
    if state.projects.len() >= PROJECTS_MAX {
        let (what, limit) = ("projects".to_owned(), PROJECTS_MAX as u64);
        return Err(Refusal::LimitReached { what, limit });
    }
    if by_name(state, &command.name).is_some() {
        let (kind, name) = (Kind::Project, command.name.clone());
        return Err(Refusal::NameTaken { kind, name });
    }
    // The digits of a project are its default group's as well.
    let taken = state.projects.get(&command.id).is_some()
        || !network::id_is_free(state, command.network.0)
        || state
            .security_groups
            .get(&security_group::default_id(command.id))
            .is_some();
    if taken {
        return Err(Refusal::IdTaken(command.id.to_string()));
    }
    // Never a number that some host may still have a namespace of.
    state.network_number_max += 1;
    let number = state.network_number_max;
    network::put(
        state,
        network::default_network(command.network, command.id, number),
    );
    let project = Project {
        id: command.id,
        name: command.name.clone(),
        quota: command.quota.unwrap_or(Quota::DEFAULT),
        created_at: state.time,
        revision: state.index,
    };
    put(state, project);
    Ok(Outcome::Project(command.id))
}

pub(crate) fn set_quota(
    state: &mut State,
    project: ProjectId,
    quota: Quota,
) -> Result<Outcome, Refusal> {
    let mut changed = find(state, project)?.clone();
    changed.quota = quota;
    changed.revision = state.index;
    state.projects.put(changed);
    state.placement_revision = state.index;
    Ok(Outcome::Project(project))
}

pub(crate) fn delete(state: &mut State, id: ProjectId) -> Result<Outcome, Refusal> {
    let project = find(state, id)?.clone();
    let in_use = |what: &str, count: usize| Refusal::NotEmpty {
        kind: Kind::Project,
        name: project.name.clone(),
        what: what.to_owned(),
        count: count as u64,
    };
    if state.cluster.is_some_and(|c| c.default_project == id) {
        return Err(Refusal::Invalid {
            field: "project".to_owned(),
            rule: "the default project stays".to_owned(),
        });
    }
    // Instances that a host still has to clean up hold addresses of its network.
    let instances = state
        .instances_of(id, None)
        .filter(|instance| instance.holds_place())
        .count();
    let networks = network::of_project(state, id).filter(|network| !network.is_default());
    let groups = security_group::of_project(state, id).len() - 1;
    for (what, count) in [
        ("instances", instances),
        ("ssh keys", ssh_key::of_project(state, id).count()),
        ("images", image::of_project(state, id).count()),
        (
            "load balancers",
            load_balancer::of_project(state, id).count(),
        ),
        ("elastic addresses", address::of_project(state, id).count()),
        ("networks", networks.count()),
        ("security groups", groups),
    ] {
        if count > 0 {
            return Err(in_use(what, count));
        }
    }
    // What was made with it goes with it.
    security_group::forget_default(state, id);
    if let Some(network) = network::default_of(state, id).map(|network| network.id) {
        network::forget(state, id, network);
    }
    crate::principal::forget_project(state, id);
    crate::access_key::forget_project(state, id);
    state.derived.project_names.remove(&project.name);
    state.projects.remove(&id);
    Ok(Outcome::Done)
}
