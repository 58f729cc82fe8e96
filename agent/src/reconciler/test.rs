//! Stories with a scripted host: what the leader wishes, what the host does,
//! what is reported. The agent is killed at every record and must come back to
//! the same end. Time is tokio's paused clock: the stories take no real time.

mod lease;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use nube_proto::v1::InstanceState as State;
use nube_types::{InstanceId, PlacementEpoch};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{Event, Reconciler};
use crate::driver::{
    Console, Driver, DriverError, GuestEnded, GuestExit, GuestSpec, ImageFiles, ImageSpec,
    Recovered, Run,
};
use crate::fencer::Deadline;
use crate::host::clock::Clock;
use crate::image::{self, Images};
use crate::instance::{Desire, START_ATTEMPTS_MAX, Version, Wish};
use crate::journal::Journal;
use crate::plan::test::{run, spec};
use crate::report::View;

const ID: InstanceId = InstanceId(1);

/// A host in memory; it outlives the agents of a story.
#[derive(Clone, Default)]
struct Host(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    disks: BTreeMap<InstanceId, GuestSpec>,
    processes: BTreeMap<InstanceId, u32>,
    next_pid: u32,
    log: Vec<&'static str>,
    /// Verbs that fail, as often as they are listed.
    faults: Vec<&'static str>,
    /// The guest ignores its power button.
    deaf: bool,
    /// Freezes the agent after this many verbs: killed in the middle.
    verbs_left: Option<usize>,
    ended: Option<mpsc::Sender<GuestEnded>>,
    pinned: BTreeSet<String>,
    clock: Option<Clock>,
}

impl Host {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().expect("lock")
    }

    async fn verb(&self, name: &'static str) -> Result<(), DriverError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let frozen = {
            let mut inside = self.inside();
            inside.log.push(name);
            inside.verbs_left = inside.verbs_left.map(|left| left.saturating_sub(1));
            inside.verbs_left == Some(0)
        };
        if frozen {
            std::future::pending::<()>().await;
        }
        let mut inside = self.inside();
        if let Some(at) = inside.faults.iter().position(|fault| *fault == name) {
            inside.faults.remove(at);
            return Err(DriverError::host(name, "scripted"));
        }
        Ok(())
    }

    fn end(&self, id: InstanceId, exit: GuestExit) {
        let mut inside = self.inside();
        if let Some(pid) = inside.processes.remove(&id)
            && let Some(ended) = &inside.ended
        {
            // Without an agent nobody listens.
            let _ = ended.try_send(GuestEnded {
                instance: id,
                run: run(pid),
                exit,
            });
        }
    }

    fn count(&self, verb: &str) -> usize {
        self.inside()
            .log
            .iter()
            .filter(|name| **name == verb)
            .count()
    }

    fn pid(&self) -> Option<u32> {
        self.inside().processes.get(&ID).copied()
    }
}

