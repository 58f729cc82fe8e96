//! Carries raft's messages to the other members: one task, one stream and one
//! bounded queue for each. A full queue drops: raft sends again. Who the others
//! are follows the members table.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use nube_consensus::{Handle, OutgoingSnapshot, Sent, Transport};
use nube_proto::peer::v1::peer_service_client::PeerServiceClient;
use nube_proto::peer::v1::{PeerMessages, SnapshotChunk};
use nube_state::Outcome;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::directory::{self, Directory};
use crate::api::status;
use crate::config::Config;
use crate::tls::Tls;
use crate::view::Views;

/// Batches that may wait for one peer. More: memory and older messages behind a
/// slow link. Fewer: drops under a burst, which raft repeats at a cost.
const QUEUE: usize = 1_024;
/// Between two attempts to reach a peer: a fraction of an election timeout.
const RECONNECT: Duration = Duration::from_millis(100);
/// Messages of one frame together; far below the decode limit.
const FRAME_BYTES_MAX: usize = 2 << 20;

/// One other member.
struct Peer {
    address: String,
    channel: Channel,
    queue: mpsc::Sender<Vec<Bytes>>,
}

/// What the tasks of all peers share.
struct Shared {
    own_address: String,
    /// The handle exists only after consensus was started with this transport.
    handle: OnceLock<Handle<Outcome>>,
    /// Set once, when this controller has learned that it is no member any more.
    removed: watch::Sender<bool>,
}

/// Queues towards every other member.
pub struct Peers {
    tls: Tls,
    peers: RwLock<BTreeMap<u64, Peer>>,
    directory: Mutex<Directory>,
    introduced: Notify,
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
}

impl Peers {
    /// Knows the config's members and talks to nobody yet. Call within a runtime.
    #[must_use]
    pub fn new(config: &Config, tls: Tls) -> Self {
        let own = config.members.iter().find(|member| member.id == config.id);
        Self {
            tls,
            peers: RwLock::default(),
            directory: Mutex::new(Directory::new(config.id, config.members.clone())),
            introduced: Notify::new(),
            shared: Arc::new(Shared {
                own_address: own.map(|own| own.address.clone()).unwrap_or_default(),
                handle: OnceLock::new(),
                removed: watch::Sender::new(false),
            }),
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Lets the tasks speak in the name of a member, and follows the members
    /// table from here on.
    pub fn attach(self: &Arc<Self>, handle: Handle<Outcome>, views: Views) {
        // Called once, by the composition root.
        let _ = self.shared.handle.set(handle.clone());
        self.look(&handle, &views);
        tokio::spawn(Arc::clone(self).follow(handle, views));
    }

    async fn follow(self: Arc<Self>, handle: Handle<Outcome>, mut views: Views) {
        let mut raft = handle.watch_status();
        let mut seen = None;
        loop {
            let members: Vec<u64> = raft
                .borrow_and_update()
                .members
                .iter()
                .map(|m| m.id)
                .collect();
            let now = Some((views.take().members.digest(), members));
            if now != seen {
                seen = now;
                self.look(&handle, &views);
            }
            tokio::select! {
                changed = views.changed() => if !changed { return },
                changed = raft.changed() => if changed.is_err() { return },
                () = self.introduced.notified() => self.look(&handle, &views),
            }
        }
    }

    fn look(&self, handle: &Handle<Outcome>, views: &Views) {
        let (state, raft) = (views.now(), handle.status());
        let wanted = self.directory(|directory| directory.peers(&state, &raft));
        self.talk_to(&wanted);
        if directory::is_out(&state, &raft, handle.id()) {
            self.shared.removed.send_replace(true);
        }
    }

    fn directory<T>(&self, look: impl FnOnce(&mut Directory) -> T) -> T {
        look(
            &mut self
                .directory
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// A peer says where it is.
    pub fn introduce(&self, id: u64, address: &str) {
        if self.directory(|directory| directory.introduce(id, address)) {
            self.introduced.notify_one();
        }
    }

    fn talk_to(&self, wanted: &BTreeMap<u64, String>) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        // A dropped queue ends its task.
        peers.retain(|id, peer| wanted.get(id) == Some(&peer.address));
        for (id, address) in wanted {
            if peers.contains_key(id) {
                continue;
            }
            let channel = match self.tls.channel(address) {
                Ok(channel) => channel,
                Err(error) => {
                    tracing::error!(peer = id, "cannot be dialled: {error:#}");
                    continue;
                }
            };
            let (queue, receiver) = mpsc::channel(QUEUE);
            let shared = Arc::clone(&self.shared);
            self.runtime
                .spawn(run(*id, channel.clone(), receiver, shared));
            tracing::info!(peer = id, address, "talking to a member");
            let address = address.clone();
            peers.insert(
                *id,
                Peer {
                    address,
                    channel,
                    queue,
                },
            );
        }
    }

    /// The connection to a member, to carry commands.
    #[must_use]
    pub fn channel(&self, id: u64) -> Option<Channel> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        peers.get(&id).map(|peer| peer.channel.clone())
    }

    /// Waits until this controller has learned that it was removed.
    pub async fn removed(&self) {
        let mut removed = self.shared.removed.subscribe();
        if removed.wait_for(|removed| *removed).await.is_err() {
            // The sender lives in `self`.
            std::future::pending::<()>().await;
        }
    }
}

impl Transport for Peers {
    fn send(&self, to: u64, messages: Vec<Bytes>) -> Sent {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        match peers.get(&to).map(|peer| peer.queue.try_send(messages)) {
            Some(Ok(())) => Sent::Queued,
            Some(Err(_)) | None => Sent::Dropped,
        }
    }

    fn send_snapshot(&self, to: u64, snapshot: OutgoingSnapshot) {
        let Some(channel) = self.channel(to) else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            let Some(handle) = shared.handle.get() else {
                return;
            };
            if let Err(error) = send_snapshot(to, channel, handle, snapshot).await {
                tracing::warn!(peer = to, "snapshot was not delivered: {error:#}");
            }
        });
    }
}

