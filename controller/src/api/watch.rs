//! The watch service. Changes were encoded once, by whoever asked first; every
//! watcher sends the same bytes. That is why the service is written by hand: the
//! answer holds encoded changes, on the wire the same as `nube.v1.WatchResponse`.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use nube_proto::v1;
use nube_state::{AccessRole, State, Watched, security_group};
use nube_types::limits::{MESSAGE_BYTES_MAX, WATCHERS_MAX};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::{mutation, status};
use crate::authorise::Caller;
use crate::cell::Cell;
use crate::watch::{Compacted, Shown, show};

/// Serves `nube.v1.WatchService`.
#[derive(Clone)]
pub struct Service(pub Arc<Cell>);

const NAME: &str = "nube.v1.WatchService";
const KINDS: [&str; 13] = [
    "access_key",
    "address",
    "event",
    "image",
    "instance",
    "load_balancer",
    "network",
    "node",
    "principal",
    "project",
    "security_group",
    "ssh_key",
    "subnet",
];
/// Objects in one message of the first list: far below the message limit.
const INITIAL_CHUNK: usize = 200;

/// `nube.v1.WatchResponse` with its changes encoded already.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Encoded {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(uint64, tag = "2")]
    time_ms: u64,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    changes: Vec<Bytes>,
    #[prost(bool, tag = "4")]
    initial: bool,
    #[prost(bool, tag = "5")]
    initial_end: bool,
}

impl NamedService for Service {
    const NAME: &'static str = NAME;
}

impl tower::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let handler = Handler(Arc::clone(&self.0));
        Box::pin(async move {
            if request.uri().path() != "/nube.v1.WatchService/Watch" {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let codec = ProstCodec::<Encoded, v1::WatchRequest>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(MESSAGE_BYTES_MAX);
            Ok(grpc.server_streaming(handler, request).await)
        })
    }
}

struct Handler(Arc<Cell>);

impl ServerStreamingService<v1::WatchRequest> for Handler {
    type Response = Encoded;
    type ResponseStream = BoxStream<'static, Result<Encoded, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<v1::WatchRequest>) -> Self::Future {
        let cell = Arc::clone(&self.0);
        Box::pin(async move {
            let (caller, message) = mutation::take(request)?;
            watch(cell, caller, &message).await.map(Response::new)
        })
    }
}

/// What one watcher wants and may see.
struct Filter {
    caller: Caller,
    all_projects: bool,
    kinds: Vec<String>,
}

impl Filter {
    fn new(caller: Caller, message: &v1::WatchRequest) -> Result<Self, Status> {
        let unknown = |kind: &&String| !KINDS.contains(&kind.as_str());
        if message.kinds.len() > KINDS.len() || message.kinds.iter().any(|kind| unknown(&kind)) {
            let rule = format!("some of {}", KINDS.join(", "));
            return Err(status::invalid("kinds", rule));
        }
        if message.all_projects && !caller.sees_hosts() {
            let text = "all_projects needs role `operator` in the cell";
            return Err(status::forbidden(text));
        }
        Ok(Self {
            caller,
            all_projects: message.all_projects,
            kinds: message.kinds.clone(),
        })
    }

    fn lets(&self, change: &Shown) -> bool {
        let wanted = self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == change.kind);
        let own = change.project == Some(self.caller.project);
        let may = match change.kind {
            "node" => self.caller.sees_hosts(),
            "principal" => self.all_projects,
            "access_key" => {
                self.all_projects || own && self.caller.project_role == Some(AccessRole::Admin)
            }
            _ => self.all_projects || own,
        };
        wanted && may
    }

    fn bytes(&self, change: &Shown) -> Bytes {
        change.bytes(self.caller.sees_hosts())
    }
}

/// One open watch, counted as long as it lives.
struct Open(Arc<Cell>);

