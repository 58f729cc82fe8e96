//! The hub as it meets controllers: who is obeyed, what is reported to whom.

mod lease;

use nube_proto::agent::v1::controller_message::Message;
use nube_proto::agent::v1::{
    Desired, DesiredInstance, Leadership as Said, ObservedInstance, Report, ReportAck,
};
use nube_proto::v1::{DesiredState, InstanceState};
use nube_types::InstanceId;

use super::*;

struct Controller {
    link: LinkId,
    to_hub: mpsc::Sender<(LinkId, LinkEvent)>,
    /// Reports alone; proofs of life are counted.
    heard: mpsc::UnboundedReceiver<Report>,
    beats: watch::Receiver<u64>,
    /// The sequence of the newest.
    newest: watch::Receiver<u64>,
}

impl Controller {
    async fn connect(link: LinkId, to_hub: &mpsc::Sender<(LinkId, LinkEvent)>) -> Self {
        let (up, mut queue) = mpsc::channel::<AgentMessage>(64);
        let (reports, heard) = mpsc::unbounded_channel();
        let (count, beats) = watch::channel(0);
        let (sequence, newest) = watch::channel(0);
        tokio::spawn(async move {
            while let Some(message) = queue.recv().await {
                match message.message {
                    Some(agent_message::Message::Report(report)) => {
                        reports.send(report).expect("the test listens");
                    }
                    Some(agent_message::Message::Heartbeat(beat)) => {
                        count.send_modify(|n| *n += 1);
                        sequence.send_replace(beat.sequence);
                    }
                    other => panic!("not for a controller: {other:?}"),
                }
            }
        });
        to_hub.send((link, LinkEvent::Up(up))).await.expect("hub");
        Self {
            link,
            to_hub: to_hub.clone(),
            heard,
            beats,
            newest,
        }
    }

    async fn says(&self, message: Message) {
        self.to_hub
            .send((self.link, LinkEvent::Said(message)))
            .await
            .expect("hub");
    }

    async fn leads(&self, term: u64) {
        self.claims(true, term, &[]).await;
    }

    async fn claims(&self, leader: bool, term: u64, controllers: &[&str]) {
        let member_id = self.link as u64 + 1;
        self.says(Message::Leadership(Said {
            member_id,
            leader,
            term,
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
        }))
        .await;
    }

    async fn wants(&self, revision: u64, generation: u64) {
        let instance = DesiredInstance {
            instance_id: InstanceId(1).to_string(),
            placement_epoch: 1,
            generation,
            state: DesiredState::Stopped.into(),
            ..Default::default()
        };
        let desired = Desired {
            revision,
            instances: vec![instance],
            ..Desired::default()
        };
        self.says(Message::Desired(desired)).await;
    }

    async fn report(&mut self) -> Report {
        self.heard.recv().await.expect("a report")
    }

    async fn acks(&self, report: &Report) {
        let ack = ReportAck {
            agent_epoch: report.agent_epoch,
            sequence: report.sequence,
        };
        self.says(Message::ReportAck(ack)).await;
    }
}

struct Rig {
    to_hub: mpsc::Sender<(LinkId, LinkEvent)>,
    view: watch::Sender<View>,
    events: mpsc::Receiver<Event>,
    wanted: watch::Receiver<Vec<String>>,
    dir: tempfile::TempDir,
}

