//! QEMU's control channel: JSON lines over a unix socket that only root opens.
//!
//! The other side is a process that a guest may have taken over, so what it
//! says is bounded and never trusted: a line is 64 KiB at most, text that is no
//! JSON is skipped, answers to questions nobody asked are dropped, and each
//! question has a deadline.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Longer than any answer that is used here; a longer line ends the connection.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// A busy host delays answers; a stuck machine must not delay its agent for
/// longer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// Events that wait for their reader. A flood waits in the socket beyond this.
const EVENTS_QUEUED: usize = 64;

/// What the machine says by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The machine ends.
    Shutdown {
        /// The guest wanted it.
        guest: bool,
        /// As `guest-shutdown`, `guest-panic`, `host-qmp-quit`.
        reason: String,
    },
    /// The guest restarted itself; the process goes on.
    Reset,
    /// All processors stand still.
    Stop,
    /// The connection ended; there will be no more events.
    Closed,
}

/// Why a question has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("control channel: {0}")]
    Io(#[from] io::Error),
    /// The machine is stuck, or the host is very busy.
    #[error("the machine did not answer `{0}` in time")]
    Deadline(String),
    /// QEMU refused the command.
    #[error("the machine refused `{command}`: {cause}")]
    Refused {
        /// What was asked.
        command: String,
        /// QEMU's words.
        cause: String,
    },
}

type Answers = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value, String>>>>>;

/// One connection, ready for commands. Dropping it closes it.
#[derive(Debug)]
pub struct Qmp {
    writer: tokio::sync::Mutex<(u64, OwnedWriteHalf)>,
    answers: Answers,
    reading: JoinHandle<()>,
}

impl Drop for Qmp {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Qmp {
    /// Greets the machine on a fresh connection. Its events follow.
    pub async fn greet(stream: UnixStream) -> Result<(Self, mpsc::Receiver<Event>), Error> {
        let (reader, writer) = stream.into_split();
        let answers = Answers::default();
        let (events, incoming) = mpsc::channel(EVENTS_QUEUED);
        let reading = tokio::spawn(read(Lines::new(reader), answers.clone(), events));
        let qmp = Self {
            writer: tokio::sync::Mutex::new((0, writer)),
            answers,
            reading,
        };
        // The machine takes nothing else before this.
        qmp.ask("qmp_capabilities").await?;
        Ok((qmp, incoming))
    }

    /// Sends a command without arguments and waits for its answer.
    pub async fn ask(&self, command: &str) -> Result<Value, Error> {
        let (answer, answered) = oneshot::channel();
        let number = {
            let mut writer = self.writer.lock().await;
            writer.0 += 1;
            let number = writer.0;
            lock(&self.answers).insert(number, answer);
            let mut line = json!({ "execute": command, "id": number }).to_string();
            line.push('\n');
            writer.1.write_all(line.as_bytes()).await?;
            number
        };
        let answered = tokio::time::timeout(ANSWER_DEADLINE, answered).await;
        lock(&self.answers).remove(&number);
        match answered {
            Err(_) => Err(Error::Deadline(command.to_owned())),
            Ok(Err(_)) => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
            Ok(Ok(Err(cause))) => Err(Error::Refused {
                command: command.to_owned(),
                cause,
            }),
            Ok(Ok(Ok(value))) => Ok(value),
        }
    }
}

/// The map is whole after any panic: each change is one call.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read<R: AsyncRead + Unpin>(
    mut lines: Lines<R>,
    answers: Answers,
    events: mpsc::Sender<Event>,
) {
    while let Ok(Some(line)) = lines.next().await {
        let is_heard = match said(&line) {
            Some(Said::Answer(number, result)) => {
                if let Some(answer) = lock(&answers).remove(&number) {
                    let _ = answer.send(result);
                }
                true
            }
            Some(Said::Event(event)) => events.send(event).await.is_ok(),
            None => true,
        };
        if !is_heard {
            break;
        }
    }
    // Whoever waits for an answer learns now that none comes.
    lock(&answers).clear();
    let _ = events.send(Event::Closed).await;
}

