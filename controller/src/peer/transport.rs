//! Carries raft's messages to the other members: one task, one stream and one
//! bounded queue for each. A full queue drops: raft sends again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use nube_consensus::{Handle, OutgoingSnapshot, Sent, Transport};
use nube_proto::peer::v1::peer_service_client::PeerServiceClient;
use nube_proto::peer::v1::{PeerMessages, SnapshotChunk};
use nube_state::Outcome;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Batches that may wait for one peer. More: memory and older messages behind a
/// slow link. Fewer: drops under a burst, which raft repeats at a cost.
const QUEUE: usize = 1_024;
/// Between two attempts to reach a peer: a fraction of an election timeout.
const RECONNECT: Duration = Duration::from_millis(100);
/// Messages of one frame together; far below the decode limit.
const FRAME_BYTES_MAX: usize = 2 << 20;

/// The handle exists only after consensus was started with this transport.
type LateHandle = Arc<OnceLock<Handle<Outcome>>>;

/// Queues towards every other member.
pub struct Peers {
    queues: BTreeMap<u64, mpsc::Sender<Vec<Bytes>>>,
    channels: BTreeMap<u64, Channel>,
    handle: LateHandle,
    runtime: tokio::runtime::Handle,
}

impl Peers {
    /// Starts a task for each peer. Call within a runtime.
    #[must_use]
    pub fn start(channels: BTreeMap<u64, Channel>) -> Self {
        let handle = LateHandle::default();
        let mut queues = BTreeMap::new();
        for (peer, channel) in &channels {
            let (sender, receiver) = mpsc::channel(QUEUE);
            queues.insert(*peer, sender);
            tokio::spawn(run(*peer, channel.clone(), receiver, Arc::clone(&handle)));
        }
        Self {
            queues,
            channels,
            handle,
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// Lets the tasks speak in the name of a member.
    pub fn attach(&self, handle: Handle<Outcome>) {
        // Called once, by the composition root.
        let _ = self.handle.set(handle);
    }
}

impl Transport for Peers {
    fn send(&self, to: u64, messages: Vec<Bytes>) -> Sent {
        match self.queues.get(&to).map(|queue| queue.try_send(messages)) {
            Some(Ok(())) => Sent::Queued,
            Some(Err(_)) | None => Sent::Dropped,
        }
    }

    fn send_snapshot(&self, to: u64, snapshot: OutgoingSnapshot) {
        let Some(channel) = self.channels.get(&to).cloned() else {
            return;
        };
        let Some(handle) = self.handle.get().cloned() else {
            return;
        };
        self.runtime.spawn(async move {
            if let Err(error) = send_snapshot(to, channel, &handle, snapshot).await {
                tracing::warn!(peer = to, "snapshot was not delivered: {error:#}");
            }
        });
    }
}

async fn run(
    peer: u64,
    channel: Channel,
    mut queue: mpsc::Receiver<Vec<Bytes>>,
    handle: LateHandle,
) {
    while let Some(first) = queue.recv().await {
        let Some(handle) = handle.get() else {
            continue;
        };
        if let Err(error) = stream(peer, &channel, first, &mut queue, handle).await {
            tracing::debug!(peer, "stream to peer ended: {error}");
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
                _ = &mut call => return Err(tonic::Status::unavailable("the peer ended it")),
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
        };
        tokio::select! {
            _ = &mut call => return Err(tonic::Status::unavailable("the peer ended it")),
            sent = sender.send(frame) => if sent.is_err() {
                return Err(tonic::Status::unavailable("the stream is closed"));
            },
        }
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
