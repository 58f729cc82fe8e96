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
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::complaints::Complaints;
use super::qmp::{self, Event, Qmp};
use super::serial::kept::Kept;
use super::serial::port::Port;
use super::serial::pump::Pump;
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
/// What the tasks of a run need to know.
#[derive(Debug, Clone)]
pub struct Context {
    /// Which guest.
    pub instance: InstanceId,
    /// Its directory.
    pub directory: PathBuf,
    /// Its serial port.
    pub port: Arc<Port>,
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
        kept: Option<Kept>,
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
        let complaints = Complaints::default();
        // Its complaints go to the agent that started it, or to nobody.
        let adopted = stderr.is_none();
        if let Some(stderr) = stderr {
            tokio::spawn(complaints.clone().listen(stderr));
        }
        let pump = Pump {
            instance: context.instance,
            port: Arc::clone(&context.port),
            run: context.port.begin(),
            kept,
            adopted,
            failing: false,
        };
        let (directory, stop) = (context.directory.clone(), context.stop.clone());
        let until = live.gone.clone();
        tokio::spawn(async move { pump.run(&directory, until, stop).await });
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

    /// Returns when the watch has seen the end.
    pub async fn noticed(&self) {
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
    complaints: Complaints,
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
        // Before it is told: whoever hears of the end may start the next run.
        tell_gone.send_replace(true);
        tokio::select! {
            () = stop.cancelled() => {}
            sent = self.context.ended.send(ended) => {
                if sent.is_err() {
                    tracing::warn!(instance = %self.context.instance, "nobody hears of its end");
                }
            }
        }
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
        match self.complaints.text() {
            text if text.is_empty() => "the machine process was killed".to_owned(),
            text => format!("the machine process died: {text}"),
        }
    }
}
