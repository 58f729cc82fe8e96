//! Guests that may run only while the host holds a lease.

use nube_types::limits::{LEASE_MS, LEASE_STOP_MARGIN_MS};

use super::*;
use crate::lease::Held;

/// From the sending of a heartbeat to the cut.
const STOP: Duration = Duration::from_millis(LEASE_MS - LEASE_STOP_MARGIN_MS);

fn leased() -> Desire {
    Desire::Running(Arc::new(GuestSpec {
        leased: true,
        ..spec(ID, 1)
    }))
}

impl Host {
    fn now_ms(&self) -> u64 {
        self.inside().clock.expect("an agent has run").now_ms()
    }
}

impl Agent {
    /// As a heartbeat that is answered at once.
    async fn granted(&self, host: &Host, fence_epoch: u64) {
        let held = Held {
            fence_epoch,
            ends_at_ms: host.now_ms() + LEASE_MS,
        };
        self.events.send(Event::Lease(held)).await.expect("alive");
    }

    async fn fenced_list(&self, wishes: Vec<Wish>, fence_epoch: u64) {
        let event = Event::Desired {
            wishes,
            fence_epoch,
        };
        self.events.send(event).await.expect("alive");
    }

    async fn told(&self) {
        let event = Event::Told(vec![ID]);
        self.events.send(event).await.expect("alive");
    }

    /// Waits until the lease was lost, and answers how it is reported.
    async fn is_cut(&mut self) {
        let cut = |view: &View| view.instances[&ID].state() == State::Stopped;
        let waited = tokio::time::timeout(Duration::from_secs(600), self.view.wait_for(cut)).await;
        assert!(waited.is_ok_and(|seen| seen.is_ok()), "it runs on");
        let seen = self.sees();
        assert!(seen.found_dead, "nobody may have heard of its end in time");
        assert!(seen.reason.contains("lease"), "{}", seen.reason);
    }
}

async fn launched_with_lease() -> (tempfile::TempDir, Host, Agent) {
    let dir = tempfile::tempdir().expect("dir");
    let host = Host::default();
    let mut agent = Agent::start(&host, dir.path()).await;
    agent.granted(&host, 0).await;
    agent.wish(&wish(leased(), 1)).await;
    agent.reports(State::Running, 1).await;
    (dir, host, agent)
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_it_waits_and_says_so() {
    let dir = tempfile::tempdir().expect("dir");
    let host = Host::default();
    let mut agent = Agent::start(&host, dir.path()).await;
    agent.wish(&wish(leased(), 1)).await;
    agent.rest().await;
    assert_eq!(
        (host.count("prepare"), host.count("start")),
        (1, 0),
        "ready, no more"
    );
    let seen = agent.sees();
    assert!(
        seen.state() == State::Starting && seen.reason.contains("lease"),
        "{seen:?}"
    );
    agent.granted(&host, 1).await;
    agent.rest().await;
    assert_eq!(host.count("start"), 0, "a lease of another fence");
    agent.granted(&host, 0).await;
    agent.reports(State::Running, 1).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_lease_cuts_it_and_a_new_one_starts_it_again() {
    let (_dir, host, mut agent) = launched_with_lease().await;
    let begun = host.now_ms();
    for _ in 0..60 {
        agent.granted(&host, 0).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((host.pid(), host.count("cut")), (Some(1), 0), "it is kept");
    agent.is_cut().await;
    let ran_ms = host.now_ms() - begun;
    assert!((70_000..72_000).contains(&ran_ms), "{ran_ms}");
    assert_eq!(
        (host.pid(), host.count("button")),
        (None, 0),
        "without a button"
    );
    agent.granted(&host, 0).await;
    agent.rest().await;
    assert_eq!(host.count("start"), 1, "the leader must know of its end");
    agent.told().await;
    agent.rest().await;
    assert_eq!(host.count("start"), 1, "that lease is over by now");
    let seen = agent.sees();
    assert!(
        seen.state() == State::Stopped && seen.found_dead,
        "it did not switch itself off: {seen:?}"
    );
    agent.granted(&host, 0).await;
    agent.reports(State::Running, 1).await;
    assert_eq!(agent.sees().run_id, run(2).id());
}

#[tokio::test(start_paused = true)]
async fn others_run_on_without_any_lease() {
    let (dir, host, agent) = launched().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    agent.kill().await;
    let agent = Agent::start(&host, dir.path()).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((host.pid(), host.count("cut")), (Some(1), 0));
    assert_eq!(agent.sees().state(), State::Running);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_its_fencer_ended_did_not_crash() {
    let (_dir, host, mut agent) = launched_with_lease().await;
    // Its fencer is a little faster than the agent.
    tokio::time::sleep(STOP - Duration::from_millis(200)).await;
    host.inside().faults = vec!["cut"; 3];
    tokio::time::sleep(Duration::from_millis(400)).await;
    host.end(ID, GuestExit::Crashed("killed".to_owned()));
    agent.is_cut().await;
    // One that crashes under a lease did.
    agent.told().await;
    agent.granted(&host, 0).await;
    agent.reports(State::Running, 1).await;
    host.end(ID, GuestExit::Crashed("killed".to_owned()));
    agent.reports(State::Failed, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_keeps_it_until_the_old_lease_is_over() {
    let (dir, host, agent) = launched_with_lease().await;
    agent.kill().await;
    let agent = Agent::start(&host, dir.path()).await;
    agent.wish(&wish(leased(), 1)).await;
    tokio::time::sleep(STOP / 2).await;
    assert_eq!((host.pid(), host.count("cut")), (Some(1), 0));
    agent.granted(&host, 0).await;
    tokio::time::sleep(STOP * 3 / 4).await;
    assert_eq!((host.pid(), host.count("cut")), (Some(1), 0), "prolonged");
    agent.kill().await;
    // Nobody speaks to this one: the lease ends all the same.
    let mut agent = Agent::start(&host, dir.path()).await;
    agent.is_cut().await;
    assert_eq!(host.pid(), None);
    agent.kill().await;
    let mut agent = Agent::start(&host, dir.path()).await;
    assert!(agent.sees().found_dead, "it is remembered");
    agent.told().await;
    agent.granted(&host, 0).await;
    agent.wish(&wish(leased(), 1)).await;
    agent.reports(State::Running, 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_killed_during_the_cut_remembers_why() {
    let (dir, host, agent) = launched_with_lease().await;
    host.inside().verbs_left = Some(1);
    tokio::time::sleep(STOP * 2).await;
    assert_eq!(host.count("cut"), 1, "frozen in the cut");
    agent.kill().await;
    host.inside().verbs_left = None;
    host.inside().ended = None;
    host.end(ID, GuestExit::Crashed("killed".to_owned()));
    let mut agent = Agent::start(&host, dir.path()).await;
    agent.is_cut().await;
}

#[tokio::test(start_paused = true)]
async fn an_eviction_removes_it() {
    let (_dir, host, mut agent) = launched_with_lease().await;
    agent.is_cut().await;
    agent.fenced_list(vec![wish(Desire::Deleted, 2)], 1).await;
    agent.reports(State::Deleted, 2).await;
    assert!(host.inside().disks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_fence_ends_what_an_older_lease_let_run() {
    let (_dir, host, mut agent) = launched_with_lease().await;
    agent.fenced_list(vec![wish(leased(), 1)], 1).await;
    agent.is_cut().await;
    assert!(host.now_ms() < 1_000, "at once");
    agent.told().await;
    agent.granted(&host, 1).await;
    agent.reports(State::Running, 1).await;
}
