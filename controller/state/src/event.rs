//! Events: the audit. Each mutation leaves one record in the same log entry, and
//! each change of an instance's state one more, so that `who` and `why` can be
//! answered for as long as events are kept. Only the newest are.

mod describe;

use minicbor::{Decode, Encode};
use nube_types::limits::EVENTS_MAX;
use nube_types::{ProjectId, RequestId, TimestampMs};

use crate::command::{Command, Envelope};
use crate::instance::Instance;
use crate::join_token::Joined;
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
    let mut detail = match before {
        None => format!("placed on {}", host_name(state, instance)),
        Some(before) => format!("{} → {}", before.state.word(), instance.state.word()),
    };
    if !instance.reason.is_empty() {
        detail = format!("{detail}: {}", instance.reason);
    }
    note_instance(state, instance, detail);
}

/// An instance begins anew on another host.
pub(crate) fn note_replaced(state: &mut State, instance: &Instance, lost: &str) {
    let host = host_name(state, instance);
    let detail = format!("placed anew on {host}: {lost} was lost");
    note_instance(state, instance, detail);
}

fn host_name(state: &State, instance: &Instance) -> String {
    let node = state.nodes.get(&instance.node);
    node.map_or_else(
        || instance.node.to_string(),
        |node| node.facts.name.to_string(),
    )
}

fn note_instance(state: &mut State, instance: &Instance, detail: String) {
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
            Command::DeleteNetwork(_, id) => state.networks.get(id).map(|n| n.name().to_owned()),
            Command::DeleteSubnet(_, id) => state.subnets.get(id).map(|s| s.name.to_string()),
            Command::DeleteSecurityGroup(_, id) => {
                state.security_groups.get(id).map(|g| g.name.to_string())
            }
            Command::ReleaseAddress(_, id) => state.addresses.get(id).map(|a| a.name.to_string()),
            Command::DeleteLoadBalancer(_, id) => {
                state.load_balancers.get(id).map(|lb| lb.name.to_string())
            }
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

/// A newcomer got its identity. It has no request id: its key is what makes its
/// attempts one.
pub(crate) fn note_joined(state: &mut State, joined: &Joined) {
    state.notes.push(describe::joined(joined));
}

/// Writes what the entry has to tell. The mutation itself comes first.
pub(crate) fn record(state: &mut State, envelope: &Envelope, before: Before) {
    let mut notes = Vec::new();
    if envelope.request.is_some() {
        notes.extend(describe::mutation(state, &envelope.command, &before));
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