impl Driver for Host {
    fn name(&self) -> &'static str {
        "scripted"
    }

    async fn recover(&self) -> Result<(Vec<Recovered>, Vec<String>), DriverError> {
        let inside = self.inside();
        let found = inside
            .disks
            .iter()
            .map(|(id, spec)| match inside.processes.get(id) {
                Some(pid) => Recovered::Running(Box::new(spec.clone()), run(*pid)),
                None => Recovered::Prepared(Box::new(spec.clone())),
            });
        Ok((found.collect(), vec![]))
    }

    async fn prepare(&self, spec: &GuestSpec, _: &ImageFiles) -> Result<(), DriverError> {
        self.verb("prepare").await?;
        self.inside().disks.insert(spec.instance, spec.clone());
        Ok(())
    }

    async fn start(&self, instance: InstanceId) -> Result<Run, DriverError> {
        let fails = self.verb("start").await;
        let mut inside = self.inside();
        assert!(inside.disks.contains_key(&instance));
        let fresh = inside.next_pid + 1;
        let pid = *inside.processes.entry(instance).or_insert(fresh);
        inside.next_pid = inside.next_pid.max(pid);
        // A start that fails half-way leaves a process.
        fails.map(|()| run(pid))
    }

    async fn power_button(&self, instance: InstanceId) -> Result<(), DriverError> {
        self.verb("button").await?;
        if !self.inside().deaf {
            self.end(instance, GuestExit::PoweredOff);
        }
        Ok(())
    }

    async fn power_cut(&self, instance: InstanceId) -> Result<(), DriverError> {
        self.verb("cut").await?;
        self.end(instance, GuestExit::Crashed("killed".to_owned()));
        Ok(())
    }

    async fn remove(&self, instance: InstanceId) -> Result<(), DriverError> {
        self.verb("remove").await?;
        self.end(instance, GuestExit::Crashed("killed".to_owned()));
        self.inside().disks.remove(&instance);
        Ok(())
    }

    async fn connect(&self, instance: InstanceId, _: u16) -> Result<TcpStream, DriverError> {
        Err(DriverError::Absent(instance))
    }

    async fn serial_log(&self, instance: InstanceId, _: u64) -> Result<Vec<u8>, DriverError> {
        Err(DriverError::Absent(instance))
    }

    async fn follow_log(
        &self,
        instance: InstanceId,
        _: u64,
    ) -> Result<BoxStream<'static, Bytes>, DriverError> {
        Err(DriverError::Absent(instance))
    }

    async fn console(&self, instance: InstanceId) -> Result<Console, DriverError> {
        Err(DriverError::Absent(instance))
    }

    fn ended(&self) -> mpsc::Receiver<GuestEnded> {
        let (sender, receiver) = mpsc::channel(64);
        self.inside().ended = Some(sender);
        receiver
    }
}

impl Images for Host {
    async fn ensure(&self, _: &ImageSpec) -> Result<ImageFiles, image::Error> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        if self.inside().faults.contains(&"hang image") {
            std::future::pending::<()>().await;
        }
        Ok(ImageFiles {
            disk: PathBuf::from("/disk"),
            boot: None,
        })
    }

    fn pin(&self, digests: BTreeSet<String>) {
        self.inside().pinned = digests;
    }
}

/// One life of the agent.
struct Agent {
    events: mpsc::Sender<Event>,
    view: watch::Receiver<View>,
    task: JoinHandle<()>,
}

impl Agent {
    async fn start(host: &Host, dir: &Path) -> Self {
        let journal = Journal::open(dir).expect("journal");
        let driver = Arc::new(host.clone());
        let deadline = Deadline::open(dir, "boot").expect("deadline");
        // One clock for all lives, as a host has it.
        let clock = *host
            .inside()
            .clock
            .get_or_insert_with(|| Clock::Tokio(tokio::time::Instant::now()));
        let started = Reconciler::recover(driver.clone(), driver, journal, deadline, clock).await;
        let (reconciler, view) = started.expect("recovered");
        let (events, queue) = mpsc::channel(16);
        Self {
            events,
            view,
            task: tokio::spawn(reconciler.run(queue)),
        }
    }

    /// As kill -9: nothing more is written or done.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    async fn wish(&self, wish: &Wish) {
        self.list(vec![wish.clone()]).await;
    }

    async fn list(&self, wishes: Vec<Wish>) {
        self.events
            .send(Event::Desired {
                wishes,
                fence_epoch: 0,
            })
            .await
            .expect("alive");
    }

    /// Waits until the instance is reported so.
    async fn reports(&mut self, state: State, generation: u64) {
        let is_so = |view: &View| {
            view.instances.get(&ID).is_some_and(|seen| {
                seen.state() == state && seen.applied_generation == generation && !seen.found_dead
            })
        };
        let waited =
            tokio::time::timeout(Duration::from_secs(600), self.view.wait_for(is_so)).await;
        assert!(waited.is_ok(), "not {state:?} of {generation}");
    }

    fn sees(&self) -> nube_proto::agent::v1::ObservedInstance {
        self.view
            .borrow()
            .instances
            .get(&ID)
            .cloned()
            .unwrap_or_default()
    }

    async fn rest(&self) {
        tokio::time::sleep(Duration::from_secs(300)).await;
    }
}