async fn run(
    peer: u64,
    channel: Channel,
    mut queue: mpsc::Receiver<Vec<Bytes>>,
    shared: Arc<Shared>,
) {
    while let Some(first) = queue.recv().await {
        let Some(handle) = shared.handle.get() else {
            continue;
        };
        let address = shared.own_address.clone();
        if let Err(error) = stream(peer, &channel, first, &mut queue, handle, address).await {
            tracing::debug!(peer, "stream to peer ended: {error}");
            if status::is_member_removed(&error) {
                tracing::error!(peer, "refused: {}", error.message());
                shared.removed.send_replace(true);
            }
        }
        handle.report_unreachable(peer);
        tokio::time::sleep(RECONNECT).await;
        // What waited meanwhile is stale: raft repeats what still matters.
        while queue.try_recv().is_ok() {}
    }
}

async fn stream(
    peer: u64,
    channel: &Channel,
    first: Vec<Bytes>,
    queue: &mut mpsc::Receiver<Vec<Bytes>>,
    handle: &Handle<Outcome>,
    mut address: String,
) -> Result<(), tonic::Status> {
    let (sender, receiver) = mpsc::channel(4);
    let mut client = PeerServiceClient::new(channel.clone());
    let mut call =
        tokio::spawn(async move { client.messages(ReceiverStream::new(receiver)).await });
    let mut waiting: VecDeque<Bytes> = first.into();
    let mut hello = handle.hello(peer).encode();
    loop {
        if waiting.is_empty() {
            tokio::select! {
                answer = &mut call => return Err(why(answer)),
                batch = queue.recv() => match batch {
                    Some(batch) => waiting.extend(batch),
                    None => return Ok(()),
                },
            }
        }
        let messages = frame(&mut waiting, queue);
        let frame = PeerMessages {
            hello: std::mem::take(&mut hello),
            messages,
            address: std::mem::take(&mut address),
        };
        tokio::select! {
            answer = &mut call => return Err(why(answer)),
            sent = sender.send(frame) => if sent.is_err() {
                return Err(tonic::Status::unavailable("the stream is closed"));
            },
        }
    }
}

/// Why a peer ended a stream that only this side should end.
fn why<T>(answer: Result<Result<T, tonic::Status>, tokio::task::JoinError>) -> tonic::Status {
    match answer {
        Ok(Err(status)) => status,
        Ok(Ok(_)) | Err(_) => tonic::Status::unavailable("the peer ended it"),
    }
}

/// What waits, up to a frame's size: fewer, larger writes under load, and never
/// a frame that the receiver must refuse.
fn frame(waiting: &mut VecDeque<Bytes>, queue: &mut mpsc::Receiver<Vec<Bytes>>) -> Vec<Bytes> {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    loop {
        if waiting.is_empty() {
            match queue.try_recv() {
                Ok(more) => waiting.extend(more),
                Err(_) => return messages,
            }
        }
        let Some(next) = waiting.front().map(Bytes::len) else {
            continue;
        };
        if !messages.is_empty() && bytes + next > FRAME_BYTES_MAX {
            return messages;
        }
        bytes += next;
        messages.extend(waiting.pop_front());
    }
}

async fn send_snapshot(
    to: u64,
    channel: Channel,
    handle: &Handle<Outcome>,
    mut snapshot: OutgoingSnapshot,
) -> anyhow::Result<()> {
    let (sender, receiver) = mpsc::channel(2);
    let (hello, preamble) = (handle.hello(to).encode(), snapshot.preamble());
    let reading = tokio::task::spawn_blocking(move || {
        let mut chunk = SnapshotChunk {
            hello,
            preamble,
            data: Bytes::new(),
        };
        while sender.blocking_send(std::mem::take(&mut chunk)).is_ok() {
            match snapshot.next_chunk()? {
                Some(data) => chunk.data = data,
                None => return Ok(snapshot),
            }
        }
        anyhow::bail!("the peer stopped reading")
    });
    let mut client = PeerServiceClient::new(channel);
    let answer = client.install_snapshot(ReceiverStream::new(receiver)).await;
    reading.await??.finish(answer.is_ok());
    answer?;
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn frames_keep_order_and_size() {
        let (sender, mut queue) = mpsc::channel(8);
        let message = |n: u8| Bytes::from(vec![n; 900 << 10]);
        let mut waiting: VecDeque<Bytes> = (0..4).map(message).collect();
        sender.try_send(vec![message(4), message(5)]).expect("room");
        let mut seen = Vec::new();
        while !waiting.is_empty() || seen.len() < 6 {
            let messages = frame(&mut waiting, &mut queue);
            assert!(messages.iter().map(Bytes::len).sum::<usize>() <= FRAME_BYTES_MAX);
            seen.extend(messages.iter().map(|m| m[0]));
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
        // One that is larger than a frame travels alone.
        waiting.push_back(Bytes::from(vec![9; 3 << 20]));
        waiting.push_back(message(1));
        assert_eq!(frame(&mut waiting, &mut queue).len(), 1);
    }
}
