//! Events: the audit. Each mutation leaves one record in the same log entry, and
//! each change of an instance's state one more, so that `who` and `why` can be
//! answered for as long as events are kept. Only the newest are.

use minicbor::{Decode, Encode};
use nube_types::limits::EVENTS_MAX;
use nube_types::{ProjectId, RequestId, TimestampMs};

use crate::command::{Command, Envelope, Wish};
use crate::instance::Instance;
use crate::node::bounded;
use crate::outcome::Kind;
use crate::state::State;
use crate::table::Record;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// Log index of the entry.
    #[n(0)]
    pub index: u64,
    /// Its place among the entry's events.
    #[n(1)]
    pub ordinal: u32,
    /// Replicated time.
    #[n(2)]
    pub at: TimestampMs,
    /// Who, as in the envelope.
    #[n(3)]
    pub actor: String,
    /// Absent: the control plane's own.
    #[n(4)]
    pub request: Option<RequestId>,
    /// Where the request came from.
    #[n(5)]
    pub source: Option<String>,
    /// Absent: the cell's.
    #[n(6)]
    pub project: Option<ProjectId>,
    /// As `instance.launch`.
    #[n(7)]
    pub action: String,
    /// What it is about.
    #[n(8)]
    pub kind: Kind,
    /// Its id as text.
    #[n(9)]
    pub id: String,
    /// Its name then.
    #[n(10)]
    pub name: String,
    /// For people.
    #[n(11)]
    pub detail: String,
}

impl Record for Event {
    type Key = (u64, u32);
    const TABLE: u8 = 14;
    fn key(&self) -> (u64, u32) {
        (self.index, self.ordinal)
    }
}

/// What an event says, before the entry adds who, when and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    project: Option<ProjectId>,
    action: &'static str,
    kind: Kind,
    id: String,
    name: String,
    detail: String,
}

/// An instance's state changed, for an owner or a host.
pub(crate) fn note_state(state: &mut State, before: Option<&Instance>, instance: &Instance) {
    if before.is_some_and(|before| before.state == instance.state) {
        return;
    }
    let node = state.nodes.get(&instance.node);
    let host = node.map_or_else(
        || instance.node.to_string(),
        |node| node.facts.name.to_string(),
    );
    let mut detail = match before {
        None => format!("placed on {host}"),
        Some(before) => format!("{} → {}", before.state.word(), instance.state.word()),
    };
    if !instance.reason.is_empty() {
        detail = format!("{detail}: {}", instance.reason);
    }
    state.notes.push(Note {
        project: Some(instance.project),
        action: "instance.state",
        kind: Kind::Instance,
        id: instance.id.to_string(),
        name: instance.name.to_string(),
        detail,
    });
}

/// A host was lost or is back.
pub(crate) fn note_node(state: &mut State, id: String, name: String, detail: &str) {
    state.notes.push(Note {
        project: None,
        action: "node.state",
        kind: Kind::Node,
        id,
        name,
        detail: detail.to_owned(),
    });
}

/// What only exists before a command is applied: it may delete it.
#[derive(Default)]
pub(crate) struct Before {
    name: String,
    project: Option<ProjectId>,
}

impl Before {
    pub(crate) fn of(state: &State, command: &Command) -> Self {
        let name = match command {
            Command::DeleteSshKey(_, id) => state.ssh_keys.get(id).map(|k| k.name.to_string()),
            Command::DeleteImage(_, id) => state.images.get(id).map(|i| i.name().to_string()),
            Command::DeleteProject(id) => state.projects.get(id).map(|p| p.name.to_string()),
            Command::DeletePrincipal(id) => state.principals.get(id).map(|p| p.name.to_string()),
            Command::DeleteAccessKey(id) => {
                let key = state.access_keys.get(id);
                let project = key.and_then(|key| key.project);
                let name = id.to_string();
                return Self { name, project };
            }
            _ => None,
        };
        let (name, project) = (name.unwrap_or_default(), None);
        Self { name, project }
    }
}

/// Writes what the entry has to tell. The mutation itself comes first.
pub(crate) fn record(state: &mut State, envelope: &Envelope, before: Before) {
    let mut notes = Vec::new();
    if envelope.request.is_some() {
        notes.extend(describe(state, &envelope.command, &before));
    }
    notes.append(&mut state.notes);
    for (ordinal, note) in (0..).zip(notes) {
        state.events.put(Event {
            index: state.index,
            ordinal,
            at: state.time,
            actor: bounded(&envelope.actor),
            request: envelope.request.map(|request| request.id),
            source: envelope.source.as_deref().map(bounded),
            project: note.project,
            action: note.action.to_owned(),
            kind: note.kind,
            id: note.id,
            name: note.name,
            detail: bounded(&note.detail),
        });
    }
    while state.events.len() > EVENTS_MAX {
        let Some(oldest) = state.events.iter().next().map(Record::key) else {
            break;
        };
        state.events.remove(&oldest);
        state.events_forgotten = oldest.0 + 1;
    }
}

fn note(
    project: Option<ProjectId>,
    action: &'static str,
    kind: Kind,
    id: impl ToString,
    name: impl ToString,
    detail: String,
) -> Note {
    Note {
        project,
        action,
        kind,
        id: id.to_string(),
        name: name.to_string(),
        detail,
    }
}