impl Open {
    fn new(cell: &Arc<Cell>) -> Result<Self, Status> {
        let count: &AtomicU32 = &cell.watchers;
        if count.fetch_add(1, Ordering::Relaxed) >= WATCHERS_MAX {
            count.fetch_sub(1, Ordering::Relaxed);
            let text = format!("{WATCHERS_MAX} watchers are open on this controller");
            return Err(status::no_capacity(text));
        }
        Ok(Self(Arc::clone(cell)))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

fn compacted(gone: Compacted) -> Status {
    let floor = gone.floor;
    status::compacted(format!(
        "changes before revision {floor} are no longer kept here; list anew and watch from there"
    ))
}

async fn watch(
    cell: Arc<Cell>,
    caller: Caller,
    message: &v1::WatchRequest,
) -> Result<BoxStream<'static, Result<Encoded, Status>>, Status> {
    let filter = Filter::new(caller, message)?;
    let open = Open::new(&cell)?;
    let state = cell.read().await?;
    let after = message.after_revision;
    if after > state.index {
        let rule = format!("not beyond {}, the newest revision", state.index);
        return Err(status::invalid("after_revision", rule));
    }
    let mut history = cell.history.clone();
    let first = if after == 0 { state.index } else { after };
    drop(history.now().after(first).map_err(compacted)?);
    Ok(Box::pin(async_stream::try_stream! {
        let _open = open;
        if after == 0 {
            for part in initial(&state, &filter) {
                yield part;
            }
        }
        drop(state);
        let mut seen = first;
        let mut told = first;
        loop {
            let past = history.now();
            let view = cell.views.now();
            if !filter.caller.still_holds(&view) {
                Err(status::unauthenticated("the access key was deleted or has expired"))?;
            }
            // Collected, not borrowed: the past may go on while this one sends.
            let news: Vec<_> = past.after(seen).map_err(compacted)?.cloned().collect();
            for revision in news {
                let shown = revision.shown(&view).iter().filter(|change| filter.lets(change));
                let changes: Vec<Bytes> = shown.map(|change| filter.bytes(change)).collect();
                seen = revision.index;
                if !changes.is_empty() {
                    told = seen;
                    yield message_of(seen, revision.time.0, changes);
                }
            }
            seen = seen.max(past.head);
            if seen.saturating_sub(told) >= PROGRESS_ENTRIES {
                told = seen;
                yield message_of(seen, past.time.0, Vec::new());
            }
            if !history.changed().await {
                break;
            }
        }
    }))
}

/// After so many entries without news a watcher is told how far it is, so that
/// it can go on from there long after.
const PROGRESS_ENTRIES: u64 = 60;

fn message_of(revision: u64, time_ms: u64, changes: Vec<Bytes>) -> Encoded {
    Encoded {
        revision,
        time_ms,
        changes,
        initial: false,
        initial_end: false,
    }
}

/// Everything that is, in messages of a bounded size; at least the last one.
fn initial(state: &State, filter: &Filter) -> Vec<Encoded> {
    let keys = state.ssh_keys.iter().cloned().map(Watched::SshKey);
    let images = state.images.iter().cloned();
    let nodes = state.nodes.iter().cloned();
    let instances = state.instances.iter().cloned();
    let everything = keys
        .chain(images.map(|image| Watched::Image(Box::new(image))))
        .chain(nodes.map(|node| Watched::Node(Box::new(node))))
        .chain(instances.map(|instance| Watched::Instance(Box::new(instance))))
        .chain(state.projects.iter().cloned().map(Watched::Project))
        .chain(state.principals.iter().cloned().map(Watched::Principal))
        .chain(state.access_keys.iter().cloned().map(Watched::AccessKey))
        .chain(in_networks(state));
    let mine = everything
        .filter(|record| {
            let project = record.project();
            filter.all_projects || project.is_none() || project == Some(filter.caller.project)
        })
        .map(|record| show(state, &record, false))
        .filter(|change| filter.lets(change));
    let changes: Vec<Bytes> = mine.map(|change| filter.bytes(&change)).collect();
    let mut parts: Vec<Encoded> = changes
        .chunks(INITIAL_CHUNK)
        .map(|chunk| Encoded {
            initial: true,
            ..message_of(state.index, state.time.0, chunk.to_vec())
        })
        .collect();
    if parts.is_empty() {
        parts.push(Encoded {
            initial: true,
            ..message_of(state.index, state.time.0, Vec::new())
        });
    }
    if let Some(last) = parts.last_mut() {
        last.initial_end = true;
    }
    parts
}

fn in_networks(state: &State) -> impl Iterator<Item = Watched> {
    // Default groups are there before they have records.
    let projects = state.projects.iter();
    let groups = projects.flat_map(|project| security_group::of_project(state, project.id));
    let balancers = state.load_balancers.iter().cloned();
    let networks = state.networks.iter().cloned().map(Watched::Network);
    networks
        .chain(state.subnets.iter().cloned().map(Watched::Subnet))
        .chain(groups.map(|group| Watched::SecurityGroup(Box::new(group))))
        .chain(state.addresses.iter().cloned().map(Watched::Address))
        .chain(balancers.map(|balancer| Watched::LoadBalancer(Box::new(balancer))))
}

#[cfg(test)]
mod test {
    use super::*;
    use prost::Message;

    #[test]
    fn encoded_changes_are_the_contract_on_the_wire() {
        let change = v1::Change {
            kind: "node".to_owned(),
            id: "n-1".to_owned(),
            removed: true,
            ..v1::Change::default()
        };
        let whole = v1::WatchResponse {
            revision: 7,
            time_ms: 8,
            changes: vec![change.clone()],
            initial: true,
            initial_end: true,
        };
        let encoded = Encoded {
            revision: 7,
            time_ms: 8,
            changes: vec![change.encode_to_vec().into()],
            initial: true,
            initial_end: true,
        };
        assert_eq!(encoded.encode_to_vec(), whole.encode_to_vec());
    }
}