/// What a line means.
#[derive(Debug)]
pub(super) enum Said {
    /// To the question of this number.
    Answer(u64, Result<Value, String>),
    /// By itself.
    Event(Event),
}

/// Reads one line; what is no message or says nothing new is nothing.
pub(super) fn said(line: &[u8]) -> Option<Said> {
    let message: Value = serde_json::from_slice(line).ok()?;
    match message["id"].as_u64() {
        Some(number) => Some(Said::Answer(number, result(&message))),
        None => event(&message).map(Said::Event),
    }
}

fn result(message: &Value) -> Result<Value, String> {
    match message.get("return") {
        Some(value) => Ok(value.clone()),
        None => Err(message["error"]["desc"]
            .as_str()
            .unwrap_or("without a reason")
            .to_owned()),
    }
}

fn event(message: &Value) -> Option<Event> {
    let data = &message["data"];
    match message["event"].as_str()? {
        "SHUTDOWN" => Some(Event::Shutdown {
            guest: data["guest"].as_bool().unwrap_or(false),
            reason: data["reason"].as_str().unwrap_or("unknown").to_owned(),
        }),
        "RESET" => Some(Event::Reset),
        "STOP" => Some(Event::Stop),
        _ => None,
    }
}

/// Lines of bounded length.
struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Bytes at the front of the buffer that hold no line end.
    searched: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let fresh = &self.buffer[self.searched..];
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                self.searched = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            self.searched = self.buffer.len();
            if self.searched >= LINE_BYTES_MAX {
                return Err(io::Error::other("line too long"));
            }
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    /// A machine that answers the greeting and then plays `script`.
    async fn machine(
        script: &'static [u8],
    ) -> (Qmp, mpsc::Receiver<Event>, JoinHandle<UnixStream>) {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        let playing = tokio::spawn(async move {
            let greeting = b"{\"QMP\": {}}\r\n{\"return\": {}, \"id\": 1}\r\n";
            theirs.write_all(greeting).await.expect("greeting");
            let mut asked = [0; 256];
            let _ = theirs.read(&mut asked).await;
            let _ = theirs.write_all(script).await;
            theirs
        });
        let (qmp, events) = Qmp::greet(ours).await.expect("greeted");
        (qmp, events, playing)
    }

    #[tokio::test]
    async fn events_come_through_garbage() {
        let (_qmp, mut events, _playing) = machine(
            b"\xff\x00 no json\n[1,2]\n\"SHUTDOWN\"\n{\"event\": 7}\n{\"id\": 99, \"return\": 1}\n\
              {\"event\": \"RESET\", \"data\": {\"guest\": true}}\n\
              {\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-shutdown\"}}\n",
        )
        .await;
        assert_eq!(events.recv().await, Some(Event::Reset));
        let shutdown = Event::Shutdown {
            guest: true,
            reason: "guest-shutdown".to_owned(),
        };
        assert_eq!(events.recv().await, Some(shutdown));
    }

    #[tokio::test]
    async fn a_refusal_has_the_machines_words() {
        let script = b"{\"id\": 2, \"error\": {\"class\": \"x\", \"desc\": \"not now\"}}\n";
        let (qmp, _events, _playing) = machine(script).await;
        let error = qmp.ask("quit").await.expect_err("refused");
        assert_eq!(error.to_string(), "the machine refused `quit`: not now");
    }

    #[tokio::test]
    async fn an_endless_line_ends_the_connection() {
        static ENDLESS: [u8; LINE_BYTES_MAX * 2] = [b'x'; LINE_BYTES_MAX * 2];
        let (qmp, mut events, playing) = machine(&ENDLESS).await;
        assert_eq!(events.recv().await, Some(Event::Closed));
        drop(playing.await);
        // Which error depends on who closes first.
        assert!(qmp.ask("query-status").await.is_err());
    }

    #[tokio::test]
    async fn a_closed_connection_fails_the_question() {
        let (qmp, _events, playing) = machine(b"").await;
        let asking = qmp.ask("query-status");
        let closing = async {
            drop(playing.await);
        };
        let (answer, ()) = tokio::join!(asking, closing);
        assert!(matches!(answer, Err(Error::Io(_))));
    }
}