/// The audit record of a mutation that took effect. `None` for commands that
/// only the control plane sends.
fn describe(state: &State, command: &Command, before: &Before) -> Option<Note> {
    describe_rented(state, command, &before.name)
        .or_else(|| describe_tenancy(state, command, before))
        .or_else(|| describe_cell(state, command))
}

fn describe_rented(state: &State, command: &Command, gone: &str) -> Option<Note> {
    let none = String::new;
    Some(match command {
        Command::ImportSshKey(c) => {
            let detail = c.fingerprint.clone();
            note(
                Some(c.project),
                "ssh_key.import",
                Kind::SshKey,
                c.id,
                &c.name,
                detail,
            )
        }
        Command::DeleteSshKey(project, id) => note(
            Some(*project),
            "ssh_key.delete",
            Kind::SshKey,
            id,
            gone,
            none(),
        ),
        Command::RegisterImage(c) => {
            let detail = c.version.clone();
            note(
                Some(c.project),
                "image.register",
                Kind::Image,
                c.id,
                &c.name,
                detail,
            )
        }
        Command::DeleteImage(project, id) => note(
            Some(*project),
            "image.delete",
            Kind::Image,
            id,
            gone,
            none(),
        ),
        Command::LaunchInstances(c) => {
            let first = c.instances.first()?;
            let detail = format!("{} × {}", c.instances.len(), c.instance_type);
            let (id, name) = (first.id, &first.name);
            note(
                Some(c.project),
                "instance.launch",
                Kind::Instance,
                id,
                name,
                detail,
            )
        }
        Command::ChangeInstance(c) => {
            let action = match c.wish {
                Wish::Start => "instance.start",
                Wish::Stop => "instance.stop",
                Wish::Reboot => "instance.reboot",
                Wish::Delete => "instance.delete",
            };
            let name = state.instances.get(&c.instance).map(|i| i.name.to_string());
            let detail = if c.force { "forced".to_owned() } else { none() };
            let name = name.unwrap_or_default();
            note(
                Some(c.project),
                action,
                Kind::Instance,
                c.instance,
                name,
                detail,
            )
        }
        _ => return None,
    })
}

fn describe_tenancy(state: &State, command: &Command, before: &Before) -> Option<Note> {
    let gone = &before.name;
    let none = String::new;
    let principal = |id| {
        let found = state.principals.get(id);
        found.map(|p| p.name.to_string()).unwrap_or_default()
    };
    Some(match command {
        Command::CreateProject(c) => note(
            Some(c.id),
            "project.create",
            Kind::Project,
            c.id,
            &c.name,
            none(),
        ),
        Command::SetProjectQuota(id, quota) => {
            let name = state.projects.get(id).map(|p| p.name.to_string());
            let detail = format!(
                "{} instances, {} vcpus, {} MiB of memory, {} MiB of disk, {} keys, {} images",
                quota.instances,
                quota.vcpus,
                quota.memory_mib,
                quota.disk_mib,
                quota.ssh_keys,
                quota.images
            );
            let name = name.unwrap_or_default();
            note(Some(*id), "project.quota", Kind::Project, id, name, detail)
        }
        Command::DeleteProject(id) => note(None, "project.delete", Kind::Project, id, gone, none()),
        Command::CreatePrincipal(c) => note(
            None,
            "principal.create",
            Kind::Principal,
            c.id,
            &c.name,
            none(),
        ),
        Command::SetRole(c) => {
            let detail = c.role.map_or("role taken", |role| role.word()).to_owned();
            let (id, name) = (c.principal, principal(&c.principal));
            note(
                c.project,
                "principal.role",
                Kind::Principal,
                id,
                name,
                detail,
            )
        }
        Command::DeletePrincipal(id) => {
            note(None, "principal.delete", Kind::Principal, id, gone, none())
        }
        Command::CreateAccessKey(c) => {
            let detail = format!("{} for {}", c.role.word(), principal(&c.principal));
            note(
                c.project,
                "access_key.create",
                Kind::AccessKey,
                c.id,
                c.id,
                detail,
            )
        }
        Command::DeleteAccessKey(id) => note(
            before.project,
            "access_key.delete",
            Kind::AccessKey,
            id,
            gone,
            none(),
        ),
        _ => return None,
    })
}

fn describe_cell(state: &State, command: &Command) -> Option<Note> {
    let node = |id| {
        let found = state.nodes.get(id);
        found.map(|n| n.facts.name.to_string()).unwrap_or_default()
    };
    Some(match command {
        Command::SetNodeDrained(id, drained) => {
            let action = if *drained {
                "node.drain"
            } else {
                "node.uncordon"
            };
            note(None, action, Kind::Node, id, node(id), String::new())
        }
        Command::SetNodeLabels(c) => {
            let set = c.set.iter().map(|(key, value)| format!("{key}={value}"));
            let removed = c.remove.iter().map(|key| format!("{key}-"));
            let detail = set.chain(removed).collect::<Vec<_>>().join(" ");
            note(
                None,
                "node.label",
                Kind::Node,
                c.node,
                node(&c.node),
                detail,
            )
        }
        _ => return None,
    })
}
