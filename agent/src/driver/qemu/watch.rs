//! One running guest: its process is watched by descriptor, its words by the
//! control channel, its console by the serial socket. A task per run ends with
//! the run, or with the driver (the guest then goes on alone).

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nube_types::InstanceId;
use tokio::io::AsyncReadExt;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::qmp::{self, Event, Qmp};
use super::serial::SerialLog;
use super::socket;
use crate::driver::{GuestEnded, GuestExit, Run};
use crate::host::cgroup::Cgroups;
use crate::host::process::Watched;

/// The last event is written just before the process ends; a busy host may
/// deliver both together.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// A machine that starts answers in 50 ms; under load it may take seconds.
const GREETING_DEADLINE: Duration = Duration::from_secs(20);
/// QEMU writes its caches back; a stuck one is killed.
const QUIT_DEADLINE: Duration = Duration::from_secs(3);
/// A killed process whose disk hangs cannot end before its disk answers.
const KILL_DEADLINE: Duration = Duration::from_secs(20);
/// Kept of what QEMU complains about: the end of it says why.
const COMPLAINTS_BYTES_MAX: usize = 2048;
/// Between tries to reach a serial socket that another agent still holds.
const SERIAL_RETRY: Duration = Duration::from_millis(500);

/// What the tasks of a run need to know.
#[derive(Debug, Clone)]
pub struct Context {
    /// Which guest.
    pub instance: InstanceId,
    /// Its directory.
    pub directory: PathBuf,
    /// To tell a kill for memory from other ends.
    pub cgroups: Cgroups,
    /// Where ends are told.
    pub ended: mpsc::Sender<GuestEnded>,
    /// The driver goes; guests stay.
    pub stop: CancellationToken,
}

/// A guest that runs.
#[derive(Debug)]
pub struct Live {
    /// Which life.
    pub run: Run,
    directory: PathBuf,
    watched: Arc<Watched>,
    qmp: Mutex<Option<Qmp>>,
    events: mpsc::Sender<Event>,
    cut: Arc<AtomicBool>,
    gone: watch::Receiver<bool>,
}

/// A control channel that is ready, and its events.
pub type Greeted = (Qmp, mpsc::Receiver<Event>);

/// Reaches the control channel of the machine in this directory.
pub async fn greet(directory: &Path) -> Result<Greeted, qmp::Error> {
    let greeting = async {
        let stream = socket::connect(directory, socket::QMP).await?;
        Qmp::greet(stream).await
    };
    tokio::time::timeout(GREETING_DEADLINE, greeting)
        .await
        .map_err(|_| qmp::Error::Deadline("greeting".to_owned()))?
}

impl Live {
    /// Watches a run from now on: its end will be told, once.
    pub fn begin(
        context: Context,
        run: Run,
        watched: Watched,
        greeted: Option<Greeted>,
        stderr: Option<OwnedFd>,
    ) -> Self {
        let (events, incoming) = mpsc::channel(16);
        let (tell_gone, gone) = watch::channel(false);
        let qmp = greeted.map(|greeted| forward(greeted, &events));
        let live = Self {
            run: run.clone(),
            directory: context.directory.clone(),
            watched: Arc::new(watched),
            qmp: Mutex::new(qmp),
            events,
            cut: Arc::default(),
            gone,
        };
        let complaints = Arc::default();
        if let Some(stderr) = stderr {
            tokio::spawn(listen_to_complaints(stderr, Arc::clone(&complaints)));
        }
        tokio::spawn(follow_serial(context.clone(), live.gone.clone()));
        let watch = RunWatch {
            context,
            run,
            watched: Arc::clone(&live.watched),
            cut: Arc::clone(&live.cut),
            complaints,
            incoming,
        };
        tokio::spawn(watch.until_gone(tell_gone));
        live
    }

    /// Whether the process has not ended yet.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !*self.gone.borrow()
    }

    /// Asks the guest to switch itself off. Connects again if that was lost.
    pub async fn power_button(&self) -> Result<(), qmp::Error> {
        let mut slot = self.qmp.lock().await;
        if let Some(qmp) = slot.as_ref() {
            match qmp.ask("system_powerdown").await {
                Err(qmp::Error::Io(_)) => *slot = None,
                answer => return answer.map(|_| ()),
            }
        }
        let greeted = greet(&self.directory).await?;
        let qmp = slot.insert(forward(greeted, &self.events));
        qmp.ask("system_powerdown").await.map(|_| ())
    }

    /// Ends the process and waits until it is gone.
    pub async fn power_cut(&self) -> io::Result<()> {
        self.cut.store(true, Ordering::Release);
        let quitting = async {
            if let Some(qmp) = self.qmp.lock().await.as_ref() {
                // Its answer and its end race each other: only the end counts.
                let _ = qmp.ask("quit").await;
                return self.watched.gone().await;
            }
            Err(io::Error::from(io::ErrorKind::NotConnected))
        };
        if !matches!(
            tokio::time::timeout(QUIT_DEADLINE, quitting).await,
            Ok(Ok(()))
        ) {
            self.watched.kill()?;
        }
        tokio::time::timeout(KILL_DEADLINE, self.watched.gone())
            .await
            .map_err(|_| io::Error::other("the machine process does not end"))?
    }

    /// Returns when the end of this run has been told.
    pub async fn told(&self) {
        let mut gone = self.gone.clone();
        // An error means that the watching task is gone, with the driver.
        let _ = gone.wait_for(|gone| *gone).await;
    }
}

