//! The recent past, for those who watch: what each log entry changed, in order,
//! without a gap, shared by all watchers. Filled by the state machine's thread;
//! bounded in entries and bytes. What fell out is `compacted`: the watcher lists
//! anew.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use imbl::Vector;
use nube_proto::v1;
use nube_state::{Change, State, Watched, watched};
use nube_types::{ProjectId, TimestampMs};
use prost::Message;
use tokio::sync::watch;

use crate::api::convert;

/// Entries with visible changes that are kept.
const ENTRIES_MAX: usize = 20_000;
/// Their records' bytes: what a restart of all watchers may need.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// One log entry's visible changes.
pub struct Revision {
    /// Its index.
    pub index: u64,
    /// Replicated time then.
    pub time: TimestampMs,
    changes: Vec<Change>,
    bytes: usize,
    shown: OnceLock<Vec<Shown>>,
}

/// One change, encoded once for each kind of reader.
pub struct Shown {
    /// As in the contract.
    pub kind: &'static str,
    /// Whose it is; `None`: the cell's.
    pub project: Option<ProjectId>,
    for_operators: Bytes,
    for_tenants: Bytes,
}

impl Shown {
    /// The encoded `nube.v1.Change`; a clone shares the bytes.
    #[must_use]
    pub fn bytes(&self, sees_hosts: bool) -> Bytes {
        if sees_hosts {
            self.for_operators.clone()
        } else {
            self.for_tenants.clone()
        }
    }
}

impl Revision {
    /// Its changes as they are sent: converted by whoever asks first.
    pub fn shown(&self, view: &State) -> &[Shown] {
        self.shown.get_or_init(|| {
            // Several writes of one record within an entry are one change.
            let mut last: Vec<&Change> = Vec::with_capacity(self.changes.len());
            for change in &self.changes {
                last.retain(|known| known.key != change.key);
                last.push(change);
            }
            let read = last.into_iter().filter_map(watched::read);
            read.filter(|(record, removed)| *removed || record.revision() == self.index)
                .map(|(record, removed)| show(view, &record, removed))
                .collect()
        })
    }
}

/// A record as a change: with the object, or without when it is gone.
#[must_use]
pub fn show(view: &State, record: &Watched, removed: bool) -> Shown {
    let encode = |sees_hosts| {
        let (kind, id) = kind_and_id(record);
        let project = record.project();
        let change = v1::Change {
            kind: kind.to_owned(),
            id,
            project_id: project.map(|id| id.to_string()).unwrap_or_default(),
            removed,
            object: (!removed).then(|| object(view, record, sees_hosts)),
        };
        (kind, Bytes::from(change.encode_to_vec()))
    };
    let (kind, for_operators) = encode(true);
    Shown {
        kind,
        project: record.project(),
        for_operators,
        for_tenants: encode(false).1,
    }
}

fn kind_and_id(record: &Watched) -> (&'static str, String) {
    match record {
        Watched::SshKey(key) => ("ssh_key", key.id.to_string()),
        Watched::Image(image) => ("image", image.id.to_string()),
        Watched::Node(node) => ("node", node.facts.id.to_string()),
        Watched::Instance(instance) => ("instance", instance.id.to_string()),
        Watched::Project(project) => ("project", project.id.to_string()),
        Watched::Principal(principal) => ("principal", principal.id.to_string()),
        Watched::AccessKey(key) => ("access_key", key.id.to_string()),
        Watched::Event(event) => ("event", format!("{}.{}", event.index, event.ordinal)),
        Watched::Network(network) => ("network", network.id.to_string()),
        Watched::Subnet(subnet) => ("subnet", subnet.id.to_string()),
        Watched::SecurityGroup(group) => ("security_group", group.id.to_string()),
        Watched::Address(address) => ("address", address.id.to_string()),
        Watched::LoadBalancer(balancer) => ("load_balancer", balancer.id.to_string()),
    }
}

fn object(view: &State, record: &Watched, sees_hosts: bool) -> v1::change::Object {
    use v1::change::Object;
    match record {
        Watched::SshKey(key) => Object::SshKey(convert::ssh_key(key)),
        Watched::Image(image) => Object::Image(convert::image(image)),
        Watched::Node(node) => Object::Node(convert::node(view, node)),
        Watched::Instance(one) => Object::Instance(convert::instance(view, one, sees_hosts)),
        Watched::Project(project) => Object::Project(convert::project(view, project)),
        Watched::Principal(one) => Object::Principal(convert::principal(view, one, None)),
        Watched::AccessKey(key) => Object::AccessKey(convert::access_key(view, key)),
        Watched::Event(event) => Object::Event(convert::event(event, sees_hosts)),
        Watched::Network(network) => Object::Network(convert::network(view, network)),
        Watched::Subnet(subnet) => Object::Subnet(convert::subnet_record(view, subnet)),
        Watched::SecurityGroup(one) => Object::SecurityGroup(convert::security_group(view, one)),
        Watched::Address(address) => Object::Address(convert::address(view, address)),
        Watched::LoadBalancer(one) => Object::LoadBalancer(convert::load_balancer(view, one)),
    }
}