impl Rig {
    fn new(obeyed_term: u64) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let journal = Journal::open(dir.path()).expect("journal");
        let (view, seen) = watch::channel(View::default());
        let (to_reconciler, events) = mpsc::channel(16);
        let (to_hub, for_hub) = mpsc::channel(16);
        let (roster, wanted) = Roster::new(vec!["seed:7000".to_owned()], Vec::new());
        let hub = HubTask::new(
            7,
            obeyed_term,
            journal,
            roster,
            seen,
            to_reconciler,
            Networking {
                desired: watch::channel(None).0,
                said: mpsc::channel(1).1,
            },
            Clock::Tokio(tokio::time::Instant::now()),
        );
        tokio::spawn(hub.run(for_hub));
        Self {
            to_hub,
            view,
            events,
            wanted,
            dir,
        }
    }

    fn show(&self, state: InstanceState) {
        let id = InstanceId(1);
        let seen = ObservedInstance {
            instance_id: id.to_string(),
            state: state.into(),
            found_dead: state == InstanceState::Stopped,
            ..Default::default()
        };
        self.view.send_modify(|view| {
            view.instances.insert(id, seen);
        });
    }

    async fn generation(&mut self) -> u64 {
        match self.events.recv().await {
            Some(Event::Desired { wishes, .. }) => wishes[0].version.generation,
            other => panic!("not a list: {other:?}"),
        }
    }

    async fn is_quiet(&mut self) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(self.events.try_recv().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_of_the_highest_term_is_obeyed() {
    let mut rig = Rig::new(0);
    let old = Controller::connect(0, &rig.to_hub).await;
    let new = Controller::connect(1, &rig.to_hub).await;
    old.wants(10, 1).await;
    rig.is_quiet().await;
    old.leads(3).await;
    assert_eq!(rig.generation().await, 1, "its list came before its claim");
    new.leads(4).await;
    new.wants(12, 3).await;
    assert_eq!(rig.generation().await, 3);
    old.wants(13, 4).await;
    rig.is_quiet().await;
    new.wants(11, 2).await;
    rig.is_quiet().await;
    let journal = Journal::open(rig.dir.path()).expect("journal");
    assert_eq!(journal.leader_term().expect("term"), 4);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_deposed_leader_is_still_refused() {
    let mut rig = Rig::new(4);
    let old = Controller::connect(0, &rig.to_hub).await;
    old.leads(3).await;
    old.wants(9, 1).await;
    rig.is_quiet().await;
    old.leads(5).await;
    assert_eq!(rig.generation().await, 1);
}

#[tokio::test(start_paused = true)]
async fn reports_go_to_the_leader_until_it_has_them() {
    let mut rig = Rig::new(0);
    rig.show(InstanceState::Starting);
    let mut first = Controller::connect(0, &rig.to_hub).await;
    let mut second = Controller::connect(1, &rig.to_hub).await;
    first.leads(1).await;
    let report = first.report().await;
    assert!(report.full && report.sequence == 1 && report.agent_epoch == 7);
    assert_eq!(first.report().await, report, "repeated without an ack");
    // The leader dies before it answers; the next hears everything.
    rig.to_hub.send((0, LinkEvent::Down)).await.expect("hub");
    rig.show(InstanceState::Stopped);
    second.leads(2).await;
    let report = second.report().await;
    assert!(report.full && report.sequence == 2);
    assert_eq!(report.instances[0].state(), InstanceState::Stopped);
    second.acks(&report).await;
    match rig.events.recv().await {
        Some(Event::Told(ids)) => assert_eq!(ids, [InstanceId(1)]),
        other => panic!("{other:?}"),
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(
        second.heard.try_recv().is_err(),
        "silence when nothing changes"
    );
}

#[tokio::test(start_paused = true)]
async fn the_obeyed_leader_says_where_the_controllers_are() {
    let mut rig = Rig::new(0);
    let follower = Controller::connect(0, &rig.to_hub).await;
    let leader = Controller::connect(1, &rig.to_hub).await;
    follower.claims(false, 3, &["stale:7000"]).await;
    rig.is_quiet().await;
    assert_eq!(
        *rig.wanted.borrow(),
        ["seed:7000"],
        "a follower may lag behind"
    );
    leader.claims(true, 3, &["c1:7000", "c4:7000"]).await;
    rig.wanted.changed().await.expect("the hub lives");
    assert_eq!(*rig.wanted.borrow(), ["c1:7000", "c4:7000"]);
    rig.is_quiet().await;
    let journal = Journal::open(rig.dir.path()).expect("journal");
    assert_eq!(journal.controllers().expect("read"), ["c1:7000", "c4:7000"]);
}

#[tokio::test(start_paused = true)]
async fn every_controller_hears_that_the_agent_lives() {
    let rig = Rig::new(0);
    let leader = Controller::connect(0, &rig.to_hub).await;
    let follower = Controller::connect(1, &rig.to_hub).await;
    leader.leads(1).await;
    tokio::time::sleep(Duration::from_millis(60_100)).await;
    for controller in [&leader, &follower] {
        assert_eq!(*controller.beats.borrow(), 61);
    }
}