/// A channel may be opened anew; its run keeps one queue of events.
fn forward((qmp, mut incoming): Greeted, events: &mpsc::Sender<Event>) -> Qmp {
    let events = events.clone();
    tokio::spawn(async move {
        while let Some(event) = incoming.recv().await {
            if events.send(event).await.is_err() {
                break;
            }
        }
    });
    qmp
}

struct RunWatch {
    context: Context,
    run: Run,
    watched: Arc<Watched>,
    cut: Arc<AtomicBool>,
    complaints: Arc<std::sync::Mutex<Vec<u8>>>,
    incoming: mpsc::Receiver<Event>,
}

impl RunWatch {
    async fn until_gone(mut self, tell_gone: watch::Sender<bool>) {
        let mut shutdown = None;
        let stop = self.context.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = self.watched.gone() => break,
                event = self.incoming.recv() => match event {
                    Some(Event::Shutdown { guest, reason }) => shutdown = Some((guest, reason)),
                    Some(Event::Reset) => {
                        tracing::info!(instance = %self.context.instance, "guest restarted itself");
                    }
                    Some(Event::Stop | Event::Closed) => {}
                    // The run's handle is gone, and with it the driver.
                    None => return,
                },
            }
        }
        if shutdown.is_none() {
            shutdown = self.last_words().await;
        }
        let exit = self.exit(shutdown);
        let ended = GuestEnded {
            instance: self.context.instance,
            run: self.run.clone(),
            exit,
        };
        tokio::select! {
            () = stop.cancelled() => {}
            sent = self.context.ended.send(ended) => {
                if sent.is_err() {
                    tracing::warn!(instance = %self.context.instance, "nobody hears of its end");
                }
            }
        }
        tell_gone.send_replace(true);
    }

    async fn last_words(&mut self) -> Option<(bool, String)> {
        let reading = async {
            while let Some(event) = self.incoming.recv().await {
                match event {
                    Event::Shutdown { guest, reason } => return Some((guest, reason)),
                    Event::Closed => return None,
                    Event::Reset | Event::Stop => {}
                }
            }
            None
        };
        tokio::time::timeout(LAST_WORDS, reading)
            .await
            .unwrap_or(None)
    }

    fn exit(&self, shutdown: Option<(bool, String)>) -> GuestExit {
        if self.cut.load(Ordering::Acquire) {
            return GuestExit::Crashed("its power was cut".to_owned());
        }
        match shutdown {
            Some((_, reason)) if reason == "guest-panic" => {
                GuestExit::Crashed("the guest's kernel panicked".to_owned())
            }
            Some((true, _)) => GuestExit::PoweredOff,
            Some((false, reason)) => {
                GuestExit::Crashed(format!("the machine was ended from outside: {reason}"))
            }
            None => GuestExit::Crashed(self.why_it_died()),
        }
    }

    fn why_it_died(&self) -> String {
        if self
            .context
            .cgroups
            .memory_kills(&self.context.instance.hex())
            > 0
        {
            return "the machine process took more memory than the host gives it".to_owned();
        }
        match complaint_text(&self.complaints) {
            text if text.is_empty() => "the machine process was killed".to_owned(),
            text => format!("the machine process died: {text}"),
        }
    }
}

/// The end of what QEMU wrote, as one printable line.
fn complaint_text(complaints: &std::sync::Mutex<Vec<u8>>) -> String {
    let bytes = complaints
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    printable(&bytes)
}

/// QEMU's words may carry what a guest wrote: one line, no control characters.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !c.is_control()));
    }
    line.chars().take(300).collect()
}

/// Why a machine that has ended already did so.
pub async fn complaint(stderr: OwnedFd) -> String {
    let complaints = Arc::default();
    let listening = listen_to_complaints(stderr, Arc::clone(&complaints));
    let _ = tokio::time::timeout(LAST_WORDS, listening).await;
    complaint_text(&complaints)
}

async fn listen_to_complaints(stderr: OwnedFd, complaints: Arc<std::sync::Mutex<Vec<u8>>>) {
    let Ok(mut pipe) = nonblocking(stderr) else {
        return;
    };
    let mut chunk = [0; 512];
    while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
        let mut kept = complaints
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.extend_from_slice(&chunk[..count]);
        let surplus = kept.len().saturating_sub(COMPLAINTS_BYTES_MAX);
        kept.drain(..surplus);
    }
}

fn nonblocking(pipe: OwnedFd) -> io::Result<tokio::net::unix::pipe::Receiver> {
    rustix::fs::fcntl_setfl(&pipe, rustix::fs::OFlags::NONBLOCK)?;
    tokio::net::unix::pipe::Receiver::from_owned_fd(pipe)
}

async fn follow_serial(context: Context, mut gone: watch::Receiver<bool>) {
    let log = SerialLog::of(&context.directory);
    let following = async {
        loop {
            if let Ok(stream) = socket::connect(&context.directory, socket::SERIAL).await
                && let Err(error) = log.follow(stream).await
            {
                tracing::warn!(instance = %context.instance, %error, "serial log");
            }
            tokio::time::sleep(SERIAL_RETRY).await;
        }
    };
    tokio::select! {
        () = context.stop.cancelled() => {}
        _ = gone.wait_for(|gone| *gone) => {}
        () = following => {}
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn complaints_become_one_harmless_line() {
        let text = printable(b"qemu: \x1b[31mbad\x07\n thing\xff\n");
        assert_eq!(text, "qemu: [31mbad thing\u{fffd}");
        assert_eq!(printable(&[b'x'; 1000]).len(), 300);
    }
}
