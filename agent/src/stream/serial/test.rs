//! The agent's end of console and followed log; the controller's side is a
//! channel and a stream.

use futures::StreamExt as _;
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

struct Rig {
    print: mpsc::Sender<Bytes>,
    typed: mpsc::Receiver<Bytes>,
    end: oneshot::Sender<ConsoleEnd>,
    from_agent: mpsc::Receiver<StreamUp>,
    to_agent: mpsc::Sender<Result<StreamDown, Status>>,
    task: tokio::task::JoinHandle<Result<(), String>>,
}

fn rig() -> Rig {
    let (print, output) = mpsc::channel(4);
    let (input, typed) = mpsc::channel(2);
    let (end, ended) = oneshot::channel();
    let (up, from_agent) = mpsc::channel(4);
    let (to_agent, down) = mpsc::channel(4);
    let held = Console {
        output: ReceiverStream::new(output).boxed(),
        input,
        ended: Box::pin(async move { ended.await.expect("an end") }),
    };
    let task = tokio::spawn(console(held, up, ReceiverStream::new(down)));
    Rig {
        print,
        typed,
        end,
        from_agent,
        to_agent,
        task,
    }
}

fn keys(text: &'static str) -> Result<StreamDown, Status> {
    Ok(StreamDown { data: text.into() })
}

async fn data(from_agent: &mut mpsc::Receiver<StreamUp>) -> Bytes {
    match from_agent.recv().await.and_then(|message| message.message) {
        Some(stream_up::Message::Data(data)) => data,
        other => panic!("{other:?}"),
    }
}

async fn closed(from_agent: &mut mpsc::Receiver<StreamUp>) -> Cause {
    match from_agent.recv().await.and_then(|message| message.message) {
        Some(stream_up::Message::Closed(closed)) => closed.cause(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_console_goes_both_ways_and_tells_why_it_ended() {
    let mut rig = rig();
    rig.to_agent.send(keys("ls\r")).await.expect("sent");
    assert_eq!(rig.typed.recv().await.expect("typed"), "ls\r");
    rig.print.send("file".into()).await.expect("printed");
    assert_eq!(data(&mut rig.from_agent).await, "file");
    rig.end.send(ConsoleEnd::TakenOver).expect("ended");
    assert_eq!(closed(&mut rig.from_agent).await, Cause::TakenOver);
    assert!(rig.from_agent.recv().await.is_none(), "nothing after it");
    assert!(!rig.task.is_finished(), "it stays until the reader left");
    drop(rig.to_agent);
    assert_eq!(rig.task.await.expect("no panic"), Ok(()));
}

#[tokio::test]
async fn a_client_with_nothing_more_to_type_goes_on_reading() {
    let mut rig = rig();
    rig.to_agent.send(keys("x")).await.expect("sent");
    drop(rig.to_agent);
    assert_eq!(rig.typed.recv().await.expect("typed"), "x");
    assert!(rig.typed.recv().await.is_none(), "its half ended");
    rig.print.send("later".into()).await.expect("printed");
    assert_eq!(data(&mut rig.from_agent).await, "later");
    drop(rig.from_agent);
    assert!(rig.task.await.expect("no panic").is_err(), "it left");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_loses_the_console() {
    let rig = rig();
    for _ in 0..8 {
        rig.print.send("x".into()).await.expect("printed");
    }
    rig.end.send(ConsoleEnd::TakenOver).expect("ended");
    assert!(rig.task.await.expect("no panic").is_err());
}

#[tokio::test(start_paused = true)]
async fn an_idle_console_is_given_back() {
    let mut rig = rig();
    assert_eq!(closed(&mut rig.from_agent).await, Cause::Idle);
}

#[tokio::test]
async fn a_followed_log_ends_with_the_guest_or_with_its_reader() {
    let (print, log) = mpsc::channel(4);
    let (up, mut from_agent) = mpsc::channel(4);
    let (reader, down) = mpsc::channel(1);
    let log = ReceiverStream::new(log).boxed();
    let task = tokio::spawn(follow(log, up, ReceiverStream::new(down)));
    print.send("line".into()).await.expect("printed");
    assert_eq!(data(&mut from_agent).await, "line");
    drop(print);
    assert_eq!(closed(&mut from_agent).await, Cause::Removed);
    drop(reader);
    assert_eq!(task.await.expect("no panic"), Ok(()));

    let (up, _from_agent) = mpsc::channel(4);
    let (reader, down) = mpsc::channel(1);
    let silent = futures::stream::pending().boxed();
    let task = tokio::spawn(follow(silent, up, ReceiverStream::new(down)));
    drop(reader);
    assert_eq!(task.await.expect("no panic"), Ok(()));
}