/// What is kept of the past at one moment: a cheap clone.
#[derive(Clone)]
pub struct Past {
    revisions: Vector<Arc<Revision>>,
    bytes: usize,
    /// Changes up to and including this index are not here.
    pub floor: u64,
    /// Everything up to this index is here.
    pub head: u64,
    /// Replicated time at `head`.
    pub time: TimestampMs,
}

/// Why the changes after an index cannot be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// The oldest index that one may go on from.
    pub floor: u64,
}

impl Past {
    /// Entries after `index`, oldest first.
    pub fn after(
        &self,
        index: u64,
    ) -> Result<impl Iterator<Item = &Arc<Revision>> + use<'_>, Compacted> {
        if index < self.floor {
            return Err(Compacted { floor: self.floor });
        }
        let first = match self.revisions.binary_search_by_key(&index, |r| r.index) {
            Ok(position) => position + 1,
            Err(position) => position,
        };
        Ok(self.revisions.iter().skip(first))
    }

    fn push(&mut self, revision: Revision) {
        self.bytes += revision.bytes;
        self.revisions.push_back(Arc::new(revision));
        while self.revisions.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.revisions.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes;
            self.floor = oldest.index;
        }
    }
}

/// Writes the past; owned by the state machine.
pub struct Recorder(watch::Sender<Past>);

/// Reads it; cheap to clone.
#[derive(Clone)]
pub struct History(watch::Receiver<Past>);

/// An empty past that begins at a state.
#[must_use]
pub fn channel(first: &State) -> (Recorder, History) {
    let past = Past {
        revisions: Vector::new(),
        bytes: 0,
        floor: first.index,
        head: first.index,
        time: first.time,
    };
    let (sender, receiver) = watch::channel(past);
    (Recorder(sender), History(receiver))
}

impl Recorder {
    /// A batch of entries was applied, up to `state`.
    pub fn record(&self, entries: Vec<(u64, TimestampMs, Vec<Change>)>, state: &State) {
        self.0.send_modify(|past| {
            for (index, time, changes) in entries {
                let bytes = changes.iter().map(size).sum();
                past.push(Revision {
                    index,
                    time,
                    changes,
                    bytes,
                    shown: OnceLock::new(),
                });
            }
            (past.head, past.time) = (state.index, state.time);
        });
    }

    /// Another state took this one's place: nothing leads from one to the other.
    pub fn reset(&self, state: &State) {
        self.0.send_modify(|past| {
            past.revisions.clear();
            past.bytes = 0;
            (past.floor, past.head, past.time) = (state.index, state.index, state.time);
        });
    }
}

fn size(change: &Change) -> usize {
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    change.key.len() + length(&change.value) + length(&change.removed)
}

impl History {
    /// The past as it is now.
    #[must_use]
    pub fn now(&mut self) -> Past {
        self.0.borrow_and_update().clone()
    }

    /// Waits for more; false when the state machine has stopped.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn revision(index: u64, bytes: usize) -> Revision {
        Revision {
            index,
            time: TimestampMs(index),
            changes: Vec::new(),
            bytes,
            shown: OnceLock::new(),
        }
    }

    fn past(indexes: &[u64]) -> Past {
        let mut past = channel(&State::default()).1.now();
        for index in indexes {
            past.push(revision(*index, 1));
        }
        past
    }

    fn after(past: &Past, index: u64) -> Result<Vec<u64>, Compacted> {
        Ok(past.after(index)?.map(|revision| revision.index).collect())
    }

    #[test]
    fn what_comes_after_an_index_has_no_gap_and_no_repetition() {
        let past = past(&[3, 5, 9]);
        assert_eq!(after(&past, 0), Ok(vec![3, 5, 9]));
        assert_eq!(after(&past, 3), Ok(vec![5, 9]));
        assert_eq!(after(&past, 4), Ok(vec![5, 9]));
        assert_eq!(after(&past, 9), Ok(vec![]));
    }

    #[test]
    fn what_fell_out_is_compacted_and_says_so() {
        let mut past = past(&[1, 2]);
        past.push(revision(3, BYTES_MAX));
        assert_eq!(past.floor, 2);
        assert_eq!(after(&past, 1), Err(Compacted { floor: 2 }));
        assert_eq!(after(&past, 2), Ok(vec![3]));
    }

    #[test]
    fn a_thousand_readers_share_the_bytes_of_one_change() {
        let mut state = State::default();
        let change = Change {
            key: vec![11],
            value: Some(
                minicbor::to_vec(nube_state::Project {
                    id: ProjectId(1),
                    name: nube_types::Name::new("web").expect("a name"),
                    quota: nube_state::Quota::DEFAULT,
                    created_at: TimestampMs(1),
                    revision: 5,
                })
                .expect("encoded"),
            ),
            removed: None,
        };
        let (recorder, mut history) = channel(&state);
        state.index = 5;
        recorder.record(
            vec![(5, TimestampMs(1), vec![change.clone(), change])],
            &state,
        );
        let past = history.now();
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            let news: Vec<_> = past.after(0).expect("kept").collect();
            let shown = news[0].shown(&state);
            assert_eq!((news.len(), shown.len()), (1, 1), "one record, one change");
            places.insert(shown[0].bytes(false).as_ptr() as usize);
        }
        assert_eq!(places.len(), 1, "nobody has a copy");
    }
}
