//! Followers and consoles over a ring in a temporary directory; QEMU's socket
//! is one end of a pair.

use std::time::Duration;

use futures::StreamExt;
use nube_types::limits::SERIAL_RING_BYTES;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;

use super::*;

fn port() -> (tempfile::TempDir, Arc<Port>) {
    let directory = tempfile::tempdir().expect("directory");
    let port = Arc::new(Port::of(directory.path()));
    (directory, port)
}

/// A run whose socket is connected: its number, what the machine reads, and the
/// halves that only have to stay open.
fn connected(port: &Port) -> (u64, OwnedReadHalf, (OwnedReadHalf, OwnedWriteHalf)) {
    let run = port.begin();
    let (agent, machine) = UnixStream::pair().expect("pair");
    let (reader, writer) = agent.into_split();
    port.connect(run, Some(writer));
    let (machine, other_half) = machine.into_split();
    (run, machine, (reader, other_half))
}

async fn next(stream: &mut BoxStream<'static, Bytes>) -> String {
    let bytes = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
    let bytes = bytes.expect("in time").expect("not over");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_follower_gets_the_newest_and_then_each_line_once() {
    let (directory, port) = port();
    port.append(b"old ").expect("appended");
    let mut all = port.follow(u64::MAX);
    let mut some = port.follow(2);
    let mut none = port.follow(0);
    assert_eq!(next(&mut all).await, "old ");
    assert_eq!(next(&mut some).await, "d ");
    for line in ["one", "two"] {
        port.append(line.as_bytes()).expect("appended");
        for follower in [&mut all, &mut some, &mut none] {
            assert_eq!(next(follower).await, line);
        }
    }
    // The next agent counts anew and finds the same log.
    let port = Arc::new(Port::of(directory.path()));
    let mut after = port.follow(6);
    assert_eq!(next(&mut after).await, "onetwo");
    port.remove();
    assert_eq!(after.next().await, None);
}

#[tokio::test]
async fn a_slow_follower_skips_and_is_told() {
    let (_directory, port) = port();
    let mut slow = port.follow(0);
    let line = vec![b'x'; 8 * 1024];
    let lines = 400;
    for _ in 0..lines {
        port.append(&line).expect("appended");
    }
    port.append(b"the end").expect("appended");
    let first = next(&mut slow).await;
    let skipped: u64 = first
        .trim_start()
        .trim_start_matches('[')
        .split(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .expect("a number");
    let mut text = first.split_once("]\r\n").expect("a note").1.to_owned();
    while !text.ends_with("the end") {
        text += &next(&mut slow).await;
    }
    let printed = lines * line.len() as u64 + 7;
    assert_eq!(skipped + text.len() as u64, printed, "nothing twice");
    assert!(text.len() as u64 <= SERIAL_RING_BYTES);
}

#[tokio::test]
async fn the_second_console_takes_over_and_the_first_is_told() {
    let (_directory, port) = port();
    assert!(port.console().is_none(), "nothing runs");
    let (run, mut machine, _held) = connected(&port);
    let mut first = port.console().expect("a console");
    first.input.send("one".into()).await.expect("typed");
    let mut heard = [0; 3];
    machine.read_exact(&mut heard).await.expect("heard");
    assert_eq!(&heard, b"one");
    port.append(b"printed").expect("appended");
    assert_eq!(next(&mut first.output).await, "printed");

    let second = port.console().expect("a console");
    assert_eq!(first.ended.await, ConsoleEnd::TakenOver);
    // Whoever was replaced types no more.
    let late = first.input.send("late".into()).await;
    second.input.send("two".into()).await.expect("typed");
    machine.read_exact(&mut heard).await.expect("heard");
    assert_eq!(&heard, b"two", "{late:?}");
    port.end(run);
    assert_eq!(second.ended.await, ConsoleEnd::Stopped);
    assert!(port.console().is_none());

    let (_, _machine, _held) = connected(&port);
    // The end of the run before, told late, ends nothing.
    port.end(run);
    let third = port.console().expect("a console");
    port.remove();
    assert_eq!(third.ended.await, ConsoleEnd::Removed);
}

#[tokio::test]
async fn a_guest_that_does_not_read_does_not_keep_the_next_client_waiting() {
    let (_directory, port) = port();
    let (_run, mut machine, _held) = connected(&port);
    let first = port.console().expect("a console");
    let keys = Bytes::from(vec![b'a'; 4096]);
    let stuck = async {
        loop {
            first.input.send(keys.clone()).await.expect("typed");
        }
    };
    let waited = tokio::time::timeout(Duration::from_millis(300), stuck).await;
    assert!(waited.is_err(), "the queue is bounded");
    let second = port.console().expect("a console");
    assert_eq!(first.ended.await, ConsoleEnd::TakenOver);
    second.input.send("b".into()).await.expect("typed");
    let mut heard = vec![0; 4096];
    let seen = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let count = machine.read(&mut heard).await.expect("heard");
            if heard[..count].contains(&b'b') {
                return;
            }
        }
    });
    seen.await.expect("the second client is heard");
}
