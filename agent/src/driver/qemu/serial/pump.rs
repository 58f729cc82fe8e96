//! From QEMU into the ring, for one run: a task that ends with the run.
//!
//! The socket's bytes are only the sign that there is more in `kept`, where all
//! of it is, also from before this agent. Reading the socket slowly is what
//! slows a guest that floods: its own port waits, not the host.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nube_types::InstanceId;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::socket;
use super::kept::Kept;
use super::port::Port;

/// One read. Larger ones let a flooding guest keep a worker busy for longer.
const CHUNK_BYTES: usize = 8 * 1024;
/// After each full chunk: 8 KiB per 20 ms is 400 KiB/s, far above any console.
const PAUSE: Duration = Duration::from_millis(20);
/// After a smaller one: guests print byte by byte, and each look costs a dozen
/// system calls. No key's echo waits for it, only what comes right behind.
const BATCH: Duration = Duration::from_millis(2);
/// QEMU writes its log just after the socket: look once more, a moment later.
const SECOND_LOOK: Duration = Duration::from_millis(10);
/// And at all times, should QEMU have been held up for longer in between.
const SLOW_LOOK: Duration = Duration::from_secs(1);
/// Between tries to reach a serial socket that another agent still holds.
const SOCKET_RETRY: Duration = Duration::from_millis(500);

/// Between the last line that the agent before wrote and the first of this one,
/// when the machine was started by an agent that kept nothing.
const AGENT_WAS_AWAY: &[u8] =
    b"\r\n[cloud-agent was restarted: output of that time is not in this log]\r\n";

/// One run's serial port.
#[derive(Debug)]
pub struct Pump {
    /// For messages.
    pub instance: InstanceId,
    /// Where its log and its clients are.
    pub port: Arc<Port>,
    /// What QEMU keeps; `None` for a machine of an older agent.
    pub kept: Option<Kept>,
    /// The port's number of this run.
    pub run: u64,
    /// Started by an agent before this one.
    pub adopted: bool,
    /// The last try to write the log failed.
    pub failing: bool,
}

impl Pump {
    /// Until the run is gone, or the driver stops.
    pub async fn run(
        mut self,
        directory: &Path,
        mut gone: watch::Receiver<bool>,
        stop: CancellationToken,
    ) {
        let run = self.run;
        if self.kept.is_none() && self.adopted {
            self.append(AGENT_WAS_AWAY);
        }
        let copying = async {
            loop {
                self.look();
                if let Ok(stream) = socket::connect(directory, socket::SERIAL).await {
                    self.copy(run, stream).await;
                }
                self.port.connect(run, None);
                tokio::time::sleep(SOCKET_RETRY).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {
                // The machine goes on, and is free for the next agent.
                self.port.connect(run, None);
                return;
            }
            _ = gone.wait_for(|gone| *gone) => {}
            () = copying => {}
        }
        // Its last words, printed just before the end.
        self.look();
        self.port.end(run);
    }

    /// Until the socket ends.
    async fn copy(&mut self, run: u64, stream: UnixStream) {
        let (mut reader, writer) = stream.into_split();
        self.port.connect(run, Some(writer));
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut patience = SECOND_LOOK;
        loop {
            let count = match timeout(patience, reader.read(&mut chunk)).await {
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(count)) => count,
                Err(_quiet) => {
                    patience = SLOW_LOOK;
                    self.look();
                    continue;
                }
            };
            patience = SECOND_LOOK;
            match self.kept {
                Some(_) => self.look(),
                None => self.append(&chunk[..count]),
            }
            let pause = if count == CHUNK_BYTES { PAUSE } else { BATCH };
            tokio::time::sleep(pause).await;
        }
    }

    fn look(&mut self) {
        let Some(kept) = &mut self.kept else { return };
        let port = &self.port;
        let taken = kept.take(|bytes| port.append(bytes));
        self.note(taken);
    }

    fn append(&mut self, bytes: &[u8]) {
        let appended = self.port.append(bytes);
        self.note(appended);
    }

    /// Says that the log fails when it begins to: a guest can make it fail again
    /// as often as it likes.
    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = &result
            && !self.failing
        {
            tracing::warn!(instance = %self.instance, %error, "serial log");
        }
        self.failing = result.is_err();
    }
}
