//! What each mutation says of itself in the audit: one function per noun.

mod networks;

use nube_types::ProjectId;

use super::{Before, Note};
use crate::command::{ChangeInstance, Command, LaunchInstances, SetNodeLabels, Wish};
use crate::join_token::{JoinRole, Joined};
use crate::outcome::Kind;
use crate::project::Quota;
use crate::state::State;

impl Note {
    fn new(action: &'static str, kind: Kind, id: impl ToString, name: impl ToString) -> Self {
        Self {
            project: None,
            action,
            kind,
            id: id.to_string(),
            name: name.to_string(),
            detail: String::new(),
        }
    }

    fn of(mut self, project: ProjectId) -> Self {
        self.project = Some(project);
        self
    }

    fn saying(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// The audit record of a mutation that took effect. `None` for commands that
/// only the control plane sends.
pub(super) fn mutation(state: &State, command: &Command, before: &Before) -> Option<Note> {
    key_or_image(command, before)
        .or_else(|| instance(state, command))
        .or_else(|| project(state, command, before))
        .or_else(|| principal(state, command, before))
        .or_else(|| cell(state, command))
        .or_else(|| member(state, command))
        .or_else(|| networks::mutation(state, command, before))
}

fn key_or_image(command: &Command, before: &Before) -> Option<Note> {
    let gone = &before.name;
    Some(match command {
        Command::ImportSshKey(c) => Note::new("ssh_key.import", Kind::SshKey, c.id, &c.name)
            .of(c.project)
            .saying(&c.fingerprint),
        Command::DeleteSshKey(project, id) => {
            Note::new("ssh_key.delete", Kind::SshKey, id, gone).of(*project)
        }
        Command::RegisterImage(c) => Note::new("image.register", Kind::Image, c.id, &c.name)
            .of(c.project)
            .saying(&c.version),
        Command::DeleteImage(project, id) => {
            Note::new("image.delete", Kind::Image, id, gone).of(*project)
        }
        _ => return None,
    })
}

fn instance(state: &State, command: &Command) -> Option<Note> {
    match command {
        Command::LaunchInstances(c) => launched(c),
        Command::ChangeInstance(c) => Some(wished(state, c)),
        _ => None,
    }
}

fn launched(c: &LaunchInstances) -> Option<Note> {
    let first = c.instances.first()?;
    let detail = format!("{} × {}", c.instances.len(), c.instance_type);
    let note = Note::new("instance.launch", Kind::Instance, first.id, &first.name);
    Some(note.of(c.project).saying(detail))
}

fn wished(state: &State, c: &ChangeInstance) -> Note {
    let action = match c.wish {
        Wish::Start => "instance.start",
        Wish::Stop => "instance.stop",
        Wish::Reboot => "instance.reboot",
        Wish::Delete => "instance.delete",
    };
    let name = state.instances.get(&c.instance).map(|i| i.name.to_string());
    Note::new(action, Kind::Instance, c.instance, name.unwrap_or_default())
        .of(c.project)
        .saying(if c.force { "forced" } else { "" })
}

fn project(state: &State, command: &Command, before: &Before) -> Option<Note> {
    let kind = Kind::Project;
    Some(match command {
        Command::CreateProject(c) => Note::new("project.create", kind, c.id, &c.name).of(c.id),
        Command::SetProjectQuota(id, quota) => {
            let name = state.projects.get(id).map(|p| p.name.to_string());
            Note::new("project.quota", kind, id, name.unwrap_or_default())
                .of(*id)
                .saying(quota_text(quota))
        }
        Command::DeleteProject(id) => Note::new("project.delete", kind, id, &before.name),
        _ => return None,
    })
}

fn quota_text(quota: &Quota) -> String {
    [
        (quota.instances, "instances"),
        (quota.vcpus, "vcpus"),
        (quota.memory_mib, "MiB of memory"),
        (quota.disk_mib, "MiB of disk"),
        (quota.ssh_keys, "keys"),
        (quota.images, "images"),
    ]
    .iter()
    .map(|(limit, what)| match *limit {
        u64::MAX => format!("any {what}"),
        limit => format!("{limit} {what}"),
    })
    .collect::<Vec<_>>()
    .join(", ")
}

fn principal(state: &State, command: &Command, before: &Before) -> Option<Note> {
    let named = |id| {
        let found = state.principals.get(id);
        found.map(|p| p.name.to_string()).unwrap_or_default()
    };
    let (kind, gone) = (Kind::Principal, &before.name);
    let (note, project) = match command {
        Command::CreatePrincipal(c) => (Note::new("principal.create", kind, c.id, &c.name), None),
        Command::SetRole(c) => {
            let word = c.role.map_or("role taken", |role| role.word());
            let name = named(&c.principal);
            let note = Note::new("principal.role", kind, c.principal, name);
            (note.saying(word), c.project)
        }
        Command::DeletePrincipal(id) => (Note::new("principal.delete", kind, id, gone), None),
        Command::CreateAccessKey(c) => {
            let detail = format!("{} for {}", c.role.word(), named(&c.principal));
            let note = Note::new("access_key.create", Kind::AccessKey, c.id, c.id);
            (note.saying(detail), c.project)
        }
        Command::DeleteAccessKey(id) => {
            let note = Note::new("access_key.delete", Kind::AccessKey, id, gone);
            (note, before.project)
        }
        _ => return None,
    };
    Some(Note { project, ..note })
}

fn cell(state: &State, command: &Command) -> Option<Note> {
    let named = |id| {
        let found = state.nodes.get(id);
        found.map(|n| n.facts.name.to_string()).unwrap_or_default()
    };
    let kind = Kind::Node;
    Some(match command {
        Command::SetNodeDrained(id, true) => Note::new("node.drain", kind, id, named(id)),
        Command::SetNodeDrained(id, false) => Note::new("node.uncordon", kind, id, named(id)),
        Command::SetNodeLabels(c) => {
            Note::new("node.label", kind, c.node, named(&c.node)).saying(labels_text(c))
        }
        _ => return None,
    })
}

fn labels_text(c: &SetNodeLabels) -> String {
    let set = c.set.iter().map(|(key, value)| format!("{key}={value}"));
    let removed = c.remove.iter().map(|key| format!("{key}-"));
    set.chain(removed).collect::<Vec<_>>().join(" ")
}

fn member(state: &State, command: &Command) -> Option<Note> {
    Some(match command {
        Command::CreateJoinToken(c) => {
            let kind = match c.role {
                JoinRole::Agent => Kind::Node,
                JoinRole::Controller => Kind::Member,
            };
            Note::new("join_token.create", kind, &c.name, &c.name)
        }
        Command::RemoveMember(c) => {
            let name = state.members.get(&c.id).and_then(|m| m.name.as_ref());
            let name = name.map(ToString::to_string).unwrap_or_default();
            Note::new("member.remove", Kind::Member, c.id, name)
        }
        _ => return None,
    })
}

/// A newcomer got its identity.
pub(super) fn joined(joined: &Joined) -> Note {
    let note = match joined {
        Joined::Agent { node, name, .. } => Note::new("node.join", Kind::Node, node, name),
        Joined::Controller { member, name } => Note::new("member.join", Kind::Member, member, name),
    };
    note.saying("by token")
}