fn wish(desire: Desire, generation: u64) -> Wish {
    let version = Version {
        epoch: PlacementEpoch(1),
        generation,
    };
    Wish {
        instance: ID,
        version,
        desire,
        reboot_count: 0,
        force: false,
    }
}

fn running() -> Desire {
    Desire::Running(Arc::new(spec(ID, 1)))
}

async fn launched() -> (tempfile::TempDir, Host, Agent) {
    let dir = tempfile::tempdir().expect("dir");
    let host = Host::default();
    let mut agent = Agent::start(&host, dir.path()).await;
    agent.wish(&wish(running(), 1)).await;
    agent.reports(State::Running, 1).await;
    (dir, host, agent)
}

#[tokio::test(start_paused = true)]
async fn start_stop_start_delete() {
    let (_dir, host, mut agent) = launched().await;
    assert_eq!(agent.sees().run_id, run(1).id());
    agent.wish(&wish(Desire::Stopped, 2)).await;
    agent.reports(State::Stopped, 2).await;
    assert!(
        host.pid().is_none() && host.inside().disks.contains_key(&ID),
        "the disk stays"
    );
    assert!(!host.inside().pinned.is_empty(), "so does its base image");
    agent.wish(&wish(running(), 3)).await;
    agent.reports(State::Running, 3).await;
    agent.wish(&wish(Desire::Deleted, 4)).await;
    agent.reports(State::Deleted, 4).await;
    assert!(host.inside().disks.is_empty());
    agent.list(vec![]).await;
    agent.rest().await;
    assert!(agent.view.borrow().instances.is_empty() && agent.view.borrow().unknown.is_empty());
    assert_eq!((host.count("start"), host.count("cut")), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_steady_host_is_left_alone() {
    let (_dir, host, agent) = launched().await;
    let before = host.inside().log.len();
    for _ in 0..20 {
        agent.wish(&wish(running(), 1)).await;
        agent.rest().await;
    }
    assert_eq!(host.inside().log.len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_deaf_guest_is_cut_after_the_grace() {
    let (_dir, host, mut agent) = launched().await;
    host.inside().deaf = true;
    let begun = tokio::time::Instant::now();
    agent.wish(&wish(Desire::Stopped, 2)).await;
    agent.reports(State::Stopping, 1).await;
    agent.reports(State::Stopped, 2).await;
    assert!(begun.elapsed() >= Duration::from_secs(30));
    assert_eq!((host.count("button"), host.count("cut")), (1, 1));
    agent.wish(&wish(running(), 3)).await;
    agent.reports(State::Running, 3).await;
    agent
        .wish(&Wish {
            force: true,
            ..wish(Desire::Stopped, 4)
        })
        .await;
    agent.reports(State::Stopped, 4).await;
    assert_eq!(
        (host.count("button"), host.count("cut")),
        (1, 2),
        "force skips the button"
    );
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_switches_itself_off_stays_off() {
    let (_dir, host, mut agent) = launched().await;
    host.end(ID, GuestExit::PoweredOff);
    agent.reports(State::Stopped, 1).await;
    agent.rest().await;
    assert_eq!(host.count("start"), 1);
    agent.wish(&wish(Desire::Stopped, 2)).await;
    agent.reports(State::Stopped, 2).await;
    agent.wish(&wish(running(), 3)).await;
    agent.reports(State::Running, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_fails_with_the_next_step_named() {
    let (dir, host, mut agent) = launched().await;
    host.end(ID, GuestExit::Crashed("signal 11".to_owned()));
    agent.reports(State::Failed, 1).await;
    let reason = agent.sees().reason;
    assert!(
        reason.contains("signal 11") && reason.contains("cloudctl start"),
        "{reason}"
    );
    // The verdict outlives the agent.
    agent.kill().await;
    let mut agent = Agent::start(&host, dir.path()).await;
    agent.wish(&wish(running(), 1)).await;
    agent.rest().await;
    assert_eq!(
        (agent.sees().state(), host.count("start")),
        (State::Failed, 1)
    );
    agent.wish(&wish(running(), 2)).await;
    agent.reports(State::Running, 2).await;
}

#[tokio::test(start_paused = true)]
async fn found_dead_is_told_once_and_then_started() {
    let (dir, host, agent) = launched().await;
    agent.kill().await;
    host.inside().ended = None;
    host.end(ID, GuestExit::PoweredOff);
    let mut agent = Agent::start(&host, dir.path()).await;
    agent.wish(&wish(running(), 1)).await;
    agent.rest().await;
    let seen = agent.sees();
    assert!(seen.state() == State::Stopped && seen.found_dead && seen.applied_generation == 1);
    assert_eq!(seen.run_id, run(1).id(), "the life that ended");
    assert_eq!(host.count("start"), 1, "not before the leader knows");
    agent
        .events
        .send(Event::Told(vec![ID]))
        .await
        .expect("alive");
    agent.reports(State::Running, 1).await;
    assert_eq!(agent.sees().run_id, run(2).id());
}

#[tokio::test(start_paused = true)]
async fn an_agent_restart_does_not_touch_guests() {
    let (dir, host, agent) = launched().await;
    let before = host.inside().log.len();
    agent.kill().await;
    let mut agent = Agent::start(&host, dir.path()).await;
    assert_eq!(
        agent.sees().state(),
        State::Running,
        "known before any leader speaks"
    );
    agent.rest().await;
    agent.wish(&wish(running(), 1)).await;
    agent.rest().await;
    assert_eq!(host.inside().log.len(), before);
    // The end of an adopted guest is seen.
    host.end(ID, GuestExit::PoweredOff);
    agent.reports(State::Stopped, 1).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_leader_does_not_list_is_left_alone() {
    let (_dir, host, agent) = launched().await;
    agent.list(vec![]).await;
    agent.rest().await;
    assert_eq!(
        (host.pid(), agent.sees().state()),
        (Some(1), State::Running)
    );
    assert!(agent.view.borrow().unknown[0].contains(&ID.to_string()));
    agent.wish(&wish(Desire::Deleted, 2)).await;
    agent.rest().await;
    assert!(agent.view.borrow().unknown.is_empty() && host.inside().disks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_newer_placement_cuts_the_old_life_and_keeps_the_disk() {
    let (_dir, host, mut agent) = launched().await;
    let version = Version {
        epoch: PlacementEpoch(2),
        generation: 1,
    };
    let newer = Wish {
        version,
        desire: Desire::Running(Arc::new(spec(ID, 2))),
        ..wish(running(), 1)
    };
    agent.wish(&newer).await;
    agent.rest().await;
    agent.reports(State::Running, 1).await;
    assert_eq!((agent.sees().placement_epoch, host.pid()), (2, Some(2)));
    assert_eq!(
        (
            host.count("button"),
            host.count("cut"),
            host.count("remove")
        ),
        (0, 1, 0)
    );
    agent.wish(&wish(Desire::Deleted, 99)).await;
    agent.rest().await;
    assert_eq!(
        host.pid(),
        Some(2),
        "a wish of the older placement does not count"
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_is_tried_a_few_times_and_leaves_no_process() {
    let dir = tempfile::tempdir().expect("dir");
    let host = Host::default();
    host.inside().faults = vec!["start", "prepare", "start"];
    let mut agent = Agent::start(&host, dir.path()).await;
    agent.wish(&wish(running(), 1)).await;
    agent.reports(State::Running, 1).await;
    host.inside().faults = vec!["start"; START_ATTEMPTS_MAX as usize];
    agent.wish(&wish(Desire::Stopped, 2)).await;
    agent.reports(State::Stopped, 2).await;
    agent.wish(&wish(running(), 3)).await;
    agent.reports(State::Failed, 2).await;
    assert_eq!(host.pid(), None);
    assert!(agent.sees().reason.contains("scripted"));
    agent.wish(&wish(running(), 4)).await;
    agent.reports(State::Running, 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_delete_is_tried_until_it_works_and_overtakes_a_fetch() {
    let (_dir, host, mut agent) = launched().await;
    host.inside().faults = vec!["remove"; 12];
    agent.wish(&wish(Desire::Deleted, 2)).await;
    agent.reports(State::Deleting, 1).await;
    agent.reports(State::Deleted, 2).await;
    let dir = tempfile::tempdir().expect("dir");
    let host = Host::default();
    host.inside().faults = vec!["hang image"];
    let mut agent = Agent::start(&host, dir.path()).await;
    agent.wish(&wish(running(), 1)).await;
    agent.reports(State::Starting, 0).await;
    let begun = tokio::time::Instant::now();
    agent.wish(&wish(Desire::Deleted, 2)).await;
    agent.reports(State::Deleted, 2).await;
    // On the paused clock: an end that is noticed by chance costs a minute.
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_stops_starts_but_not_deletes() {
    let (dir, host, mut agent) = launched().await;
    // A directory in the place of the file: no record can be written.
    let journal = dir.path().join("journal");
    let blocked = InstanceId(2);
    std::fs::create_dir_all(journal.join(format!("{blocked}.unfinished"))).expect("dir");
    std::fs::create_dir_all(journal.join(format!("{ID}.unfinished"))).expect("dir");
    let other = Wish {
        instance: blocked,
        desire: Desire::Running(Arc::new(spec(blocked, 1))),
        ..wish(running(), 1)
    };
    agent
        .list(vec![wish(Desire::Deleted, 2), other.clone()])
        .await;
    agent.reports(State::Deleted, 2).await;
    agent.rest().await;
    assert!(!host.inside().disks.contains_key(&blocked));
    assert_eq!(
        agent.view.borrow().instances[&blocked].state(),
        State::Failed
    );
}

/// The heart of C5: the agent is killed in the middle of each verb of a whole
/// life, and the end must be as if it never was.
#[tokio::test(start_paused = true)]
async fn killed_in_every_verb_it_still_does_each_thing_once() {
    for done in [false, true] {
        for verbs in 1..12 {
            let dir = tempfile::tempdir().expect("dir");
            let host = Host::default();
            let mut agent = Agent::start(&host, dir.path()).await;
            host.inside().verbs_left = Some(verbs);
            let reboot = Wish {
                reboot_count: 1,
                ..wish(running(), 2)
            };
            let stop = Wish {
                reboot_count: 1,
                ..wish(Desire::Stopped, 3)
            };
            for wished in [wish(running(), 1), reboot, stop] {
                agent.wish(&wished).await;
                agent.rest().await;
                if host.inside().verbs_left == Some(0) {
                    agent.kill().await;
                    finish_last_verb(&host, done).await;
                    agent = Agent::start(&host, dir.path()).await;
                    agent.wish(&wished).await;
                    agent.rest().await;
                    if agent.sees().found_dead {
                        agent
                            .events
                            .send(Event::Told(vec![ID]))
                            .await
                            .expect("alive");
                        agent.rest().await;
                    }
                }
                let expected = match wished.desire {
                    Desire::Stopped => State::Stopped,
                    _ => State::Running,
                };
                agent.reports(expected, wished.version.generation).await;
                assert_eq!(
                    agent.sees().reboot_count,
                    wished.reboot_count.min(wished.version.generation - 1)
                );
            }
            // One lock after the other: both look inside.
            let started = host.inside().next_pid;
            assert_eq!((started, host.pid()), (2, None), "killed in verb {verbs}");
            // Kills in the middle of a removal are a story of their own.
            host.inside().verbs_left = None;
            agent.wish(&wish(Desire::Deleted, 9)).await;
            agent.reports(State::Deleted, 9).await;
        }
    }
}

/// The process of the killed agent may have got as far as doing the verb.
async fn finish_last_verb(host: &Host, done: bool) {
    host.inside().verbs_left = None;
    host.inside().ended = None;
    let last = host.inside().log.last().copied();
    match last {
        Some("start") if done => drop(host.start(ID).await),
        Some("button") if done => drop(host.power_button(ID).await),
        Some("prepare") if done => {
            let files = ImageFiles {
                disk: PathBuf::new(),
                boot: None,
            };
            drop(host.prepare(&spec(ID, 1), &files).await);
        }
        _ => {}
    }
}
