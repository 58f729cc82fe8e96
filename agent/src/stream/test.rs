//! Splicing over real sockets on the loopback; the controller's side is a
//! channel and a stream.

use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::driver::{DriverError, GuestEnded, GuestSpec, ImageFiles, Recovered, Run};

/// Guests whose only port is this address.
struct Loopback {
    port: u16,
    refusals: std::sync::atomic::AtomicU32,
}

impl Driver for Loopback {
    fn name(&self) -> &'static str {
        "loopback"
    }
    async fn recover(&self) -> Result<(Vec<Recovered>, Vec<String>), DriverError> {
        Ok((vec![], vec![]))
    }
    async fn prepare(&self, spec: &GuestSpec, _: &ImageFiles) -> Result<(), DriverError> {
        Err(DriverError::Absent(spec.instance))
    }
    async fn start(&self, id: InstanceId) -> Result<Run, DriverError> {
        Err(DriverError::Absent(id))
    }
    async fn power_button(&self, id: InstanceId) -> Result<(), DriverError> {
        Err(DriverError::Absent(id))
    }
    async fn power_cut(&self, id: InstanceId) -> Result<(), DriverError> {
        Err(DriverError::Absent(id))
    }
    async fn remove(&self, _: InstanceId) -> Result<(), DriverError> {
        Ok(())
    }
    async fn connect(&self, _: InstanceId, port: u16) -> Result<TcpStream, DriverError> {
        use std::sync::atomic::Ordering;
        let left = |left: u32| left.checked_sub(1);
        if self
            .refusals
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, left)
            .is_ok()
        {
            return Err(DriverError::host("connect", "refused"));
        }
        if port == 9 {
            std::future::pending::<()>().await;
        }
        let connected = TcpStream::connect(("127.0.0.1", self.port)).await;
        connected.map_err(|e| DriverError::host("connect", e))
    }
    async fn serial_log(&self, _: InstanceId, bytes_max: u64) -> Result<Vec<u8>, DriverError> {
        Ok(vec![b'x'; usize::try_from(bytes_max).unwrap_or(0)])
    }
    async fn follow_log(
        &self,
        id: InstanceId,
        _: u64,
    ) -> Result<BoxStream<'static, Bytes>, DriverError> {
        Err(DriverError::Absent(id))
    }
    async fn console(&self, id: InstanceId) -> Result<Console, DriverError> {
        Err(DriverError::Absent(id))
    }
    fn ended(&self) -> mpsc::Receiver<GuestEnded> {
        mpsc::channel(1).1
    }
}

async fn rig(refusals: u32) -> (TcpListener, Streams<Loopback>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    (
        listener,
        Streams::new(Arc::new(Loopback {
            port,
            refusals: refusals.into(),
        })),
    )
}

fn tunnel(port: u32, wait_ms: u32) -> OpenStream {
    OpenStream {
        stream_id: "s".to_owned(),
        instance_id: "i-0000000000000001".to_owned(),
        kind: Some(open_stream::Kind::Tunnel(TunnelTarget { port, wait_ms })),
    }
}

#[tokio::test]
async fn a_booting_guest_is_tried_until_it_accepts() {
    let (_listener, streams) = rig(3).await;
    assert!(streams.target(&tunnel(22, 5_000)).await.is_ok());
    let (_listener, streams) = rig(1).await;
    assert!(streams.target(&tunnel(22, 0)).await.is_err(), "one attempt");
    assert!(streams.target(&tunnel(70_000, 0)).await.is_err());
    let nameless = OpenStream {
        instance_id: "x".to_owned(),
        ..tunnel(22, 0)
    };
    assert!(streams.target(&nameless).await.is_err());
    assert!(
        streams
            .target(&OpenStream {
                kind: None,
                ..tunnel(22, 0)
            })
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_port_gives_up_in_time() {
    let (_listener, streams) = rig(0).await;
    let begun = Instant::now();
    let error = streams
        .target(&tunnel(9, 3_000))
        .await
        .err()
        .expect("silent");
    assert!(error.contains("does not answer"), "{error}");
    assert!(begun.elapsed() <= Duration::from_secs(4));
}

#[tokio::test]
async fn bytes_flow_both_ways_and_each_half_ends_alone() {
    let (listener, streams) = rig(0).await;
    let Ok(Target::Tunnel(guest)) = streams.target(&tunnel(22, 0)).await else {
        panic!("not connected");
    };
    let (mut server, _) = listener.accept().await.expect("accept");
    let (up, mut from_agent) = mpsc::channel(CHUNKS_UNDER_WAY);
    let (to_agent, down) = mpsc::channel(4);
    let splicing = tokio::spawn(splice(guest, up, ReceiverStream::new(down)));
    let hello = StreamDown {
        data: Bytes::from_static(b"hello"),
    };
    to_agent.send(Ok(hello)).await.expect("send");
    drop(to_agent);
    let mut heard = Vec::new();
    server
        .read_to_end(&mut heard)
        .await
        .expect("the client's half ended");
    assert_eq!(heard, b"hello");
    // The other half still flows, in chunks of bounded size.
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        server.write_all(&sent).await.expect("write");
    });
    let mut received = Vec::new();
    while let Some(message) = from_agent.recv().await {
        let Some(stream_up::Message::Data(data)) = message.message else {
            panic!("not data");
        };
        assert!(data.len() <= CHUNK_BYTES);
        received.extend_from_slice(&data);
    }
    writer.await.expect("writer");
    assert!(received == expected);
    assert_eq!(splicing.await.expect("task"), Ok(()));
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_tunnel() {
    let (listener, streams) = rig(0).await;
    let Ok(Target::Tunnel(guest)) = streams.target(&tunnel(22, 0)).await else {
        panic!("not connected");
    };
    let (mut server, _) = listener.accept().await.expect("accept");
    let (up, _from_agent) = mpsc::channel(CHUNKS_UNDER_WAY);
    let broken = tokio_stream::iter([Err(Status::cancelled("gone"))]);
    assert_eq!(splice(guest, up, broken).await, Err("gone".to_owned()));
    let mut heard = Vec::new();
    let _ = server.read_to_end(&mut heard).await;
    assert!(heard.is_empty());
}

#[tokio::test]
async fn a_log_is_sent_in_chunks() {
    let (_listener, streams) = rig(0).await;
    let target = open_stream::Kind::SerialLog(nube_proto::agent::v1::SerialLogTarget {
        bytes_max: u64::MAX,
        follow: false,
    });
    let open = OpenStream {
        kind: Some(target),
        ..tunnel(0, 0)
    };
    let Ok(Target::Log(log)) = streams.target(&open).await else {
        panic!("no log");
    };
    assert_eq!(log.len() as u64, SERIAL_RING_BYTES);
    let (up, mut from_agent) = mpsc::channel(100);
    let (reader, reads) = mpsc::channel(1);
    let length = log.len();
    let sending = tokio::spawn(async move { send_log(&log, up, ReceiverStream::new(reads)).await });
    let mut chunks = 0;
    while from_agent.recv().await.is_some() {
        chunks += 1;
    }
    assert_eq!(chunks, length / CHUNK_BYTES);
    assert!(
        !sending.is_finished(),
        "it must stay until the reader has everything"
    );
    drop(reader);
    assert_eq!(sending.await.expect("no panic"), Ok(()));
}
